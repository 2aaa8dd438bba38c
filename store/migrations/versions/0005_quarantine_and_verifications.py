"""Orders in quarantine are tried again by themselves; proofs of completeness

Revision: 0005, after 0001.
"""

import sqlalchemy as sa
from alembic import op

import store.types

revision = "0005"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("quarantine", schema=None) as batch_op:
        batch_op.add_column(sa.Column("last_updated_at", store.types.UtcTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("read_by", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("refetches", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("quarantine", schema=None) as batch_op:
        batch_op.drop_column("refetches")
        batch_op.drop_column("read_by")
        batch_op.drop_column("last_updated_at")
