"""Fills a PostgreSQL database with any number of orders, by the database itself: no page ever brought them.

What is sealed is noise of the usual length, so it cannot be opened; nothing that a page reads meets it.
Nothing was erased, as with ORDER_SYNC_RETENTION_DAYS=off: that is when most is stored.
Three lines for two orders, a customer for two orders, nine of ten with an e-mail, two words in a name.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.engine import Engine

DAYS = 700

_NOISE = "decode(repeat(md5({}::text), {}), 'hex')"


def _noise(seed: str, sixteens: int) -> str:
    return _NOISE.format(seed, sixteens)


_CUSTOMERS = f"""
INSERT INTO customers (customer_id, business, account, marketplace, status, person, aliases, billing,
    billing_country, delivery, delivery_country, price_list, currency, tax_code, discount_percent, labels,
    origins, created_from_order, created_at, changed_at, change_no)
SELECT i, 'acme', 'acme', 'UK', 'active', {_noise("i", 6)}, NULL, {_noise("i", 12)}, 'GB',
    {_noise("i", 12)}, 'GB', 'Amazon UK retail', 'GBP', 'T20', 0, '{{}}', '{{}}', 'G-' || (i * 2),
    now() - interval '1 day', now(), i
FROM generate_series(:first, :last) AS i
"""

_EMAILS = f"""
INSERT INTO customer_emails (customer_id, slot, business, email_hash, email, origin)
SELECT i, 1, 'acme', {_noise("i", 1)}, {_noise("i", 4)}, 'amazon'
FROM generate_series(:first, :last) AS i WHERE i % 10 <> 0
"""

_WORDS = """
INSERT INTO customer_words (block, word, customer_id)
SELECT i / 8192, hashtextextended(w || ' ' || (i % 50000), 0), i
FROM generate_series(:first, :last) AS i, generate_series(1, 2) AS w
"""

_ORDERS = f"""
INSERT INTO orders (order_key, account, order_id, marketplace_id, marketplace, channel, status, seller_status,
    fulfilled_by, service_level, programs, created_at, last_updated_at, as_of, ship_by, deliver_by, buyer,
    delivery, delivery_country, total, currency, packages, cancel_requested, price_list, tax_code, labels,
    customer_id, match_basis, match_rules, ready, shown, term_at, first_seen_at, changed_at,
    change_no)
SELECT i, 'acme', 'G-' || i, (ARRAY['A1F83G8C2ARO7P', 'A1PA6795UKMFR9', 'A13V1IB3VIYZZH'])[1 + i % 3],
    (ARRAY['UK', 'DE', 'FR'])[1 + i % 3], 'AMAZON',
    CASE WHEN i % 1000 = 0 THEN 'UNSHIPPED' ELSE 'SHIPPED' END,
    'New web order', 'AMAZON', 'STANDARD', '["PRIME"]', at, at + interval '3 days', '{{}}', NULL, NULL,
    {_noise("i", 7)}, {_noise("i", 12)}, 'GB', 19.99, 'GBP', '[]', false, 'Amazon UK retail', 'T20', '{{}}',
    1 + i / 2, 'created', '["R2"]', true, true, at + interval '10 days', at, at, i
FROM generate_series(:first, :last) AS i,
    LATERAL (SELECT now() - interval '{DAYS} days' * (1 - i::float8 / :all) - interval '5 days' AS at) AS t
"""

_LINES = """
INSERT INTO order_lines (order_key, position, order_item_id, sku, asin, title, quantity, quantity_shipped,
    currency, unit_price, item_total, tax, shipping, promotion_ids)
SELECT i, p, i || '-' || p, 'SKU-' || (i % 5000), 'B0' || lpad((i % 5000)::text, 8, '0'),
    'A thing of the usual kind with a title of the usual length, number ' || (i % 5000), 1, 1,
    'GBP', 9.99, 9.99, 1.67, 0, '[]'
FROM generate_series(:first, :last) AS i, generate_series(0, i % 2) AS p
"""

_OTHERS = (
    """
    INSERT INTO windows (source, account, kind, axis, marketplace_ids, included_data, lower, upper, state,
        pages, orders, attempts, version, created_at, finished_at)
    SELECT 'other:EU', 'other', 'live', 'updated', '["A1F83G8C2ARO7P"]', '[]', at, at + interval '3 minutes',
        'done', 1, 5, 0, 2, at, at
    FROM generate_series(1, :many) AS i, LATERAL (SELECT now() - interval '1 second' * i AS at) AS t
    """,
    """
    INSERT INTO runs (source, started_at, finished_at, outcome, pages, orders, requests)
    SELECT 'other:EU', at, at, 'complete', 1, 5, 1
    FROM generate_series(1, :many) AS i, LATERAL (SELECT now() - interval '1 second' * i AS at) AS t
    """,
    """
    INSERT INTO run_days (source, day, runs, failed, pages, orders, requests)
    SELECT 'other-' || i, current_date, 400, 0, 400, 5, 400 FROM generate_series(1, :many) AS i
    """,
    """
    INSERT INTO coverage (account, marketplace_id, look, lower, upper)
    SELECT 'other', 'A1F83G8C2ARO7P', 'first', at, at + interval '1 second'
    FROM generate_series(1, :many) AS i, LATERAL (SELECT now() - interval '1 minute' * i AS at) AS t
    """,
    """
    INSERT INTO journal (at, who, action, customer_id)
    SELECT now(), 'sync', 'promote', 1 + i % :customers FROM generate_series(1, :many) AS i
    """,
    """
    INSERT INTO verifications (account, marketplace_id, lower, upper, asked_upper, "by", reason, repair,
        position, state, attempts, listed, before_start, findings, version, created_at, finished_at)
    SELECT 'other-' || i, 'A1F83G8C2ARO7P', at, at, at, 'report', 'scheduled', true, at, 'done', 0,
        500, 0, '[]', 4, at, at
    FROM generate_series(1, :many) AS i, LATERAL (SELECT now() - interval '1 minute' * i AS at) AS t
    """,
    """
    INSERT INTO forgotten_orders (account, order_id, forgotten_at)
    SELECT 'other', 'F-' || i, now() FROM generate_series(1, :many) AS i
    """,
    f"""
    INSERT INTO quarantine (account, order_id, marketplace_id, reason, payload, attempts, first_seen_at,
        last_seen_at)
    SELECT 'other', 'Q-' || i, 'A1F83G8C2ARO7P', 'noise', {_noise("i", 40)}, 7, now(), now()
    FROM generate_series(1, :many) AS i
    """,
    """
    INSERT INTO history_ids (backfill_id, created_at, order_id, last_updated_at, attempts)
    SELECT :backfill, at, 'H-' || i, at, 0
    FROM generate_series(1, :many) AS i, LATERAL (SELECT now() - interval '1 minute' * i AS at) AS t
    """,
)
"""What other accounts have besides orders."""

_OUTBOX = """
INSERT INTO outbox (change_no, what, key, kind, at)
SELECT i, 2, i, 'created', now() FROM generate_series(:first, :last) AS i
"""

_BACKFILL = """
INSERT INTO backfills (account, marketplace_id, reason, lower, upper, position, state, orders, requests,
    created_at, way)
SELECT 'other', 'A1F83G8C2ARO7P', 'asked', now(), now(), now(), 'running', 0, 0, now(), 'report'
"""

STEP = 250_000


def fill(engine: Engine, orders: int) -> None:
    """Put ``count`` orders, and what belongs to them, into a database with an empty schema."""
    customers = orders // 2 + 1
    for first in range(1, customers + 1, STEP):
        last = min(first + STEP - 1, customers)
        _run(engine, (_CUSTOMERS, _EMAILS, _WORDS), first=first, last=last)
    for first in range(1, orders + 1, STEP):
        last = min(first + STEP - 1, orders)
        _run(engine, (_ORDERS, _LINES, _OUTBOX), first=first, last=last, all=orders)
    counted = f"SELECT setval('order_keys', {orders}), setval('customer_ids', {customers})"
    many = max(1000, orders // 20)
    _run(engine, (_BACKFILL, *_OTHERS, counted), many=many, customers=customers, backfill=1)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET statement_timeout = 0")
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("RESET statement_timeout")


def _run(engine: Engine, statements: tuple[str, ...], **numbers: int) -> None:
    """Numbers are written into the text, where PostgreSQL knows what kind of numbers they are."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
        for statement in statements:
            for name, number in numbers.items():
                statement = re.sub(rf"(?<!:):{name}\b", str(number), statement)
            connection.execute(sa.text(statement))
