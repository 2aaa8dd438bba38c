"""Events of orders that were deleted, which name them

Revision: 0026, after 0025.
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", sa.Column("ids", sa.Text()))


def downgrade() -> None:
    op.execute("DELETE FROM outbox WHERE kind = 'erased'")
    op.drop_column("outbox", "ids")
