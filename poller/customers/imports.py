"""Customers of other channels from a CSV file, read line by line, stored in batches (R12).

A batch is one transaction. An interrupted import has stored its first batches and can be repeated. A line
that cannot be used is reported and does not affect others, so each line is parsed alone: no field has a line
break.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from poller.customers.edits import settle_business
from poller.customers.fields import EMAILS, checked, recognized
from poller.customers.import_rules import ImportedLine, Line, Picture
from poller.errors import Refused
from store import customers
from store.engine import Store, Transaction
from store.journal import difference
from store.origins import part_names
from store.records import CustomerRecord, normal_email

BATCH_SIZE = 200

COLUMNS = (
    *("external_id", "business", "name", "company", *EMAILS, "phone"),
    *part_names("billing"),
    *part_names("delivery"),
    *("price_list", "currency", "tax_code", "discount_percent"),
)


MAX_LINE_LENGTH = 100_000
"""Characters; the limits of the fields add up to less."""


def count_lines(path: Path) -> int:
    """Return about how many lines are below the heading. Raises OSError, and Refused for a pipe or folder.

    The file is read twice, which a pipe does not allow.
    """
    if path.exists() and not path.is_file():
        raise Refused("it is not a file: save what it holds as one first.")
    with path.open("rb") as file:
        return max(0, sum(1 for _ in file) - 1)


def read_lines(path: Path, businesses: Mapping[str, str], shared_emails: frozenset[str]) -> Iterator[Line]:
    """Yield the lines of a file below its heading. Raises Refused for a heading that cannot be used."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        first = file.readline()
        delimiter = ";" if first.count(";") > first.count(",") else ","
        heading = _heading(first, delimiter)
        for number, text in enumerate(file, 2):
            if text.strip():
                yield _line(number, text, heading, delimiter, businesses, shared_emails)


def _cells(text: str, delimiter: str) -> list[str]:
    return next(csv.reader([text.rstrip("\r\n")], delimiter=delimiter, strict=True))


def _heading(text: str, delimiter: str) -> list[str]:
    if "\0" in text or text.startswith(("\udcff\udcfe", "\udcfe\udcff")):
        raise Refused("it is not UTF-8 text: save the file as UTF-8.")
    if "\r" in text.removesuffix("\n").removesuffix("\r"):
        raise Refused("its lines end with a carriage return alone: save it with ordinary line ends.")
    try:
        names = [name.strip().lower() for name in _cells(text, delimiter)] if text.strip() else []
    except csv.Error:
        names = []
    unknown = [name for name in names if name not in COLUMNS]
    if not names or names == unknown:
        raise Refused(
            f"the first line of the file must name columns, and names none of these: {', '.join(COLUMNS)}."
        )
    if unknown:
        raise Refused(f"there is no column {unknown[0] or '(empty)'}; there are {', '.join(COLUMNS)}.")
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise Refused(f"the column {doubled[0]} is in the heading twice.")
    if not {"external_id", *EMAILS} & set(names):
        raise Refused("the file has neither a column external_id nor one for an e-mail to find customers by.")
    return names


def _line(
    number: int,
    text: str,
    heading: Sequence[str],
    delimiter: str,
    businesses: Mapping[str, str],
    shared_emails: frozenset[str],
) -> Line:
    try:
        if len(text) > MAX_LINE_LENGTH:
            raise Refused(f"it is too long: {MAX_LINE_LENGTH:,} characters are allowed.")
        cells = [_without_guard(cell.strip()) for cell in _cells(text, delimiter)]
        if any("\udc80" <= c <= "\udcff" for c in text):
            raise Refused("it is not UTF-8 text: save the file as UTF-8.")
        if len(cells) != len(heading):
            raise Refused(f"it has {len(cells)} values, the heading {len(heading)} columns.")
        given = {name: cell for name, cell in zip(heading, cells, strict=True) if cell}
        business = settle_business(businesses, given.pop("business", None))
        return Line(number, business, checked(given, (), shared_emails))
    except csv.Error:
        return Line(number, refused="a quotation mark is not closed, or text follows a closed one.")
    except Refused as refused:
        return Line(number, refused=str(refused))


def _without_guard(cell: str) -> str:
    """Remove the apostrophe that our own CSV puts before what a spreadsheet would run as a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@") else cell


# --- storing ----------------------------------------------------------------------------------------


def import_lines(
    store: Store, lines: Iterator[Line], who: str, *, dry_run: bool, tell: Callable[[int], None]
) -> Iterator[ImportedLine]:
    """Import lines, or only decide them; ``tell`` gets the number of lines done."""
    touched: dict[int, int] = {}
    pictures: dict[str, Picture] = {}
    done = 0
    while batch := list(islice(lines, BATCH_SIZE)):
        if dry_run:
            with store.read() as tx:
                outcomes = _decide(tx, batch, pictures, touched)
        else:
            outcomes = store.commit(partial(_carry_out, lines=batch, touched=touched, who=who))
            touched.update((o.customer_id, o.number) for o in outcomes if o.customer_id)
        done += len(batch)
        tell(done)
        yield from outcomes


def _carry_out(
    tx: Transaction, lines: Sequence[Line], touched: Mapping[int, int], who: str
) -> list[ImportedLine]:
    """Decide and write one batch. Raises conflicts (``store.engine.is_conflict``)."""
    outcomes = _decide(tx, lines, {}, dict(touched))
    for outcome in outcomes:  # in this order: an e-mail may move from one customer to a later one
        if outcome.kind == "changed" and outcome.after is not None:
            customers.change(tx, outcome.after, outcome.before)
    new = [o.after for o in outcomes if o.kind == "new" and o.after is not None]
    ids = dict(zip((r.customer_id for r in new), customers.create(tx, new), strict=True))
    done = []
    for outcome in outcomes:
        after = outcome.after
        if after is not None and outcome.kind in ("new", "changed"):
            customer_id = ids.get(outcome.customer_id, outcome.customer_id)
            after = replace(after, customer_id=customer_id)
            details = difference(outcome.before, after)
            customers.write_journal(tx, who, "import", customer_id, details=details)
            outcome = replace(outcome, customer_id=customer_id, after=after)
        done.append(outcome)
    return done


def _decide(
    tx: Transaction, lines: Sequence[Line], pictures: dict[str, Picture], touched: dict[int, int]
) -> list[ImportedLine]:
    """Decide a batch on what is stored and on what earlier lines would change (``pictures``)."""
    usable = [line for line in lines if line.refused is None]
    holders: dict[str, tuple[dict[str, int], dict[str, tuple[int, int]]]] = {}
    for business in sorted({line.business for line in usable}):
        values = [line.changes.values for line in usable if line.business == business]
        external_ids = {str(each["external_id"]) for each in values if each.get("external_id")}
        emails = {normal_email(str(v[name])) for v in values for name in EMAILS if v.get(name)}
        holders[business] = (
            customers.find_external_ids(tx, business, external_ids),
            customers.find_emails(tx, business, emails),
        )
    ids = {i for by_id, _ in holders.values() for i in by_id.values()}
    ids |= {i for _, by_email in holders.values() for i, _ in by_email.values()}
    records = customers.load(tx, ids)
    for business, (by_external_id, by_email) in holders.items():
        picture = pictures.setdefault(business, Picture(business, touched))
        picture.recognized |= {i: recognized(record, by_email, "import") for i, record in records.items()}
        _add(picture, records, by_external_id, {email: i for email, (i, _) in by_email.items()})
    return [
        pictures.setdefault(line.business, Picture(line.business, touched)).take(line, tx.now)
        for line in lines
    ]


def _add(
    picture: Picture,
    records: Mapping[int, CustomerRecord],
    by_external_id: Mapping[str, int],
    by_email: Mapping[str, int],
) -> None:
    """Add stored records to the picture; what earlier lines made of them stays."""
    for name, customer_id in by_external_id.items():
        picture.by_external_id.setdefault(name, customer_id)
    for email, customer_id in by_email.items():
        picture.by_email.setdefault(email, customer_id)
    for customer_id in {*by_external_id.values(), *by_email.values()}:
        picture.records.setdefault(customer_id, records[customer_id])
