"""Merging customers

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("journal", sa.Column("facts", sa.Text(), nullable=True))
    op.create_index("ix_journal_other_id", "journal", ["other_id"], unique=False)
    op.create_table(
        "merged_orders",
        sa.Column("entry", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "order_key",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("moved", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entry"], ["journal.entry"], name=op.f("fk_merged_orders_entry"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("entry", "order_key", name=op.f("pk_merged_orders")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_merged_orders_moved",
        "merged_orders",
        ["order_key"],
        unique=False,
        sqlite_where=sa.text("moved"),
        postgresql_where=sa.text("moved"),
    )


def downgrade() -> None:
    op.drop_table("merged_orders")
    op.drop_index("ix_journal_other_id", table_name="journal")
    op.drop_column("journal", "facts")
