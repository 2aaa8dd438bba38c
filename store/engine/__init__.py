"""SQLite and PostgreSQL behind one interface: the only package that asks which one it has.

SQLite: a transaction that may write begins with ``BEGIN IMMEDIATE``. The driver begins at the first write,
too late for "read, decide, write": in a trial eight threads took 150 of 20 tokens that way. WAL lets readers
go on beside a writer; ``secure_delete`` overwrites erased data; ``synchronous = FULL`` keeps a commit through
a power cut, because positions already handed to readers must not come back.

PostgreSQL: row locks and the database's own clock. A change position is the transaction's id, counted from
where its history begins; it is readable once no older transaction can still commit.
"""

from sqlalchemy.engine import Engine

from store.engine.connections import (
    ENCODING_REFUSED,
    NO_ANSWER,
    OPENING,
    PER_TRANSACTION,
    SESSION,
    WHOSE,
    DatabaseError,
    NoConnection,
    Unavailable,
    connect_arguments,
    create_engine,
    damages,
    file_of,
    hold_tables,
    index_texts,
    is_another_type,
    is_pooled,
    lift_limit,
    make_private,
    missing_rights,
    name_of,
    reason_of,
    try_writing,
    wait_long,
)
from store.engine.positions import CHANGE_NO, condense, is_ours, newest_change
from store.engine.statements import Row
from store.engine.store import LOOKUP_KEY, LOOKUP_KEY_PLACE, Store, has_lookup_key
from store.engine.transaction import Overtaken, Tombstone, Transaction, is_conflict

__all__ = [
    "CHANGE_NO",
    "ENCODING_REFUSED",
    "LOOKUP_KEY",
    "LOOKUP_KEY_PLACE",
    "NO_ANSWER",
    "OPENING",
    "PER_TRANSACTION",
    "SESSION",
    "WHOSE",
    "DatabaseError",
    "Engine",
    "NoConnection",
    "Overtaken",
    "Row",
    "Store",
    "Tombstone",
    "Transaction",
    "Unavailable",
    "condense",
    "connect_arguments",
    "create_engine",
    "damages",
    "file_of",
    "has_lookup_key",
    "hold_tables",
    "index_texts",
    "is_another_type",
    "is_conflict",
    "is_ours",
    "is_pooled",
    "lift_limit",
    "make_private",
    "missing_rights",
    "name_of",
    "newest_change",
    "reason_of",
    "try_writing",
    "wait_long",
]
