"""Indexes: unfinished windows of an account, lines by SKU in blocks, orders without a status are open

Revision: 0010, after 0009.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UNFINISHED = "state IN ('open', 'unproven', 'set_aside')"
HAS_SKU = "sku IS NOT NULL"
OPEN = "status IN ('PENDING', 'PENDING_AVAILABILITY', 'UNSHIPPED', 'PARTIALLY_SHIPPED')"


def _create(name: str, table: str, columns: list[Any], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=False, sqlite_where=condition, postgresql_where=condition)


def _of_open_orders(which: str) -> None:
    op.drop_index("ix_orders_open", "orders")
    _create("ix_orders_open", "orders", ["account", "marketplace_id"], which)


def upgrade() -> None:
    _create("ix_windows_unfinished", "windows", ["account"], UNFINISHED)
    _create("ix_order_lines_sku_block", "order_lines", [sa.text("(order_key / 1024)"), "sku"], HAS_SKU)
    op.drop_index("ix_order_lines_sku", "order_lines")
    _of_open_orders(f"({OPEN} OR status IS NULL)")


def downgrade() -> None:
    _of_open_orders(OPEN)
    _create("ix_order_lines_sku", "order_lines", ["sku", "order_key"], HAS_SKU)
    op.drop_index("ix_order_lines_sku_block", "order_lines")
    op.drop_index("ix_windows_unfinished", "windows")
