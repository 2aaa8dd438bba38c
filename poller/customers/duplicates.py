"""Pairs of customers that may be the same person (R56); this only reads.

Each record is opened once and turned into a few digests, under a key of this run alone. SQLite sorts and
pairs them in a temporary database that goes to disk as it grows, so memory does not grow with the customers.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter

from poller.customers import likeness
from poller.customers.likeness import REASONS, Reason
from poller.matching.customer_records import PICKUP_POINT
from store import customers, queries
from store.customers import Likeness, find_hashes, likeness_of, likenesses
from store.engine import Transaction
from store.records import CustomerRecord, normal_email
from store.search import customers_named

CHUNK_SIZE = 2_000


@dataclass(frozen=True, slots=True)
class Pair:
    """Two customers that may be one. The first is the one to keep: the active one, else the older."""

    customer_id: int
    other_id: int
    score: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Suggestions:
    """The best pairs and the number of all pairs.

    ``common``: for each reason, how many names, phones or companies too many records share to mean anything.
    """

    pairs: tuple[Pair, ...]
    total: int
    common: Mapping[Reason, int]


def find(tx: Transaction, *, limit: int, tell: Callable[[int], None]) -> Suggestions:
    """Search all living customers. ``tell`` gets the number of those read so far."""
    with closing(sqlite3.connect("")) as scratch:
        scratch.execute("PRAGMA journal_mode = OFF")
        scratch.execute("PRAGMA cache_size = -16000")
        scratch.execute("CREATE TABLE marks (reason INTEGER, digest INTEGER, customer_id INTEGER)")
        scratch.execute("CREATE TABLE pairs (first INTEGER, second INTEGER, bit INTEGER)")
        older = _mark(tx, scratch, tell)
        common = _pair(scratch)
        for reason, alike in (("promoted", queries.suggested(tx)), ("older_email", older)):
            bit = 1 << REASONS.index(reason)
            pairs = sorted({(min(pair), max(pair)) for pair in alike})
            scratch.executemany("INSERT INTO pairs VALUES (?, ?, ?)", [(*pair, bit) for pair in pairs])
        best, total = _best(scratch, limit)
    statuses = queries.statuses(tx, {i for pair in best for i in (pair.customer_id, pair.other_id)})
    return Suggestions(tuple(_kept_first(pair, statuses) for pair in best), total, common)


def _mark(tx: Transaction, scratch: sqlite3.Connection, tell: Callable[[int], None]) -> list[tuple[int, int]]:
    """Write a row for each form in which a record can be like another.

    Return the pairs of which one has the other's main e-mail as an older one.
    """
    key = os.urandom(32)
    seen = 0
    pairs: list[tuple[int, int]] = []
    for chunk in likenesses(tx, CHUNK_SIZE):
        rows = []
        for record in chunk:
            for reason, form in _forms(record):
                digest = blake2b(f"{record.business}\0{form}".encode(), digest_size=8, key=key).digest()
                rows.append((reason, int.from_bytes(digest, "big", signed=True), record.customer_id))
        scratch.executemany("INSERT INTO marks VALUES (?, ?, ?)", rows)
        pairs += _with_older_emails(tx, chunk)
        seen += len(chunk)
        tell(seen)
    return pairs


def _with_older_emails(tx: Transaction, chunk: Sequence[Likeness]) -> Iterator[tuple[int, int]]:
    """Yield a record with each other record that has one of its older e-mails as a main one."""
    owners: dict[str, dict[bytes, set[int]]] = {}
    for record in chunk:
        of_business = owners.setdefault(record.business, {}) if record.aliases else {}
        for email in record.aliases:
            of_business.setdefault(tx.lookup.email(record.business, email), set()).add(record.customer_id)
    for business, by_hash in owners.items():
        for hash_, holder in find_hashes(tx, business, by_hash).items():
            yield from ((owner, holder) for owner in sorted(by_hash[hash_]) if owner != holder)


_WORD = re.compile(r"\w+")
WORDS_COMPARED = 8
"""How many words of a name are searched; each is one more table in a query."""

NAMED_ALIKE = 200
"""The most customers with the same words in their names that one customer is compared with."""


def like(tx: Transaction, record: CustomerRecord) -> list[int]:
    """Return customers that may be the same person as one, by name and by older e-mails (R56).

    It searches the words of the names, so it does not find who shares a phone or a company alone.
    """
    forms = set(_forms(likeness_of(record)))
    named = (record.name, record.amazon_name, None if record.delivery is None else record.delivery.name)
    names = {" ".join(_WORD.findall(name)[:WORDS_COMPARED]) for name in named if name}
    alike = {holder for _, holder in _with_older_emails(tx, [likeness_of(record)])}
    for main in record.emails:
        if main.email is not None:
            alike |= {*customers.with_older_email(tx, record.business, normal_email(main.email))}
    for name in filter(None, names):
        for other in customers_named(tx, name, NAMED_ALIKE):
            is_living = other.status in ("active", "unidentified") and other.special is None
            if is_living and other.business == record.business and forms & {*_forms(likeness_of(other))}:
                alike.add(other.customer_id)
    return sorted(alike - {record.customer_id})


def _forms(record: Likeness) -> Iterator[tuple[int, str]]:
    """Yield the record's forms, each with the index of its reason; a pick-up point is not a buyer's."""
    person, address = record.person, record.address
    name, number = person.name or person.amazon_name, person.phone
    postal_code = country = None
    if address is not None and address.kind != PICKUP_POINT:
        name, number = name or address.name, number or address.phone
        postal_code, country = address.postal_code, address.country
    forms = (
        likeness.name_and_postcode(name, postal_code, country),
        likeness.phone(number),
        likeness.company(person.company),
    )
    for reason, form in enumerate(forms, 1):
        if form is not None:
            yield reason, form


def _pair(scratch: sqlite3.Connection) -> dict[Reason, int]:
    """Pair the records that share a digest. Returns by reason how many digests too many records share."""
    common: Counter[Reason] = Counter()
    marks = scratch.execute("SELECT reason, digest, customer_id FROM marks ORDER BY 1, 2, 3")

    def paired() -> Iterator[tuple[int, int, int]]:
        for (reason, _), group in groupby(marks, key=itemgetter(0, 1)):
            alike = [customer_id for _, _, customer_id in group]
            common[REASONS[reason]] += len(alike) > likeness.MAX_ALIKE
            for first, second in likeness.pairs(alike):
                yield first, second, 1 << reason

    scratch.executemany("INSERT INTO pairs VALUES (?, ?, ?)", paired())
    return {reason: count for reason, count in common.items() if count}


def _best(scratch: sqlite3.Connection, limit: int) -> tuple[list[Pair], int]:
    """Return the pairs with the highest scores, and the number of pairs."""
    scratch.create_function("score", 1, lambda bits: likeness.score(_reasons(bits)), deterministic=True)
    scratch.execute("CREATE TABLE joined AS SELECT first, second, sum(bit) AS bits FROM pairs GROUP BY 1, 2")
    (total,) = scratch.execute("SELECT count(*) FROM joined").fetchone()
    query = "SELECT first, second, bits FROM joined ORDER BY score(bits) DESC, first, second LIMIT ?"
    best = []
    for first, second, bits in scratch.execute(query, (limit,)):
        reasons = _reasons(bits)
        best.append(Pair(first, second, likeness.score(reasons), reasons))
    return best, total


def _reasons(bits: int) -> tuple[Reason, ...]:
    return tuple(reason for i, reason in enumerate(REASONS) if bits & 1 << i)


def _kept_first(pair: Pair, statuses: Mapping[int, str]) -> Pair:
    first, second = sorted((pair.customer_id, pair.other_id), key=lambda i: (statuses.get(i) != "active", i))
    return Pair(first, second, pair.score, pair.reasons)
