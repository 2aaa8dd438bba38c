"""E-mails of which ß counted as ss: hashes made so are known as such, and made again when they are met

Revision: 0021, after 0020.

Also what a process of an older version writes beside this schema.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "customer_emails", sa.Column("folded", sa.Boolean(), nullable=False, server_default=sa.true())
    )


def downgrade() -> None:
    op.drop_column("customer_emails", "folded")
