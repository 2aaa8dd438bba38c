"""``order-sync demo``: the whole journey against a simulated Amazon, on a throw-away database.

Everything is as it is for a seller: marketplace files, variables, a key, HTTP over a socket, the same
``Service`` that ``sync`` uses. Only Amazon is simulated, and it behaves badly on purpose. At the end
the database is compared with what the simulated Amazon knows to be true, and whatever is missing, doubled
or out of date fails the demo: it proves, or it says what is wrong.
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
from poller.cli.demo_checks import Truth, found_in, truth_of, wrongs
from poller.cli.simulator import ACCOUNT, HISTORY, environment, marketplace_file, utc_now, write_files
from poller.matching.emails import INVOICED_BY_AMAZON
from poller.matching.explanations import explain
from poller.monitoring.attention import of_other_shops
from poller.sync.windows import SIGNPOST_MARGIN
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
"""New orders and updates fall into this stretch, which becomes old enough to be asked for while we run."""

TOO_YOUNG = 3
GIVE_UP = timedelta(seconds=120)
LIVE_PACE = 4


def demo() -> None:
    """The whole journey against a simulated Amazon: no account needed, nothing is left behind."""
    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="order-sync-demo-") as folder, _no_proxy():
        wrong = _tell_the_story(Path(folder), console)
    console.print(f"\nThat took {time.monotonic() - began:.0f} seconds. The throw-away folder is gone.")
    if wrong:
        raise typer.Exit(1)
    console.print(NEXT_STEPS)
    if shutil.which("order-sync") is None:
        console.print(f"(Here order-sync is {Path(sys.argv[0]).absolute()})", markup=False)


NEXT_STEPS = """
What to do next
  order-sync simulator --write-config simulated   the same Amazon for yourself; prints the settings to use
  order-sync keys new                             the key that your own database will be sealed with
  order-sync config check --online                proves credentials, roles and marketplaces of your account
  order-sync sync --wait                          your own history; then `order-sync run` keeps it fresh
README.md leads from a seller account to the first order."""


# --- the world -----------------------------------------------------------------------------------------


def stage(now: datetime, *, orders: int = ORDERS, seed: int = SEED) -> World:
    """A seller's last forty days, spoilt orders among them, and a few events around ``now``."""
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
    """New orders of new and of returning buyers; older orders that change, and show it, while we run.

    The last orders are too young to be asked for. One order is and stays pending.
    """
    relays = {one.listed_under: _relay(one) for one in known if _relay(one) is not None}
    moments = [_live_start(now) + LIVE_WITHIN * i / LIVE_ORDERS for i in range(LIVE_ORDERS)]
    moments += [now - timedelta(seconds=30 - i) for i in range(TOO_YOUNG)]
    for i, moment in enumerate(moments):
        code = MARKETPLACES[i % len(MARKETPLACES)]
        again = relays.get(BY_NAME[code].id) if i % 2 == 0 else None
        buyer = {} if again is None else {"email": again}
        world.order(_an_id(random), created=moment.replace(microsecond=0), marketplace=code, **buyer)
    earlier = now - timedelta(hours=1)
    changes: list[tuple[str, dict[str, Any]]] = [
        (one.order_id, {"status": status})
        for one, status in zip(
            [one for one in known if _is_open(one)], ("SHIPPED",) * 6 + ("CANCELLED",), strict=False
        )
    ]
    for before, after in (
        ({"status": "PENDING"}, {"status": "UNSHIPPED"}),
        ({"withheld": True}, {"withheld": False}),
    ):
        name = _an_id(random)
        world.order(name, created=earlier, **before)
        changes.append((name, after))
    world.order(_an_id(random), created=earlier, status="PENDING")
    for i, (name, change) in enumerate(changes):
        shown_at = now + LIVE_WITHIN * (i + 2) / (len(changes) + 2)
        world.update(name, moments[i], late=shown_at - moments[i], **change)


def _live_start(now: datetime) -> datetime:
    """Where the youngest stretch begins that may be asked for soon, but not quite yet."""
    return now - SIGNPOST_MARGIN + timedelta(seconds=2)


def _an_id(random: Random) -> str:
    return f"999-{random.randrange(10**7):07d}-{random.randrange(10**7):07d}"


def _is_open(one: Order) -> bool:
    return one.versions[-1].facts.status == "UNSHIPPED" and not one.versions[-1].facts.withheld


def _relay(one: Order) -> str | None:
    """The address of a merchant's buyer whose order was not invoiced by Amazon."""
    facts = one.versions[-1].facts
    mine = facts.fulfilled_by == "MERCHANT" and facts.shippable and not facts.withheld
    return facts.email if mine and INVOICED_BY_AMAZON not in facts.programs else None


def faults() -> Faults:
    """Every trouble that the demo shows, at calls of their own, so that each is met once."""
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


# --- the story -----------------------------------------------------------------------------------------


def _tell_the_story(folder: Path, console: Console) -> list[str]:
    """Run it all and print it. Returns what is wrong with the result."""
    start = utc_now()
    world = stage(start)
    amazon = Simulator(world, now=utc_now, plans=PLANS, faults=faults())
    with serve(amazon) as (_, url):
        start_date = (start - HISTORY).date()
        write_files(folder, MARKETPLACES, start_date)
        settings = environment(folder, url)
        environ = settings | {"ORDER_SYNC_POLL_SECONDS": str(LIVE_PACE), "ORDER_SYNC_POLL_SECONDS_BUSY": "10"}
        plan, history = PLANS[SEARCH], len(_made_by(world, start))
        console.print(
            f"""amazon-order-sync: a demonstration against a simulated Amazon on this machine

1. A seller
   {len(MARKETPLACES)} marketplaces ({", ".join(MARKETPLACES)}) and {history:,} orders of the last \
{HISTORY.days} days. Buyers come back, some orders
   have no e-mail (Amazon ships them), {len(POISONS)} are spoilt, and orders come and change while we look.
   It answers at {url} and is rude on purpose: it throttles, answers with error pages,
   drops connections, forgets tokens, repeats and mixes up orders.
   Accelerated for the demo: {plan.rate:g} searches a second, {plan.burst} at once, told in the rate header. \
Amazon's own
   plan is one search in 178.6 seconds, 20 at once.

2. What a seller writes: a file for each marketplace, here {folder}/marketplaces/uk.toml"""
        )
        console.print(_indented(marketplace_file("UK", start_date)), markup=False)
        console.print("   and the settings (the key was made for this demo only):")
        for name, value in settings.items():
            hidden = name.endswith(("SECRET", "TOKEN"))
            console.print(f"     {name}={'…' if hidden else value}", markup=False)
        console.print("\n3. order-sync sync --wait", style="bold")
        with Service(environ) as service:
            finished = _sync(service, amazon, start, console)
            truth = truth_of(amazon, _settled(service.store))
            wrong = list(dict.fromkeys([*finished, *_wrongs(service.store, truth, start)]))
            _report(service, amazon, truth, wrong, start, console)
    return wrong


def _made_by(world: World, moment: datetime) -> list[Order]:
    return [one for one in world.orders() if one.created <= moment - SIGNPOST_MARGIN]


def _sync(service: Service, amazon: Simulator, start: datetime, console: Console) -> list[str]:
    """As ``sync --wait``: run every source until all is covered; then on, to the last live event."""
    live_end = _live_start(start) + LIVE_WITHIN
    with _narrator(console, len(_made_by(amazon.world, start))) as narrator:
        service.tally = narrator
        store = narrator.store = service.open_store(create=True)
        service.wire()
        if service.problems or not service.sources:
            return [str(problem) for problem in service.problems] or ["no source can be polled"]
        history_told = False
        while utc_now() - start < GIVE_UP:
            reports = [service.syncer(key).run() for key in service.sources]
            narrator.show()
            complete = all(report.outcome == "complete" for report in reports)
            if complete and not history_told:
                history_told = True
                narrator.say("all history is here; now what changes meanwhile, a poll every few seconds")
            if complete and _settled(store) > live_end:
                return []
            pause = min(report.until for report in reports) - utc_now()
            service.stop.wait(max(0.05, pause.total_seconds()))
    return [f"not everything could be read within {GIVE_UP.seconds} seconds"]


def _settled(store: Store) -> datetime:
    """Up to where every marketplace has been read."""
    with store.read() as tx:
        known = ledger.load_marketplaces(tx, ACCOUNT).values()
    return min(progress.position for progress in known)


WHAT_HAPPENED = {
    "ServerFault": "a server error: asked again",
    "Garbled": "an answer that says 200 and is none: asked again",
    "Unreachable": "a dropped connection: asked again",
    "Throttled": "429, too many requests: the stored budget was emptied, and waited for",
    "PageExpired": "a refused page token: the rest was read again, in halves",
    "AccessRefused": "an access token that had been lost: got a new one, asked again",
}


class Narrator(Tally):
    """Counts attempts like the service's own tally, and tells what goes wrong as it happens."""

    def __init__(self, console: Console, expected: int, bar: Progress | None) -> None:
        super().__init__()
        self.store: Store | None = None
        self._console, self._expected, self._bar = console, expected, bar
        self._task: TaskID | None = bar.add_task("orders stored", total=expected) if bar else None
        self._told = 0

    def __call__(self, attempt: Attempt) -> None:
        super().__call__(attempt)
        if attempt.outcome == "ok":
            self.show()
        else:
            self.say(f"met {WHAT_HAPPENED.get(attempt.outcome, attempt.outcome)}")

    def show(self) -> None:
        """Show how many orders are stored: on the bar, or a line for every fifth of them."""
        if self.store is None:
            return
        with self.store.read() as tx:
            counts = queries.row_counts(tx)
        stored = counts.orders + counts.quarantined
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=min(stored, self._expected))
        elif (fifth := stored * 5 // self._expected) > self._told:
            self._told = fifth
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


# --- the proof -----------------------------------------------------------------------------------------


def _wrongs(store: Store, truth: Truth, start: datetime) -> list[str]:
    problems = wrongs(truth, found_in(store, truth.buyers))
    for code, progress, history_is_whole in _coverage(store, start):
        if not history_is_whole or progress.trouble is not None:
            problems.append(f"{code} has a gap in what was read")
    return problems


def _coverage(store: Store, start: datetime) -> list[tuple[str, MarketplaceProgress, bool]]:
    """Per marketplace: its progress, and whether its whole history and present were read."""
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
    "created": "first order of a buyer: a customer record was made from it",
    "email_1": "buyer known by e-mail: the record was used as it is",
    "email_2": "buyer known by the record's second e-mail",
    "email_3": "buyer known by the record's third e-mail",
    "retained_hash": "buyer of orders past their 30 days, known by the hash that was kept",
    "unidentified": "no e-mail (Amazon ships it, or withholds it): a record of its own",
    "promoted": "the e-mail came later: moved to the buyer's record",
    "replacement": "a replacement without e-mail: the customer of the order it replaces",
    "none": "cancelled before it was ever seen ready: no customer",
    "unknown": "of another shop than Amazon's marketplaces (Amazon only ships): no customer",
}


def _report(
    service: Service,
    amazon: Simulator,
    truth: Truth,
    wrong: Sequence[str],
    start: datetime,
    console: Console,
) -> None:
    say = console.print
    store = service.store
    with store.read() as tx:
        totals = queries.totals(tx)
        held_back = quarantine.entries(tx)
        counts = queries.row_counts(tx)
    say("\n4. What is in the database", style="bold")
    say(f"   {totals.orders:6,} orders with {counts.lines:,} lines, and {totals.pending} pending, which wait")
    say(f"   {totals.customers:6,} customers, {totals.unidentified} of them of orders without an e-mail")
    past = "past their 30 days: used to find their customer, stored without their buyer"
    say(f"   {counts.erased:6,} orders are {past}")
    say("   How orders found their customers:")
    unknown = sum(one.orders for one in of_other_shops(totals))
    by_basis = totals.by_basis | {"none": totals.by_basis.get("none", 0) - unknown, "unknown": unknown}
    for basis, many in sorted(by_basis.items(), key=lambda item: -item[1]):
        say(f"   {many:6,} {BASES.get(basis, basis)}")
    say("   In quarantine, with their payload and reason, until they can be read:")
    for entry in held_back:
        say(f"     {entry.order_id}  {entry.reason}", markup=False)
    say("   Complete up to:")
    now = utc_now()
    for code, progress, _ in _coverage(store, start):
        upto, age = progress.position, (now - progress.position).total_seconds()
        since = f"{start - HISTORY:%Y-%m-%d}"
        say(f"     {code}  {upto:%H:%M:%S} UTC, {age:.0f} s ago, with its history since {since}")
    say("     (Amazon refuses to be asked about the last two minutes.)")
    _report_requests(amazon.requests, service.tally, console)
    _explain_one(store, console)
    say("\n7. Proof: the database against the simulated Amazon's own books", style="bold")
    if wrong:
        say("   NOT AS IT SHOULD BE:")
        for problem in wrong:
            say(f"   - {problem}", markup=False)
        return
    good, spoilt, buyers = len(truth.orders), len(truth.spoilt), len(truth.buyers)
    say(f"   Every one of the {good + spoilt:,} orders that exist is stored, none twice:")
    say(f"   {good:,} in their newest version, {spoilt} spoilt ones in quarantine.")
    say(f"   Every one of the {buyers} buyers whose e-mail Amazon showed has one customer record, not two.")
    if truth.too_young:
        young = len(truth.too_young)
        say(f"   {young} more orders are younger than Amazon lets anybody ask for: the next poll's.")


def _report_requests(requests: Sequence[Attempted], tally: Tally, console: Console) -> None:
    say = console.print
    statuses = Counter("nothing whole" if r.status is None else str(r.status) for r in requests)
    by_operation = Counter(r.operation for r in requests)
    say("\n5. What Amazon was asked, by its own log", style="bold")
    say("   " + ", ".join(f"{many} {name}" for name, many in by_operation.most_common()))
    say("   answered: " + ", ".join(f"{many} with {status}" for status, many in sorted(statuses.items())))
    say("   What the service made of the bad ones:")
    troubles = Counter[str]()
    for (_, outcome), many in tally.outcomes.items():
        if outcome != "ok":
            troubles[outcome] += many
    for outcome, many in troubles.most_common():
        say(f"   {many:6} {WHAT_HAPPENED.get(outcome, outcome)}")
    say("   It took a token of the stored budget for every attempt, retries included.")


def _explain_one(store: Store, console: Console) -> None:
    """One order of a buyer who came back, in the words of ``orders explain``."""
    with store.read() as tx:
        again = queries.list_orders(tx, limit=1, match_basis="email_1")
        if not again:
            return
        order = again[0]
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
    """The simulator is on this machine: a proxy that the environment names must not stand between."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    os.environ.update(dict.fromkeys(before, "127.0.0.1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
