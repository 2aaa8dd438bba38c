"""Failures of windows and sources with their kind, Amazon's status and its code

Revision: 0011, after 0010.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLES = ("sources", "windows")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("last_error_kind", sa.String(length=32), nullable=True))
        op.add_column(table, sa.Column("last_error_status", sa.Integer(), nullable=True))
        op.add_column(table, sa.Column("last_error_code", sa.Text(), nullable=True))


def downgrade() -> None:
    for table in TABLES:
        for fact in ("code", "status", "kind"):
            op.drop_column(table, f"last_error_{fact}")
