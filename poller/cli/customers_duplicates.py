"""``order-sync customers duplicates``: pairs of customers that may be the same person."""

from __future__ import annotations

from poller.audit import buyers_of_customers
from poller.cli.options import AsJson, Limit
from poller.cli.output import put_json, put_table, say
from poller.cli.progress import progress
from poller.cli.session import disclosed, opened
from poller.customers.duplicates import find
from poller.customers.likeness import MAX_ALIKE, WORDS
from poller.export import customer_object
from poller.matching.customer_records import shown_name
from poller.text import counted
from store import customers, queries


def duplicates(
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List pairs of customers that may be the same person, the likeliest first. Merges nothing."""
    with opened() as service, service.store.read() as tx:
        total = queries.count_customers(tx)
        with progress("customers compared", total, 10_000) as report:
            result = find(tx, limit=limit, tell=report)
        records = customers.load(tx, {i for p in result.pairs for i in (p.customer_id, p.other_id)})
        disclosed(service, buyers_of_customers(map(customer_object, records.values())))
    names = {customer_id: shown_name(record) for customer_id, record in records.items()}
    if as_json:
        put_json(
            [
                {
                    "customer_id": p.customer_id,
                    "name": names.get(p.customer_id),
                    "other_id": p.other_id,
                    "other_name": names.get(p.other_id),
                    "score": p.score,
                    "reasons": list(p.reasons),
                }
                for p in result.pairs
            ]
        )
    elif result.pairs:
        put_table(
            (">keep", "name", ">other", "name", ">score", "reasons"),
            [
                (
                    p.customer_id,
                    names.get(p.customer_id),
                    p.other_id,
                    names.get(p.other_id),
                    f"{p.score:.2f}",
                    ", ".join(WORDS[r] for r in p.reasons),
                )
                for p in result.pairs
            ],
        )
        say("`order-sync customers merge KEEP OTHER --dry-run` shows what merging a pair would do")
    else:
        say("no customers look like duplicates")
    for reason, values in result.common.items():
        ignored = counted(values, "value was", "values were")
        say(f"{WORDS[reason]}: {ignored} ignored because more than {MAX_ALIKE} customers share each")
    if result.total > len(result.pairs):
        say(f"only the likeliest {len(result.pairs)} of {result.total:,} pairs are shown; see --limit")
