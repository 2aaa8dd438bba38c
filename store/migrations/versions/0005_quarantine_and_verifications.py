"""Automatic retries of orders in quarantine; verifications

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

import store.types

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("quarantine", schema=None) as batch_op:
        batch_op.add_column(sa.Column("last_updated_at", store.types.UtcTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("read_by", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("refetches", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "verifications",
        sa.Column(
            "verification_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("marketplace_id", sa.String(length=32), nullable=False),
        sa.Column("lower", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("upper", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("asked_upper", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=12), nullable=False),
        sa.Column("repair", sa.Boolean(), nullable=False),
        sa.Column("position", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("span_seconds", sa.Float(), nullable=True),
        sa.Column("report_id", sa.String(length=120), nullable=True),
        sa.Column("report_asked_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("page_token", sa.LargeBinary(), nullable=True),
        sa.Column("walk_started_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("walked", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("listed", sa.Integer(), nullable=False),
        sa.Column("before_start", sa.Integer(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("next_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("finished_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("verification_id", name=op.f("pk_verifications")),
    )
    with op.batch_alter_table("verifications", schema=None) as batch_op:
        batch_op.create_index("ix_verifications_account", ["account", "marketplace_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("verifications", schema=None) as batch_op:
        batch_op.drop_index("ix_verifications_account")

    op.drop_table("verifications")
    with op.batch_alter_table("quarantine", schema=None) as batch_op:
        batch_op.drop_column("refetches")
        batch_op.drop_column("read_by")
        batch_op.drop_column("last_updated_at")
