"""Verifications count the orders of other shops and unreadable rows; ``NON_AMAZON`` fits as a marketplace

Revision: 0020, after 0019.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

COUNTS = ("non_amazon", "unreadable")


def upgrade() -> None:
    for name in COUNTS:
        op.add_column("verifications", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    if op.get_context().dialect.name == "postgresql":  # SQLite knows no lengths
        for table in ("orders", "customers"):
            op.alter_column(table, "marketplace", type_=sa.String(16))


def downgrade() -> None:
    for name in COUNTS:
        op.drop_column("verifications", name)
