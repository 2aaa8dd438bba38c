"""The outbox, webhooks and alerts

Revision: 0007, after 0006.
"""

import sqlalchemy as sa
from alembic import op

import store.types

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = store.types.UtcTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("change_no", IDENTITY, autoincrement=False, nullable=False),
        sa.Column("what", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("key", IDENTITY, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("merged_into", IDENTITY, nullable=True),
        sa.PrimaryKeyConstraint("change_no", "what", "key", name=op.f("pk_outbox")),
        sqlite_with_rowid=False,
    )
    # A reader at an older position must export everything again: there were no events until now.
    op.execute(
        "INSERT INTO outbox (change_no, what, key, kind, at) "
        "SELECT max(number), 9, 0, 'trimmed', max(at) FROM ("
        "SELECT max(change_no) AS number, max(changed_at) AS at FROM orders "
        "UNION ALL SELECT max(change_no), max(changed_at) FROM customers) AS newest "
        "HAVING max(number) IS NOT NULL"
    )
    op.create_table(
        "webhooks",
        sa.Column("hook_id", IDENTITY, autoincrement=True, nullable=False),
        sa.Column("url", sa.LargeBinary(), nullable=True),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("change_no", IDENTITY, nullable=False),
        sa.Column("what", sa.SmallInteger(), nullable=False),
        sa.Column("key", IDENTITY, nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", TIME, nullable=True),
        sa.Column("retry_at", TIME, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("succeeded_at", TIME, nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("claimed_until", TIME, nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("hook_id", name=op.f("pk_webhooks")),
    )
    op.create_table(
        "webhook_events",
        sa.Column("hook_id", IDENTITY, autoincrement=False, nullable=False),
        sa.Column("change_no", IDENTITY, autoincrement=False, nullable=False),
        sa.Column("what", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("key", IDENTITY, autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failed_at", TIME, nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["hook_id"], ["webhooks.hook_id"], name=op.f("fk_webhook_events_hook_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("hook_id", "change_no", "what", "key", name=op.f("pk_webhook_events")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_webhook_events_record", "webhook_events", ["hook_id", "what", "key"])
    op.create_table(
        "alerts",
        sa.Column("alert", sa.String(length=200), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("over_at", TIME, nullable=True),
        sa.Column("told_at", TIME, nullable=True),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("telling_until", TIME, nullable=True),
        sa.PrimaryKeyConstraint("alert", name=op.f("pk_alerts")),
    )
    op.create_table(
        "credentials",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("fingerprint", sa.String(length=32), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.PrimaryKeyConstraint("account", "kind", name=op.f("pk_credentials")),
    )


def downgrade() -> None:
    op.drop_index("ix_webhook_events_record", "webhook_events")
    for table in ("credentials", "alerts", "webhook_events", "webhooks", "outbox"):
        op.drop_table(table)
