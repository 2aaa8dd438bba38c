"""The audit log: who did and saw what

Revision: 0024, after 0023.
"""

import sqlalchemy as sa
from alembic import op

from store.types import Identity, UtcTime

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("entry", Identity, autoincrement=True, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("who", sa.String(120), nullable=False),
        sa.Column("client", sa.String(120), nullable=False),
        sa.Column("door", sa.String(8), nullable=False),
        sa.Column("action", sa.String(24), nullable=False),
        sa.Column("outcome", sa.String(8), nullable=False),
        sa.Column("what", sa.String(16)),
        sa.Column("count", sa.Integer),
        sa.Column("selection", sa.Text),
        sa.Column("detail", sa.String(120)),
        sa.Column("times", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("entry", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    for name in ("at", "who", "action"):
        op.create_index(f"ix_audit_{name}", "audit", [name, "entry"])
    op.create_table(
        "audit_subjects",
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("record", sa.String(80), nullable=False),
        sa.Column("entry", Identity, nullable=False, autoincrement=False),
        sa.ForeignKeyConstraint(["entry"], ["audit.entry"], name="fk_audit_subjects_entry"),
        sa.PrimaryKeyConstraint("kind", "record", "entry", name="pk_audit_subjects"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_audit_subjects_entry", "audit_subjects", ["entry"])


def downgrade() -> None:
    op.drop_table("audit_subjects")
    op.drop_table("audit")
