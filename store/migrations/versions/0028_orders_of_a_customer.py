"""The orders of a customer by time: a page of a customer with many orders reads a few of them

Revision: 0028, after 0027.
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_orders_customer", "orders", ["customer_id", "created_at"])
    op.drop_index("ix_orders_customer_id", "orders")


def downgrade() -> None:
    op.create_index("ix_orders_customer_id", "orders", ["customer_id"])
    op.drop_index("ix_orders_customer", "orders")
