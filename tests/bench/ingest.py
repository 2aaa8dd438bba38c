"""Parse to commit: pages from files through the real parser, matching, sealing and store, on one core.

Run as a process of its own, so that its peak memory is its own. Prints one JSON object.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from connectors.amazon.parse import order_of_json, page_of_json
from connectors.amazon.usage_plans import PLANS as AMAZON_PLANS
from connectors.base import Budget, Operation, ReportQuery, ReportState, SearchQuery, UsagePlan
from connectors.errors import OrderNotFound, RequestRefused
from connectors.orders import AmazonOrder, OrderPage, OrderReport, UnreadableOrder
from poller.bootstrap import spare_the_collector
from poller.ingest.sources import AccountRules, PolledMarketplace, sources_of
from poller.matching.marketplace_rules import MarketplaceRules
from poller.sync.decide import Pace
from poller.sync.run import SourceSync
from store import revisions
from store.engine import Store, create_engine
from store.sealing import Sealer
from tests.bench.pages import MARKETPLACES
from tests.harness import DATASETS, KEY, rules_for

FREE = UsagePlan(1e9, 1_000_000_000)
PLANS: dict[Operation, UsagePlan] = dict.fromkeys(AMAZON_PLANS, FREE)


class Replay:
    """Answers searches with stored pages, one after the other, as one walk."""

    def __init__(self, folder: Path) -> None:
        self._pages = sorted(folder.glob("*.json"))
        self._next = 0

    def knows_time(self) -> bool:
        return True

    def has_access(self) -> bool:
        return True

    def amazon_now(self) -> datetime:
        return datetime.now(UTC)

    def ask_time(self) -> datetime:
        return self.amazon_now()

    def newest_answer(self) -> tuple[float, timedelta] | None:
        return None

    def forget_amazon_time(self) -> None:
        raise AssertionError("no bound is ever refused here")

    def search(self, query: SearchQuery, page_token: str | None, budget: Budget) -> OrderPage:
        budget.take("searchOrders")
        if self._next >= len(self._pages):
            return OrderPage((), (), None, None)
        page = page_of_json(self._pages[self._next].read_bytes())
        self._next += 1
        more = str(self._next) if self._next < len(self._pages) else None
        return OrderPage(page.orders, page.unreadable, more, None)

    def get(
        self, order_id: str, included_data: tuple[str, ...], budget: Budget
    ) -> AmazonOrder | UnreadableOrder:
        raise OrderNotFound("getOrder: nothing is fetched by id here", 404)

    def request_report(self, query: ReportQuery, budget: Budget) -> str:
        raise RequestRefused("createReport: no report is made here", 400)

    def report_state(self, report_id: str, budget: Budget) -> ReportState:
        raise RequestRefused("getReport: no report is made here", 404)

    def report_orders(self, document_id: str, budget: Budget) -> OrderReport:
        raise RequestRefused("getReportDocument: no report is made here", 404)

    read_payload = staticmethod(order_of_json)

    def participations(self, budget: Budget) -> frozenset[str]:
        return frozenset(rules.marketplace_id for rules in all_rules())


def all_rules() -> list[MarketplaceRules]:
    return [rules_for(code) for code in MARKETPLACES]


def main(database_url: str, folder: str, profile: str) -> None:
    """Sync all pages of a folder into a database, once."""
    engine = create_engine(database_url)
    revisions.upgrade(engine)
    spare_the_collector()
    store = Store(engine, Sealer([KEY]))
    rules = AccountRules("acme", "acme", {r.marketplace_id: r for r in all_rules()}, frozenset())
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date()
    polled = [PolledMarketplace(r.marketplace_id, r.code, tomorrow, DATASETS) for r in all_rules()]
    replay = Replay(Path(folder))
    # A source of its own for every folder, so that a second one is read by a live window of its own.
    key = Path(folder).name
    source = sources_of(rules, key, polled, "application", "credential", "secret", "authorisation")[0]
    sync = SourceSync(store, replay, source, PLANS, Pace(1, 1), "bench")
    profiler = cProfile.Profile() if profile else None
    wall, cpu = time.perf_counter(), time.process_time()
    if profiler is not None:
        profiler.enable()
    report = sync.run()
    if profiler is not None:
        profiler.disable()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    store.close()
    if profiler is not None:
        with Path(profile).open("w") as out:
            pstats.Stats(profiler, stream=out).sort_stats("tottime").print_stats(25)
    print(
        json.dumps(
            {
                "outcome": report.outcome,
                "orders": report.orders,
                "pages": report.pages,
                "wall": wall,
                "cpu": cpu,
                "peak_mb": peak,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
