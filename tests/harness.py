"""A shop on a simulated clock: simulator, real connector, real database, and the product in between."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx

from connectors.amazon.auth import Credentials
from connectors.amazon.connector import AmazonConnector
from connectors.amazon.usage_plans import PLANS
from connectors.base import Attempt
from connectors.marketplaces import BY_NAME
from connectors.simulator.api import Simulator
from connectors.simulator.orders import POISONS
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, Seller
from poller.export import customer_object, order_object
from poller.ingest.sources import AccountRules, PolledMarketplace, Source, ids_of, sources_of
from poller.matching.marketplace_rules import ALL_DATASETS, MarketplaceRules
from poller.matching.retention import KEEP_ALL, Retention
from poller.sync.decide import Pace
from poller.sync.run import RunReport, SourceSync
from store import queries, revisions
from store.engine import Store, create_engine
from store.progress import Way
from store.sealing import Sealer
from tests.oracle import Oracle, compare
from tests.simulator_transport import transport

KEY = bytes(range(32))
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
DATASETS = tuple(sorted(ALL_DATASETS))


@dataclass
class SimulatedClock:
    """A clock that a test moves. ``tick`` makes each sleep count."""

    time: datetime = NOON

    def __call__(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def go_to(self, time: datetime) -> None:
        self.time = max(self.time, time)


OTHER_SHOP: dict[str, Any] = {
    "channel": "NON_AMAZON",
    "marketplace_id": "AZMDEXL2RVFNN",
    "marketplace_name": "Non-Amazon",
    "email": None,
    "name": None,
}
"""What is different of an order that Amazon ships for another shop; searches leave it out if ``unlisted``."""


def rules_for(code: str, **changed: Any) -> MarketplaceRules:
    """A seller's rules for a marketplace, as the examples in the documentation have them."""
    marketplace = BY_NAME[code]
    values: dict[str, Any] = {
        "account": "acme",
        "business": "acme",
        "marketplace_id": marketplace.id,
        "code": marketplace.code,
        "currency": marketplace.currency,
        "price_list": f"Amazon {code} retail",
        "tax_code": "T20",
        "status_new": "New web order",
        "status_fba": "FBA order",
        "status_prime": "Prime order",
        "labels": {"channel": f"Amazon {code}"},
    }
    return MarketplaceRules(**{**values, **changed})


def oracle_rules(rules: MarketplaceRules) -> dict[str, Any]:
    """The same rules in the oracle's plain words."""
    return {
        "code": rules.code,
        "currency": rules.currency,
        "price_list": rules.price_list,
        "tax_code": rules.tax_code,
        "pending": rules.pending,
        "without_email": rules.without_email,
        "labels": dict(rules.labels),
        "order_status": {"new": rules.status_new, "fba": rules.status_fba, "prime": rules.status_prime},
        "included_data": sorted(rules.included_data),
    }


@dataclass
class Shop:
    """One account of one seller, synced into one database."""

    database_url: str
    simulator: Simulator
    clock: SimulatedClock
    rules: Sequence[MarketplaceRules]
    start_date: date | None = None
    seller: Seller = field(default_factory=Seller)
    owner: str = "tests"
    pace: Pace = field(default_factory=lambda: Pace(180, 900))
    shared_emails: frozenset[str] = frozenset()
    retention: Retention = KEEP_ALL
    split: frozenset[str] = frozenset()
    fresh: bool = True
    credential: str = "credential"
    history_by: Way = "search"
    """How the history of a start date is fetched; the product's default is ``auto``."""

    def __post_init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.http = httpx.Client(transport=transport(self.simulator))
        engine = create_engine(self.database_url)
        if self.fresh:
            revisions.upgrade(engine)
        self.store = Store(engine, Sealer([KEY]), clock=self.clock)
        self.connector = self.new_connector()

    def close(self) -> None:
        self.http.close()
        self.store.close()

    def go_through(self, line: httpx.BaseTransport) -> None:
        """Send every further request through ``line``."""
        self.http.close()
        self.http = httpx.Client(transport=line)
        self.connector = self.new_connector()

    def new_connector(self) -> AmazonConnector:
        return AmazonConnector(
            "acme",
            Credentials(CLIENT_ID, (CLIENT_SECRET,), self.seller.refresh_token),
            endpoint="https://sellingpartnerapi-eu.amazon.com",
            http=self.http,
            now=self.clock,
            sleep=self.clock.sleep,
            rng=random.Random(7),
            observer=self.attempts.append,
        )

    def account_rules(self) -> AccountRules:
        return AccountRules(
            "acme",
            self.rules[0].business,
            {i: r for r in self.rules for i in ids_of(r.marketplace_id)},
            self.shared_emails,
            self.retention,
        )

    def sources(self) -> tuple[Source, ...]:
        start = self.start_date or self.clock().date() + timedelta(days=1)
        polled = [
            PolledMarketplace(
                r.marketplace_id, r.code, start, tuple(sorted(r.included_data)), r.code in self.split
            )
            for r in self.rules
        ]
        return sources_of(
            self.account_rules(),
            "EU",
            polled,
            "app",
            self.credential,
            "secret",
            hashlib.sha256(self.seller.refresh_token.encode()).hexdigest()[:24],
        )

    def syncer(self, source: Source) -> SourceSync:
        return SourceSync(
            self.store, self.connector, source, PLANS, self.pace, self.owner, history_by=self.history_by
        )

    def sync(self) -> list[RunReport]:
        """One pass over every source at the present time."""
        return [self.syncer(source).run() for source in self.sources()]

    def run_until(self, end: datetime) -> list[RunReport]:
        """Go on as the service does: run, wait until the run says, run again."""
        reports: list[RunReport] = []
        while self.clock() < end:
            passed = self.sync()
            reports += passed
            next_time = min(report.until for report in passed)
            self.clock.go_to(max(next_time, self.clock() + timedelta(milliseconds=1)))
        return reports

    # --- what is right ------------------------------------------------------------------------------

    def exported(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """All orders and customers as a reader of the export sees them."""
        with self.store.read() as tx:
            upto = tx.readable_change_no()
            exported_orders = [order_object(o) for o in queries.changed_orders(tx, 0, upto)]
            exported_customers = [customer_object(c) for c in queries.changed_customers(tx, 0, upto)]
        return exported_orders, exported_customers

    def oracle(self) -> Oracle:
        """What the database must hold after all that Amazon has served."""
        oracle = Oracle(
            account="acme",
            business="acme",
            marketplaces={r.marketplace_id: oracle_rules(r) for r in self.rules},
            shared_emails=sorted(self.shared_emails),
        )
        for served in self.simulator.served:
            oracle.page(served.orders)
        return oracle

    def wrongs(self) -> list[str]:
        """What is wrong with the database, in the naive oracle's words; empty when all is right."""
        return compare(self.oracle(), *self.exported()) + self.missing()

    def missing(self) -> list[str]:
        """Orders that exist at Amazon now, in the version shown now, but were never served so."""
        latest: dict[str, str] = {}
        for served in self.simulator.served:
            for payload in served.orders:
                if isinstance(payload, dict) and isinstance(payload.get("orderId"), str):
                    updated = str(payload.get("lastUpdatedTime"))
                    latest[payload["orderId"]] = max(latest.get(payload["orderId"], ""), updated)
        found = []
        for order in self.simulator.world.orders():
            version = order.current(self.simulator.amazon_now())
            if version is None or order.is_of_other_shop:
                continue
            seen = latest.get(order.order_id)
            if seen is None:
                found.append(f"{order.order_id}: never served")
        return found


__all__ = ["DATASETS", "KEY", "NOON", "POISONS", "Shop", "SimulatedClock", "rules_for"]
