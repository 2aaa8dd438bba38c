"""All tables. Columns in ``SEALED`` hold buyer data as sealed bytes (``store/sealing.py``).

``store/engine/`` assigns whole-number keys in ascending order, so a page of new orders is appended and not
scattered over the file. ``change_no`` orders changes for readers that continue from a position
(``store/engine/`` says when one is readable).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from store.introspection import fields_of, sealed_fields
from store.records import Amount, LineRecord, OrderRecord
from store.types import Exact, Identity, UtcTime

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
"""Facts about this database that are no numbers: the sealed lookup key."""

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
"""The last assigned numbers, for SQLite without sequences; on PostgreSQL the last change position before."""

histories = sa.Table(
    "histories",
    metadata,
    sa.Column("first_no", Identity, primary_key=True, autoincrement=False),
    sa.Column("after_no", Identity, nullable=False),
    sa.Column("began_at", UtcTime, nullable=False),
    sa.Column("server", sa.String(100), nullable=False),
    sa.Column("counted_from", Identity, nullable=False),
)
"""Histories of change positions (``store/engine/positions.py``): the first position of each, and the last of
the one before. What lies between was not issued here, or by a history that a restore has undone."""

sellers = sa.Table(
    "sellers",
    metadata,
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("authorisation", sa.String(32), nullable=False),
)
"""The authorisation, as a fingerprint, that each account's orders came with: its seller's."""

ORDER_KEYS = sa.Sequence("order_keys", metadata=metadata)
CUSTOMER_IDS = sa.Sequence("customer_ids", metadata=metadata)

businesses = sa.Table(
    "businesses",
    metadata,
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("business", sa.String(64), nullable=False),
)
"""The business whose customers an account's buyers are; frozen once customers exist."""

HAS_TERM = "erased_at IS NULL"
"""Orders whose buyer data was not erased yet."""

OPEN = "(status IN ('PENDING', 'PENDING_AVAILABILITY', 'UNSHIPPED', 'PARTIALLY_SHIPPED') OR status IS NULL)"
"""Orders that Amazon has not finished: few at any time, and queried often."""

UNFINISHED = "state IN ('open', 'set_aside')"
"""Windows with work left: a few of each account, among thousands that were read."""

RARE_BASIS = "match_basis NOT IN ('created', 'email_1')"
"""Orders whose customer was found in a rare way: few, and searched for among very many."""

SKU_BLOCK = 1024
"""Number of consecutive order keys that make a block, within which lines are found by SKU.

An article sells at any time, so in one index over all lines each new line would change another page of the
index, which cost more than anything else in storing a page of orders. In blocks, new lines touch a few pages.
A migration that makes Alembic copy ``order_lines`` on SQLite must create that index again.
"""

_TYPES: Mapping[Any, Any] = {bool: sa.Boolean, int: sa.Integer, datetime: UtcTime, Amount: Exact}


def _columns(record: type) -> Iterator[sa.Column[Any]]:
    """Yield a column for each field that a record declares (``store.introspection``)."""
    for name, kind, optional, declared in fields_of(record):
        if declared.sealed:
            column: Any = sa.LargeBinary
        elif kind is str and declared.length is not None:
            column = sa.String(declared.length)
        else:
            column = _TYPES.get(kind, sa.Text)
        never_null = not optional and (declared.joined or kind in (str, bool, int, datetime))
        yield sa.Column(name, column, nullable=declared.sealed or not never_null)


orders = sa.Table(
    "orders",
    metadata,
    sa.Column("order_key", Identity, primary_key=True, autoincrement=False),
    *_columns(OrderRecord),
    sa.Column("delivery_country", sa.String(64)),
    sa.Column("billing_country", sa.String(64)),
    sa.Column("currency", sa.String(8)),
    sa.Column("as_of", sa.Text, nullable=False),
    sa.Column("customer_id", Identity, sa.ForeignKey("customers.customer_id")),
    sa.Column("walk", Identity),
    sa.Column("refetch_tried_at", UtcTime),
    sa.Column("refetched_at", UtcTime),
    sa.Column("first_seen_at", UtcTime, nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
    sa.Column("change_no", Identity, nullable=False, index=True),
    sa.UniqueConstraint("account", "order_id"),
    sa.Index("ix_orders_updated", "account", "last_updated_at"),
    sa.Index("ix_orders_created", "created_at"),
    sa.Index("ix_orders_customer", "customer_id", "created_at"),
    sa.Index(
        "ix_orders_rare_basis",
        "match_basis",
        "created_at",
        sqlite_where=sa.text(RARE_BASIS),
        postgresql_where=sa.text(RARE_BASIS),
    ),
    sa.Index(
        "ix_orders_open",
        "account",
        "marketplace_id",
        sqlite_where=sa.text(OPEN),
        postgresql_where=sa.text(OPEN),
    ),
    sa.Index(
        "ix_orders_term",
        "term_at",
        sqlite_where=sa.text(HAS_TERM),
        postgresql_where=sa.text(HAS_TERM),
    ),
    sa.Index(
        "ix_orders_unknown_marketplace",
        "account",
        "marketplace_id",
        sqlite_where=sa.text("marketplace IS NULL"),
        postgresql_where=sa.text("marketplace IS NULL"),
    ),
)

order_lines = sa.Table(
    "order_lines",
    metadata,
    sa.Column("order_key", Identity, sa.ForeignKey("orders.order_key"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    *_columns(LineRecord),
    sa.Column("currency", sa.String(8)),
    sa.Index(
        "ix_order_lines_sku_block",
        sa.text(f"(order_key / {SKU_BLOCK})"),
        "sku",
        sqlite_where=sa.text("sku IS NOT NULL"),
        postgresql_where=sa.text("sku IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

UNIDENTIFIED = "status = 'unidentified'"
NOT_ACTIVE = "status <> 'active'"
"""Customers without an e-mail, merged or forgotten."""

customers = sa.Table(
    "customers",
    metadata,
    sa.Column("customer_id", Identity, primary_key=True, autoincrement=False),
    sa.Column("business", sa.String(64), nullable=False),
    sa.Column("account", sa.String(64)),
    sa.Column("marketplace", sa.String(16)),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("merged_into", Identity, sa.ForeignKey("customers.customer_id")),
    sa.Column("external_id", sa.String(128)),
    sa.Column("person", sa.LargeBinary),
    sa.Column("aliases", sa.LargeBinary),
    sa.Column("billing", sa.LargeBinary),
    sa.Column("billing_country", sa.String(64)),
    sa.Column("delivery", sa.LargeBinary),
    sa.Column("delivery_country", sa.String(64)),
    sa.Column("price_list", sa.Text),
    sa.Column("currency", sa.String(8)),
    sa.Column("tax_code", sa.Text),
    sa.Column("discount_percent", Exact),
    sa.Column("labels", sa.Text),
    sa.Column("origins", sa.Text, nullable=False),
    sa.Column("special", sa.String(120)),
    sa.Column("suggested_into", Identity),
    sa.Column("created_from_order", sa.String(64)),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
    sa.Column("change_no", Identity, nullable=False, index=True),
    sa.Column("idle_since", UtcTime),
    sa.Index(
        "ix_customers_not_active",
        "status",
        "customer_id",
        sqlite_where=sa.text(NOT_ACTIVE),
        postgresql_where=sa.text(NOT_ACTIVE),
    ),
    sa.Index(
        "ix_customers_aliases",
        "customer_id",
        sqlite_where=sa.text("aliases IS NOT NULL"),
        postgresql_where=sa.text("aliases IS NOT NULL"),
    ),
    sa.Index(
        "ix_customers_unidentified",
        "created_from_order",
        sqlite_where=sa.text(UNIDENTIFIED),
        postgresql_where=sa.text(UNIDENTIFIED),
    ),
    *(
        sa.Index(
            f"ix_customers_{name}",
            name,
            sqlite_where=sa.text(f"{name} IS NOT NULL"),
            postgresql_where=sa.text(f"{name} IS NOT NULL"),
        )
        for name in ("merged_into", "idle_since")
    ),
    *(
        sa.Index(
            f"uq_customers_{name}",
            "business",
            name,
            unique=True,
            sqlite_where=sa.text(f"{name} IS NOT NULL"),
            postgresql_where=sa.text(f"{name} IS NOT NULL"),
        )
        for name in ("special", "external_id")
    ),
    sa.CheckConstraint("(status = 'merged') = (merged_into IS NOT NULL)", name="tombstone"),
)

customer_emails = sa.Table(
    "customer_emails",
    metadata,
    sa.Column("customer_id", Identity, sa.ForeignKey("customers.customer_id"), primary_key=True),
    sa.Column("slot", sa.SmallInteger, primary_key=True),
    sa.Column("business", sa.String(64), nullable=False),
    sa.Column("email_hash", sa.LargeBinary(16), nullable=False),
    sa.Column("email", sa.LargeBinary),
    sa.Column("origin", sa.String(8), nullable=False),
    sa.Column("folded", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.UniqueConstraint("business", "email_hash"),
    sa.CheckConstraint("slot BETWEEN 1 AND 3", name="slot"),
    sqlite_with_rowid=False,
)
"""Main e-mails. A unique index allows each on one record of a business only (R16).

``folded``: the hash may have been made when ß counted as ss, as older versions do.
"""

WORD_BLOCK = 8192
"""Number of consecutive customer ids whose words are stored together."""

customer_words = sa.Table(
    "customer_words",
    metadata,
    sa.Column("block", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("word", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("customer_id", Identity, sa.ForeignKey("customers.customer_id"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)
"""Keyed hashes of the words of names, for search by name: one look-up for each ``block``.

Hashes are spread evenly. In blocks, new customers touch a few pages, however many customers there are.
"""

journal = sa.Table(
    "journal",
    metadata,
    sa.Column("entry", Identity, primary_key=True, autoincrement=True),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("who", sa.String(120), nullable=False),
    sa.Column("action", sa.String(20), nullable=False),
    sa.Column("customer_id", Identity, sa.ForeignKey("customers.customer_id"), nullable=False, index=True),
    sa.Column("other_id", Identity, index=True),
    sa.Column("order_id", sa.String(64)),
    sa.Column("details", sa.LargeBinary),
    sa.Column("facts", sa.Text),
)
"""Who changed what on a customer, when; values before and after are sealed.

``facts`` is what undoing a merge needs: names of fields, slots and keyed hashes, but no buyer data.
"""

merged_orders = sa.Table(
    "merged_orders",
    metadata,
    sa.Column("entry", Identity, sa.ForeignKey("journal.entry", ondelete="CASCADE"), primary_key=True),
    sa.Column("order_key", Identity, primary_key=True, autoincrement=False),
    sa.Column("moved", sa.Boolean, nullable=False),
    sa.Index(
        "ix_merged_orders_moved",
        "order_key",
        sqlite_where=sa.text("moved"),
        postgresql_where=sa.text("moved"),
    ),
    sqlite_with_rowid=False,
)
"""The orders of a standing merge: those that it ``moved``, and those that the kept record had."""

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("order_id", sa.String(80), primary_key=True),
    sa.Column("marketplace_id", sa.String(32)),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", UtcTime),
    sa.Column("first_seen_at", UtcTime, nullable=False),
    sa.Column("last_seen_at", UtcTime, nullable=False),
    sa.Column("term_at", UtcTime),
    sa.Column("last_updated_at", UtcTime),
    sa.Column("read_by", sa.String(40)),
    sa.Column("refetches", sa.Integer, nullable=False, server_default="0"),
)
"""Orders that could not be read. Without a readable id, ``order_id`` is ``unreadable-`` and a hash.

``read_by``: the last version of this program that could not read it. ``refetches``: how often the service has
requested it again. ``next_attempt_at`` is null once only a person can help.
"""

forgotten_orders = sa.Table(
    "forgotten_orders",
    metadata,
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("order_id", sa.String(80), primary_key=True),
    sa.Column("forgotten_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)
"""Orders of forgotten buyers: whatever their source, no buyer data of them is stored again."""

budgets = sa.Table(
    "budgets",
    metadata,
    sa.Column("application", sa.String(32), primary_key=True),
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("operation", sa.String(40), primary_key=True),
    sa.Column("rate", sa.Float, nullable=False),
    sa.Column("burst", sa.Float, nullable=False),
    sa.Column("tokens", sa.Float, nullable=False),
    sa.Column("counted_at", UtcTime, nullable=False),
    sa.Column("taken", sa.BigInteger, nullable=False),
)
"""The request budgets: one token bucket per application, account (so region) and operation."""

refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("kind", sa.String(12), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("fingerprint", sa.String(32), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("since", UtcTime, nullable=False),
)
"""Accounts and applications that Login with Amazon refused, with the fingerprint of their credentials; and
accounts whose credentials are another seller's (``seller``) or another account's (``renamed``)."""

sources = sa.Table(
    "sources",
    metadata,
    sa.Column("source", sa.String(80), primary_key=True),
    sa.Column("account", sa.String(64), nullable=False),
    sa.Column("polled_at", UtcTime),
    sa.Column("changes_per_second", sa.Float, nullable=False, server_default="0"),
    sa.Column("enrolment_at", UtcTime),
    sa.Column("refreshed_at", UtcTime),
    sa.Column("turns", sa.Text, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("failing_since", UtcTime),
    sa.Column("last_error", sa.Text),
    sa.Column("last_error_kind", sa.String(32)),
    sa.Column("last_error_status", sa.Integer),
    sa.Column("last_error_code", sa.Text),
    sa.Column("retry_at", UtcTime),
    sa.Column("succeeded_at", UtcTime),
)
"""What each source did last; windows and coverage have tables of their own."""

marketplaces = sa.Table(
    "marketplaces",
    metadata,
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("marketplace_id", sa.String(32), primary_key=True),
    sa.Column("source", sa.String(80), nullable=False),
    sa.Column("live_from", UtcTime, nullable=False),
    sa.Column("position", UtcTime, nullable=False),
    sa.Column("second_position", UtcTime, nullable=False),
    sa.Column("settled_position", UtcTime, nullable=False),
    sa.Column("history_from", UtcTime),
    sa.Column("enrolled", sa.Boolean),
    sa.Column("absent_since", UtcTime),
    sa.Column("alone_since", UtcTime),
    sa.Column("trouble", sa.Text),
)
"""Per marketplace the positions of live reading, second looks and settled days, and its problem."""

windows = sa.Table(
    "windows",
    metadata,
    sa.Column("window_id", Identity, primary_key=True, autoincrement=True),
    sa.Column("source", sa.String(80), nullable=False),
    sa.Column("account", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("axis", sa.String(8), nullable=False),
    sa.Column("marketplace_ids", sa.Text, nullable=False),
    sa.Column("included_data", sa.Text, nullable=False),
    sa.Column("fulfilled_by", sa.Text, nullable=False, server_default=""),
    sa.Column("repeats", Identity),
    sa.Column("statuses", sa.Text, nullable=False, server_default=""),
    sa.Column("lower", UtcTime, nullable=False),
    sa.Column("upper", UtcTime, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("page_token", sa.LargeBinary),
    sa.Column("walk_started_at", UtcTime),
    sa.Column("walk_ended_at", UtcTime),
    sa.Column("pages", sa.Integer, nullable=False),
    sa.Column("orders", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("retry_at", UtcTime),
    sa.Column("last_error", sa.Text),
    sa.Column("last_error_kind", sa.String(32)),
    sa.Column("last_error_status", sa.Integer),
    sa.Column("last_error_code", sa.Text),
    sa.Column("owner", sa.String(64)),
    sa.Column("claimed_until", UtcTime),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("backfill_id", Identity, sa.ForeignKey("backfills.backfill_id")),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("finished_at", UtcTime),
    sa.Index("ix_windows_source", "source", "state"),
    sa.Index(
        "ix_windows_unfinished",
        "account",
        sqlite_where=sa.text(UNFINISHED),
        postgresql_where=sa.text(UNFINISHED),
    ),
)
"""The ledger: intervals that are unfinished or were read recently."""

coverage = sa.Table(
    "coverage",
    metadata,
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("marketplace_id", sa.String(32), primary_key=True),
    sa.Column("look", sa.String(8), primary_key=True),
    sa.Column("lower", UtcTime, primary_key=True),
    sa.Column("upper", UtcTime, nullable=False),
)
"""Coverage: disjoint intervals per marketplace and look (``first``, ``second``, ``created``)."""

backfills = sa.Table(
    "backfills",
    metadata,
    sa.Column("backfill_id", Identity, primary_key=True, autoincrement=True),
    sa.Column("account", sa.String(64), nullable=False),
    sa.Column("marketplace_id", sa.String(32), nullable=False),
    sa.Column("reason", sa.String(16), nullable=False),
    sa.Column("lower", UtcTime, nullable=False),
    sa.Column("upper", UtcTime, nullable=False),
    sa.Column("position", UtcTime, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("orders", sa.Integer, nullable=False),
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("span_seconds", sa.Float),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("finished_at", UtcTime),
    sa.Column("way", sa.String(8), nullable=False, server_default="search"),
    sa.Column("windows_done", sa.Integer, nullable=False, server_default="0"),
    sa.Column("owner", sa.String(64)),
    sa.Column("claimed_until", UtcTime),
)
"""History that is fetched by created time, newest first, down to ``position`` so far."""

history_parts = sa.Table(
    "history_parts",
    metadata,
    sa.Column("backfill_id", Identity, sa.ForeignKey("backfills.backfill_id"), primary_key=True),
    sa.Column("lower", UtcTime, primary_key=True),
    sa.Column("upper", UtcTime, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("report_id", sa.String(64)),
    sa.Column("asked_at", UtcTime),
    sa.Column("look_at", UtcTime),
    sa.Column("looks", sa.Integer, nullable=False),
    sa.Column("troubles", sa.Integer, nullable=False),
    sa.Column("orders", sa.Integer, nullable=False),
    sa.Column("lost", sa.Integer, nullable=False),
    sa.Column("last_error", sa.Text),
)
"""Parts of backfills, each with its report."""

history_ids = sa.Table(
    "history_ids",
    metadata,
    sa.Column("backfill_id", Identity, sa.ForeignKey("backfills.backfill_id"), primary_key=True),
    sa.Column("created_at", UtcTime, primary_key=True),
    sa.Column("order_id", sa.String(64), primary_key=True),
    sa.Column("last_updated_at", UtcTime, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("retry_at", UtcTime),
    sqlite_with_rowid=False,
)
"""Orders of reports that must still be fetched, by backfill and age."""

verifications = sa.Table(
    "verifications",
    metadata,
    sa.Column("verification_id", Identity, primary_key=True, autoincrement=True),
    sa.Column("account", sa.String(64), nullable=False),
    sa.Column("marketplace_id", sa.String(32), nullable=False),
    sa.Column("lower", UtcTime, nullable=False),
    sa.Column("upper", UtcTime, nullable=False),
    sa.Column("asked_upper", UtcTime, nullable=False),
    sa.Column("by", sa.String(8), nullable=False),
    sa.Column("reason", sa.String(12), nullable=False),
    sa.Column("repair", sa.Boolean, nullable=False),
    sa.Column("position", UtcTime, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("span_seconds", sa.Float),
    sa.Column("report_id", sa.String(120)),
    sa.Column("report_asked_at", UtcTime),
    sa.Column("page_token", sa.LargeBinary),
    sa.Column("walk_started_at", UtcTime),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("listed", sa.Integer, nullable=False),
    sa.Column("before_start", sa.Integer, nullable=False),
    sa.Column("non_amazon", sa.Integer, nullable=False, server_default="0"),
    sa.Column("unreadable", sa.Integer, nullable=False, server_default="0"),
    sa.Column("findings", sa.Text, nullable=False),
    sa.Column("message", sa.Text),
    sa.Column("next_at", UtcTime),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("finished_at", UtcTime),
    sa.Index("ix_verifications_account", "account", "marketplace_id"),
)
"""A marketplace's orders of a range compared with Amazon's own list."""

verification_orders = sa.Table(
    "verification_orders",
    metadata,
    sa.Column("verification_id", Identity, sa.ForeignKey("verifications.verification_id"), primary_key=True),
    sa.Column("order_id", sa.String(64), primary_key=True),
    sa.Column("created_at", UtcTime),
    sa.Column("last_updated_at", UtcTime),
    sqlite_with_rowid=False,
)
"""Orders that the search of a verification has listed so far, until its range is compared."""

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run", Identity, primary_key=True, autoincrement=True),
    sa.Column("source", sa.String(80), nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("finished_at", UtcTime),
    sa.Column("outcome", sa.String(12)),
    sa.Column("pages", sa.Integer, nullable=False),
    sa.Column("orders", sa.Integer, nullable=False),
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("message", sa.Text),
    sa.Column("identifiable", sa.Integer, nullable=False, server_default="0"),
    sa.Column("with_email", sa.Integer, nullable=False, server_default="0"),
    sa.Column("with_name", sa.Integer, nullable=False, server_default="0"),
    sa.Column("retries", sa.Integer, nullable=False, server_default="0"),
    sa.Index("ix_runs_source", "source", "started_at"),
)

run_days = sa.Table(
    "run_days",
    metadata,
    sa.Column("source", sa.String(80), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("runs", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("pages", sa.Integer, nullable=False),
    sa.Column("orders", sa.Integer, nullable=False),
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("identifiable", sa.Integer, nullable=False, server_default="0"),
    sa.Column("with_email", sa.Integer, nullable=False, server_default="0"),
    sa.Column("with_name", sa.Integer, nullable=False, server_default="0"),
)
"""Daily totals of runs older than 30 days (two days if they brought nothing), and of all orders that may show
their buyer and did."""

ticks = sa.Table(
    "ticks",
    metadata,
    sa.Column("source", sa.String(80), primary_key=True),
    sa.Column("due_at", UtcTime, nullable=False),
    sa.Column("queued_at", UtcTime),
)
"""When each source is due, and since when a job for it waits or runs (only with workers).

Written with every tick: without another index PostgreSQL changes its rows in place.
"""

processes = sa.Table(
    "processes",
    metadata,
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("key_ids", sa.Text, nullable=False),
    sa.Column("clock_ahead", sa.Float),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
)
"""Services and workers, as they say of themselves every minute; a process that ends takes its row away."""

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("change_no", Identity, primary_key=True, autoincrement=False),
    sa.Column("what", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("key", Identity, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("merged_into", Identity),
    sa.Column("ids", sa.Text),
    sqlite_with_rowid=False,
)
"""What each transaction changed, written in it (``store/engine/outbox.py``): which record and how, no values.

``what`` is 1 for a customer and 2 for an order, ``key`` the customer's id or the order's key. ``ids`` names
an order that was deleted. A row of the kind ``trimmed`` is no event: changes up to its position were deleted,
or never stored.
"""

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("hook_id", Identity, primary_key=True, autoincrement=True),
    sa.Column("url", sa.LargeBinary),
    sa.Column("secret", sa.LargeBinary),
    sa.Column("change_no", Identity, nullable=False),
    sa.Column("what", sa.SmallInteger, nullable=False),
    sa.Column("key", Identity, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("failing_since", UtcTime),
    sa.Column("retry_at", UtcTime),
    sa.Column("last_error", sa.Text),
    sa.Column("succeeded_at", UtcTime),
    sa.Column("owner", sa.String(64)),
    sa.Column("claimed_until", UtcTime),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
)
"""Receivers of changes. ``change_no``, ``what`` and ``key`` are the position of the last handled event.

The address is sealed like the secret, because it may contain one.
"""

webhook_events = sa.Table(
    "webhook_events",
    metadata,
    sa.Column(
        "hook_id",
        Identity,
        sa.ForeignKey("webhooks.hook_id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("change_no", Identity, primary_key=True, autoincrement=False),
    sa.Column("what", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("key", Identity, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("failed_at", UtcTime, nullable=False),
    sa.Column("next_at", UtcTime, nullable=False),
    sa.Column("last_error", sa.Text),
    sa.Index("ix_webhook_events_record", "hook_id", "what", "key"),
    sqlite_with_rowid=False,
)
"""Events that a receiver did not accept, or that wait behind another of the same record (``waiting``).

``dead``: given up, unless a person sends them again.
"""

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("alert", sa.String(200), primary_key=True),
    sa.Column("sentence", sa.Text, nullable=False),
    sa.Column("since", UtcTime, nullable=False),
    sa.Column("over_at", UtcTime),
    sa.Column("told_at", UtcTime),
    sa.Column("times", sa.Integer, nullable=False),
    sa.Column("telling_until", UtcTime),
)
"""What is wrong now, and when people were notified; shared by all processes, so that only one notifies."""

credentials = sa.Table(
    "credentials",
    metadata,
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("fingerprint", sa.String(32), nullable=False),
    sa.Column("since", UtcTime, nullable=False),
)
"""Since when each account's client secret and authorisation are in use: Amazon lets them expire."""

api_tokens = sa.Table(
    "api_tokens",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime),
    sa.Column("used_at", UtcTime),
    sa.Column("used_from", sa.String(45)),
)
"""Tokens of the HTTP API and their scopes; only the hash of a token is stored.

``expires_at``: NULL for never. ``used_at``: the last use, within an hour; ``used_from``: its address.
"""

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("who", sa.String(80), primary_key=True),
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("fingerprint", sa.String(32), nullable=False),
    sa.Column("answer", sa.Text),
    sa.Column("at", UtcTime, nullable=False, index=True),
    sqlite_with_rowid=False,
)
"""Requests over HTTP that changed something, and their answers: ids and states, no buyer data."""

console_users = sa.Table(
    "console_users",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("password", sa.Text),
    sa.Column("password_at", UtcTime, nullable=False),
    sa.Column("password_is_chosen", sa.Boolean, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("signed_in_at", UtcTime),
    sa.Column("signed_in_from", sa.String(45)),
    sa.Column("totp", sa.LargeBinary),
    sa.Column("totp_at", UtcTime),
    sa.Column("totp_step", sa.BigInteger, nullable=False),
)
"""Users of the console and their scopes; only the argon2 hash of a password is stored.

``password``: NULL if the user signs in without one. ``password_is_chosen``: by the user, not for the user.
``totp``: the sealed secret of the user's one-time codes. ``totp_at``: since when they are required; NULL
while the secret is being set up. ``totp_step``: the time step of the last code, which is accepted once.
"""

console_passwords = sa.Table(
    "console_passwords",
    metadata,
    sa.Column(
        "name", sa.String(64), sa.ForeignKey("console_users.name", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("password", sa.String(200), primary_key=True),
    sa.Column("at", UtcTime, nullable=False),
)
"""Hashes of a user's last passwords, the present one included, which cannot be chosen again."""

console_recovery_codes = sa.Table(
    "console_recovery_codes",
    metadata,
    sa.Column(
        "name", sa.String(64), sa.ForeignKey("console_users.name", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
)
"""Hashes of codes, each good for once, by which users sign in without the device of their one-time codes."""

console_sessions = sa.Table(
    "console_sessions",
    metadata,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column(
        "name",
        sa.String(64),
        sa.ForeignKey("console_users.name", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
    sa.Column("method", sa.String(10), nullable=False),
    sa.Column("awaits_code", sa.Boolean, nullable=False),
    sa.Column("address", sa.String(45), nullable=False),
    sa.Column("browser", sa.String(200), nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("failed_at", UtcTime),
    sa.Column("failed_from", sa.String(45)),
)
"""Sessions of the console, by the hash of a browser's cookie. They are deleted with their user.

``awaits_code``: the password was right, a one-time code is missing. ``failures``: failed attempts to sign in
since the success before, the last one ``failed_at``.
"""

sign_in_failures = sa.Table(
    "sign_in_failures",
    metadata,
    sa.Column("name_key", sa.String(32), primary_key=True),
    sa.Column("address_key", sa.String(32), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("at", UtcTime, nullable=False, index=True),
    sa.Column("address", sa.String(45), nullable=False),
)
"""Failed attempts to sign in: by name and network, by network, and by name since the last success.

Names and networks are keyed hashes: people type their password into the wrong field. ``address``: the last
one of a name.
"""

access_reviews = sa.Table(
    "access_reviews",
    metadata,
    sa.Column("at", UtcTime, primary_key=True),
    sa.Column("who", sa.String(80), nullable=False),
    sa.Column("users", sa.Integer, nullable=False),
    sa.Column("tokens", sa.Integer, nullable=False),
    sa.Column("overdue", sa.Integer, nullable=False),
)
"""When a person reviewed who has access, how many users and tokens there were, and how much was overdue."""

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("entry", Identity, primary_key=True, autoincrement=True),
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
    *(sa.Index(f"ix_audit_{name}", name, "entry") for name in ("at", "who", "action")),
    sqlite_autoincrement=True,
)
"""The audit log (``store/audit.py``). Numbers of deleted entries are not issued again."""

audit_subjects = sa.Table(
    "audit_subjects",
    metadata,
    sa.Column("kind", sa.String(8), primary_key=True),
    sa.Column("record", sa.String(80), primary_key=True),
    sa.Column("entry", Identity, sa.ForeignKey("audit.entry"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)
"""The records that an entry of the audit log names; ``*`` for many."""

sign_in_links = sa.Table(
    "sign_in_links",
    metadata,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column(
        "name",
        sa.String(64),
        sa.ForeignKey("console_users.name", ondelete="CASCADE"),
        nullable=False,
        unique=True,
    ),
    sa.Column("expires_at", UtcTime, nullable=False),
)
"""Links that sign a user in once, by their hash: at most one a user. They are deleted with their user."""

SEALED: dict[str, tuple[str, ...]] = {
    "orders": sealed_fields(OrderRecord),
    "order_lines": sealed_fields(LineRecord),
    "customers": ("person", "aliases", "billing", "delivery"),
    "customer_emails": ("email",),
    "journal": ("details",),
    "quarantine": ("payload",),
    "windows": ("page_token",),
    "verifications": ("page_token",),
    "webhooks": ("url", "secret"),
    "console_users": ("totp",),
}
"""All columns with sealed bytes, by table."""
