"""Tokens of the HTTP API: their names, scopes and hashes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import api_tokens


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as stored. ``digest``: the hash of the token itself."""

    name: str
    scopes: tuple[str, ...]
    digest: bytes = field(repr=False)
    created_at: datetime


def load(tx: Transaction) -> list[StoredToken]:
    """Return all tokens by name."""
    rows = tx.rows(sa.select(api_tokens).order_by(api_tokens.c.name))
    return [StoredToken(r.name, tuple(r.scopes.split()), bytes(r.digest), r.created_at) for r in rows]


def add(tx: Transaction, name: str, scopes: tuple[str, ...], digest: bytes) -> bool:
    """Store a new token. Return False if there is one of that name."""
    if any(token.name == name for token in load(tx)):
        return False
    row = {"name": name, "digest": digest, "scopes": " ".join(scopes), "created_at": tx.now}
    tx.conn.execute(sa.insert(api_tokens).values(row))
    return True


def remove(tx: Transaction, name: str) -> bool:
    """Delete a token. Return False if there is none of that name."""
    return tx.conn.execute(sa.delete(api_tokens).where(api_tokens.c.name == name)).rowcount == 1
