"""One run of a source: decide, fetch a page, store it, decide again; until nothing is left or allowed.

Live looks, sweeps, backfills, the command line and the service all go through ``SourceSync.run``. A page is
fetched outside any transaction and stored inside one short one, together with its effects on the ledger; a
crash at any point repeats at most that page. The run never sleeps for a token: an empty budget ends it as
*deferred*, and it says when it resumes. ``decide`` and ``results`` decide, ``record`` writes; what the run
knows is one value, ``RunState``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from connectors.base import Operation, OrderConnector, SearchQuery, UsagePlan
from connectors.errors import (
    BoundRefused,
    ConnectorError,
    CredentialsRefused,
    Deferred,
    PageExpired,
    RequestRefused,
    SecretExpired,
)
from connectors.orders import OrderPage
from poller.backfill.context import Context
from poller.backfill.run import HistoryWork
from poller.ingest.apply import apply_page
from poller.ingest.budget import AccountBudget, Allowance
from poller.ingest.by_id import REFRESH_LEAVES, SingleOrders, refresh_is_due
from poller.ingest.sources import Source
from poller.matching import buyer_visibility
from poller.sync import decide, prepare, record, results, seller, windows
from poller.sync.decide import Fetch, Pace, Plan, View, Wait
from poller.sync.effects import Effect, SaveSource, SaveWindow
from poller.sync.results import PageRead
from poller.sync.view import Rows, view_of, with_second_edge
from poller.verification import schedule
from poller.verification.run import Verifier
from store import ledger, orders, quarantine, runs
from store.engine import Store, Transaction, Unavailable
from store.ledger import Superseded
from store.progress import Failure, Way, Window
from store.runs import RunOutcome

log = structlog.get_logger("order_sync")

_OUTCOMES: Mapping[decide.Uncovered, RunOutcome] = {
    "nothing": "complete",
    "failed": "failed",
    "elsewhere": "superseded",
}
_TAKEN_OVER = "another worker has taken over"
_HISTORY_WAITS = "history waits for Amazon's report, or for the budget of getOrder"


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended. ``until``: when it is worth running again.

    ``message``: why it is not complete, or which wanted marketplace is not polled; ``failure``: the same
    with its facts if it failed. ``refused``: what Login with Amazon refuses, ``account`` or
    ``application``, if that ended it.
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


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a run ends; ``why``: why it is not complete."""

    outcome: RunOutcome
    until: datetime
    why: Failure | str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class _Step:
    """A committed decision: a claimed window to fetch, or a wait. ``view`` is what it was decided by.

    ``prepaid_at``: when the page's token was taken with the claim, in monotonic seconds; None if it was not.
    ``has_quarantined`` and ``has_verification``: of a wait, what may be done with other buckets meanwhile.
    """

    view: View
    step: Fetch | Wait
    prepaid_at: float | None = None
    has_quarantined: bool = False
    has_verification: bool = False

    @property
    def has_refresh(self) -> bool:
        return refresh_is_due(self.view.source, self.view.now)

    @property
    def is_all(self) -> bool:
        """Return True if searching was all that there was to do."""
        others = self.has_quarantined or self.has_verification or self.has_refresh or self.view.backfills
        return isinstance(self.step, Wait) and not others


@dataclass(frozen=True, slots=True)
class RunState:
    """What a run knows. ``number``: its row; ``next``: the decision that was committed last; ``is_sellers``:
    its credentials are known to be those of the account's seller.

    ``failure``: what went wrong in it that concerns the whole source. ``is_written``: its end was stored
    together with its last page.
    """

    number: int = 0
    next: _Step | None = None
    is_sellers: bool = True
    failure: Failure | None = None
    pages: int = 0
    orders: int = 0
    is_written: bool = False


@dataclass
class SourceSync:
    """Everything one run of one source needs. Make a new one for every run."""

    store: Store
    connector: OrderConnector
    source: Source
    plans: Mapping[Operation, UsagePlan]
    pace: Pace
    owner: str
    stopping: Callable[[], bool] = lambda: False
    history_by: Way = "auto"
    """How the history that a start date requests is fetched."""
    state: RunState = field(default_factory=RunState, init=False)

    def __post_init__(self) -> None:
        self.budget = AccountBudget(self.store, self.source.application, self.source.account, self.plans)
        self.single = SingleOrders(self.store, self.connector, self.source, self.budget, self.stopping)

    def run(self) -> RunReport:
        """Carry out all that is due for the source, as far as the budget goes."""
        try:
            ending = self.store.commit(self._begin)
        except Superseded:
            return self._report(_Ending("superseded", self._soon(), _TAKEN_OVER), 0)
        if ending is not None:
            return self._report(ending, 0)
        history = HistoryWork(
            Context(
                self.store,
                self.connector,
                self.source,
                self.budget,
                self.owner,
                self.state.number,
                self.stopping,
            )
        )
        try:
            ending = self._work(history)
        except CredentialsRefused as error:
            ending = self._note_refusal(error)
        except Superseded:
            ending = _Ending("superseded", self._soon(), _TAKEN_OVER)
        except Exception as error:
            # Its text may hold what was being stored, so only its name is kept.
            self._finish(_Ending("failed", self._soon(), f"unexpected: {type(error).__name__}"))
            raise
        if not self.state.is_written:
            self._finish(ending)
        return self._report(ending, history.fetched)

    def _report(self, ending: _Ending, fetched_by_id: int) -> RunReport:
        return RunReport(
            self.source.key,
            ending.outcome,
            ending.until,
            None if ending.why is None else str(ending.why),
            self.state.pages,
            self.state.orders + fetched_by_id,
            self.budget.taken,
            ending.refused,
            ending.why if isinstance(ending.why, Failure) else None,
        )

    def _finish(self, ending: _Ending) -> None:
        with self.store.begin(durable=False) as tx:
            self._write_end(tx, ending)

    def _write_end(self, tx: Transaction, ending: _Ending) -> None:
        why = None if ending.why is None else str(ending.why)
        runs.finish(tx, self.state.number, ending.outcome, self.budget.taken, why, self.budget.retries)

    def _soon(self) -> datetime:
        return self.store.now() + timedelta(seconds=1)

    # --- before the first page ----------------------------------------------------------------------

    def _begin(self, tx: Transaction) -> _Ending | None:
        """Begin a run; end it at once if Login with Amazon has refused these very credentials.

        If Amazon's time is known, the first decision is committed with it.
        """
        source = self.source
        refused = runs.admit(tx, source.account, source.credential, source.secret)
        if refused is not None:
            return _Ending("failed", tx.now + timedelta(minutes=15), refused.reason, refused.kind)
        if (why := seller.changed_business(tx, source)) is not None:
            return _Ending("failed", tx.now + timedelta(minutes=15), why)
        number, is_known = runs.start(tx, source.key), seller.is_known(tx, source)
        first = self._first_step(tx) if is_known and self.connector.knows_time() else None
        self.state = RunState(number, first, is_sellers=is_known)
        return None

    def _first_step(self, tx: Transaction) -> _Step | None:
        """Enter the source into the ledger and decide; None if something else comes before the first page."""
        amazon_now = self.connector.amazon_now()
        rows = prepare.enter(tx, self.source, decide.signpost(amazon_now), self.history_by)
        if rows.backfills or prepare.is_due(tx, self.source, rows):
            return None
        return self._decide(tx, self._view(tx, amazon_now, rows))

    def _note_refusal(self, error: CredentialsRefused) -> _Ending:
        """Stop the account until its credential changes; for a wrong secret, all of the application."""
        source = self.source
        kind, name, fingerprint = error.refuses, source.account, source.credential
        if kind == "application":
            name = fingerprint = source.secret

        def note(tx: Transaction) -> datetime:
            if kind in ("seller", "renamed") and seller.is_known(tx, source):
                return tx.now  # a person has decided meanwhile
            runs.refuse(tx, kind, name, fingerprint, str(error))
            return tx.now + timedelta(minutes=15)

        return _Ending("failed", self.store.commit(note), str(error), kind)

    # --- page after page ----------------------------------------------------------------------------

    def _work(self, history: HistoryWork) -> _Ending:
        if self.state.next is None:
            early = self._prepare(history)
            if early is not None:
                return early
        while not self.stopping():
            decided = self.state.next or self._next()
            if isinstance(decided.step, Wait):
                return self._end(decided, decided.step, history)
            self.state = replace(self.state, next=None)
            try:
                self._fetch(decided, decided.step)
            except Deferred as error:
                self._release(decided.step.window)
                return _Ending("deferred", error.until, str(error))
            except CredentialsRefused:
                self._release(decided.step.window)
                raise
        if self.state.next is not None and isinstance(self.state.next.step, Fetch):
            self._release(self.state.next.step.window)
        return _Ending("deferred", self._soon(), "the process is stopping")

    def _prepare(self, history: HistoryWork) -> _Ending | None:
        """Do what comes before the first page; returns how the run ends if Amazon does not answer."""
        try:
            if not self.state.is_sellers:
                seller.confirm(self.store, self.connector, self.source, Allowance(self.budget))
            signpost = decide.signpost(self.connector.amazon_now())
        except Deferred as error:
            return _Ending("deferred", error.until, str(error))
        except CredentialsRefused:
            raise
        except ConnectorError as error:
            failure = failure_of(error)
            self.store.commit(lambda tx: prepare.enter_source(tx, self.source))
            return _Ending("failed", self._fail(failure, None), failure)
        rows = self.store.commit(lambda tx: prepare.enter(tx, self.source, signpost, self.history_by))
        prepare.catch_up(self.store, self.source, self.connector.read_payload)
        prepare.daily(self.store, self.connector, self.source, rows, Allowance(self.budget))
        if rows.backfills:
            history.begin()
        return None

    def _next(self) -> _Step:
        amazon_now = self.connector.amazon_now()
        with self.store.begin(durable=False) as tx:
            return self._decide(tx, self._view(tx, amazon_now))

    def _view(self, tx: Transaction, amazon_now: datetime, rows: Rows | None = None) -> View:
        view = view_of(
            tx,
            self.source,
            rows or prepare.read(tx, self.source),
            amazon_now=amazon_now,
            bucket=lambda operation: self.budget.bucket(tx, operation),
            pace=self.pace,
            owner=self.owner,
        )
        return with_second_edge(tx, view)

    def _decide(self, tx: Transaction, view: View) -> _Step:
        """Decide and write what is planned, in a transaction, until a page is claimed or nothing is due."""
        while True:
            step = decide.decide(view)
            if isinstance(step, Plan):
                view = self._written(tx, view, step.effects)
                continue
            if isinstance(step, Wait):
                return _Step(
                    view,
                    step,
                    has_quarantined=quarantine.is_any_due(tx, self.source.account),
                    has_verification=schedule.is_due(tx, self.source, view.marketplaces),
                )
            if step.turns != view.source.turns:
                ledger.save_source(tx, replace(view.source, turns=step.turns))
            claimed = ledger.claim(tx, step.window, self.owner)
            # Not before an access token is fetched: an outage there must not eat the budget.
            has_access = self.connector.has_access()
            prepaid_at = self.budget.take_ahead(tx, step.reserve) if has_access else None
            return _Step(view, replace(step, window=claimed), prepaid_at)

    def _written(self, tx: Transaction, view: View, effects: tuple[Effect, ...]) -> View:
        """Write effects; returns what is known then."""
        changed = record.apply(tx, view, effects)
        if record.touches_backfills(effects):
            return self._view(tx, view.amazon_now)
        return with_second_edge(tx, changed)

    def _release(self, window: Window) -> None:
        with self.store.begin() as tx:
            try:
                ledger.save_window(tx, ledger.release(window))
            except Superseded:
                return

    # --- one page -----------------------------------------------------------------------------------

    def _fetch(self, decided: _Step, step: Fetch) -> None:
        """Fetch the next page of a claimed window and store it, or note what went wrong."""
        window = step.window
        allowance = Allowance(self.budget, {"searchOrders": step.reserve}, window, decided.prepaid_at)
        query = SearchQuery(
            axis=window.axis,
            after=window.lower,
            before=window.upper,
            marketplace_ids=window.marketplace_ids,
            included_data=window.included_data,
            fulfilled_by=window.fulfilled_by,
            statuses=window.statuses,
        )
        asked_at = self.connector.amazon_now()
        try:
            page = self.connector.search(query, window.page_token, allowance)
        except (Deferred, CredentialsRefused, Superseded, *Unavailable):
            raise
        except PageExpired as error:
            self._fail(failure_of(error), window, results.after_expired_token)
        except BoundRefused as error:
            self.connector.forget_amazon_time()
            self._fail(failure_of(error), window, results.after_refused_bound)
        except RequestRefused as error:
            self._fail(failure_of(error), window, results.after_refusal)
        except SecretExpired as error:
            self._release(window)  # it has no part in that
            self._fail(failure_of(error), None)
        except ConnectorError as error:
            self._fail(failure_of(error), window)
        except Exception as error:
            # A fault below us: without this it would be met again at every tick, without a pause.
            log.exception("a request broke", source=self.source.key, error=type(error).__name__)
            self._fail(Failure(f"unexpected: {type(error).__name__}", "unexpected"), window)
        else:
            self._store(window, page, asked_at)

    def _store(self, window: Window, page: OrderPage, asked_at: datetime) -> None:
        """Store a page with its effects, and decide in the same transaction what comes next.

        If a page cannot be stored as a whole, it is stored in parts, down to the order that fails.
        """
        amazon_now = self.connector.amazon_now()

        def store(tx: Transaction, *, in_parts: bool = False) -> RunState:
            view = self._view(tx, amazon_now)
            is_walk = page.next_token is not None or window.pages > 0 or windows.is_instant(window)
            applied = apply_page(
                tx, self.source.rules, page, walk=window.window_id if is_walk else None, in_parts=in_parts
            )
            shown = len(page.orders) + len(page.unreadable)
            distinct = len({order.order_id for order in page.orders})
            read = PageRead(
                next_token=page.next_token,
                orders=shown,
                new=distinct - applied.seen_by_walk,
                echoed_before=page.echoed_before,
                asked_at=asked_at,
                # The estimate may be a second early; a walk must not seem to end before it did.
                amazon_now=amazon_now + timedelta(seconds=2),
                times=tuple(order.last_updated_at for order in page.orders),
                departed=orders.count_of_walk(tx, window.account, window.repeats, window.lower)
                if window.repeats is not None and page.next_token is None
                else 0,
            )
            view = self._written(tx, view, results.after_page(view, window, read))
            buyers = buyer_visibility.seen(page.orders if window.kind == "live" else ())
            runs.add_page(tx, self.source.key, self.state.number, len(page.orders), buyers)
            state = replace(
                self.state, pages=self.state.pages + 1, orders=self.state.orders + len(page.orders)
            )
            if self.stopping():
                return state
            decided = self._decide(tx, view)
            if decided.is_all and isinstance(decided.step, Wait):
                self._write_end(tx, self._ending(decided, decided.step))
                return replace(state, next=decided, is_written=True)
            return replace(state, next=decided)

        try:
            self.state = self.store.commit(store)
        except (Superseded, *Unavailable):
            raise
        except Exception:
            try:
                self.state = self.store.commit(lambda tx: store(tx, in_parts=True))
            except (Superseded, *Unavailable):
                raise
            except Exception as error:
                log.exception("a page broke", source=self.source.key, error=type(error).__name__)
                not_stored = f"a page could not be stored: {type(error).__name__}"
                self._fail(Failure(not_stored, "page_not_stored"), window)

    # --- what went wrong ----------------------------------------------------------------------------

    def _fail(
        self,
        why: Failure,
        window: Window | None,
        follow: Callable[[View, Window, Failure], tuple[Effect, ...]] | None = None,
    ) -> datetime:
        """Write what follows from a failed request. Returns when the source is tried again."""
        amazon_now = self.connector.amazon_now() if self.connector.knows_time() else self.store.now()

        def write(tx: Transaction) -> tuple[View, bool]:
            view = self._view(tx, amazon_now)
            if follow is None or window is None:
                effects = results.after_failure(view, window, why)
            else:
                effects = follow(view, window, why)
            is_divided = any(isinstance(e, SaveWindow) and e.window.state == "cancelled" for e in effects)
            is_failing = any(isinstance(e, SaveSource) for e in effects)
            return record.apply(tx, view, effects), is_failing or not is_divided

        view, is_failure = self.store.commit(write)
        if is_failure:
            self.state = replace(self.state, failure=why)
        return view.source.retry_at or view.now

    def _failing(self, view: View) -> Failure | None:
        """Return what went wrong that concerns the whole source, in this run or before."""
        if self.state.failure is not None:
            return self.state.failure
        if view.source.retry_at is None or view.source.retry_at <= view.now:
            return None
        return view.source.last_error

    # --- after the last page ------------------------------------------------------------------------

    def _end(self, decided: _Step, wait: Wait, history: HistoryWork) -> _Ending:
        """Spend what other buckets give on history, quarantine, late orders and verification; then end."""
        failing = self._failing(decided.view)
        at_work = decided.view.backfills and failing is None
        history_at = history.work() if at_work else None
        if self.state.failure is None and (wait.short or failing is None):
            if decided.has_quarantined:
                self.single.refetch_quarantined()
            if decided.has_refresh:
                self.single.refresh_stale()
            if decided.has_verification:
                self.verifier(leaves=REFRESH_LEAVES).carry_out_scheduled()
        return self._ending(decided, wait, history_at)

    def _ending(self, decided: _Step, wait: Wait, history_at: datetime | None = None) -> _Ending:
        """Say how the run ends. ``history_at``: when there is more history to fetch by reports and ids."""
        failing = self._failing(decided.view)
        if self.state.failure is not None:
            return _Ending("failed", wait.until, failing)
        until = min(wait.until, history_at or wait.until)
        if wait.short:
            return _Ending("deferred", until, wait.why if until == wait.until else _HISTORY_WAITS)
        if failing is not None:
            return _Ending("failed", wait.until, failing)
        if wait.uncovered != "nothing":
            return _Ending(_OUTCOMES[wait.uncovered], until, wait.failure or wait.why)
        if history_at is not None:
            return _Ending("deferred", until, f"up to date; {_HISTORY_WAITS}")
        return _Ending("complete", until, prepare.not_polled(self.source, decided.view.marketplaces))

    def verifier(self, *, leaves: float = 0.0) -> Verifier:
        """Return what carries out verifications; its requests are not counted as this run's."""
        budget = AccountBudget(self.store, self.source.application, self.source.account, self.plans)
        return Verifier(
            self.store, self.connector, self.source, budget, self.single.fetch, leaves, self.stopping
        )


def failure_of(error: ConnectorError) -> Failure:
    """Return an error as it is stored."""
    return Failure(str(error), error.kind, error.status, error.code)
