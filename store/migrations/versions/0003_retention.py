"""Terms for retention, forgotten orders, and how many orders showed their buyer

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

import store.types

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIMES = {
    "orders": ("delivered_at", "shipped_at", "cancelled_at", "term_at", "erased_at"),
    "customers": ("idle_since",),
    "quarantine": ("term_at",),
}
COUNTS = ("identifiable", "with_email", "with_name")
PARTS = (
    ("ix_orders_term", "orders", "term_at", "erased_at IS NULL"),
    ("ix_customers_merged_into", "customers", "merged_into", "merged_into IS NOT NULL"),
    ("ix_customers_idle_since", "customers", "idle_since", "idle_since IS NOT NULL"),
)


def upgrade() -> None:
    for table, columns in TIMES.items():
        for column in columns:
            op.add_column(table, sa.Column(column, store.types.UtcTime(timezone=True), nullable=True))
    op.add_column("orders", sa.Column("billing_origin", sa.String(length=8), nullable=True))
    for column in COUNTS:
        op.add_column("runs", sa.Column(column, sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "forgotten_orders",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("order_id", sa.String(length=80), nullable=False),
        sa.Column("forgotten_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", "order_id", name=op.f("pk_forgotten_orders")),
        sqlite_with_rowid=False,
    )
    for name, table, column, where in PARTS:
        op.create_index(name, table, [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    for name, table, _, _ in PARTS:
        op.drop_index(name, table_name=table)
    op.drop_table("forgotten_orders")
    for column in COUNTS:
        op.drop_column("runs", column)
    op.drop_column("orders", "billing_origin")
    for table, columns in TIMES.items():
        for column in columns:
            op.drop_column(table, column)
