"""The first schema

Revision: 0001, after .
"""

import sqlalchemy as sa
from alembic import op

import store.types

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.CreateSequence(sa.Sequence("order_keys")))
        op.execute(sa.schema.CreateSequence(sa.Sequence("customer_ids")))
    op.create_table(
        "backfills",
        sa.Column(
            "backfill_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("marketplace_id", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("lower", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("upper", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("position", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("span_seconds", sa.Float(), nullable=True),
        sa.Column("created_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("finished_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("backfill_id", name=op.f("pk_backfills")),
    )
    op.create_table(
        "budgets",
        sa.Column("application", sa.String(length=32), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=40), nullable=False),
        sa.Column("rate", sa.Float(), nullable=False),
        sa.Column("burst", sa.Float(), nullable=False),
        sa.Column("tokens", sa.Float(), nullable=False),
        sa.Column("counted_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("application", "account", "operation", name=op.f("pk_budgets")),
    )
    op.create_table(
        "businesses",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("business", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_businesses")),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "coverage",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("marketplace_id", sa.String(length=32), nullable=False),
        sa.Column("look", sa.String(length=8), nullable=False),
        sa.Column("lower", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("upper", store.types.UtcTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", "marketplace_id", "look", "lower", name=op.f("pk_coverage")),
    )
    op.create_table(
        "customers",
        sa.Column(
            "customer_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("business", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=True),
        sa.Column("marketplace", sa.String(length=8), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("merged_into", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("external_id", sa.String(length=128), nullable=True),
        sa.Column("person", sa.LargeBinary(), nullable=True),
        sa.Column("aliases", sa.LargeBinary(), nullable=True),
        sa.Column("billing", sa.LargeBinary(), nullable=True),
        sa.Column("billing_country", sa.String(length=64), nullable=True),
        sa.Column("delivery", sa.LargeBinary(), nullable=True),
        sa.Column("delivery_country", sa.String(length=64), nullable=True),
        sa.Column("price_list", sa.Text(), nullable=True),
        sa.Column("currency", sa.String(length=8), nullable=True),
        sa.Column("tax_code", sa.Text(), nullable=True),
        sa.Column("discount_percent", store.types.Exact(), nullable=True),
        sa.Column("labels", sa.Text(), nullable=True),
        sa.Column("origins", sa.Text(), nullable=False),
        sa.Column("special", sa.String(length=120), nullable=True),
        sa.Column("suggested_into", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("created_from_order", sa.String(length=64), nullable=True),
        sa.Column("created_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("changed_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("change_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.CheckConstraint(
            "(status = 'merged') = (merged_into IS NOT NULL)", name=op.f("ck_customers_tombstone")
        ),
        sa.ForeignKeyConstraint(
            ["merged_into"], ["customers.customer_id"], name=op.f("fk_customers_merged_into")
        ),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_customers")),
    )
    with op.batch_alter_table("customers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_customers_change_no"), ["change_no"], unique=False)
        batch_op.create_index(
            "uq_customers_external_id",
            ["business", "external_id"],
            unique=True,
            sqlite_where=sa.text("external_id IS NOT NULL"),
            postgresql_where=sa.text("external_id IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_customers_special",
            ["business", "special"],
            unique=True,
            sqlite_where=sa.text("special IS NOT NULL"),
            postgresql_where=sa.text("special IS NOT NULL"),
        )

    op.create_table(
        "marketplaces",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("marketplace_id", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("live_from", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("position", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("second_position", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("history_from", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("enrolled", sa.Boolean(), nullable=True),
        sa.Column("alone_since", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("account", "marketplace_id", name=op.f("pk_marketplaces")),
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_meta")),
    )
    op.create_table(
        "quarantine",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("order_id", sa.String(length=80), nullable=False),
        sa.Column("marketplace_id", sa.String(length=32), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("first_seen_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", "order_id", name=op.f("pk_quarantine")),
    )
    op.create_table(
        "refusals",
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", store.types.UtcTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_refusals")),
    )
    op.create_table(
        "run_days",
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("source", "day", name=op.f("pk_run_days")),
    )
    op.create_table(
        "runs",
        sa.Column(
            "run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("started_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("finished_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(length=12), nullable=True),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_runs")),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index("ix_runs_source", ["source", "started_at"], unique=False)

    op.create_table(
        "sources",
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("polled_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("created_pass_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("enrolment_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("refreshed_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("turns", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("retry_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("succeeded_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_sources")),
    )
    op.create_table(
        "customer_emails",
        sa.Column("customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("business", sa.String(length=64), nullable=False),
        sa.Column("email_hash", sa.LargeBinary(length=16), nullable=False),
        sa.Column("email", sa.LargeBinary(), nullable=True),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.CheckConstraint("slot BETWEEN 1 AND 3", name=op.f("ck_customer_emails_slot")),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.customer_id"], name=op.f("fk_customer_emails_customer_id")
        ),
        sa.PrimaryKeyConstraint("customer_id", "slot", name=op.f("pk_customer_emails")),
        sa.UniqueConstraint("business", "email_hash", name=op.f("uq_customer_emails_business_email_hash")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "customer_words",
        sa.Column("block", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("word", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.customer_id"], name=op.f("fk_customer_words_customer_id")
        ),
        sa.PrimaryKeyConstraint("block", "word", "customer_id", name=op.f("pk_customer_words")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("customer_words", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_customer_words_customer_id"), ["customer_id"], unique=False)

    op.create_table(
        "journal",
        sa.Column(
            "entry", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("who", sa.String(length=120), nullable=False),
        sa.Column("action", sa.String(length=20), nullable=False),
        sa.Column("customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("other_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("order_id", sa.String(length=64), nullable=True),
        sa.Column("details", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.customer_id"], name=op.f("fk_journal_customer_id")
        ),
        sa.PrimaryKeyConstraint("entry", name=op.f("pk_journal")),
    )
    with op.batch_alter_table("journal", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_journal_customer_id"), ["customer_id"], unique=False)

    op.create_table(
        "orders",
        sa.Column(
            "order_key",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("marketplace_id", sa.String(length=32), nullable=True),
        sa.Column("marketplace", sa.String(length=8), nullable=True),
        sa.Column("channel", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=True),
        sa.Column("seller_status", sa.Text(), nullable=True),
        sa.Column("fulfilled_by", sa.String(length=40), nullable=True),
        sa.Column("service_level", sa.String(length=40), nullable=True),
        sa.Column("programs", sa.Text(), nullable=False),
        sa.Column("created_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("last_updated_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("as_of", sa.Text(), nullable=False),
        sa.Column("ship_by", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("deliver_by", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("seller_order_id", sa.Text(), nullable=True),
        sa.Column("replaces", sa.String(length=64), nullable=True),
        sa.Column("buyer", sa.LargeBinary(), nullable=True),
        sa.Column("delivery", sa.LargeBinary(), nullable=True),
        sa.Column("delivery_country", sa.String(length=64), nullable=True),
        sa.Column("delivery_instructions", sa.LargeBinary(), nullable=True),
        sa.Column("billing", sa.LargeBinary(), nullable=True),
        sa.Column("billing_country", sa.String(length=64), nullable=True),
        sa.Column("total", store.types.Exact(), nullable=True),
        sa.Column("currency", sa.String(length=8), nullable=True),
        sa.Column("withheld_tax", store.types.Exact(), nullable=True),
        sa.Column("packages", sa.Text(), nullable=True),
        sa.Column("tax_numbers", sa.LargeBinary(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("cancelled_by", sa.String(length=40), nullable=True),
        sa.Column("cancel_reason", sa.LargeBinary(), nullable=True),
        sa.Column("price_list", sa.Text(), nullable=True),
        sa.Column("tax_code", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("match_basis", sa.String(length=20), nullable=True),
        sa.Column("match_rules", sa.Text(), nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("shown", sa.Boolean(), nullable=False),
        sa.Column("walk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("refetched_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("first_seen_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("changed_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("change_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.customer_id"], name=op.f("fk_orders_customer_id")
        ),
        sa.PrimaryKeyConstraint("order_key", name=op.f("pk_orders")),
        sa.UniqueConstraint("account", "order_id", name=op.f("uq_orders_account_order_id")),
    )
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_orders_change_no"), ["change_no"], unique=False)
        batch_op.create_index("ix_orders_created", ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_orders_customer_id"), ["customer_id"], unique=False)
        batch_op.create_index(
            "ix_orders_open",
            ["account", "marketplace_id"],
            unique=False,
            sqlite_where=sa.text(
                "status IN ('PENDING', 'PENDING_AVAILABILITY', 'UNSHIPPED', 'PARTIALLY_SHIPPED')"
            ),
            postgresql_where=sa.text(
                "status IN ('PENDING', 'PENDING_AVAILABILITY', 'UNSHIPPED', 'PARTIALLY_SHIPPED')"
            ),
        )
        batch_op.create_index(
            "ix_orders_unknown_marketplace",
            ["account", "marketplace_id"],
            unique=False,
            sqlite_where=sa.text("marketplace IS NULL"),
            postgresql_where=sa.text("marketplace IS NULL"),
        )
        batch_op.create_index("ix_orders_updated", ["account", "last_updated_at"], unique=False)

    op.create_table(
        "windows",
        sa.Column(
            "window_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("axis", sa.String(length=8), nullable=False),
        sa.Column("marketplace_ids", sa.Text(), nullable=False),
        sa.Column("included_data", sa.Text(), nullable=False),
        sa.Column("lower", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("upper", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("page_token", sa.LargeBinary(), nullable=True),
        sa.Column("walk_started_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("walk_ended_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("claimed_until", store.types.UtcTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("backfill_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("created_at", store.types.UtcTime(timezone=True), nullable=False),
        sa.Column("finished_at", store.types.UtcTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["backfill_id"], ["backfills.backfill_id"], name=op.f("fk_windows_backfill_id")
        ),
        sa.PrimaryKeyConstraint("window_id", name=op.f("pk_windows")),
    )
    with op.batch_alter_table("windows", schema=None) as batch_op:
        batch_op.create_index("ix_windows_source", ["source", "state"], unique=False)

    op.create_table(
        "order_lines",
        sa.Column("order_key", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("order_item_id", sa.String(length=64), nullable=False),
        sa.Column("sku", sa.Text(), nullable=True),
        sa.Column("asin", sa.String(length=20), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("quantity_shipped", sa.Integer(), nullable=True),
        sa.Column("currency", sa.String(length=8), nullable=True),
        sa.Column("unit_price", store.types.Exact(), nullable=True),
        sa.Column("item_total", store.types.Exact(), nullable=True),
        sa.Column("tax", store.types.Exact(), nullable=True),
        sa.Column("shipping", store.types.Exact(), nullable=True),
        sa.Column("discount", store.types.Exact(), nullable=True),
        sa.Column("gift_wrap", store.types.Exact(), nullable=True),
        sa.Column("withheld_tax", store.types.Exact(), nullable=True),
        sa.Column("promotion_ids", sa.Text(), nullable=True),
        sa.Column("gift_message", sa.LargeBinary(), nullable=True),
        sa.Column("customization_url", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["order_key"], ["orders.order_key"], name=op.f("fk_order_lines_order_key")),
        sa.PrimaryKeyConstraint("order_key", "position", name=op.f("pk_order_lines")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("order_lines")
    with op.batch_alter_table("windows", schema=None) as batch_op:
        batch_op.drop_index("ix_windows_source")

    op.drop_table("windows")
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.drop_index("ix_orders_updated")
        batch_op.drop_index(
            "ix_orders_unknown_marketplace",
            sqlite_where=sa.text("marketplace IS NULL"),
            postgresql_where=sa.text("marketplace IS NULL"),
        )
        batch_op.drop_index(
            "ix_orders_open",
            sqlite_where=sa.text(
                "status IN ('PENDING', 'PENDING_AVAILABILITY', 'UNSHIPPED', 'PARTIALLY_SHIPPED')"
            ),
            postgresql_where=sa.text(
                "status IN ('PENDING', 'PENDING_AVAILABILITY', 'UNSHIPPED', 'PARTIALLY_SHIPPED')"
            ),
        )
        batch_op.drop_index(batch_op.f("ix_orders_customer_id"))
        batch_op.drop_index("ix_orders_created")
        batch_op.drop_index(batch_op.f("ix_orders_change_no"))

    op.drop_table("orders")
    with op.batch_alter_table("journal", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_journal_customer_id"))

    op.drop_table("journal")
    with op.batch_alter_table("customer_words", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_customer_words_customer_id"))

    op.drop_table("customer_words")
    op.drop_table("customer_emails")
    op.drop_table("sources")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index("ix_runs_source")

    op.drop_table("runs")
    op.drop_table("run_days")
    op.drop_table("refusals")
    op.drop_table("quarantine")
    op.drop_table("meta")
    op.drop_table("marketplaces")
    with op.batch_alter_table("customers", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_customers_special",
            sqlite_where=sa.text("special IS NOT NULL"),
            postgresql_where=sa.text("special IS NOT NULL"),
        )
        batch_op.drop_index(
            "uq_customers_external_id",
            sqlite_where=sa.text("external_id IS NOT NULL"),
            postgresql_where=sa.text("external_id IS NOT NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_customers_change_no"))

    op.drop_table("customers")
    op.drop_table("coverage")
    op.drop_table("counters")
    op.drop_table("businesses")
    op.drop_table("budgets")
    op.drop_table("backfills")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.DropSequence(sa.Sequence("order_keys")))
        op.execute(sa.schema.DropSequence(sa.Sequence("customer_ids")))
