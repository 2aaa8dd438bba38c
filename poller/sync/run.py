"""One run of a source: decide, fetch a page, store it, decide again; until nothing is left or allowed.

Live polling, sweeps, backfills, the command line and the service all go through ``SourceSync.run``. A
page is fetched outside any transaction and stored inside one short one, together with the window's
progress; a crash at any point repeats at most that page. Nobody sleeps for a token: an empty budget
ends the run as *deferred*, and says when it resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connectors.base import Operation, OrderConnector, SearchQuery, UsagePlan
from connectors.errors import (
    AccessRefused,
    ApplicationRefused,
    BoundRefused,
    ConnectorError,
    CredentialsRefused,
    Deferred,
    PageExpired,
    RequestRefused,
)
from connectors.orders import OrderPage
from poller.backfill import history
from poller.backfill.context import Context
from poller.backfill.ground import Rates, grounds
from poller.backfill.run import HistoryWork
from poller.ingest.apply import Applied, apply_orders
from poller.ingest.budget import AccountBudget, Allowance
from poller.ingest.by_id import REFRESH_LEAVES, SingleOrders, refresh_is_due
from poller.ingest.sources import Source
from poller.matching import buyer_visibility
from poller.sync import prepare, windows
from poller.verification import schedule
from poller.verification.run import Verifier
from store import backfill_reports as stored_history
from store import ledger, orders, quarantine, runs
from store.engine import Store, Transaction, Unavailable
from store.ledger import Superseded
from store.progress import Backfill, Failure, Interval, MarketplaceProgress, SourceProgress, Way, Window
from store.runs import RunOutcome

_OUTCOMES: Mapping[windows.Left, RunOutcome] = {
    "nothing": "complete",
    "failed": "failed",
    "elsewhere": "superseded",
    "unproven": "deferred",
}

_Ending = tuple[RunOutcome, datetime, Failure | str | None]
"""How a run ended, when it is worth running again, and why it is not complete."""

_Known = dict[str, MarketplaceProgress]
"""An account's marketplaces as a transaction sees them, its own changes included."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended. ``until``: when it is worth running again.

    ``message``: why it is not complete, or what was not asked for though it is wanted; ``failure``: the same
    with its facts when it failed.
    ``refused``: what Login with Amazon refuses, ``account`` or ``application``, when that ended it.
    """

    source: str
    outcome: RunOutcome
    until: datetime
    message: str | None
    pages: int
    orders: int
    requests: int
    refused: str | None = None
    failure: Failure | None = None


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
    history_by: Way = "auto"
    """How the history that a start date asks for is fetched."""

    def __post_init__(self) -> None:
        self.budget = AccountBudget(self.store, self.source.application, self.source.account, self.plans)
        self.single = SingleOrders(self.store, self.connector, self.source, self.budget, self.stopping)
        self._pages = 0
        self._orders = 0
        self._by_ids: HistoryWork | None = None
        self._run_number = 0
        self._failure: Failure | None = None
        self._seen: windows.View | None = None
        self._is_prepared = False
        self._enrolment_due = False
        self._is_behind = False
        self._refetch_due = False
        self._verification_due = False
        self._is_finished = False
        self._has_history = False
        """Whether there are backfills to carry out, when last looked."""
        self._refused: str | None = None

    def run(self) -> RunReport:
        """Carry out all that is due for the source, as far as the budget goes."""
        overtaken = "another worker has taken over"
        try:
            refused, first = self.store.commit(self._begin)
        except Superseded:
            return self._report("superseded", self._soon(), overtaken)
        if refused is not None:
            self._refused = refused.kind
            with self.store.read() as tx:
                return self._report("failed", tx.now + timedelta(minutes=15), refused.reason)
        try:
            outcome, until, why = self._work(first)
        except CredentialsRefused as error:
            outcome, until, why = self._note_refusal(error)
        except Superseded:
            outcome, until, why = "superseded", self._soon(), overtaken
        except Exception as error:
            # Its text may hold what was being stored, so only its name is kept.
            self._finish_run("failed", f"unexpected: {type(error).__name__}")
            raise
        if not self._is_finished:
            self._finish_run(outcome, why)
        return self._report(outcome, until, why)

    def _finish_run(self, outcome: RunOutcome, why: Failure | str | None) -> None:
        with self.store.begin(durable=False) as tx:
            self._write_finish(tx, outcome, why)

    def _write_finish(self, tx: Transaction, outcome: RunOutcome, why: Failure | str | None) -> None:
        message = None if why is None else str(why)
        runs.finish(tx, self._run_number, outcome, self.budget.taken, message, self.budget.retries)

    def _report(self, outcome: RunOutcome, until: datetime, why: Failure | str | None) -> RunReport:
        return RunReport(
            self.source.key,
            outcome,
            until,
            None if why is None else str(why),
            self._pages,
            self._orders + (self._by_ids.fetched if self._by_ids is not None else 0),
            self.budget.taken,
            self._refused,
            why if isinstance(why, Failure) else None,
        )

    def _work(self, step: windows.Read | windows.Wait | None) -> _Ending:
        try:
            self.connector.amazon_now()
        except Deferred as error:
            return "deferred", error.until, str(error)
        except CredentialsRefused:
            raise
        except ConnectorError as error:
            failure = failure_of(error)
            return "failed", self._note_failure(failure), failure
        if not self._is_prepared:
            step = self.store.commit(self._prepare)
        by_ids = self._by_ids = HistoryWork(
            Context(
                self.store,
                self.connector,
                self.source,
                self.budget,
                self.owner,
                self._run_number,
                self.stopping,
            )
        )
        if step is None:
            self._see_to_the_rest()
            if self._has_history:
                by_ids.begin()
        while not self.stopping():
            if step is None:
                step = self._next()
            if isinstance(step, windows.Wait):
                failing = self._failing()
                at_work = self._has_history and failing is None
                return self._ended(step, failing, by_ids.work() if at_work else None)
            window = step.window
            try:
                step = self._read(step)
            except Deferred as error:
                self._release(window)
                return "deferred", error.until, str(error)
            except CredentialsRefused:
                self._release(window)
                raise
        if isinstance(step, windows.Read):
            self._release(step.window)
        return "deferred", self._soon(), "it was told to stop"

    def _soon(self) -> datetime:
        return self.store.now() + timedelta(seconds=1)

    def _failing(self) -> Failure | None:
        """What went wrong that concerns the whole source, if anything did."""
        if self._failure is not None or self._seen is None:
            return self._failure
        progress = self._seen.source
        if progress.retry_at is None or progress.retry_at <= self._seen.now:
            return None
        return progress.last_error

    def _ended(self, wait: windows.Wait, failing: Failure | None, ids_at: datetime | None) -> _Ending:
        """``ids_at``: when there is more to do by reports and ids, if there is."""
        if self._failure is None and (wait.short or failing is None):
            self._refetch()
        return self._outcome(wait, failing, ids_at)

    def _outcome(self, wait: windows.Wait, failing: Failure | None, ids_at: datetime | None) -> _Ending:
        if self._failure is not None:
            return "failed", wait.until, self._failure
        until = min(wait.until, ids_at or wait.until)
        by_ids = "history waits for Amazon's report, or for the budget of getOrder"
        if wait.short:
            return "deferred", until, wait.why if until == wait.until else by_ids
        if failing is not None:
            return "failed", wait.until, failing
        if ids_at is not None and wait.left == "nothing":
            return "deferred", until, f"up to date; {by_ids}"
        return (
            _OUTCOMES[wait.left],
            until,
            self._left_out() if wait.left == "nothing" else wait.failure or wait.why,
        )

    def _is_idle(self) -> bool:
        """Whether searching was all that there was to do."""
        return not (
            self._has_history or self._refetch_due or self._verification_due or self._is_refresh_due()
        )

    def _is_refresh_due(self) -> bool:
        return self._seen is None or refresh_is_due(self._seen.source, self._seen.now)

    def _left_out(self) -> str | None:
        """What is not asked for although it is wanted, if anything is."""
        known = {} if self._seen is None else self._seen.marketplaces
        codes = sorted(
            polled.code
            for marketplace_id, polled in self.source.marketplaces.items()
            if marketplace_id in known and known[marketplace_id].enrolled is False
        )
        return f"{' and '.join(codes)}, where the seller is not enrolled" if codes else None

    # --- before the first page ----------------------------------------------------------------------

    def _begin(self, tx: Transaction) -> tuple[runs.Refusal | None, windows.Read | windows.Wait | None]:
        """Begin a run, unless Login with Amazon has refused these very credentials.

        When it need not be asked for Amazon's time, all that comes before the first page is done at once.
        """
        source = self.source
        refused = runs.admit(tx, source.account, source.credential, source.secret)
        if refused is not None:
            return refused, None
        self._run_number = runs.start(tx, source.key)
        return None, self._prepare(tx) if self.connector.knows_time() else None

    def _note_refusal(self, error: CredentialsRefused) -> _Ending:
        """Stop the account until its credential changes; for a wrong secret, all of the application."""
        source = self.source
        if isinstance(error, ApplicationRefused):
            kind, name, fingerprint = "application", source.secret, source.secret
        else:
            kind, name, fingerprint = "account", source.account, source.credential
        self._refused = kind

        def note(tx: Transaction) -> datetime:
            runs.refuse(tx, kind, name, fingerprint, str(error))
            return tx.now + timedelta(minutes=15)

        return "failed", self.store.commit(note), str(error)

    def _prepare(self, tx: Transaction) -> windows.Read | windows.Wait | None:
        """Enter the source and its marketplaces, open the backfills that start dates ask for.

        Nearly always nothing else has to be seen to before the first decision: then it is taken at once.
        """
        amazon_now = self.connector.amazon_now()
        self._is_prepared = True
        entered = prepare.enter(tx, self.source, windows.signpost(amazon_now), self.history_by)
        wanted = ledger.wanted_backfills(tx, self.source.account)
        self._has_history = bool(wanted)
        self._is_behind = prepare.is_behind(tx, self.source)
        self._enrolment_due = prepare.enrolment_is_due(entered.source, tx.now)
        if self._is_behind or self._enrolment_due or self._has_history:
            return None
        return self._decide(
            tx,
            self._view(tx, amazon_now, entered.source, entered.marketplaces, wanted, entered.pending),
        )

    def _see_to_the_rest(self) -> None:
        """What else may have to be seen to before the first decision."""
        if self._is_behind:
            prepare.catch_up(self.store, self.source, self.connector.read_payload)
        if self._enrolment_due:
            prepare.tidy(self.store, self.source)
            prepare.check_enrolment(self.store, self.connector, self.source, Allowance(self.budget))

    # --- deciding -----------------------------------------------------------------------------------

    def _next(self) -> windows.Read | windows.Wait:
        """Decide what is read next, and claim it."""
        amazon_now = self.connector.amazon_now()
        with self.store.begin(durable=False) as tx:
            return self._decide(tx, self._view(tx, amazon_now))

    def _decide(self, tx: Transaction, view: windows.View) -> windows.Read | windows.Wait:
        """The same within a transaction, from what is known in it."""
        while True:
            self._seen = view
            step = windows.decide(view)
            if isinstance(step, windows.Wait):
                self._refetch_due = quarantine.is_any_due(tx, self.source.account)
                self._verification_due = schedule.is_due(tx, self.source, view.marketplaces)
                return step
            if isinstance(step, windows.Read):
                if step.turns != view.source.turns:
                    ledger.save_source(tx, replace(view.source, turns=step.turns))
                claimed = ledger.claim(tx, step.window, self.owner)
                # Not before an access token is fetched: an outage there must not eat the budget.
                has_access = self.connector.has_access()
                prepaid_at = self.budget.take_ahead(tx, step.reserve) if has_access else None
                return replace(step, window=claimed, prepaid_at=prepaid_at)
            if isinstance(step, windows.Enter):
                view = self._enter(tx, view, step)
                continue
            if isinstance(step, windows.Replace):
                self._replace(tx, step.window, step.by)
            else:
                self._prove(tx, dict(view.marketplaces), step.window)
            view = self._view(tx, view.amazon_now)

    def _view(
        self,
        tx: Transaction,
        amazon_now: datetime,
        progress: SourceProgress | None = None,
        known: _Known | None = None,
        wanted: tuple[Backfill, ...] | None = None,
        pending: tuple[Window, ...] | None = None,
    ) -> windows.View:
        """What a decision depends on; what the transaction has read of it already need not be read again."""
        source = self.source
        progress = progress or ledger.load_source(tx, source.key)
        if progress is None:
            raise LookupError(f"source {source.key} is not in the ledger")
        known = known or ledger.load_marketplaces(tx, source.account)
        if wanted is None:
            wanted = ledger.wanted_backfills(tx, source.account)
        self._has_history = bool(wanted)
        backfills = [b for b in wanted if b.marketplace_id in source.marketplaces]
        if pending is None:
            pending = ledger.pending_windows(tx, source.account, source.key)
        search = self.budget.bucket(tx, "searchOrders")
        return windows.View(
            source=progress,
            marketplaces={m: known[m] for m in source.marketplaces},
            included_data={m: p.included_data for m, p in source.marketplaces.items()},
            windows=pending,
            backfills=backfills,
            now=tx.now,
            amazon_now=amazon_now,
            bucket=search,
            pace=self.pace,
            owner=self.owner,
            grounds=grounds(
                tx,
                backfills,
                pending,
                lambda: Rates(search, self.budget.bucket(tx, "getOrder"), self.pace.busy),
            ),
        )

    def _enter(self, tx: Transaction, view: windows.View, step: windows.Enter) -> windows.View:
        """Write down what is entered; returns what is known then."""
        step = self._divided(tx, step)
        opened = ledger.open_windows(tx, step.windows)
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
        if step.backfills:
            return self._view(tx, view.amazon_now, progress)
        moved = {marketplace.marketplace_id: marketplace for marketplace in step.marketplaces}
        return replace(
            view,
            source=progress,
            marketplaces={**view.marketplaces, **moved},
            windows=(*view.windows, *opened),
        )

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

    def _prove(self, tx: Transaction, known: _Known, window: Window) -> None:
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
        self._finish(tx, known, replace(window, state="done"))

    # --- one page -----------------------------------------------------------------------------------

    def _read(self, step: windows.Read) -> windows.Read | windows.Wait | None:
        """Fetch the next page of a claimed window and store it, or note what went wrong.

        Returns what comes next, if that is decided already.
        """
        window = step.window
        allowance = Allowance(self.budget, {"searchOrders": step.reserve}, window, step.prepaid_at)
        query = SearchQuery(
            axis=window.axis,
            after=window.lower,
            before=window.upper,
            marketplace_ids=window.marketplace_ids,
            included_data=window.included_data,
        )
        before = self.connector.amazon_now()
        try:
            page = self.connector.search(query, window.page_token, allowance)
        except (Deferred, CredentialsRefused):
            raise
        except PageExpired as error:
            self._restart(window, failure_of(error))
        except BoundRefused as error:
            self._lower_bound(window, failure_of(error))
        except RequestRefused as error:
            self._note_refused(window, error)
        except ConnectorError as error:
            self._note_failure(failure_of(error), window)
        else:
            return self._store_page(window, page, before)
        return None

    def _store_page(
        self, window: Window, page: OrderPage, asked_at: datetime
    ) -> windows.Read | windows.Wait | None:
        """Store a page with its window's progress, and decide in the same transaction what comes next."""
        amazon_now = self.connector.amazon_now()
        several = page.next_token is not None or window.pages > 0
        buyers = buyer_visibility.seen(page.orders if window.kind == "live" else ())

        def store(tx: Transaction) -> tuple[windows.Read | windows.Wait | None, bool]:
            progress = ledger.load_source(tx, self.source.key)
            known = ledger.load_marketplaces(tx, self.source.account)
            applied = apply_orders(
                tx,
                self.source.rules,
                page.orders,
                page.unreadable,
                walk=window.window_id if several else None,
            )
            self._advance(tx, known, window, page, applied, asked_at, amazon_now)
            runs.add_page(tx, self.source.key, self._run_number, len(page.orders), buyers)
            if progress is None:
                return None, False
            fine = replace(
                progress,
                failures=0,
                failing_since=None,
                last_error=None,
                retry_at=None,
                succeeded_at=tx.now,
            )
            ledger.save_source(tx, fine)
            if self.stopping():
                return None, False
            step = self._decide(tx, self._view(tx, amazon_now, fine, known))
            if not (isinstance(step, windows.Wait) and self._is_idle()):
                return step, False
            outcome, _, why = self._outcome(step, self._failing(), None)
            self._write_finish(tx, outcome, why)
            return step, True

        try:
            step, self._is_finished = self.store.commit(store)
        except (Superseded, *Unavailable):
            raise
        except Exception as error:
            # Without this a page that cannot be stored would be fetched again for ever, before all else.
            self._note_failure(
                Failure(f"a page could not be stored: {type(error).__name__}", "page_not_stored"), window
            )
            raise
        self._pages += 1
        self._orders += len(page.orders)
        return step

    def _advance(
        self,
        tx: Transaction,
        known: _Known,
        window: Window,
        page: OrderPage,
        applied: Applied,
        asked_at: datetime,
        amazon_now: datetime,
    ) -> None:
        stuck = _stuck(window, page, applied)
        if stuck is not None:
            changed, parts = windows.restarted(window, Failure(stuck, "walk_stuck"), tx.now)
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
            after = self._shorten(tx, known, window, after)
        if after.state == "open":
            ledger.save_window(tx, after)
        elif after.state == "done":
            self._finish(tx, known, after)
        else:
            ledger.save_window(tx, ledger.release(after))

    def _finish(self, tx: Transaction, known: _Known, window: Window) -> None:
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
            for marketplace in [known[m] for m in ids if m in known]:
                if marketplace.alone_since is not None:
                    _save(tx, known, replace(marketplace, alone_since=None, trouble=None))
        if window.backfill_id is not None:
            self._finish_backfill(tx, window)

    def _finish_backfill(self, tx: Transaction, window: Window) -> None:
        assert window.backfill_id is not None
        left = ledger.has_pending(tx, window.backfill_id)
        bucket = self.budget.bucket(tx, "searchOrders")
        backfill = ledger.lock_backfill(tx, window.backfill_id)
        if backfill is None:
            return
        most = float("inf") if backfill.way == "search" else history.pages_before_report(bucket)
        span = windows.next_span(window, bucket.rate, most)
        backfill = replace(
            backfill, span_seconds=span.total_seconds(), windows_done=backfill.windows_done + 1
        )
        if backfill.way != "search":
            left = left or stored_history.has_more(tx, backfill, history.is_awaited)
        if backfill.position <= backfill.lower and not left and backfill.state != "cancelled":
            backfill = replace(backfill, state="done", finished_at=tx.now)
        ledger.save_backfill(tx, backfill)

    def _shorten(self, tx: Transaction, known: _Known, window: Window, after: Window) -> Window:
        """Amazon applied a smaller bound than was sent: what lies beyond it has still to be read.

        A walk of several pages begins anew with that bound, because its parameters are frozen.
        """
        pulled = self._pull_back(tx, known, window, after.upper) if window.kind == "live" else frozenset()
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

    def _pull_back(self, tx: Transaction, known: _Known, window: Window, upper: datetime) -> frozenset[str]:
        """Live reading of these has got no further than ``upper``; never below what was read before."""
        upper = max(upper, min(window.lower + windows.OVERLAP, window.upper))
        pulled = set()
        for marketplace in [known[m] for m in window.marketplace_ids if m in known]:
            if marketplace.position == window.upper:
                _save(tx, known, replace(marketplace, position=upper))
                pulled.add(marketplace.marketplace_id)
        return frozenset(pulled)

    # --- what went wrong ----------------------------------------------------------------------------

    def _release(self, window: Window) -> None:
        with self.store.begin() as tx:
            try:
                ledger.save_window(tx, ledger.release(window))
            except Superseded:
                return

    def _restart(self, window: Window, why: Failure) -> None:
        with self.store.begin() as tx:
            ledger.load_source(tx, self.source.key)
            changed, parts = windows.restarted(window, why, tx.now)
            ledger.save_window(tx, ledger.release(changed))
            ledger.open_windows(tx, parts)

    def _lower_bound(self, window: Window, why: Failure) -> None:
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
                known = ledger.load_marketplaces(tx, self.source.account)
                self._pull_back(tx, known, window, signpost)

    def _note_refused(self, window: Window, error: RequestRefused) -> None:
        failure = failure_of(error)
        with self.store.begin() as tx:
            ledger.load_source(tx, self.source.key)
            changed, parts = windows.refused(window, failure, tx.now)
            ledger.save_window(tx, ledger.release(changed))
            ledger.open_windows(tx, parts)
            self._note_alone(tx, changed)
        if not parts:
            self._failure = failure
        if isinstance(error, AccessRefused):
            self._note_failure(failure)

    def _note_failure(self, why: Failure, window: Window | None = None) -> datetime:
        """Count a failure, of a window and of its source; returns when the source is tried again."""
        self._failure = why
        return self.store.commit(lambda tx: self._count_failure(tx, why, window))

    def _count_failure(self, tx: Transaction, why: Failure, window: Window | None) -> datetime:
        progress = ledger.load_source(tx, self.source.key)
        known = progress is not None
        if progress is None:
            progress = SourceProgress(self.source.key, self.source.account, created_pass_at=tx.now)
        failures = progress.failures + 1
        retry_at = tx.now + windows.backoff(failures)
        if window is None or not self._is_known_trouble(tx, window):
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
                ledger.save_window(tx, replace(ledger.release(window), state="cancelled", page_token=None))
                ledger.open_windows(
                    tx, [replace(w, attempts=0) for w in windows.halves_of_marketplaces(window)]
                )
            else:
                ledger.save_window(tx, changed)
                self._note_alone(tx, changed)
        return retry_at

    def _is_known_trouble(self, tx: Transaction, window: Window) -> bool:
        known = ledger.load_marketplaces(tx, self.source.account)
        mine = {m: known[m] for m in self.source.marketplaces if m in known}
        return windows.is_known_trouble(window, mine)

    def _note_alone(self, tx: Transaction, window: Window) -> None:
        """A single marketplace whose window was set aside no longer holds the others up."""
        if window.state != "set_aside" or window.kind != "live" or len(window.marketplace_ids) != 1:
            return
        marketplace = ledger.load_marketplaces(tx, window.account).get(window.marketplace_ids[0])
        if marketplace is not None and marketplace.alone_since is None:
            trouble = None if window.last_error is None else window.last_error.message
            alone = replace(marketplace, alone_since=tx.now, trouble=trouble)
            ledger.save_marketplace(tx, alone)

    # --- after the last page ------------------------------------------------------------------------

    def _refetch(self) -> None:
        if self._refetch_due:
            self.single.refetch_quarantined()
        if self._is_refresh_due():
            self.single.refresh_stale()
        if self._verification_due:
            self.verifier(leaves=REFRESH_LEAVES).carry_out_scheduled()

    def verifier(self, *, leaves: float = 0.0) -> Verifier:
        """Return what carries out verifications; its requests are not counted as this run's."""
        budget = AccountBudget(self.store, self.source.application, self.source.account, self.plans)
        return Verifier(
            self.store, self.connector, self.source, budget, self.single.fetch, leaves, self.stopping
        )


def failure_of(error: ConnectorError) -> Failure:
    """Return an error as it is stored."""
    return Failure(str(error), error.kind, error.status, error.code)


def _save(tx: Transaction, known: _Known, changed: MarketplaceProgress) -> None:
    ledger.save_marketplace(tx, changed)
    known[changed.marketplace_id] = changed


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
