"""Pairs of customers that may be the same person (R56); this only reads.

Each record is opened once and turned into a few digests, under a key of this run alone. SQLite sorts and
pairs them in a temporary database that goes to disk as it grows, so memory does not grow with the customers.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter

from poller.customers import likeness
from poller.customers.likeness import REASONS, Reason
from poller.matching.customer_records import PICKUP_POINT
from store import queries
from store.customers import Likeness, likenesses
from store.engine import Transaction

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
        _mark(tx, scratch, tell)
        common = _pair(scratch)
        promoted = sorted({(min(pair), max(pair)) for pair in queries.suggested(tx)})
        scratch.executemany("INSERT INTO pairs VALUES (?, ?, 1)", promoted)
        best, total = _best(scratch, limit)
    statuses = queries.statuses(tx, {i for pair in best for i in (pair.customer_id, pair.other_id)})
    return Suggestions(tuple(_kept_first(pair, statuses) for pair in best), total, common)


def _mark(tx: Transaction, scratch: sqlite3.Connection, tell: Callable[[int], None]) -> None:
    """Write a row for each form in which a record can be like another."""
    key = os.urandom(32)
    seen = 0
    for chunk in likenesses(tx, CHUNK_SIZE):
        rows = []
        for record in chunk:
            for reason, form in _forms(record):
                digest = blake2b(f"{record.business}\0{form}".encode(), digest_size=8, key=key).digest()
                rows.append((reason, int.from_bytes(digest, "big", signed=True), record.customer_id))
        scratch.executemany("INSERT INTO marks VALUES (?, ?, ?)", rows)
        seen += len(chunk)
        tell(seen)


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
