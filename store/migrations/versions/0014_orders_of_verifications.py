"""Verifications: the orders that a search has listed so far, one row each instead of one growing value

Revision: 0014, after 0013.
"""

import sqlalchemy as sa
from alembic import op

import store.types

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

WALKS_BEGIN_AGAIN = (
    "UPDATE verifications SET page_token = NULL, walk_started_at = NULL WHERE page_token IS NOT NULL"
)
"""A walk under way reads its pages again from the first: what it listed is not carried over."""


def upgrade() -> None:
    op.create_table(
        "verification_orders",
        sa.Column("verification_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("last_updated_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["verification_id"],
            ["verifications.verification_id"],
            name=op.f("fk_verification_orders_verification_id"),
        ),
        sa.PrimaryKeyConstraint("verification_id", "order_id", name=op.f("pk_verification_orders")),
        sqlite_with_rowid=False,
    )
    op.execute(WALKS_BEGIN_AGAIN)
    op.drop_column("verifications", "walked")


def downgrade() -> None:
    op.execute(WALKS_BEGIN_AGAIN)
    op.add_column("verifications", sa.Column("walked", sa.Text(), nullable=False, server_default="[]"))
    op.drop_table("verification_orders")
