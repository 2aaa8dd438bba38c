"""``order-sync customers duplicates``: pairs that may be one and the same."""

from __future__ import annotations

from poller.cli.options import AsJson, Limit
from poller.cli.output import progress, put_json, put_table, say
from poller.cli.session import opened
from poller.customers.duplicates import find
from poller.customers.likeness import COMMON, Reason
from poller.matching.customer_records import shown_name
from poller.text import counted
from store import customers, queries

WORDS: dict[Reason, str] = {
    "promoted": "an order went from one to the other (R22)",
    "name_and_postcode": "same name and postcode",
    "phone": "same phone",
    "company": "same company",
}


def duplicates(
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Pairs of customers that may be one and the same, with the reason and a score. Merges nothing."""
    with opened() as service, service.store.read() as tx:
        total = queries.count_customers(tx)
        with progress("customers looked at", total, 10_000) as tell:
            found = find(tx, limit=limit, tell=tell)
        records = customers.load(tx, {i for p in found.pairs for i in (p.customer_id, p.other_id)})
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
                for p in found.pairs
            ]
        )
    elif found.pairs:
        put_table(
            (">keep", "name", ">other", "name", ">score", "because"),
            [
                (
                    p.customer_id,
                    names.get(p.customer_id),
                    p.other_id,
                    names.get(p.other_id),
                    f"{p.score:.2f}",
                    ", ".join(WORDS[r] for r in p.reasons),
                )
                for p in found.pairs
            ],
        )
        say("`order-sync customers merge KEEP OTHER --dry-run` says what merging a pair would do")
    else:
        say("no two customers look like one")
    for reason, many in found.common.items():
        what = counted(many, "value is", "values are")
        say(f"{WORDS[reason]}: {what} left out, because more than {COMMON} customers share it")
    if found.total > len(found.pairs):
        say(f"these are the likeliest {len(found.pairs)} of {found.total:,} pairs; --limit shows more")
