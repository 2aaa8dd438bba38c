"""Tokens expire, users have one-time codes and a history of passwords, failures are counted by address

Revision: 0027, after 0026.

Sessions of the console end: users sign in again. Tokens that exist do not expire.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from store.types import UtcTime

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

USERS = sa.table(
    "console_users",
    sa.column("name"),
    sa.column("password"),
    sa.column("created_at"),
    sa.column("password_at"),
)


def _with_user(*columns: sa.Column[Any], table: str, keys: tuple[str, ...]) -> None:
    op.create_table(
        table,
        sa.Column("name", sa.String(length=64), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(
            ["name"], ["console_users.name"], name=op.f(f"fk_{table}_name"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(*keys, name=op.f(f"pk_{table}")),
    )


def upgrade() -> None:
    op.add_column("api_tokens", sa.Column("expires_at", UtcTime(), nullable=True))
    op.add_column("api_tokens", sa.Column("used_at", UtcTime(), nullable=True))
    op.add_column("api_tokens", sa.Column("used_from", sa.String(length=45), nullable=True))
    op.drop_index("ix_console_sessions_name", "console_sessions")
    op.drop_table("console_sessions")
    op.add_column("console_users", sa.Column("password_at", UtcTime(), nullable=True))
    op.execute(sa.update(USERS).values(password_at=USERS.c.created_at))
    with op.batch_alter_table("console_users") as batch:
        batch.alter_column("password", existing_type=sa.Text(), nullable=True)
        batch.alter_column("password_at", existing_type=UtcTime(), nullable=False)
        batch.add_column(
            sa.Column("password_is_chosen", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        batch.add_column(sa.Column("signed_in_at", UtcTime(), nullable=True))
        batch.add_column(sa.Column("signed_in_from", sa.String(length=45), nullable=True))
        batch.add_column(sa.Column("totp", sa.LargeBinary(), nullable=True))
        batch.add_column(sa.Column("totp_at", UtcTime(), nullable=True))
        batch.add_column(sa.Column("totp_step", sa.BigInteger(), server_default="0", nullable=False))
        batch.drop_column("failures")
        batch.drop_column("locked_until")
    with op.batch_alter_table("console_users") as batch:
        batch.alter_column("password_is_chosen", existing_type=sa.Boolean(), server_default=None)
        batch.alter_column("totp_step", existing_type=sa.BigInteger(), server_default=None)
    _with_user(
        sa.Column("password", sa.String(length=200), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        table="console_passwords",
        keys=("name", "password"),
    )
    op.execute(
        "INSERT INTO console_passwords (name, password, at) "
        "SELECT name, password, password_at FROM console_users"
    )
    _with_user(
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        table="console_recovery_codes",
        keys=("name", "digest"),
    )
    _create_sessions(
        sa.Column("method", sa.String(length=10), nullable=False),
        sa.Column("awaits_code", sa.Boolean(), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("browser", sa.String(length=200), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", UtcTime(), nullable=True),
        sa.Column("failed_from", sa.String(length=45), nullable=True),
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("name_key", sa.String(length=32), nullable=False),
        sa.Column("address_key", sa.String(length=32), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.PrimaryKeyConstraint("name_key", "address_key", name=op.f("pk_sign_in_failures")),
    )
    op.create_index("ix_sign_in_failures_at", "sign_in_failures", ["at"], unique=False)
    op.create_table(
        "access_reviews",
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("who", sa.String(length=80), nullable=False),
        sa.Column("users", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("overdue", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("at", name=op.f("pk_access_reviews")),
    )


def _create_sessions(*columns: sa.Column[Any]) -> None:
    op.create_table(
        "console_sessions",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("seen_at", UtcTime(), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(
            ["name"],
            ["console_users.name"],
            name=op.f("fk_console_sessions_name"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_console_sessions")),
    )
    op.create_index("ix_console_sessions_name", "console_sessions", ["name"], unique=False)


def downgrade() -> None:
    op.drop_table("access_reviews")
    op.drop_index("ix_sign_in_failures_at", "sign_in_failures")
    op.drop_table("sign_in_failures")
    op.drop_index("ix_console_sessions_name", "console_sessions")
    op.drop_table("console_sessions")
    op.drop_table("console_recovery_codes")
    op.drop_table("console_passwords")
    op.execute("DELETE FROM console_users WHERE password IS NULL")
    with op.batch_alter_table("console_users") as batch:
        batch.alter_column("password", existing_type=sa.Text(), nullable=False)
        batch.add_column(sa.Column("failures", sa.Integer(), server_default="0", nullable=False))
        batch.add_column(sa.Column("locked_until", UtcTime(), nullable=True))
        for column in ("totp_step", "totp_at", "totp", "signed_in_from", "signed_in_at"):
            batch.drop_column(column)
        batch.drop_column("password_is_chosen")
        batch.drop_column("password_at")
    with op.batch_alter_table("console_users") as batch:
        batch.alter_column("failures", existing_type=sa.Integer(), server_default=None)
    _create_sessions()
    for column in ("used_from", "used_at", "expires_at"):
        op.drop_column("api_tokens", column)
