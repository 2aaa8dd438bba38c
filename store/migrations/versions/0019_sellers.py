"""Sellers: the authorisation that each account's orders came with

Revision: 0019, after 0018.

Filled from the credentials that services recorded, because they expire; without, at an account's next run.
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
    op.execute(
        "INSERT INTO sellers (account, authorisation)"
        " SELECT account, fingerprint FROM credentials WHERE kind = 'authorisation'"
    )


def downgrade() -> None:
    op.drop_table("sellers")
