"""Amazon's two lists of the orders in a range: the report of all orders, and the search by created-time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta

from connectors.base import WALK_LIMIT, Budget, OrderConnector, ReportQuery, SearchQuery
from connectors.errors import Deferred, PageExpired, ReportUnreadable
from poller.ingest import reports
from poller.ingest.reports import ReportForgotten
from poller.verification import comparison
from store import verifications
from store.engine import Store
from store.verification_records import Listed, Verification

REPORT_CHECKED_EVERY = timedelta(minutes=1)
"""How soon a report that is being made is checked again; that costs next to nothing."""

_ALMOST = timedelta(milliseconds=1)
"""Amazon's bounds are inclusive, and no finer."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """The range must be listed again from its beginning; in ``halves`` if it is too much for one walk."""

    why: str
    halves: bool = False


@dataclass(frozen=True, slots=True)
class RangeList:
    """The whole list of a range. ``why``: what is wrong with the first of the ``unreadable`` rows."""

    orders: list[Listed]
    non_amazon: int = 0
    unreadable: int = 0
    why: str | None = None


Progress = Verification | RangeList | Unusable
"""What a step leads to: stored progress, the whole list of the range, or nothing usable."""


@dataclass(frozen=True, slots=True)
class Lists:
    """Reads the list of a verification's next range, one request a step. Raises the connector's errors.

    ``marketplaces`` are those that searches list, and a report is requested for one of them: those that are
    enrolled and do not fail, if there are any.
    """

    store: Store
    connector: OrderConnector
    budget: Budget
    marketplaces: Collection[str]

    def read_report(self, job: Verification) -> Progress:
        """Request the report, or read it if it is made. Raises Deferred while it is being made."""
        lower, upper = comparison.next_range(job)
        if job.report_id is None:
            query = ReportQuery(lower, upper - _ALMOST, (self._named(job),))
            report_id = self.connector.request_report(query, self.budget)
            with self.store.begin() as tx:
                requested = replace(job, report_id=report_id, report_asked_at=tx.now)
                return verifications.save(tx, requested)
        try:
            share = reports.read(self.connector, job.report_id, job.marketplace_id, self.budget)
        except (ReportForgotten, ReportUnreadable) as error:
            return Unusable(str(error))
        if share is None:
            now = self.store.now()
            if reports.is_overdue(job.report_asked_at, now):
                return Unusable("Amazon did not finish the report")
            raise Deferred("Amazon is still making the report", now + REPORT_CHECKED_EVERY)
        if share.first_unreadable is not None and job.attempts == 0:
            return Unusable(share.first_unreadable)  # another report may be whole
        is_empty = not share.orders if job.marketplace_id in self.marketplaces else not share.listed
        if is_empty and self._finds_any(job):
            return Unusable("the report is empty, though the search lists orders")
        return RangeList(
            [Listed(o.order_id, o.created_at, o.last_updated_at) for o in share.orders],
            share.non_amazon,
            share.unreadable,
            share.first_unreadable,
        )

    def _named(self, job: Verification) -> str:
        """Return the marketplace that a report is requested for: its own, or one that is polled well."""
        return job.marketplace_id if job.marketplace_id in self.marketplaces else min(self.marketplaces)

    def _finds_any(self, job: Verification) -> bool:
        query = replace(_query(job), marketplace_ids=(self._named(job),))
        page = self.connector.search(query, None, self.budget)
        return bool(page.orders or page.unreadable)

    def read_page(self, job: Verification) -> Progress:
        """Read the next page of the search. The orders of all pages but the last are stored in rows."""
        started = job.walk_started_at or self.connector.amazon_now()
        if job.page_token is not None and self.connector.amazon_now() - started >= WALK_LIMIT:
            return Unusable("the walk took longer than its page token lives", halves=True)
        try:
            page = self.connector.search(_query(job), job.page_token, self.budget)
        except PageExpired as error:
            return Unusable(str(error), halves=True)
        listed = {o.order_id: Listed(o.order_id, o.created_at, o.last_updated_at) for o in page.orders}
        listed |= {
            o.order_id: Listed(o.order_id, None, None) for o in page.unreadable if o.order_id is not None
        }
        if page.next_token is None:
            with self.store.read() as tx:
                before = () if job.page_token is None else verifications.walked(tx, job.verification_id)
            return RangeList([*({order.order_id: order for order in before} | listed).values()])
        with self.store.begin() as tx:
            is_any_new = verifications.is_any_new(tx, job.verification_id, listed.keys())
            if page.next_token == job.page_token or not (is_any_new or page.unreadable):
                return Unusable("Amazon gave a page without a new order", halves=True)
            verifications.add_walked(tx, job.verification_id, listed)
            return verifications.save(tx, replace(job, page_token=page.next_token, walk_started_at=started))


def _query(job: Verification) -> SearchQuery:
    lower, upper = comparison.next_range(job)
    return SearchQuery("created", lower, upper - _ALMOST, (job.marketplace_id,), ())
