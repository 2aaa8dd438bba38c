"""Verification, step by step: each step is stored before the next, and none is done twice.

A verification goes through its range in parts of at most thirty days. For each it gets Amazon's list,
compares it with the database, and, if it repairs, fetches what is missing by its id. It lives on what
polling leaves: reports and single orders have budgets of their own, and one search is always left. What it
has to wait for ends it as *deferred*; called again, it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connectors.base import OrderConnector
from connectors.errors import AccessRefused, ConnectorError, CredentialsRefused, Deferred, OrderNotFound
from connectors.orders import UnreadableOrder
from poller.ingest.budget import AccountBudget, Allowance
from poller.ingest.sources import Source, ids_of
from poller.verification import comparison, jobs, schedule
from poller.verification.lists import Lists, RangeList, Unusable
from store import ledger, verifications
from store.engine import Store, Transaction
from store.ledger import Superseded
from store.verification_records import By, FetchOutcome, Finding, Verification

RANGE_ATTEMPTS = 4
"""How often a range may fail (a report that is fatal, empty or garbled) before the verification does."""

REPORT_ROLE = (
    "give the application the role Inventory and Order Tracking, or compare with Amazon's search, "
    "`--by search`"
)
RETRY_SCHEDULED = timedelta(hours=1)
REPAIRS_PER_SAVE = 20
"""Orders fetched by id between two times that progress is stored."""

Fetch = Callable[[str, tuple[str, ...]], UnreadableOrder | None]


@dataclass(frozen=True, slots=True)
class Verifier:
    """Carries out verifications for the marketplaces of one source.

    ``fetch`` fetches one order by its id and stores it. ``leaves`` is how many tokens stay in getOrder's
    bucket for others.
    """

    store: Store
    connector: OrderConnector
    source: Source
    budget: AccountBudget
    fetch: Fetch
    leaves: float = 0.0
    stopping: Callable[[], bool] = lambda: False

    def begin(
        self, marketplace_id: str, lower: datetime, upper: datetime, by: By, *, repair: bool
    ) -> Verification | None:
        """Begin or resume a verification (``jobs.enter``)."""
        return self.store.commit(
            lambda tx: jobs.enter(tx, self.source, marketplace_id, lower, upper, by, repair=repair)
        )

    def latest(self, job: Verification) -> Verification:
        """Return a verification as it is stored now (``jobs.latest``)."""
        with self.store.begin() as tx:
            return jobs.latest(tx, job)

    def carry_out_scheduled(self) -> None:
        """Carry out what is scheduled or requested, as far as it goes; neither waits nor raises.

        A verification that fails is put off, and does not hold up the next.
        """
        tried: set[int] = set()
        while not self.stopping():
            job = self.store.commit(lambda tx: schedule.next_job(tx, self.source))
            if job is None or job.verification_id in tried:
                return
            tried.add(job.verification_id)
            try:
                self.carry_out(job)
            except Superseded:
                return
            except Deferred as error:
                self._put_off(job, error.until, None)
                return
            except CredentialsRefused:
                return
            except ConnectorError as error:
                self._put_off(job, self.store.now() + RETRY_SCHEDULED, str(error))

    def _put_off(self, job: Verification, until: datetime, why: str | None) -> None:
        with suppress(Superseded), self.store.begin() as tx:
            stored = verifications.load(tx, job.verification_id)
            unread = stored.message if stored.unreadable else None
            verifications.save(tx, replace(stored, next_at=until, message=why or unread))

    def carry_out(self, job: Verification) -> Verification:
        """Go on until the verification is over.

        Raises Deferred, other errors of the connector, and Superseded; everything up to then is stored.
        """
        allowance = Allowance(self.budget, {"searchOrders": 1.0})
        lists = Lists(self.store, self.connector, allowance, self._searched(job))
        while not job.is_over:
            if self.stopping():
                raise Deferred("stopping", self.store.now())
            if job.state == "repairing":
                job = self._repair(job)
                continue
            try:
                progress = lists.read_report(job) if job.by == "report" else lists.read_page(job)
            except AccessRefused as error:
                job = self._go_on_by_search(job, error)
                continue
            if isinstance(progress, Unusable):
                job = self._begin_range_again(job, progress)
            elif isinstance(progress, RangeList):
                job = self._compare(job, progress)
            else:
                job = progress
        return job

    def _searched(self, job: Verification) -> Collection[str]:
        """Return the marketplaces that searches list; for other shops only those that are polled well."""
        every = self.source.marketplaces.keys()
        if job.marketplace_id in every:
            return every
        with self.store.read() as tx:
            known = ledger.load_marketplaces(tx, self.source.account)
        well = {
            m for m in every if m in known and known[m].enrolled is not False and known[m].alone_since is None
        }
        return well or every

    def _go_on_by_search(self, job: Verification, refused: AccessRefused) -> Verification:
        """Let the service's own verification search if the application may not request reports.

        Raises what Amazon refused if a person chose the report, or no search lists these orders. The role
        that reports need may lack where orders may be read (selling-partner-api-docs issues 375 and 1692).
        """
        if job.by == "search":
            raise refused
        if job.reason != "scheduled" or job.marketplace_id not in self.source.marketplaces:
            raise AccessRefused(f"{refused}: {REPORT_ROLE}", refused.status, refused.code) from None
        with self.store.begin() as tx:
            return verifications.save(tx, replace(_unread(job), by="search"))

    def _begin_range_again(self, job: Verification, unusable: Unusable) -> Verification:
        """Forget what was read of the range; after some attempts the verification fails."""
        attempts = job.attempts + 1
        again = replace(
            _unread(job),
            attempts=attempts,
            message=unusable.why,
            span_seconds=comparison.halved(job) if unusable.halves else job.span_seconds,
            state="failed" if attempts >= RANGE_ATTEMPTS else job.state,
        )
        with self.store.begin() as tx:
            verifications.clear_walked(tx, job.verification_id)
            return verifications.save(tx, again)

    # --- comparing ----------------------------------------------------------------------------------

    def _compare(self, job: Verification, listed: RangeList) -> Verification:
        """Compare a range's list with the database; go on to the next range."""
        lower, upper = comparison.next_range(job)
        with self.store.begin() as tx:
            ids = [order.order_id for order in listed.orders]
            if job.reason == "scheduled":
                settled = job.asked_upper
            else:
                settled = jobs.read_until(tx, self.source, job.marketplace_id) or lower
            compared = comparison.compare(
                listed.orders,
                verifications.held(tx, job.account, ids_of(job.marketplace_id), lower, upper, ids),
                verifications.in_quarantine(tx, job.account),
                marketplace_ids=ids_of(job.marketplace_id),
                lower=lower,
                upper=upper,
                start=schedule.expected_since(
                    self.source.verified()[job.marketplace_id], self.source.rules.retention, tx.now
                ),
                settled=settled,
            )
            after = replace(
                _unread(job),
                position=upper,
                attempts=0,
                message=listed.why or (job.message if job.unreadable else None),
                listed=job.listed + compared.listed,
                before_start=job.before_start + compared.before_start,
                non_amazon=job.non_amazon + listed.non_amazon,
                unreadable=job.unreadable + listed.unreadable,
                findings=comparison.in_order((*job.findings, *_asked_before(tx, job, compared.findings))),
            )
            verifications.clear_walked(tx, job.verification_id)
            return verifications.save(tx, replace(after, state=comparison.state_after(after)))

    # --- repairing ----------------------------------------------------------------------------------

    def _repair(self, job: Verification) -> Verification:
        """Fetch some of what is missing by its id; store what came of it, also if the rest has to wait."""
        outcomes: dict[str, FetchOutcome] = {}
        stopped_by: ConnectorError | None = None
        waiting = job.unfetched[:REPAIRS_PER_SAVE]
        for finding in waiting:
            try:
                self._leave_to_others()
                outcomes[finding.order_id] = self._fetch(job, finding)
            except ConnectorError as error:
                stopped_by = error
                break
        findings = tuple(
            replace(f, outcome=outcomes[f.order_id]) if f.order_id in outcomes and f in waiting else f
            for f in job.findings
        )
        job = replace(job, findings=findings)
        if stopped_by is None:
            job = replace(job, state=comparison.state_after(job))
        with self.store.begin() as tx:
            job = verifications.save(tx, job)
        if stopped_by is not None:
            raise stopped_by
        return job

    def _leave_to_others(self) -> None:
        """Raise Deferred if the next token of getOrder's bucket is for others."""
        if not self.leaves:
            return
        with self.store.read() as tx:
            ready = self.budget.bucket(tx, "getOrder").has_at(1.0 + self.leaves)
            if ready > tx.now:
                raise Deferred("single orders are left to others for now", ready)

    def _fetch(self, job: Verification, finding: Finding) -> FetchOutcome:
        included_data = self.source.verified()[job.marketplace_id].included_data
        try:
            unreadable = self.fetch(finding.order_id, included_data)
        except OrderNotFound:
            return "not_found"
        if unreadable is None:
            return "stored"
        return "unreadable" if unreadable.order_id is None else "quarantined"


def _asked_before(tx: Transaction, job: Verification, findings: Sequence[Finding]) -> Sequence[Finding]:
    """Return findings, those with their outcome that an earlier scheduled one did not find by its id.

    Amazon's report lists orders that getOrder does not return; each is requested once in each version.
    """
    if job.reason != "scheduled" or not findings:
        return findings
    missing = {
        (finding.order_id, finding.last_updated_at)
        for earlier in verifications.of_account(tx, job.account)
        if earlier.marketplace_id == job.marketplace_id and earlier.verification_id != job.verification_id
        for finding in earlier.findings
        if finding.outcome == "not_found"
    }
    return [
        replace(f, outcome="not_found") if (f.order_id, f.last_updated_at) in missing else f for f in findings
    ]


def _unread(job: Verification) -> Verification:
    """Return the verification without what was read of its next range."""
    return replace(job, report_id=None, report_asked_at=None, page_token=None, walk_started_at=None)
