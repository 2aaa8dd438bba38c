"""Settled days by marketplace: one that failed is read from where it stopped, not from where others are

Revision: 0016, after 0015.

A process of an older version beside this schema finds a column missing at each run: it fails, and changes
nothing.
"""

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

from store.types import UtcTime

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SETTLED_AFTER = timedelta(days=1)

sources = sa.table("sources", sa.column("source", sa.String), sa.column("settled_until", UtcTime()))
marketplaces = sa.table(
    "marketplaces",
    sa.column("account", sa.String),
    sa.column("marketplace_id", sa.String),
    sa.column("source", sa.String),
    sa.column("live_from", UtcTime()),
    sa.column("alone_since", UtcTime()),
    sa.column("settled_position", UtcTime()),
)


def upgrade() -> None:
    op.add_column("marketplaces", sa.Column("settled_position", UtcTime(), nullable=True))
    connection = op.get_bind()
    reached = {
        row.source: row.settled_until
        for row in connection.execute(sa.select(sources.c.source, sources.c.settled_until))
    }
    c = marketplaces.c
    rows = connection.execute(
        sa.select(c.account, c.marketplace_id, c.source, c.live_from, c.alone_since)
    ).all()
    for row in rows:
        settled = reached.get(row.source) or row.live_from - SETTLED_AFTER
        if row.alone_since is not None:
            settled = min(settled, row.alone_since - SETTLED_AFTER)
        connection.execute(
            sa.update(marketplaces)
            .where(c.account == row.account, c.marketplace_id == row.marketplace_id)
            .values(settled_position=settled)
        )
    with op.batch_alter_table("marketplaces") as batch:
        batch.alter_column("settled_position", existing_type=UtcTime(), nullable=False)
    op.drop_column("sources", "settled_until")


def downgrade() -> None:
    op.add_column("sources", sa.Column("settled_until", UtcTime(), nullable=True))
    op.execute(
        "UPDATE sources SET settled_until ="
        " (SELECT MIN(settled_position) FROM marketplaces WHERE marketplaces.source = sources.source)"
    )
    op.drop_column("marketplaces", "settled_position")
