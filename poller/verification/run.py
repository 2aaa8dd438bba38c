"""Proving that nothing is missing, step by step: each is stored before the next, and none is done twice.

A proof goes through its stretch in parts of thirty days. For each it has a report made (or reads the
search's pages), compares it with the database, and fetches what is missing by its id, if that is
wanted. It lives from what polling leaves over: reports and single orders have budgets of their own, and of
the searches one is always left. What it has to wait for ends it as *deferred*; called again, it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta

from connectors.base import WALK_LIMIT, Operation, OrderConnector, ReportQuery, SearchQuery, UsagePlan
from connectors.errors import (
    ConnectorError,
    CredentialsRefused,
    Deferred,
    OrderNotFound,
    PageExpired,
    ReportUnreadable,
)
from connectors.orders import UnreadableOrder
from poller.ingest import reports
from poller.ingest.budget import AccountBudget, Allowance
from poller.ingest.reports import ReportForgotten
from poller.ingest.sources import PolledMarketplace, Source
from poller.verification import comparison
from store import ledger, verifications
from store.engine import Store, Transaction
from store.ledger import Superseded
from store.progress import MarketplaceProgress, complete_until
from store.verification import By, Finding, Listed, Outcome, Reason, Verification

LOOK_EVERY = timedelta(minutes=1)
"""A report takes some minutes; asking after it costs next to nothing."""

ATTEMPTS = 4
"""How often a stretch may go wrong (a report that is fatal, empty or garbled) before it is given up."""

RETRY_SCHEDULED = timedelta(hours=1)
AT_ONCE = 20
"""Orders fetched by id between two times that progress is stored."""

_ALMOST = timedelta(milliseconds=1)
"""Amazon's bounds are inclusive, and no finer."""

Fetch = Callable[[str, tuple[str, ...]], UnreadableOrder | None]


@dataclass
class Verifier:
    """Carries out proofs for the marketplaces of one source.

    ``fetch`` asks Amazon for one order and stores it. ``leaves``: how many tokens of getOrder's bucket are
    left to others.
    """

    store: Store
    connector: OrderConnector
    source: Source
    plans: Mapping[Operation, UsagePlan]
    fetch: Fetch
    leaves: float = 0.0
    stopping: Callable[[], bool] = lambda: False
    _budget: AccountBudget = field(init=False)
    _allowance: Allowance = field(init=False)

    def __post_init__(self) -> None:
        source = self.source
        self._budget = AccountBudget(self.store, source.application, source.account, self.plans)
        self._allowance = Allowance(self._budget, {"searchOrders": 1.0})

    # --- beginning ----------------------------------------------------------------------------------

    def asked(
        self, marketplace_id: str, lower: datetime, upper: datetime, by: By, *, repair: bool
    ) -> Verification | None:
        """The proof of this stretch that can be gone on with, or a new one.

        None when nothing of it has been read yet. Whether it repairs is for who asks now to say.
        """
        return self.store.commit(lambda tx: self.entered(tx, marketplace_id, lower, upper, by, repair=repair))

    def entered(
        self,
        tx: Transaction,
        marketplace_id: str,
        lower: datetime,
        upper: datetime,
        by: By,
        *,
        repair: bool,
        reason: Reason = "asked",
    ) -> Verification | None:
        """The same in a transaction. A proof that was *requested* is carried out by the running service."""
        ledger.lock_account(tx, self.source.account)  # of two who ask for the same, one begins it
        found = verifications.unfinished(tx, self.source.account, marketplace_id, by, lower, upper, reason)
        if found is not None:
            return self._gone_on_with(tx, found, repair)
        read_until = self._read_until(tx, marketplace_id)
        if read_until is None or read_until <= lower:
            return None
        fresh = Verification(
            self.source.account,
            marketplace_id,
            lower,
            min(upper, read_until),
            upper,
            by,
            reason,
            repair,
            position=lower,
        )
        return verifications.begin(tx, fresh)

    def _gone_on_with(self, tx: Transaction, found: Verification, repair: bool) -> Verification:
        changed = replace(found, repair=repair)
        if found.state == "failed":
            changed = replace(changed, attempts=0, message=None)
        changed = replace(changed, state=comparison.state_after(changed))
        return found if changed == found else verifications.save(tx, changed)

    def _read_until(self, tx: Transaction, marketplace_id: str) -> datetime | None:
        """Up to where every update is known; what lies beyond a gap does not count."""
        account = self.source.account
        progress = ledger.load_marketplaces(tx, account).get(marketplace_id)
        covered = ledger.read_coverage(tx, account, marketplace_id, "first")
        if progress is None or not covered:
            return None
        return complete_until(covered, progress.live_from) or progress.live_from

    def latest(self, job: Verification) -> Verification:
        """The proof as it is stored by now, to be gone on with as it was meant here.

        Raises Superseded when it is not there any more.
        """
        with self.store.begin() as tx:
            found = verifications.load(tx, job.verification_id)
            return found if found.is_over else self._gone_on_with(tx, found, job.repair)

    # --- by the service itself, on its schedule or by request ----------------------------------------

    def scheduled(self) -> None:
        """Go on with what was scheduled or requested, or begin the next; neither waits nor raises.

        One that is in trouble is put off, and does not hold up the next.
        """
        tried: set[int] = set()
        while not self.stopping():
            job = self._scheduled_job()
            if job is None or job.verification_id in tried:
                return
            tried.add(job.verification_id)
            try:
                self.carry_on(job)
            except Superseded:
                return
            except Deferred as error:
                self._put_off(job, error.until, None)
                return
            except CredentialsRefused:
                return
            except ConnectorError as error:
                self._put_off(job, self.store.now() + RETRY_SCHEDULED, str(error))

    def is_due(self, tx: Transaction, known: Mapping[str, MarketplaceProgress]) -> bool:
        """Whether ``scheduled`` has something to do; ``known``: the marketplaces as they stand."""
        job, due = self._next_job(tx, known)
        return job is not None or bool(due)

    def _scheduled_job(self) -> Verification | None:
        def find(tx: Transaction) -> Verification | None:
            ledger.lock_account(tx, self.source.account)  # of two who find one due, one begins it
            job, due = self._next_job(tx, ledger.load_marketplaces(tx, self.source.account))
            if due:
                verifications.forget_old(tx, self.source.account)
                return [verifications.begin(tx, fresh) for fresh in due][-1]
            return job

        return self.store.commit(find)

    def _next_job(
        self, tx: Transaction, known: Mapping[str, MarketplaceProgress]
    ) -> tuple[Verification | None, list[Verification]]:
        """The one that was begun and can go on; else those that are due, which are not stored yet."""
        mine = [
            v
            for v in verifications.of_account(tx, self.source.account)
            if v.reason != "asked" and v.marketplace_id in self.source.marketplaces
        ]
        going_on = [v for v in mine if not v.is_over]
        for job in going_on:
            if job.next_at is None or job.next_at <= tx.now:
                return job, []
            if job.message is None:
                return None, []  # the others wait until it is through, but not for one that is in trouble
        by_schedule = [v for v in mine if v.reason == "scheduled"]
        for marketplace_id in sorted(self.source.marketplaces.keys() - {v.marketplace_id for v in going_on}):
            last = next((v.created_at for v in by_schedule if v.marketplace_id == marketplace_id), None)
            due = self._due(tx, self.source.marketplaces[marketplace_id], known.get(marketplace_id), last)
            if due:
                return None, due
        return None, []

    def _due(
        self,
        tx: Transaction,
        polled: PolledMarketplace,
        progress: MarketplaceProgress | None,
        last: datetime | None,
    ) -> list[Verification]:
        """Proofs of the last thirty days of which every update has been looked for twice, the newest last.

        One, unless a gap of history divides them.
        """
        account, marketplace_id = self.source.account, polled.marketplace_id
        if last is not None and not comparison.is_due(tx.now, last, last):
            return []
        if progress is None or progress.enrolled is False or progress.alone_since is not None:
            return []
        if not comparison.is_due(tx.now, progress.live_from, last):
            return []
        return [
            Verification(
                account,
                marketplace_id,
                part.lower,
                part.upper,
                progress.second_position,
                "report",
                "scheduled",
                True,
                position=part.lower,
            )
            for part in comparison.to_prove(
                progress.second_position,
                _start_of(polled),
                progress.live_from,
                ledger.read_coverage(tx, account, marketplace_id, "created"),
            )
        ]

    def _put_off(self, job: Verification, until: datetime, why: str | None) -> None:
        with suppress(Superseded), self.store.begin() as tx:
            latest = verifications.load(tx, job.verification_id)
            verifications.save(tx, replace(latest, next_at=until, message=why))

    # --- going on -----------------------------------------------------------------------------------

    def carry_on(self, job: Verification) -> Verification:
        """Go on until the proof is over.

        Raises Deferred, other errors of the connector, and Superseded; everything up to then is stored.
        """
        while not job.is_over:
            if self.stopping():
                raise Deferred("stopping", self.store.now())
            if job.state == "repairing":
                job = self._repair(job)
            elif job.by == "report":
                job = self._read_report(job)
            else:
                job = self._read_page(job)
        return job

    def _save(self, job: Verification) -> Verification:
        with self.store.begin() as tx:
            return verifications.save(tx, job)

    def _afresh(self, job: Verification, why: str) -> Verification:
        """The stretch once more, from its beginning; after some attempts the proof is given up."""
        attempts = job.attempts + 1
        afresh = replace(
            job,
            attempts=attempts,
            report_id=None,
            report_asked_at=None,
            page_token=None,
            walk_started_at=None,
            message=why,
            state="failed" if attempts >= ATTEMPTS else job.state,
        )
        with self.store.begin() as tx:
            verifications.clear_walked(tx, job.verification_id)
            return verifications.save(tx, afresh)

    # --- by report ----------------------------------------------------------------------------------

    def _read_report(self, job: Verification) -> Verification:
        lower, upper = comparison.stretch(job)
        if job.report_id is None:
            query = ReportQuery(lower, upper - _ALMOST, (job.marketplace_id,))
            report_id = self.connector.request_report(query, self._allowance)
            return self._save(replace(job, report_id=report_id, report_asked_at=self.store.now()))
        try:
            listed = reports.read(self.connector, job.report_id, self._allowance)
        except (ReportForgotten, ReportUnreadable) as error:
            return self._afresh(job, str(error))
        if listed is None:
            return self._await(job)
        if not listed and self._lists_any(job):
            return self._afresh(job, "the report is empty, though the search lists orders")
        return self._compare(job, [Listed(o.order_id, o.created_at, o.last_updated_at) for o in listed])

    def _await(self, job: Verification) -> Verification:
        now = self.store.now()
        if reports.is_overdue(job.report_asked_at, now):
            return self._afresh(job, "Amazon did not finish the report")
        raise Deferred("Amazon is still making the report", now + LOOK_EVERY)

    def _lists_any(self, job: Verification) -> bool:
        """An empty report may be a true one: one search tells."""
        page = self.connector.search(self._query(job), None, self._allowance)
        return bool(page.orders or page.unreadable)

    # --- by search ----------------------------------------------------------------------------------

    def _query(self, job: Verification) -> SearchQuery:
        lower, upper = comparison.stretch(job)
        return SearchQuery("created", lower, upper - _ALMOST, (job.marketplace_id,), ())

    def _read_page(self, job: Verification) -> Verification:
        started = job.walk_started_at or self.connector.amazon_now()
        if job.page_token is not None and self.connector.amazon_now() - started >= WALK_LIMIT:
            return self._in_halves(job, "the walk took longer than its page token lives")
        try:
            page = self.connector.search(self._query(job), job.page_token, self._allowance)
        except PageExpired as error:
            return self._in_halves(job, str(error))
        listed = {o.order_id: Listed(o.order_id, o.created_at, o.last_updated_at) for o in page.orders}
        listed |= {
            o.order_id: Listed(o.order_id, None, None) for o in page.unreadable if o.order_id is not None
        }
        if page.next_token is None:
            return self._compare(job, list(listed.values()))
        with self.store.begin() as tx:
            is_any_new = verifications.is_any_new(tx, job.verification_id, listed.keys())
            if page.next_token != job.page_token and (is_any_new or page.unreadable):
                verifications.add_walked(tx, job.verification_id, listed)
                return verifications.save(
                    tx, replace(job, page_token=page.next_token, walk_started_at=started)
                )
        return self._in_halves(job, "Amazon gave a page without a new order")

    def _in_halves(self, job: Verification, why: str) -> Verification:
        return self._afresh(replace(job, span_seconds=comparison.halved(job)), why)

    # --- comparing ----------------------------------------------------------------------------------

    def _compare(self, job: Verification, listed: list[Listed]) -> Verification:
        """Compare the list with the database. A search's pages before its last one are stored already."""
        lower, upper = comparison.stretch(job)
        with self.store.begin() as tx:
            if job.page_token is not None:
                walked = {order.order_id: order for order in verifications.walked(tx, job.verification_id)}
                listed = [*(walked | {order.order_id: order for order in listed}).values()]
                verifications.clear_walked(tx, job.verification_id)
            ids = [one.order_id for one in listed]
            compared = comparison.compare(
                listed,
                verifications.held(tx, job.account, job.marketplace_id, lower, upper, ids),
                verifications.in_quarantine(tx, job.account),
                marketplace_id=job.marketplace_id,
                lower=lower,
                upper=upper,
                start=self._start(job.marketplace_id),
                settled=job.asked_upper
                if job.reason == "scheduled"
                else self._read_until(tx, job.marketplace_id) or lower,
            )
            after = replace(
                job,
                position=upper,
                report_id=None,
                report_asked_at=None,
                page_token=None,
                walk_started_at=None,
                attempts=0,
                message=None,
                listed=job.listed + compared.listed,
                before_start=job.before_start + compared.before_start,
                findings=comparison.in_order((*job.findings, *compared.findings)),
            )
            return verifications.save(tx, replace(after, state=comparison.state_after(after)))

    def _start(self, marketplace_id: str) -> datetime:
        return _start_of(self.source.marketplaces[marketplace_id])

    # --- repairing ----------------------------------------------------------------------------------

    def _repair(self, job: Verification) -> Verification:
        """Fetch some of what is missing by its id; what was fetched is noted also when it has to wait."""
        waiting = job.unfetched[:AT_ONCE]
        outcomes: dict[str, Outcome] = {}
        stopped: ConnectorError | None = None
        for finding in waiting:
            try:
                self._leave_to_others()
                outcomes[finding.order_id] = self._fetched(job, finding)
            except ConnectorError as error:
                stopped = error
                break
        findings = tuple(
            replace(f, outcome=outcomes[f.order_id]) if f.order_id in outcomes and f in waiting else f
            for f in job.findings
        )
        job = replace(job, findings=findings)
        if stopped is None:
            job = replace(job, state=comparison.state_after(job))
        job = self._save(job)
        if stopped is not None:
            raise stopped
        return job

    def _leave_to_others(self) -> None:
        if not self.leaves:
            return
        with self.store.read() as tx:
            ready = self._budget.bucket(tx, "getOrder").has_at(1.0 + self.leaves)
            if ready > tx.now:
                raise Deferred("single orders are left to others for now", ready)

    def _fetched(self, job: Verification, finding: Finding) -> Outcome:
        included = self.source.marketplaces[job.marketplace_id].included_data
        try:
            unreadable = self.fetch(finding.order_id, included)
        except OrderNotFound:
            return "not_found"
        if unreadable is None:
            return "stored"
        return "unreadable" if unreadable.order_id is None else "quarantined"


def _start_of(polled: PolledMarketplace) -> datetime:
    return datetime.combine(polled.start_date, time(), UTC)
