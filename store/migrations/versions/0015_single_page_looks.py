"""Looks of one page: what had not been proven, or is half-way through a list that shifts, is read again

Revision: 0015, after 0014.

A process of an older version beside this schema finds a column missing at each run: it fails, and changes
nothing.
"""

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

from store.types import UtcTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

UNFINISHED = "state IN ('open', 'set_aside')"
UNFINISHED_BEFORE = "state IN ('open', 'unproven', 'set_aside')"
SEEN_UNSETTLED = timedelta(days=1)
"""Up to this long before its last created-time pass a source had seen days before they were settled."""

sources = sa.table(
    "sources",
    sa.column("source", sa.String),
    sa.column("created_pass_at", UtcTime()),
    sa.column("settled_until", UtcTime()),
)


def _unfinished(condition: str) -> None:
    op.drop_index("ix_windows_unfinished", "windows")
    where = sa.text(condition)
    op.create_index(
        "ix_windows_unfinished",
        "windows",
        ["account"],
        unique=False,
        sqlite_where=where,
        postgresql_where=where,
    )


def upgrade() -> None:
    op.add_column("sources", sa.Column("settled_until", UtcTime(), nullable=True))
    op.add_column("sources", sa.Column("changes_per_second", sa.Float(), nullable=False, server_default="0"))
    op.add_column("marketplaces", sa.Column("absent_since", UtcTime(), nullable=True))
    for column in ("fulfilled_by", "statuses"):
        op.add_column("windows", sa.Column(column, sa.Text(), nullable=False, server_default=""))
    op.add_column("windows", sa.Column("repeats", sa.BigInteger().with_variant(sa.Integer(), "sqlite")))
    connection = op.get_bind()
    for source, passed_at in connection.execute(sa.select(sources.c.source, sources.c.created_pass_at)).all():
        if passed_at is not None:
            settled = sa.update(sources).where(sources.c.source == source)
            connection.execute(settled.values(settled_until=passed_at - SEEN_UNSETTLED))
    op.drop_column("sources", "created_pass_at")
    op.execute(
        "UPDATE windows SET state = CASE WHEN state = 'unproven' THEN 'open' ELSE state END,"
        " page_token = NULL, walk_started_at = NULL, walk_ended_at = NULL, pages = 0, orders = 0,"
        " attempts = CASE WHEN state = 'unproven' THEN 0 ELSE attempts END, version = version + 1"
        f" WHERE axis = 'updated' AND {UNFINISHED_BEFORE}"
    )
    _unfinished(UNFINISHED)


def downgrade() -> None:
    _unfinished(UNFINISHED_BEFORE)
    op.add_column("sources", sa.Column("created_pass_at", UtcTime(), nullable=True))
    op.execute("UPDATE sources SET created_pass_at = settled_until")
    for column in ("repeats", "statuses", "fulfilled_by"):
        op.drop_column("windows", column)
    op.drop_column("marketplaces", "absent_since")
    for column in ("changes_per_second", "settled_until"):
        op.drop_column("sources", column)
