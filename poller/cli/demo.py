"""``order-sync demo``: the whole journey against a simulated Amazon, on a throw-away database.

Everything is as for a real seller: marketplace files, variables, a key, HTTP over a socket, the ``Service``
that ``sync`` uses. Only Amazon is simulated, and it misbehaves on purpose. At the end the database is
compared with the simulated Amazon's records; anything missing, doubled or outdated fails the demo.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from random import Random
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from connectors.base import Attempt, UsagePlan
from connectors.marketplaces import BY_NAME
from connectors.simulator.api import Attempted, Simulator
from connectors.simulator.faults import GET, PARTICIPATIONS, SEARCH, TOKEN, Faults
from connectors.simulator.orders import Order
from connectors.simulator.serve import serve
from connectors.simulator.world import Seller, World
from poller.bootstrap import Service, Tally
from poller.cli.demo_checks import Truth, differences, stored_in, truth_of
from poller.cli.simulator import ACCOUNT, HISTORY, environment, marketplace_file, utc_now, write_files
from poller.matching.emails import INVOICED_BY_AMAZON
from poller.matching.explanations import explain
from poller.sync.decide import SIGNPOST_MARGIN
from store import ledger, quarantine, queries
from store.engine import Store
from store.progress import MarketplaceProgress, gaps, joined

MARKETPLACES = ("UK", "DE", "FR")
ORDERS = 1_000
SEED = 2026

PLANS: Mapping[str, UsagePlan] = {
    SEARCH: UsagePlan(3.0, 6),
    GET: UsagePlan(10.0, 30),
    PARTICIPATIONS: UsagePlan(1.0, 15),
}
POISONS = (
    "items_missing",
    "created_time_not_a_time",
    "quantity_a_word",
    "amount_with_comma",
    "channel_missing",
)

LIVE_ORDERS = 12
LIVE_WITHIN = timedelta(seconds=15)
"""New orders and updates fall into this range, which becomes old enough to request while the demo runs."""

TOO_YOUNG = 3
GIVE_UP = timedelta(seconds=120)
LIVE_PACE = 4


def demo() -> None:
    """Run the whole journey against a simulated Amazon. Needs no account, leaves nothing behind."""
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="order-sync-demo-") as folder, _no_proxy():
        problems = _run(Path(folder), console)
    console.print(f"\nThat took {time.monotonic() - started:.0f} seconds. The throw-away folder is gone.")
    if problems:
        raise typer.Exit(1)
    console.print(NEXT_STEPS)
    if shutil.which("order-sync") is None:
        console.print(f"(order-sync is installed as {Path(sys.argv[0]).absolute()})", markup=False)


NEXT_STEPS = """
What to do next
  order-sync simulator --write-config simulated   serve the same simulated Amazon; prints the settings to use
  order-sync keys new                             make the key that seals your own database
  order-sync config check --online                check credentials, roles and marketplaces of your account
  order-sync sync --wait                          read your own history; `order-sync run` then keeps it fresh
README.md describes every step from a seller account to the first order."""


# --- the world -----------------------------------------------------------------------------------------


def stage(now: datetime, *, orders: int = ORDERS, seed: int = SEED) -> World:
    """Return a seller's last forty days, including spoilt orders, and a few events around ``now``."""
    past = now - SIGNPOST_MARGIN - timedelta(minutes=10)
    world = World.generate(
        seed=seed,
        marketplaces=MARKETPLACES,
        orders=orders,
        start=now - HISTORY,
        end=past,
        seller=Seller(ACCOUNT, MARKETPLACES),
        late=0.0,
    )
    random = Random(seed)
    sound = list(world.orders())
    random.shuffle(sound)
    for poison in POISONS:
        spoilt = sound.pop()
        versions = tuple(
            replace(version, facts=replace(version.facts, poison=poison)) for version in spoilt.versions
        )
        world.add(replace(spoilt, versions=versions))
    _live_events(world, sound, now, random)
    return world


def _live_events(world: World, known: Sequence[Order], now: datetime, random: Random) -> None:
    """Add new orders of new and returning buyers, and changes of older orders that show during the demo.

    The last orders are too young to request. One order is pending and stays so.
    """
    relays = {order.listed_under: _relay(order) for order in known if _relay(order) is not None}
    times = [_live_start(now) + LIVE_WITHIN * i / LIVE_ORDERS for i in range(LIVE_ORDERS)]
    times += [now - timedelta(seconds=30 - i) for i in range(TOO_YOUNG)]
    for i, created in enumerate(times):
        code = MARKETPLACES[i % len(MARKETPLACES)]
        returning = relays.get(BY_NAME[code].id) if i % 2 == 0 else None
        buyer = {} if returning is None else {"email": returning}
        world.order(_new_id(random), created=created.replace(microsecond=0), marketplace=code, **buyer)
    earlier = now - timedelta(hours=1)
    changes: list[tuple[str, dict[str, Any]]] = [
        (order.order_id, {"status": status})
        for order, status in zip(filter(_is_open, known), ("SHIPPED",) * 6 + ("CANCELLED",), strict=False)
    ]
    for before, after in (
        ({"status": "PENDING"}, {"status": "UNSHIPPED"}),
        ({"withheld": True}, {"withheld": False}),
    ):
        name = _new_id(random)
        world.order(name, created=earlier, **before)
        changes.append((name, after))
    world.order(_new_id(random), created=earlier, status="PENDING")
    for i, (name, change) in enumerate(changes):
        shown_at = now + LIVE_WITHIN * (i + 2) / (len(changes) + 2)
        world.update(name, times[i], late=shown_at - times[i], **change)


def _live_start(now: datetime) -> datetime:
    """Return the start of the range that can be requested soon, but not yet."""
    return now - SIGNPOST_MARGIN + timedelta(seconds=2)


def _new_id(random: Random) -> str:
    return f"999-{random.randrange(10**7):07d}-{random.randrange(10**7):07d}"


def _is_open(order: Order) -> bool:
    return order.versions[-1].facts.status == "UNSHIPPED" and not order.versions[-1].facts.withheld


def _relay(order: Order) -> str | None:
    """Return the relay e-mail of a merchant-fulfilled order that Amazon does not invoice."""
    facts = order.versions[-1].facts
    is_shown = facts.fulfilled_by == "MERCHANT" and facts.shippable and not facts.withheld
    return facts.email if is_shown and INVOICED_BY_AMAZON not in facts.programs else None


def faults() -> Faults:
    """Return the failures that the demo shows, each at its own calls, so that each occurs."""
    at_search = {
        "html_503": [3],
        "same_token": [6],
        "dropped_halfway": [9],
        "throttled_empty": [12],
        "access_token_lost": [15],
        "page_token_expired": [17, 18, 19],
        "empty_500": [22],
        "dropped": [25],
        "repeated_order": range(4, 60, 3),
        "stale_copy": range(5, 60, 3),
        "rate_nan": range(7, 60, 5),
        "rate_huge": range(8, 60, 5),
    }
    scripted = Faults.only("html_502", calls=[1], operations=[TOKEN])
    for kind, calls in at_search.items():
        scripted += Faults.only(kind, calls=calls, operations=[SEARCH])
    return scripted


# --- the run -------------------------------------------------------------------------------------------


def _run(folder: Path, console: Console) -> list[str]:
    """Run and print the demo. Returns what is wrong with the result."""
    start = utc_now()
    world = stage(start)
    amazon = Simulator(world, now=utc_now, plans=PLANS, faults=faults())
    with serve(amazon) as (_, url):
        start_date = (start - HISTORY).date()
        write_files(folder, MARKETPLACES, start_date)
        settings = environment(folder, url)
        environ = settings | {"ORDER_SYNC_POLL_SECONDS": str(LIVE_PACE), "ORDER_SYNC_POLL_SECONDS_BUSY": "10"}
        plan, history = PLANS[SEARCH], len(_placed_before(world, start))
        console.print(
            f"""amazon-order-sync: a demonstration against a simulated Amazon on this machine

1. A seller
   {len(MARKETPLACES)} marketplaces ({", ".join(MARKETPLACES)}) and {history:,} orders of the last \
{HISTORY.days} days. Buyers return, some orders
   have no e-mail (Amazon ships them), {len(POISONS)} are malformed, and orders come and change meanwhile.
   The simulated Amazon listens at {url} and misbehaves on purpose: it throttles, answers
   with error pages, drops connections, revokes access tokens, repeats orders and sends old copies.
   It is faster than the real one: {plan.rate:g} searches a second, {plan.burst} at once (its rate header).
   Amazon's own plan is one search every 178.6 seconds, 20 at once.

2. What a seller writes: a file for each marketplace, here {folder}/marketplaces/uk.toml"""
        )
        console.print(_indented(marketplace_file("UK", start_date)), markup=False)
        console.print("   and the settings (the key is for this demo only):")
        for name, value in settings.items():
            hidden = name.endswith(("SECRET", "TOKEN"))
            console.print(f"     {name}={'…' if hidden else value}", markup=False)
        console.print("\n3. order-sync sync --wait", style="bold")
        with Service(environ) as service:
            unfinished = _sync(service, amazon, start, console)
            truth = truth_of(amazon, _settled(service.store))
            problems = list(dict.fromkeys([*unfinished, *_problems(service.store, truth, start)]))
            _report(service, amazon, truth, problems, start, console)
    return problems


def _placed_before(world: World, now: datetime) -> list[Order]:
    return [order for order in world.orders() if order.created <= now - SIGNPOST_MARGIN]


def _sync(service: Service, amazon: Simulator, start: datetime, console: Console) -> list[str]:
    """Run every source until all is covered, as ``sync --wait`` does, and on to the last live event."""
    live_end = _live_start(start) + LIVE_WITHIN
    with _narrator(console, len(_placed_before(amazon.world, start))) as narrator:
        service.tally = narrator
        store = narrator.store = service.open_store(create=True)
        service.wire()
        if service.problems or not service.sources:
            return [str(problem) for problem in service.problems] or ["no source can be polled"]
        history_reported = False
        while utc_now() - start < GIVE_UP:
            reports = [service.syncer(key).run() for key in service.sources]
            narrator.show()
            complete = all(report.outcome == "complete" for report in reports)
            if complete and not history_reported:
                history_reported = True
                narrator.say("all history is stored; now polling every few seconds for what changes")
            if complete and _settled(store) > live_end:
                return []
            pause = min(report.until for report in reports) - utc_now()
            service.stop.wait(max(0.05, pause.total_seconds()))
    return [f"not everything could be read within {GIVE_UP.seconds} seconds"]


def _settled(store: Store) -> datetime:
    """Return the time up to which every marketplace has been read."""
    with store.read() as tx:
        known = ledger.load_marketplaces(tx, ACCOUNT).values()
    return min(progress.position for progress in known)


WHAT_HAPPENED = {
    "ServerFault": "a server error: retried",
    "Garbled": "a 200 that is not a valid answer: retried",
    "Unreachable": "a dropped connection: retried",
    "Throttled": "429, too many requests: emptied the stored budget and waited",
    "PageExpired": "a refused page token: reread the rest, in halves",
    "AccessRefused": "a revoked access token: got a new one and retried",
}


class Narrator(Tally):
    """The service's tally of attempts, which also prints failures as they happen."""

    def __init__(self, console: Console, expected: int, bar: Progress | None) -> None:
        super().__init__()
        self.store: Store | None = None
        self._console, self._expected, self._bar = console, expected, bar
        self._task: TaskID | None = bar.add_task("orders stored", total=expected) if bar else None
        self._fifths = 0

    def __call__(self, attempt: Attempt) -> None:
        super().__call__(attempt)
        if attempt.outcome == "ok":
            self.show()
        else:
            self.say(f"{WHAT_HAPPENED.get(attempt.outcome, attempt.outcome)}")

    def show(self) -> None:
        """Show how many orders are stored: on the bar, or as a line for every fifth of them."""
        if self.store is None:
            return
        with self.store.read() as tx:
            counts = queries.row_counts(tx)
        stored = counts.orders + counts.quarantined
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=min(stored, self._expected))
        elif (fifths := stored * 5 // self._expected) > self._fifths:
            self._fifths = fifths
            self.say(f"{min(stored, self._expected):,} of {self._expected:,} orders stored")

    def say(self, words: str) -> None:
        console = self._bar.console if self._bar is not None else self._console
        console.print(f"   {words}")


@contextmanager
def _narrator(console: Console, expected: int) -> Iterator[Narrator]:
    if not console.is_terminal:
        yield Narrator(console, expected, None)
        return
    columns = (TextColumn("   {task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}"))
    with Progress(*columns, console=console, transient=True) as bar:
        yield Narrator(console, expected, bar)


# --- the check -----------------------------------------------------------------------------------------


def _problems(store: Store, truth: Truth, start: datetime) -> list[str]:
    problems = differences(truth, stored_in(store, truth.buyers))
    for code, progress, is_whole in _coverage(store, start):
        if not is_whole or progress.trouble is not None:
            problems.append(f"{code} has a gap in what was read")
    return problems


def _coverage(store: Store, start: datetime) -> list[tuple[str, MarketplaceProgress, bool]]:
    """Return for each marketplace its progress, and True if it was read without a gap."""
    history = datetime.combine((start - HISTORY).date(), clock_time(), UTC)
    result = []
    with store.read() as tx:
        known = ledger.load_marketplaces(tx, ACCOUNT)
        for code in MARKETPLACES:
            progress = known[BY_NAME[code].id]
            created = ledger.read_coverage(tx, ACCOUNT, progress.marketplace_id, "created")
            updated = ledger.read_coverage(tx, ACCOUNT, progress.marketplace_id, "first")
            holes = gaps(joined(created), history, progress.live_from)
            holes += gaps(joined(updated), progress.live_from, progress.position)
            result.append((code, progress, not holes))
    return result


# --- the report ----------------------------------------------------------------------------------------

BASES = {
    "created": "a buyer's first order: created a customer record",
    "email_1": "buyer known by e-mail: used the record as it is",
    "email_2": "buyer known by the record's second e-mail",
    "email_3": "buyer known by the record's third e-mail",
    "retained_hash": "buyer known by the hash of an e-mail that was erased after 30 days",
    "unidentified": "no e-mail (Amazon ships it, or withholds it): a record of its own",
    "promoted": "the e-mail came later: moved to the buyer's record",
    "replacement": "a replacement without e-mail: the customer of the order it replaces",
    "none": "cancelled before it was ready: no customer",
}


def _report(
    service: Service,
    amazon: Simulator,
    truth: Truth,
    problems: Sequence[str],
    start: datetime,
    console: Console,
) -> None:
    say = console.print
    store = service.store
    with store.read() as tx:
        totals = queries.totals(tx)
        quarantined = quarantine.entries(tx)
        counts = queries.row_counts(tx)
    say("\n4. What is in the database", style="bold")
    say(f"   {totals.orders:6,} orders with {counts.lines:,} lines, and {totals.pending} pending")
    say(f"   {totals.customers:6,} customers, {totals.unidentified} of them from orders without an e-mail")
    erased = "past the 30-day retention period: matched to a customer, stored without their buyer"
    say(f"   {counts.erased:6,} orders are {erased}")
    say("   How orders got their customers:")
    for basis, orders in sorted(totals.by_basis.items(), key=lambda item: -item[1]):
        if orders:
            say(f"   {orders:6,} {BASES.get(basis, basis)}")
    say("   In quarantine, with payload and reason, until they can be read:")
    for entry in quarantined:
        say(f"     {entry.order_id}  {entry.reason}", markup=False)
    say("   Complete up to:")
    now = utc_now()
    for code, progress, _ in _coverage(store, start):
        upto, age = progress.position, (now - progress.position).total_seconds()
        since = f"{start - HISTORY:%Y-%m-%d}"
        say(f"     {code}  {upto:%H:%M:%S} UTC, {age:.0f} s ago, with its history since {since}")
    say("     (Amazon refuses requests for the last two minutes.)")
    _report_requests(amazon.requests, service.tally, console)
    _explain_one(store, console)
    say("\n7. Check: the database against the simulated Amazon's own records", style="bold")
    if problems:
        say("   WRONG:")
        for problem in problems:
            say(f"   - {problem}", markup=False)
        return
    good, spoilt, buyers = len(truth.orders), len(truth.spoilt), len(truth.buyers)
    say(f"   All {good + spoilt:,} orders are stored, none twice:")
    say(f"   {good:,} in their newest version, {spoilt} malformed ones in quarantine.")
    say(f"   Each of the {buyers} buyers whose e-mail Amazon showed has exactly one customer record.")
    if truth.too_young:
        say(f"   {len(truth.too_young)} more orders are too young to request: the next poll reads them.")


def _report_requests(requests: Sequence[Attempted], tally: Tally, console: Console) -> None:
    say = console.print
    statuses = Counter("no complete answer" if r.status is None else str(r.status) for r in requests)
    by_operation = Counter(r.operation for r in requests)
    say("\n5. Requests to Amazon, by its own log", style="bold")
    say("   " + ", ".join(f"{number} {name}" for name, number in by_operation.most_common()))
    say("   answers: " + ", ".join(f"{number} with {status}" for status, number in sorted(statuses.items())))
    say("   How the service handled the failures:")
    failures = Counter[str]()
    for (_, outcome), number in tally.outcomes.items():
        if outcome != "ok":
            failures[outcome] += number
    for outcome, number in failures.most_common():
        say(f"   {number:6} {WHAT_HAPPENED.get(outcome, outcome)}")
    say("   Every attempt took a token of the stored budget, retries included.")


def _explain_one(store: Store, console: Console) -> None:
    """Print one order of a returning buyer in the words of ``orders explain``."""
    with store.read() as tx:
        orders = queries.list_orders(tx, limit=1, match_basis="email_1")
        if not orders:
            return
        order = orders[0]
        customer = None if order.customer_id is None else queries.get_customer(tx, order.customer_id)
    console.print(f"\n6. order-sync orders explain {order.order_id}", style="bold")
    for sentence in explain(order, customer):
        console.print(f"     {sentence}", markup=False)


def _indented(text: str) -> str:
    return "".join(
        f"     {line}" if line.strip() else line for line in text.splitlines(keepends=True)
    ).rstrip()


@contextmanager
def _no_proxy() -> Iterator[None]:
    """Reach the simulator on this machine directly, even if the environment names a proxy."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    os.environ.update(dict.fromkeys(before, "127.0.0.1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
