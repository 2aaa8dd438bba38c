"""Processes: services and workers say every minute that they are alive, and which keys they hold

Revision: 0018, after 0017.

A process of an older version says nothing, and does no harm.
"""

import sqlalchemy as sa
from alembic import op

from store.types import UtcTime

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "processes",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("key_ids", sa.Text(), nullable=False),
        sa.Column("clock_ahead", sa.Float(), nullable=True),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_processes")),
    )


def downgrade() -> None:
    op.drop_table("processes")
