"""One run of a source: decide, fetch a page, store it, decide again; until nothing is left or allowed.

Live polling, sweeps, backfills, the command line and the service all go through ``SourceSync.run``. A
page is fetched outside any transaction and stored inside one short one, together with the window's
progress; a crash at any point repeats at most that page. Nobody sleeps for a token: an empty budget
ends the run as *deferred*, and says when it resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import TypeVar

from connectors.base import Operation, OrderConnector, SearchQuery, UsagePlan
from connectors.errors import (
    AccessRefused,
    ApplicationRefused,
    BoundRefused,
    ConnectorError,
    CredentialsRefused,
    Deferred,
    OrderNotFound,
    PageExpired,
    RequestRefused,
)
from connectors.orders import OrderPage, UnreadableOrder
from poller import windows
from poller.applying import Applied, apply_orders, decide_again
from poller.sources import Source
from poller.spending import Spending
from store import budgets, ledger, orders, quarantine, runs
from store.engine import Store, Transaction, Unavailable, is_conflict
from store.ledger import Superseded
from store.progress import Interval, MarketplaceProgress, SourceProgress, Window
from store.runs import Outcome

ENROLMENT_EVERY = timedelta(days=1)
REFRESH_EVERY = timedelta(hours=1)
REFRESH_AT_ONCE = 20
REFRESH_LEAVES = 10.0
"""Orders fetched again by id take only what getOrder's bucket holds beyond this."""

_CONFLICTS = 20

_OUTCOMES: Mapping[windows.Left, Outcome] = {
    "nothing": "complete",
    "failed": "failed",
    "elsewhere": "superseded",
    "unproven": "deferred",
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended. ``until``: when it is worth running again."""

    source: str
    outcome: Outcome
    until: datetime
    message: str | None
    pages: int
    orders: int
    requests: int


@dataclass
class SourceSync:
    """Everything one run of one source needs. Make a new one for every run."""

    store: Store
    connector: OrderConnector
    source: Source
    plans: Mapping[Operation, UsagePlan]
    pace: windows.Pace
    owner: str
    stopping: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._spending = Spending(self.store, self.source.application, self.source.account, self.plans)
        self._pages = 0
        self._orders = 0
        self._run = 0
        self._error: str | None = None
        self._enrolment_due = False

    def run(self) -> RunReport:
        """Carry out all that is due for the source, as far as the budget goes."""
        refusal = self._standing_refusal()
        if refusal is not None:
            with self.store.read() as tx:
                return self._report("failed", tx.now + timedelta(minutes=15), refusal)
        try:
            outcome, until, message = self._work()
        except CredentialsRefused as error:
            outcome, until, message = self._note_refusal(error)
        except Superseded:
            outcome, until, message = "superseded", self._soon(), "another worker has taken over"
        except Exception as error:
            # Its text may hold what was being stored, so only its name is kept.
            self._finish_run("failed", f"unexpected: {type(error).__name__}")
            raise
        self._finish_run(outcome, message)
        return self._report(outcome, until, message)

    def _finish_run(self, outcome: Outcome, message: str | None) -> None:
        with self.store.begin(durable=False) as tx:
            runs.finish(tx, self._run, outcome, self._spending.taken, message)

    def _report(self, outcome: Outcome, until: datetime, message: str | None) -> RunReport:
        return RunReport(
            self.source.key, outcome, until, message, self._pages, self._orders, self._spending.taken
        )

    def _work(self) -> tuple[Outcome, datetime, str | None]:
        try:
            self.connector.amazon_now()
        except Deferred as error:
            return "deferred", error.until, str(error)
        except CredentialsRefused:
            raise
        except ConnectorError as error:
            return "failed", self._note_failure(str(error)), str(error)
        self._prepare()
        self._check_enrolment()
        while not self.stopping():
            step = self._next()
            if isinstance(step, windows.Wait):
                return self._ended(step)
            try:
                self._read(step)
            except Deferred as error:
                self._release(step.window)
                return "deferred", error.until, str(error)
            except CredentialsRefused:
                self._release(step.window)
                raise
        return "deferred", self._soon(), "stopping"

    def _soon(self) -> datetime:
        with self.store.read() as tx:
            return tx.now + timedelta(seconds=1)

    def _ended(self, wait: windows.Wait) -> tuple[Outcome, datetime, str | None]:
        if self._error is not None:
            return "failed", wait.until, self._error
        if wait.short:
            self._refresh_stale()
            return "deferred", wait.until, wait.why
        failing = self._refresh_stale(unless_failing=True)
        if failing is not None:
            return "failed", wait.until, failing.last_error
        return _OUTCOMES[wait.left], wait.until, None if wait.left == "nothing" else wait.why

    def _commit(self, work: Callable[[Transaction], T]) -> T:
        """Do ``work`` in a transaction of its own; all of it once more when somebody else was first."""
        for _ in range(_CONFLICTS - 1):
            try:
                with self.store.begin() as tx:
                    return work(tx)
            except Exception as error:
                if not is_conflict(error):
                    raise
        with self.store.begin() as tx:
            return work(tx)

    # --- before the first page ----------------------------------------------------------------------

    def _standing_refusal(self) -> str | None:
        """Why Login with Amazon need not be asked: it refused these very credentials. Else a run begins."""
        source = self.source
        with self.store.begin(durable=False) as tx:
            refused = runs.standing_refusal(tx, source.account, source.credential, source.secret)
            if refused is None:
                runs.forgive(tx, "account", source.account)
                self._run = runs.start(tx, source.key)
        return None if refused is None else refused.reason

    def _note_refusal(self, error: CredentialsRefused) -> tuple[Outcome, datetime, str]:
        """Stop the account until its credential changes; for a wrong secret, all of the application."""
        source = self.source
        with self.store.begin() as tx:
            if isinstance(error, ApplicationRefused):
                runs.refuse(tx, "application", source.secret, source.secret, str(error))
            else:
                runs.refuse(tx, "account", source.account, source.credential, str(error))
            return "failed", tx.now + timedelta(minutes=15), str(error)

    def _prepare(self) -> None:
        """Enter the source and its marketplaces, open the backfills that start dates ask for."""
        start = windows.signpost(self.connector.amazon_now())
        source = self.source

        def enter(tx: Transaction) -> None:
            progress_of_source = ledger.load_source(tx, source.key)
            if progress_of_source is None:
                progress_of_source = SourceProgress(source.key, source.account, created_pass_at=tx.now)
                ledger.save_source(tx, progress_of_source, new=True)
            checked = progress_of_source.enrolment_at
            self._enrolment_due = checked is None or abs(tx.now - checked) >= ENROLMENT_EVERY
            known = ledger.load_marketplaces(tx, source.account)
            for marketplace_id, polled in source.marketplaces.items():
                progress = known.get(marketplace_id)
                if progress is None:
                    progress = MarketplaceProgress(
                        source.account, marketplace_id, source.key, start, start, start
                    )
                    ledger.save_marketplace(tx, progress, new=True)
                history = datetime.combine(polled.start_date, time(), UTC)
                self._open_history(tx, progress, history)
            homes = {m: p.source for m, p in known.items()}
            homes |= dict.fromkeys(source.marketplaces, source.key)
            ledger.adopt_windows(tx, source.account, homes)

        self._commit(enter)
        self._match_waiting()

    def _open_history(self, tx: Transaction, progress: MarketplaceProgress, history: datetime) -> None:
        reached = progress.history_from or progress.live_from
        changed = replace(progress, source=self.source.key)
        if history < reached:
            ledger.open_backfill(
                tx, progress.account, progress.marketplace_id, "start_date", history, reached
            )
            changed = replace(changed, history_from=history)
        if changed != progress:
            ledger.save_marketplace(tx, changed)

    def _match_waiting(self) -> None:
        """Give orders of marketplaces that became known to their customers (R26)."""
        configured = sorted(self.source.rules.by_marketplace)

        def match_some(tx: Transaction) -> bool:
            waiting = orders.of_unknown_marketplaces(tx, self.source.account, configured, limit=200)
            if waiting:
                decide_again(tx, self.source.rules, waiting)
            return bool(waiting)

        while self._commit(match_some):
            pass

    def _check_enrolment(self) -> None:
        """Once a day: a marketplace that the seller is not enrolled in stops alone."""
        if not self._enrolment_due:
            return
        self._tidy()
        try:
            enrolled = self.connector.participations(self._spending)
        except CredentialsRefused:
            raise
        except ConnectorError:
            return  # asked again at the next run; a wrong enrolment also shows in the answers to searches
        mine = set(self.source.marketplaces)
        with self.store.begin() as tx:
            progress = ledger.load_source(tx, self.source.key)
            if progress is None:
                return
            ledger.save_source(tx, replace(progress, enrolment_at=tx.now))
            if not enrolled & self.source.rules.by_marketplace.keys():
                return  # an answer about other shops altogether (the sandbox does this): not to be believed
            for marketplace in ledger.load_marketplaces(tx, self.source.account).values():
                if marketplace.marketplace_id in mine:
                    is_enrolled = marketplace.marketplace_id in enrolled
                    trouble = None if is_enrolled else "the seller is not enrolled in this marketplace"
                    if marketplace.enrolled is not is_enrolled:
                        ledger.save_marketplace(
                            tx, replace(marketplace, enrolled=is_enrolled, trouble=trouble)
                        )

    def _tidy(self) -> None:
        """Let go of what nobody will ask for again."""

        def forget(tx: Transaction) -> None:
            ledger.forget_finished(tx, self.source.key)
            runs.condense(tx, self.source.key)

        self._commit(forget)

    # --- deciding -----------------------------------------------------------------------------------

    def _next(self) -> windows.Read | windows.Wait:
        """Decide what is read next, and claim it."""
        amazon_now = self.connector.amazon_now()
        with self.store.begin(durable=False) as tx:
            while True:
                view = self._view(tx, amazon_now)
                step = windows.decide(view)
                if isinstance(step, windows.Wait):
                    return step
                if isinstance(step, windows.Read):
                    if step.turns != view.source.turns:
                        ledger.save_source(tx, replace(view.source, turns=step.turns))
                    return replace(step, window=ledger.claim(tx, step.window, self.owner))
                if isinstance(step, windows.Enter):
                    self._enter(tx, view, step)
                elif isinstance(step, windows.Replace):
                    self._replace(tx, step.window, step.by)
                else:
                    self._prove(tx, step.window)

    def _view(self, tx: Transaction, amazon_now: datetime) -> windows.View:
        source = self.source
        progress = ledger.load_source(tx, source.key)
        if progress is None:
            raise LookupError(f"source {source.key} is not in the ledger")
        known = ledger.load_marketplaces(tx, source.account)
        plan = self.plans["searchOrders"]
        backfills = ledger.wanted_backfills(tx, source.account)
        return windows.View(
            source=progress,
            marketplaces={m: known[m] for m in source.marketplaces},
            included_data={m: p.included_data for m, p in source.marketplaces.items()},
            windows=ledger.pending_windows(tx, source.key),
            backfills=[b for b in backfills if b.marketplace_id in source.marketplaces],
            now=tx.now,
            amazon_now=amazon_now,
            bucket=budgets.read(tx, self._spending.key("searchOrders"), plan.rate, plan.burst),
            pace=self.pace,
            owner=self.owner,
        )

    def _enter(self, tx: Transaction, view: windows.View, step: windows.Enter) -> None:
        step = self._divided(tx, step)
        ledger.open_windows(tx, step.windows)
        for marketplace in step.marketplaces:
            ledger.save_marketplace(tx, marketplace)
        for backfill in step.backfills:
            ledger.advance_backfill(tx, backfill.backfill_id, backfill.position)
        progress = view.source
        if step.polled:
            progress = replace(progress, polled_at=tx.now)
        if step.created_pass:
            progress = replace(progress, created_pass_at=tx.now)
        ledger.save_source(tx, progress)

    def _divided(self, tx: Transaction, step: windows.Enter) -> windows.Enter:
        """A second look in windows of one page each, by the update times of the orders that are stored."""
        window = step.windows[0]
        if window.kind != "sweep" or window.axis != "updated":
            return step
        bounds = orders.every_nth_update(
            tx,
            window.account,
            window.marketplace_ids,
            window.lower,
            window.upper,
            windows.SECOND_LOOK_ORDERS,
        )
        return windows.divided(step, bounds)

    def _replace(self, tx: Transaction, window: Window, by: tuple[Window, ...]) -> None:
        ledger.save_window(tx, replace(window, state="cancelled", page_token=None))
        ledger.open_windows(tx, by)

    def _prove(self, tx: Transaction, window: Window) -> None:
        """An unproven walk is good if no order can have left its list while it was read.

        One whose change was shown a little late left with an update time from before the walk; of one
        that cannot be understood nobody knows what it did.
        """
        if window.walk_started_at is not None:
            since = window.walk_started_at - windows.OVERLAP
            if orders.departed(
                tx, window.account, window.marketplace_ids, window.upper, max(window.upper, since)
            ) or quarantine.seen_since(tx, window.account, since):
                self._replace(tx, window, windows.halves_of_time(replace(window, attempts=0)))
                return
        self._finish(tx, replace(window, state="done"))

    # --- one page -----------------------------------------------------------------------------------

    def _read(self, step: windows.Read) -> None:
        """Fetch the next page of a claimed window and store it, or note what went wrong."""
        window = step.window
        self._spending.window = window
        self._spending.reserve = step.reserve
        query = SearchQuery(
            axis=window.axis,
            after=window.lower,
            before=window.upper,
            marketplace_ids=window.marketplace_ids,
            included_data=window.included_data,
        )
        before = self.connector.amazon_now()
        try:
            page = self.connector.search(query, window.page_token, self._spending)
        except (Deferred, CredentialsRefused):
            raise
        except PageExpired as error:
            self._restart(window, str(error))
        except BoundRefused as error:
            self._lower_bound(window, str(error))
        except RequestRefused as error:
            self._note_refused(window, error)
        except ConnectorError as error:
            self._note_failure(str(error), window)
        else:
            self._store_page(window, page, before)
        finally:
            self._spending.window = None
            self._spending.reserve = 0.0

    def _store_page(self, window: Window, page: OrderPage, asked_at: datetime) -> None:
        amazon_now = self.connector.amazon_now()
        several = page.next_token is not None or window.pages > 0

        def store(tx: Transaction) -> None:
            progress = ledger.load_source(tx, self.source.key)
            applied = apply_orders(
                tx,
                self.source.rules,
                page.orders,
                page.unreadable,
                walk=window.window_id if several else None,
            )
            self._advance(tx, window, page, applied, asked_at, amazon_now)
            runs.add_page(tx, self._run, len(page.orders))
            if progress is not None:
                fine = replace(
                    progress,
                    failures=0,
                    failing_since=None,
                    last_error=None,
                    retry_at=None,
                    succeeded_at=tx.now,
                )
                ledger.save_source(tx, fine)

        try:
            self._commit(store)
        except (Superseded, *Unavailable):
            raise
        except Exception as error:
            # Without this a page that cannot be stored would be fetched again for ever, before all else.
            self._note_failure(f"a page could not be stored: {type(error).__name__}", window)
            raise
        self._pages += 1
        self._orders += len(page.orders)

    def _advance(
        self,
        tx: Transaction,
        window: Window,
        page: OrderPage,
        applied: Applied,
        asked_at: datetime,
        amazon_now: datetime,
    ) -> None:
        stuck = _stuck(window, page, applied)
        if stuck is not None:
            changed, parts = windows.restarted(window, stuck, tx.now)
            ledger.save_window(tx, ledger.release(changed))
            ledger.open_windows(tx, parts)
            return
        started = window.walk_started_at or asked_at
        after = windows.page_read(
            replace(window, walk_started_at=started),
            next_token=page.next_token,
            orders=len(page.orders),
            echoed_before=page.echoed_before,
            # The estimate may be a second early; a walk must not seem to end before it did.
            amazon_now=amazon_now + timedelta(seconds=2),
        )
        if after.backfill_id is not None:
            ledger.count_backfill(tx, after.backfill_id, len(page.orders))
        if after.upper < window.upper:
            after = self._shorten(tx, window, after)
        if after.state == "open":
            ledger.save_window(tx, after)
        elif after.state == "done":
            self._finish(tx, after)
        else:
            ledger.save_window(tx, ledger.release(after))

    def _finish(self, tx: Transaction, window: Window) -> None:
        """The window is read and proven: claim its coverage."""
        ledger.save_window(tx, ledger.release(replace(window, page_token=None)))
        seen = Interval(window.lower, window.upper)
        ids = window.marketplace_ids
        if window.axis == "created":
            ledger.cover(tx, window.account, ids, "created", seen)
        else:
            if window.kind == "live" or window.pages <= 1:
                # Of several pages a second look may be too narrow to be proven: it must not hide what has
                # to be read again.
                ledger.cover(tx, window.account, ids, "first", seen)
            if window.kind == "sweep":
                ledger.cover(tx, window.account, ids, "second", seen)
        if window.kind == "live":
            for marketplace in ledger.load_marketplaces(tx, window.account).values():
                if marketplace.marketplace_id in ids and marketplace.alone_since is not None:
                    ledger.save_marketplace(tx, replace(marketplace, alone_since=None, trouble=None))
        if window.backfill_id is not None:
            self._finish_backfill(tx, window)

    def _finish_backfill(self, tx: Transaction, window: Window) -> None:
        assert window.backfill_id is not None
        left = ledger.has_pending(tx, window.backfill_id)
        rate = budgets.read(
            tx,
            self._spending.key("searchOrders"),
            self.plans["searchOrders"].rate,
            self.plans["searchOrders"].burst,
        ).rate
        backfill = ledger.lock_backfill(tx, window.backfill_id)
        if backfill is None:
            return
        backfill = replace(backfill, span_seconds=windows.next_span(window, rate).total_seconds())
        if backfill.position <= backfill.lower and not left and backfill.state != "cancelled":
            backfill = replace(backfill, state="done", finished_at=tx.now)
        ledger.save_backfill(tx, backfill)

    def _shorten(self, tx: Transaction, window: Window, after: Window) -> Window:
        """Amazon applied a smaller bound than was sent: what lies beyond it has still to be read.

        A walk of several pages begins anew with that bound, because its parameters are frozen.
        """
        pulled = self._pull_back(tx, window, after.upper) if window.kind == "live" else frozenset()
        others = tuple(m for m in window.marketplace_ids if m not in pulled)
        rests = []
        if others:
            rest = windows.remaining(window, after.upper, window.upper, tx.now)
            rests.append(replace(rest, marketplace_ids=others))
        if after.state == "open":
            rests.append(windows.remaining(window, window.lower, after.upper, tx.now))
            after = replace(after, state="cancelled", page_token=None)
        ledger.open_windows(tx, rests)
        return after

    def _pull_back(self, tx: Transaction, window: Window, upper: datetime) -> frozenset[str]:
        """Live reading of these has got no further than ``upper``; never below what was read before."""
        upper = max(upper, min(window.lower + windows.OVERLAP, window.upper))
        pulled = set()
        for marketplace in ledger.load_marketplaces(tx, window.account).values():
            if marketplace.marketplace_id in window.marketplace_ids and marketplace.position == window.upper:
                ledger.save_marketplace(tx, replace(marketplace, position=upper))
                pulled.add(marketplace.marketplace_id)
        return frozenset(pulled)

    # --- what went wrong ----------------------------------------------------------------------------

    def _release(self, window: Window) -> None:
        with self.store.begin() as tx:
            try:
                ledger.save_window(tx, ledger.release(window))
            except Superseded:
                return

    def _restart(self, window: Window, why: str) -> None:
        with self.store.begin() as tx:
            ledger.load_source(tx, self.source.key)
            changed, parts = windows.restarted(window, why, tx.now)
            ledger.save_window(tx, ledger.release(changed))
            ledger.open_windows(tx, parts)

    def _lower_bound(self, window: Window, why: str) -> None:
        """A refused bound: estimate Amazon's time again, and ask for no more than it allows."""
        self.connector.forget_amazon_time()
        signpost = windows.signpost(self.connector.amazon_now())
        if not window.lower < signpost < window.upper:
            self._note_failure(why, window)
            return
        with self.store.begin() as tx:
            ledger.load_source(tx, self.source.key)
            lowered = replace(windows.afresh(window), upper=signpost)
            self._replace(tx, window, (lowered,))
            if window.kind == "live":
                self._pull_back(tx, window, signpost)

    def _note_refused(self, window: Window, error: RequestRefused) -> None:
        with self.store.begin() as tx:
            ledger.load_source(tx, self.source.key)
            changed, parts = windows.refused(window, error.status, str(error), tx.now)
            ledger.save_window(tx, ledger.release(changed))
            ledger.open_windows(tx, parts)
            self._note_alone(tx, changed)
        if not parts:
            self._error = str(error)
        if isinstance(error, AccessRefused):
            self._note_failure(str(error))

    def _note_failure(self, why: str, window: Window | None = None) -> datetime:
        """Count a failure, of a window and of its source; returns when the source is tried again."""
        self._error = why
        with self.store.begin() as tx:
            progress = ledger.load_source(tx, self.source.key)
            known = progress is not None
            if progress is None:
                progress = SourceProgress(self.source.key, self.source.account, created_pass_at=tx.now)
            failures = progress.failures + 1
            retry_at = tx.now + windows.backoff(failures)
            ledger.save_source(
                tx,
                replace(
                    progress,
                    failures=failures,
                    failing_since=progress.failing_since or tx.now,
                    last_error=why,
                    retry_at=retry_at,
                ),
                new=not known,
            )
            if window is not None:
                changed = windows.failed(window, why, tx.now)
                if changed.state == "set_aside" and len(window.marketplace_ids) > 1:
                    ledger.save_window(
                        tx, replace(ledger.release(window), state="cancelled", page_token=None)
                    )
                    ledger.open_windows(
                        tx, [replace(w, attempts=0) for w in windows.halves_of_marketplaces(window)]
                    )
                else:
                    ledger.save_window(tx, changed)
                    self._note_alone(tx, changed)
        return retry_at

    def _note_alone(self, tx: Transaction, window: Window) -> None:
        """A single marketplace whose window was set aside no longer holds the others up."""
        if window.state != "set_aside" or window.kind != "live" or len(window.marketplace_ids) != 1:
            return
        marketplace = ledger.load_marketplaces(tx, window.account).get(window.marketplace_ids[0])
        if marketplace is not None and marketplace.alone_since is None:
            alone = replace(marketplace, alone_since=tx.now, trouble=window.last_error)
            ledger.save_marketplace(tx, alone)

    # --- orders that ought to have changed ----------------------------------------------------------

    def _refresh_stale(self, *, unless_failing: bool = False) -> SourceProgress | None:
        """Fetch by id, from an idle bucket, what is pending for a week or should have been shipped.

        ``unless_failing``: of a source that waits after a failure nothing is fetched, and it is returned.
        """
        with self.store.begin(durable=False) as tx:
            progress = ledger.load_source(tx, self.source.key)
            if progress is None:
                return None
            if unless_failing and progress.retry_at is not None and progress.retry_at > tx.now:
                return progress
            if progress.refreshed_at is not None and abs(tx.now - progress.refreshed_at) < REFRESH_EVERY:
                return None
            ledger.save_source(tx, replace(progress, refreshed_at=tx.now))
            plan = self.plans["getOrder"]
            bucket = budgets.read(tx, self._spending.key("getOrder"), plan.rate, plan.burst)
            many = min(REFRESH_AT_ONCE, int(bucket.tokens - REFRESH_LEAVES))
            stale = orders.stale(
                tx, self.source.account, sorted(self.source.marketplaces), limit=max(0, many)
            )
        for order_id, marketplace_id in stale:
            if self.stopping():
                break
            try:
                self.fetch_order(order_id, self.source.marketplaces[marketplace_id].included_data)
            except OrderNotFound:
                continue
            except ConnectorError:  # the budget included: there is a next time
                break
        return None

    def fetch_order(self, order_id: str, included_data: tuple[str, ...]) -> UnreadableOrder | None:
        """Ask Amazon for one order and store it. Returns it when it could not be understood.

        Raises the connector's errors.
        """
        with self.store.begin() as tx:
            orders.mark_refetched(tx, self.source.account, order_id)
        fetched = self.connector.get(order_id, included_data, self._spending)
        readable = [] if isinstance(fetched, UnreadableOrder) else [fetched]
        unreadable = [fetched] if isinstance(fetched, UnreadableOrder) else []
        self._commit(lambda tx: apply_orders(tx, self.source.rules, readable, unreadable))
        return unreadable[0] if unreadable else None


def _stuck(window: Window, page: OrderPage, applied: Applied) -> str | None:
    """Why this page shows that the walk does not get on, if it does not."""
    if page.next_token is not None and page.next_token == window.page_token:
        return "Amazon gave the same page token twice"
    distinct = len({order.order_id for order in page.orders})
    if page.next_token is not None and distinct == 0 and not page.unreadable:
        return "Amazon gave an empty page that is not the last"
    if window.pages > 0 and distinct > 0 and applied.seen_by_walk >= distinct:
        return "Amazon gave a page without a new order"
    return None
