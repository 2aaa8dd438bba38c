"""Processes that sync, may be killed at any time, and are cheap enough to be killed by the hundred.

Decision: one helper program imports everything once and forks a child for every life. It has no threads and
opens nothing, so that forking is safe; a child opens its own database, network and connector, syncs until
nothing is left to do, and says so through a pipe. Reason: a new interpreter for each of several hundred lives
would spend minutes on imports, and a test process with the simulator's threads must not be forked.

``Victims`` is the end that tests hold; ``python -m tests.acceptance.victim`` is the other one. They exchange
lines of JSON: a list of lives, which are lived at once, and the list of their endings.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import sqlalchemy as sa

from connectors.amazon.auth import Credentials
from connectors.amazon.connector import AmazonConnector
from connectors.amazon.usage_plans import PLANS
from connectors.base import Clock, Operation, UsagePlan
from connectors.errors import BudgetEmpty
from connectors.orders import OrderPage
from connectors.simulator.api import Simulator
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, World
from poller.ingest.budget import AccountBudget, Allowance
from poller.ingest.sources import AccountRules, PolledMarketplace, Source, sources_of
from poller.sync.decide import Pace
from poller.sync.run import RunReport, SourceSync
from store.engine import Store, create_engine, statements
from store.progress import Way, Window
from store.sealing import Sealer
from tests.harness import KEY, NOON, Shop, SimulatedClock, rules_for

IDLE = timedelta(seconds=1)
"""A process that has found nothing to do for so long is done."""


COUNT, AT_COMMIT, AFTER_COMMIT = -1, -2, -3
"""Boundaries: one that is never reached, so that all are counted; the last one; and beyond it."""


@dataclass(frozen=True)
class Life:
    """What one process works on, and when it is killed, if it is.

    ``at``: its clock stands still at this time (ISO 8601); without, it is the machine's, ``ahead`` seconds
    ahead. It is killed after ``killed_after`` seconds; or at a ``boundary`` of the transaction that stores
    its first page with orders that has, or has not, ``more`` pages behind it: number one is right before
    the first statement, the last right before COMMIT; ``AT_COMMIT`` is that one, however many there are,
    and ``AFTER_COMMIT`` right after it.
    """

    database_url: str
    endpoint: str
    owner: str
    start_date: str
    rate: float
    burst: int
    marketplaces: tuple[str, ...] = ("UK",)
    split: tuple[str, ...] = ()
    account: str = "acme"
    refresh_token: str = "Atzr|simulated-refresh-token"
    at: str | None = None
    ahead: float = 0.0
    killed_after: float | None = None
    only_takes: bool = False
    """It asks for nothing, and takes tokens of the searches' budget as fast as it can."""
    more: bool = False
    boundary: int = 0
    history_by: Way = "search"


@dataclass(frozen=True)
class Ending:
    """``boundaries`` and ``tokens``: how many it passed and took; ``error``: why it failed by itself."""

    killed: bool
    seconds: float
    outcomes: list[str] = field(default_factory=list)
    pages: int = 0
    boundaries: int = 0
    tokens: int = 0
    error: str = ""


def plans_of(rate: float, burst: int) -> dict[Operation, UsagePlan]:
    """What a life and the simulator agree on: a plan for searches, and little for all else."""
    few, by_id = UsagePlan(rate, 12), UsagePlan(10 * rate, 12)
    return {**dict.fromkeys(PLANS, few), "searchOrders": UsagePlan(rate, burst), "getOrder": by_id}


def clock_of(at: str | None, ahead: float) -> Clock:
    """The clock that a life and the simulator share."""
    if at is not None:
        standing = datetime.fromisoformat(at)
        return lambda: standing
    return lambda: datetime.now(UTC) + timedelta(seconds=ahead)


# --- in the child -----------------------------------------------------------------------------------


class Doomed(SourceSync):
    """Dies at a boundary of one page's transaction."""

    def run_until(self, life: Life) -> RunReport:
        self.life, self.reached, self.counting = life, 0, False
        self.page: sa.Connection | None = None
        events = {"before_cursor_execute": self.reach, "commit": self.reach_commit}
        for event, reach in events.items():
            sa.event.listen(self.store.engine, event, reach)
        copy = statements.copy

        def copying(
            conn: sa.Connection, table: sa.Table, columns: tuple[str, ...], rows: Iterable[Iterable[Any]]
        ) -> None:
            self.reach(conn)  # SQLAlchemy's events report every statement but COPY
            copy(conn, table, columns, rows)

        statements.copy = copying
        try:
            return self.run()
        finally:
            statements.copy = copy
            for event, reach in events.items():
                sa.event.remove(self.store.engine, event, reach)

    def reach(self, conn: sa.Connection, *_: Any) -> None:
        if self.is_of_page(conn):
            self.reached += 1
            self.die_at(self.reached)

    def reach_commit(self, conn: sa.Connection) -> None:
        self.reach(conn)
        if self.is_of_page(conn):
            self.die_at(AT_COMMIT)

    def is_of_page(self, conn: sa.Connection) -> bool:
        """Return True in the page's transaction; a history of positions begins in one of its own."""
        if self.counting and self.page is None:
            self.page = conn
        return self.counting and conn is self.page

    def die_at(self, boundary: int) -> None:
        if boundary == self.life.boundary:
            os.kill(os.getpid(), signal.SIGKILL)

    def _store(self, window: Window, page: OrderPage, asked_at: datetime) -> None:
        more = page.next_token is not None
        self.counting = bool(page.orders) and more == self.life.more and not self.reached
        super()._store(window, page, asked_at)
        if self.counting:
            self.die_at(AFTER_COMMIT)
        self.counting = False


def sources_for(life: Life) -> tuple[Source, ...]:
    rules = [rules_for(code, account=life.account) for code in life.marketplaces]
    polled = [
        PolledMarketplace(
            r.marketplace_id,
            r.code,
            date.fromisoformat(life.start_date),
            tuple(sorted(r.included_data)),
            r.code in life.split,
        )
        for r in rules
    ]
    of_account = AccountRules(life.account, "acme", {r.marketplace_id: r for r in rules}, frozenset())
    return sources_of(of_account, "EU", polled, "app", "credential", "secret", f"of {life.account}")


def live(life: Life) -> dict[str, Any]:
    """Sync until nothing is left to do, as a service does; returns the result."""
    now = clock_of(life.at, life.ahead)
    natural = life.at is None and not life.ahead
    store = Store(create_engine(life.database_url), Sealer([KEY]), clock=None if natural else now)
    plans = plans_of(life.rate, life.burst)
    if life.only_takes:
        return {"tokens": _taken(AccountBudget(store, "app", life.account, plans))}
    connector = AmazonConnector(
        life.account,
        Credentials(CLIENT_ID, (CLIENT_SECRET,), life.refresh_token),
        endpoint=life.endpoint,
        token_url=f"{life.endpoint}/auth/o2/token",
        http=httpx.Client(verify=False),
        now=now,
        sleep=time.sleep,
        rng=random.Random(7),
    )
    pages, boundaries, outcomes = 0, 0, []
    worked_at = now()
    while True:
        reports = []
        for source in sources_for(life):
            sync = Doomed(
                store, connector, source, plans, Pace(180, 900), life.owner, history_by=life.history_by
            )
            reports.append(sync.run_until(life))
            boundaries += sync.reached
        pages += sum(report.pages for report in reports)
        outcomes += [report.outcome for report in reports]
        # What another process has claimed, alive or killed, is that one's: no claim is waited for.
        if any(report.pages or report.outcome not in ("complete", "superseded") for report in reports):
            worked_at = now()
        if life.at is not None or now() - worked_at > IDLE:
            return {"outcomes": outcomes, "pages": pages, "boundaries": boundaries}
        wait = min(report.until for report in reports) - now()
        time.sleep(min(0.1, max(0.02, wait.total_seconds())))


def _taken(budget: AccountBudget) -> int:
    allowance = Allowance(budget)
    while True:
        try:
            allowance.take("searchOrders")
        except BudgetEmpty:
            return budget.taken


# --- in the helper ----------------------------------------------------------------------------------


def main() -> None:
    """Read lives, live them, write their endings, until there is nothing more to read."""
    _warm_up()
    for line in sys.stdin:
        endings = _lived([Life(**given) for given in json.loads(line)])
        print(json.dumps([asdict(ending) for ending in endings]), flush=True)


def _warm_up() -> None:
    """Have everything loaded that is loaded at its first use, so that no child has to."""
    world = World.generate(seed=1, marketplaces=["UK"], orders=20, start=NOON - timedelta(hours=6), end=NOON)
    with TemporaryDirectory() as folder:
        simulator = Simulator(world, now=lambda: NOON)
        url = f"sqlite:///{folder}/warm.db"
        shop = Shop(url, simulator, SimulatedClock(NOON), [rules_for("UK")], NOON.date())
        shop.sync()
        shop.close()


def _lived(lives: list[Life]) -> list[Ending]:
    """Live these lives at once, each in a process of its own."""
    begun = time.monotonic()
    children = {}
    for life in lives:
        pid, pipe = _forked(lambda life=life: live(life))  # type: ignore[misc]
        children[pipe] = (pid, life)
    told: dict[int, bytes] = dict.fromkeys(children, b"")
    endings: dict[int, Ending] = {}
    doomed = {
        pipe: life.killed_after for pipe, (_, life) in children.items() if life.killed_after is not None
    }
    while len(endings) < len(children):
        passed = time.monotonic() - begun
        for pipe in [pipe for pipe, after in doomed.items() if after <= passed]:
            os.kill(children[pipe][0], signal.SIGKILL)
            del doomed[pipe]
        wait = min(doomed.values(), default=passed + 60) - passed
        for pipe in select.select([p for p in children if p not in endings], [], [], max(0.0, wait))[0]:
            heard = os.read(pipe, 1 << 16)
            told[pipe] += heard
            if not heard:
                doomed.pop(pipe, None)
                _, status = os.waitpid(children[pipe][0], 0)
                os.close(pipe)
                endings[pipe] = _ending(status, told[pipe], time.monotonic() - begun)
    return [endings[pipe] for pipe in children]


def _forked(work: Callable[[], dict[str, Any]]) -> tuple[int, int]:
    """Start ``work`` in a child; returns its process id and the pipe that it tells its result through."""
    inner, outer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(outer)
        return pid, inner
    try:
        told = work()
    except BaseException:
        told = {"error": traceback.format_exc()}
    os.write(outer, json.dumps(told).encode())
    os._exit(0)


def _ending(status: int, told: bytes, seconds: float) -> Ending:
    if os.WIFSIGNALED(status):
        return Ending(os.WTERMSIG(status) == signal.SIGKILL, seconds)
    return Ending(False, seconds, **json.loads(told))


# --- in the test ------------------------------------------------------------------------------------


class Victims:
    """The helper program, as a test sees it."""

    def __init__(self, helper: subprocess.Popen[str]) -> None:
        self._helper = helper

    def live(self, *lives: Life) -> list[Ending]:
        """Live these lives at once and wait for their ends. Raises when one fell over by itself."""
        assert self._helper.stdin is not None
        assert self._helper.stdout is not None
        self._helper.stdin.write(json.dumps([asdict(life) for life in lives]) + "\n")
        self._helper.stdin.flush()
        endings = [Ending(**told) for told in json.loads(self._helper.stdout.readline())]
        errors = [ending.error for ending in endings if ending.error]
        assert not errors, "\n".join(errors)
        return endings


@contextmanager
def victims() -> Iterator[Victims]:
    """Start the helper; it ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.victim"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as helper:
        yield Victims(helper)


if __name__ == "__main__":
    main()
