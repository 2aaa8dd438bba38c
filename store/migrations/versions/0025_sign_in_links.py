"""Links that sign a user in once

Revision: 0025, after 0024.
"""

import sqlalchemy as sa
from alembic import op

from store.types import UtcTime

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sign_in_links",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["name"],
            ["console_users.name"],
            name=op.f("fk_sign_in_links_name"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sign_in_links")),
        sa.UniqueConstraint("name", name=op.f("uq_sign_in_links_name")),
    )


def downgrade() -> None:
    op.drop_table("sign_in_links")
