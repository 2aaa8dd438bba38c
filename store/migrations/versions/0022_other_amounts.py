"""Other amounts: what an order and its lines have beyond the columns of their own, such as a fee or a tip

Revision: 0022, after 0021.

Copies that were stored before brought none: they are unexplained until Amazon changes the order.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("own_amounts", sa.Text(), nullable=True))
    op.add_column("order_lines", sa.Column("other_amounts", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("order_lines", "other_amounts")
    op.drop_column("orders", "own_amounts")
