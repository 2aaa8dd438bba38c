"""Histories: a position of a history that a restore has undone is refused

Revision: 0017, after 0016.

Processes of an older version and of this one count positions from the same number until the server starts
again, so both may run.
"""

import sqlalchemy as sa
from alembic import op

from store.types import UtcTime

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

CONTINUE = """
INSERT INTO histories (first_no, after_no, began_at, server, counted_from)
SELECT 0, 0, now(), server.name, base.counted
FROM (SELECT coalesce(max(value), 0) AS counted FROM counters WHERE name = 'counted_from') AS base,
    (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xid) AS ahead,
    (SELECT max(change_no) AS change_no FROM (
        SELECT max(change_no) AS change_no FROM customers UNION ALL SELECT max(change_no) FROM orders
        UNION ALL SELECT max(change_no) FROM outbox) AS numbers) AS newest,
    (SELECT concat_ws('/', extract(epoch FROM pg_postmaster_start_time()), oid, 'histories'::regclass::oid)
        AS name FROM pg_database WHERE datname = current_database()) AS server
WHERE newest.change_no < base.counted + ahead.xid
"""

ISSUED = """
INSERT INTO counters (name, value)
SELECT 'change_no', counted_from + pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1 FROM histories
"""
"""Positions issued so far stay valid, also those of transactions without a change."""


def upgrade() -> None:
    op.create_table(
        "histories",
        sa.Column("first_no", IDENTITY, autoincrement=False, nullable=False),
        sa.Column("after_no", IDENTITY, nullable=False),
        sa.Column("began_at", UtcTime(), nullable=False),
        sa.Column("server", sa.String(length=100), nullable=False),
        sa.Column("counted_from", IDENTITY, nullable=False),
        sa.PrimaryKeyConstraint("first_no", name=op.f("pk_histories")),
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute(CONTINUE)
        op.execute(ISSUED)


def downgrade() -> None:
    op.drop_table("histories")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DELETE FROM counters WHERE name = 'change_no'")
