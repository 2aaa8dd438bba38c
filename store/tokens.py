"""Tokens of the HTTP API: their names, scopes, hashes, expiry and last use."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import api_tokens


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as stored. ``digest``: the hash of the token itself. ``expires_at``: None for never.

    ``used_at`` and ``used_from``: its last use; within an hour no further one is noted.
    """

    name: str
    scopes: tuple[str, ...]
    digest: bytes = field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    used_at: datetime | None = None
    used_from: str | None = None

    def is_expired(self, now: datetime) -> bool:
        """Return True if the token is no longer accepted."""
        return self.expires_at is not None and self.expires_at <= now


def load(tx: Transaction) -> list[StoredToken]:
    """Return all tokens by name."""
    rows = tx.rows(sa.select(api_tokens).order_by(api_tokens.c.name))
    return [
        StoredToken(**{**row._mapping, "scopes": tuple(row.scopes.split()), "digest": bytes(row.digest)})
        for row in rows
    ]


def add(
    tx: Transaction, name: str, scopes: Collection[str], digest: bytes, *, valid_for: timedelta | None
) -> bool:
    """Store a new token. ``valid_for``: None for ever. Return False if there is one of that name."""
    if any(token.name == name for token in load(tx)):
        return False
    row = {
        "name": name,
        "digest": digest,
        "scopes": " ".join(scopes),
        "created_at": tx.now,
        "expires_at": None if valid_for is None else tx.now + valid_for,
    }
    tx.conn.execute(sa.insert(api_tokens).values(row))
    return True


def remove(tx: Transaction, name: str) -> bool:
    """Delete a token. Return False if there is none of that name."""
    return tx.conn.execute(sa.delete(api_tokens).where(api_tokens.c.name == name)).rowcount == 1


def note_use(tx: Transaction, name: str, address: str) -> None:
    """Store the time of a use, and where it came from."""
    c = api_tokens.c
    tx.conn.execute(sa.update(api_tokens).where(c.name == name).values(used_at=tx.now, used_from=address))
