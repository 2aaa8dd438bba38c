"""Refetching an order: when it was last tried, apart from when it last succeeded

Revision: 0012, after 0011.
"""

import sqlalchemy as sa
from alembic import op

import store.types

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("refetch_tried_at", store.types.UtcTime(timezone=True), nullable=True))
    # It was written before Amazon answered: which of them succeeded is not known.
    op.execute("UPDATE orders SET refetch_tried_at = refetched_at WHERE refetched_at IS NOT NULL")
    op.execute("UPDATE orders SET refetched_at = NULL WHERE refetched_at IS NOT NULL")


def downgrade() -> None:
    op.execute("UPDATE orders SET refetched_at = refetch_tried_at WHERE refetch_tried_at IS NOT NULL")
    op.drop_column("orders", "refetch_tried_at")
