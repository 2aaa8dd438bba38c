"""Unidentified records are found by their order, and records with older e-mails by having some

Revision: 0023, after 0022.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_customers_unidentified": ("created_from_order", "status = 'unidentified'"),
    "ix_customers_aliases": ("customer_id", "aliases IS NOT NULL"),
}


def upgrade() -> None:
    for name, (column, where) in INDEXES.items():
        op.create_index(
            name, "customers", [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )


def downgrade() -> None:
    for name in reversed(INDEXES):
        op.drop_index(name, "customers")
