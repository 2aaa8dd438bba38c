"""History by reports: backfills with a way, their parts, ids to be fetched

Revision: 0004, after 0001.
"""

import sqlalchemy as sa
from alembic import op

import store.types

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("backfills", schema=None) as batch_op:
        batch_op.add_column(sa.Column("way", sa.String(length=8), server_default="search", nullable=False))
        batch_op.add_column(sa.Column("windows_done", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("owner", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("claimed_until", store.types.UtcTime(timezone=True), nullable=True))
    op.create_table(
        "history_parts",
        sa.Column("backfill_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lower", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("upper", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("report_id", sa.String(length=64), nullable=True),
        sa.Column("asked_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("look_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("troubles", sa.Integer(), nullable=False),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["backfill_id"],
            ["backfills.backfill_id"],
            name=op.f("fk_history_parts_backfill_id"),
        ),
        sa.PrimaryKeyConstraint("backfill_id", "lower", name=op.f("pk_history_parts")),
    )
    op.create_table(
        "history_ids",
        sa.Column("backfill_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("last_updated_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["backfill_id"],
            ["backfills.backfill_id"],
            name=op.f("fk_history_ids_backfill_id"),
        ),
        sa.PrimaryKeyConstraint("backfill_id", "created_at", "order_id", name=op.f("pk_history_ids")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("history_ids")
    op.drop_table("history_parts")
    with op.batch_alter_table("backfills", schema=None) as batch_op:
        batch_op.drop_column("claimed_until")
        batch_op.drop_column("owner")
        batch_op.drop_column("windows_done")
        batch_op.drop_column("way")
