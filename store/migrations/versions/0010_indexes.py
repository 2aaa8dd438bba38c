"""Indexes: unfinished windows of an account, lines by SKU in blocks, orders without a status are open

Revision: 0010, after 0009.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UNFINISHED = "state IN ('open', 'unproven', 'set_aside')"
HAS_SKU = "sku IS NOT NULL"
OPEN = "status IN ('PENDING', 'PENDING_AVAILABILITY', 'UNSHIPPED', 'PARTIALLY_SHIPPED')"


def _of_open_orders(which: str) -> None:
    op.drop_index("ix_orders_open", "orders")
    op.create_index(
        "ix_orders_open",
        "orders",
        ["account", "marketplace_id"],
        unique=False,
        sqlite_where=sa.text(which),
        postgresql_where=sa.text(which),
    )


def upgrade() -> None:
    op.create_index(
        "ix_windows_unfinished",
        "windows",
        ["account"],
        unique=False,
        sqlite_where=sa.text(UNFINISHED),
        postgresql_where=sa.text(UNFINISHED),
    )
    op.create_index(
        "ix_order_lines_sku_block",
        "order_lines",
        [sa.text("(order_key / 1024)"), "sku"],
        unique=False,
        sqlite_where=sa.text(HAS_SKU),
        postgresql_where=sa.text(HAS_SKU),
    )
    op.drop_index("ix_order_lines_sku", "order_lines")
    _of_open_orders(f"({OPEN} OR status IS NULL)")


def downgrade() -> None:
    _of_open_orders(OPEN)
    op.create_index(
        "ix_order_lines_sku",
        "order_lines",
        ["sku", "order_key"],
        unique=False,
        sqlite_where=sa.text(HAS_SKU),
        postgresql_where=sa.text(HAS_SKU),
    )
    op.drop_index("ix_order_lines_sku_block", "order_lines")
    op.drop_index("ix_windows_unfinished", "windows")
