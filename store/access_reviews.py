"""Reviews of access: when a person went through users and tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import sqlalchemy as sa

from store.engine import Transaction
from store.tables import access_reviews


@dataclass(frozen=True, slots=True)
class AccessReview:
    """A review: by whom, how many users and tokens there were, and how many findings."""

    at: datetime
    who: str
    users: int
    tokens: int
    overdue: int


def add(tx: Transaction, review: AccessReview) -> None:
    """Store a review; one of the same time stays as it is."""
    tx.insert_missing(access_reviews, [asdict(review)])


def last(tx: Transaction) -> AccessReview | None:
    """Return the last review; None if there was none."""
    query = sa.select(access_reviews).order_by(access_reviews.c.at.desc()).limit(1)
    row = tx.conn.execute(query).one_or_none()
    return None if row is None else AccessReview(**row._mapping)
