"""Users and sessions of the console; indexes for orders by SKU and rare match bases; retries of runs

Revision: 0009, after 0008.
"""

import sqlalchemy as sa
from alembic import op

import store.types

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "console_users",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", store.types.UtcTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_console_users")),
    )
    op.create_table(
        "console_sessions",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("created_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("seen_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["name"],
            ["console_users.name"],
            name=op.f("fk_console_sessions_name"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_console_sessions")),
    )
    op.create_index("ix_console_sessions_name", "console_sessions", ["name"], unique=False)
    op.create_index(
        "ix_order_lines_sku",
        "order_lines",
        ["sku", "order_key"],
        unique=False,
        sqlite_where=sa.text("sku IS NOT NULL"),
        postgresql_where=sa.text("sku IS NOT NULL"),
    )
    op.create_index(
        "ix_orders_rare_basis",
        "orders",
        ["match_basis", "created_at"],
        unique=False,
        sqlite_where=sa.text("match_basis NOT IN ('created', 'email_1')"),
        postgresql_where=sa.text("match_basis NOT IN ('created', 'email_1')"),
    )
    op.create_index(
        "ix_customers_not_active",
        "customers",
        ["status", "customer_id"],
        unique=False,
        sqlite_where=sa.text("status <> 'active'"),
        postgresql_where=sa.text("status <> 'active'"),
    )
    op.add_column("runs", sa.Column("retries", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("runs", "retries")
    op.drop_index(
        "ix_customers_not_active",
        "customers",
        sqlite_where=sa.text("status <> 'active'"),
        postgresql_where=sa.text("status <> 'active'"),
    )
    op.drop_index(
        "ix_orders_rare_basis",
        "orders",
        sqlite_where=sa.text("match_basis NOT IN ('created', 'email_1')"),
        postgresql_where=sa.text("match_basis NOT IN ('created', 'email_1')"),
    )
    op.drop_index(
        "ix_order_lines_sku",
        "order_lines",
        sqlite_where=sa.text("sku IS NOT NULL"),
        postgresql_where=sa.text("sku IS NOT NULL"),
    )
    op.drop_index("ix_console_sessions_name", "console_sessions")
    op.drop_table("console_sessions")
    op.drop_table("console_users")
