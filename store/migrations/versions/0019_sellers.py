"""Sellers: the authorisation that each account's orders came with

Revision: 0019, after 0018.

Filled at each account's next run: what it polls with then is believed to be its seller's.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sellers",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("authorisation", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_sellers")),
    )


def downgrade() -> None:
    op.drop_table("sellers")
