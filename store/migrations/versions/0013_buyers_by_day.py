"""Daily totals count how many orders showed their buyer

Revision: 0013, after 0012.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

BUYERS = ("identifiable", "with_email", "with_name")

# The runs of the last days still have their counts.
CARRY_OVER = """
    INSERT INTO run_days (
        source, day, runs, failed, pages, orders, requests, identifiable, with_email, with_name
    )
    SELECT source, date(started_at), 0, 0, 0, 0, 0, sum(identifiable), sum(with_email), sum(with_name)
    FROM runs WHERE identifiable > 0
    GROUP BY source, date(started_at)
    ON CONFLICT (source, day) DO UPDATE SET
        identifiable = excluded.identifiable, with_email = excluded.with_email, with_name = excluded.with_name
"""


def upgrade() -> None:
    for name in BUYERS:
        op.add_column("run_days", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.execute(CARRY_OVER)


def downgrade() -> None:
    for name in reversed(BUYERS):
        op.drop_column("run_days", name)
