"""When each source is due, for schedulers and workers

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op

import store.types

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ticks",
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("due_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("queued_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_ticks")),
    )


def downgrade() -> None:
    op.drop_table("ticks")
