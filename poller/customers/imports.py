"""Customers of other channels from a CSV file, read record by record, stored in batches (R12).

A batch is one transaction. An interrupted import has stored its first batches and can be repeated. A record
that cannot be used is reported and does not affect others.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path

from poller.customers.edits import settle_business
from poller.customers.fields import EMAILS, checked, recognized
from poller.customers.import_rules import (
    Edit,
    ImportedLine,
    Line,
    Picture,
    edit_of,
    with_emails_spread,
)
from poller.errors import Refused
from poller.text import FORMULA_SIGNS
from store import customers
from store.engine import Store, Transaction
from store.journal import difference
from store.origins import part_names
from store.records import CustomerRecord, normal_email

BATCH_SIZE = 200

COLUMNS = (
    *("customer_id", "external_id", "business", "name", "company", *EMAILS, "emails", "phone"),
    *part_names("billing"),
    *part_names("delivery"),
    *("price_list", "currency", "tax_code", "discount_percent"),
)

IGNORED = (
    *("account", "marketplace", "status", "merged_into", "amazon_name", "aliases", "labels"),
    *("contactable", "contact_email", "created_from_order", "created_at", "changed_at"),
)
"""Further columns of our own export, which say nothing that an import sets."""

MAX_LENGTH_OF_RECORD = 100_000
"""Characters; the limits of the fields add up to less."""


def count_lines(path: Path) -> int:
    """Return about how many lines are below the heading. Raises OSError, and Refused for a pipe or folder.

    The file is read twice, which a pipe does not allow.
    """
    if path.exists() and not path.is_file():
        raise Refused("it is not a file: save what it holds as one first.")
    with path.open(encoding="latin-1") as file:
        return max(0, sum(1 for _ in file) - 1)


def read_lines(
    path: Path,
    businesses: Mapping[str, str],
    shared_emails: frozenset[str],
    tell_ignored: Callable[[Sequence[str]], None] = lambda _: None,
) -> Iterator[Line]:
    """Yield the records of a file below its heading. Raises Refused for a heading that cannot be used.

    ``tell_ignored`` gets the columns that are left out.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        first, number = file.readline(), 1
        said = _SEPARATOR.fullmatch(first.rstrip("\r\n"))
        if said is not None:
            first, number = file.readline(), 2
        form = Form(said[1] if said else max(",;\t", key=first.count))
        records = form.records(chain([first], file), number)
        heading = _heading(form, next(records))
        tell_ignored([name for name in heading if name in IGNORED])
        for record in records:
            line = _line(form, record, heading, businesses, shared_emails)
            if line is not None:
                yield line


# --- records and cells ------------------------------------------------------------------------------

_SEPARATOR = re.compile(r'"?sep=([^\w"])"?')
"""The line before the heading in which Excel says what separates the cells."""


@dataclass(frozen=True, slots=True)
class Record:
    """The text of one record with its first and last line. Of one that is too long only the beginning."""

    text: str
    first: int
    last: int
    is_closed: bool = True


@dataclass(frozen=True)
class Form:
    """Where records and cells end, as Python's ``csv`` has it. ``delimiter`` separates cells."""

    delimiter: str

    @cached_property
    def _open(self) -> re.Pattern[str]:
        """Match a text that ends within a cell in quotation marks."""
        end = re.escape(self.delimiter)
        cell = rf'(?:"(?:[^"]|"")*+"[^{end}]*+|(?!")[^{end}]*+)'
        return re.compile(rf'(?:{cell}{end})*+"(?:[^"]|"")*+\Z')

    @cached_property
    def _clear(self) -> re.Pattern[str]:
        """Match a record whose quotation marks enclose whole cells, or are doubled in such a cell."""
        end = re.escape(self.delimiter)
        cell = rf'(?:"(?:[^"]|"")*+"|[^"{end}]*+)'
        return re.compile(rf"{cell}(?:{end}{cell})*+")

    def records(self, lines: Iterable[str], number: int) -> Iterator[Record]:
        """Yield the records of some lines, of which the first has this number."""
        text, first, last, is_open = "", number, number, False
        for last, line in enumerate(lines, number):
            is_open = self._open.match('"' + line if is_open else line) is not None
            if len(text) <= MAX_LENGTH_OF_RECORD:
                text += line
            if not is_open:
                yield Record(text, first, last)
                text, first = "", last + 1
        if is_open:
            yield Record(text, first, last, is_closed=False)

    def cells(self, record: Record) -> list[str]:
        """Return the cells of a record. Raises Refused if it is in doubt where one ends."""
        text = record.text.rstrip("\r\n")
        if not record.is_closed:
            raise Refused("a quotation mark is not closed.")
        if len(text) > MAX_LENGTH_OF_RECORD:
            raise Refused(f"it is too long: {MAX_LENGTH_OF_RECORD:,} characters are allowed.")
        if any("\udc80" <= c <= "\udcff" for c in text):
            raise Refused("it is not UTF-8 text: save the file as UTF-8 (Excel: CSV UTF-8).")
        if self._clear.fullmatch(text) is None:
            raise Refused(
                "a quotation mark stands inside a cell: put the cell in quotation marks and double any in it."
            )
        return next(csv.reader([text], delimiter=self.delimiter, strict=True), [])


# --- columns ----------------------------------------------------------------------------------------


def _key(name: str) -> str:
    """Return what a heading means, whatever its case, blanks and marks: ``E-Mail 1`` is ``email_1``."""
    return re.sub(r"[\W_]+", "", name.casefold())


_COLUMN_OF = {_key(name): name for name in (*COLUMNS, *IGNORED)} | {"email": "email_1"}
_HELP = "`order-sync customers import --help` lists the columns"


def _heading(form: Form, record: Record) -> list[str]:
    """Return the columns of a file. Raises Refused."""
    if "\0" in record.text:
        raise Refused("it is not UTF-8 text but UTF-16: save the file as UTF-8 (Excel: CSV UTF-8).")
    written = [name.strip() for name in form.cells(record)]
    while written and not written[-1]:
        written.pop()
    names = [None if _is_foreign(name) else _COLUMN_OF.get(_key(name)) for name in written]
    if not any(names):
        raise Refused(f"its first line must name columns, for example external_id,name,email_1: {_HELP}.")
    heading = []
    for number, (name, column) in enumerate(zip(written, names, strict=True), 1):
        if column is None:
            raise Refused(_unknown(name, number))
        if column in heading:
            raise Refused(f"the column {column} is in the heading twice.")
        heading.append(column)
    if not {"customer_id", "external_id", "emails", *EMAILS} & set(heading):
        raise Refused("the file has neither a column external_id nor one for an e-mail to find customers by.")
    return heading


_DIGITS = 19
"""A number of fewer digits fits into a key."""


def _is_foreign(name: str) -> bool:
    """Return True for another program's "Customer ID": taken for ours, it would overwrite strangers."""
    return _key(name) == "customerid" and name != "customer_id"


def _unknown(name: str, number: int) -> str:
    if _is_foreign(name):
        return f"{name} is another program's number, or ours: rename the column external_id, or customer_id."
    if not name:
        return f"column {number} has no name in the heading: name it, or remove the column."
    close = difflib.get_close_matches(_key(name), _COLUMN_OF, n=1)
    meant = f"is {_COLUMN_OF[close[0]]} meant? {_HELP}" if close else f"rename or remove it; {_HELP}"
    return f"there is no column {name}: {meant}."


def _line(
    form: Form,
    record: Record,
    heading: Sequence[str],
    businesses: Mapping[str, str],
    shared_emails: frozenset[str],
) -> Line | None:
    """Return what a record says; None for one without any value."""
    line = Line(record.first, record.last)
    try:
        cells = [_without_guard(cell.strip()) for cell in form.cells(record)]
        if not any(cells):
            return None
        while len(cells) > len(heading) and not cells[-1]:
            cells.pop()
        if len(cells) != len(heading):
            raise Refused(f"it has {len(cells)} values, the heading {len(heading)} columns.")
        given = {n: cell for n, cell in zip(heading, cells, strict=True) if n not in IGNORED}
        if number := given.pop("customer_id", ""):
            if not (number.isascii() and number.isdigit() and len(number) < _DIGITS):
                raise Refused("customer_id must be a customer's number.")
            return replace(line, edit=Edit(int(number), given, shared_emails))
        given = {name: cell for name, cell in with_emails_spread(given, ()).items() if cell}
        business = settle_business(businesses, given.pop("business", None))
        return replace(line, business=business, changes=checked(given, (), shared_emails))
    except Refused as refused:
        return replace(line, refused=str(refused))


_GUARDED = re.compile(rf"'+{FORMULA_SIGNS}")


def _without_guard(cell: str) -> str:
    """Remove the apostrophe that our own CSV puts before what a spreadsheet would run as a formula."""
    return cell[1:].strip() if _GUARDED.match(cell) else cell


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
    edited = customers.load(tx, {line.edit.customer_id for line in lines if line.edit is not None})
    lines = [line if line.edit is None else edit_of(line, line.edit, edited) for line in lines]
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
    for record in edited.values():
        picture = pictures.setdefault(record.business, Picture(record.business, touched))
        picture.records.setdefault(record.customer_id, record)
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
