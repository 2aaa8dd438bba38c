"""Customer pages: list, one customer, comparing and merging two, undoing a merge, duplicates."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, get_args

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from poller.customers import duplicates, merges
from poller.customers.duplicates import Suggestions
from poller.errors import Refused, Unknown
from poller.export import customer_object
from poller.web.console.forms import PREFIX, fields_of
from poller.web.console.rendering import page, redirect_to
from poller.web.customers import check_version, customers_page, duplicate_search, etag_of
from poller.web.dependencies import LARGEST_ID, CallerDep, Cursor, Id, ServiceDep
from poller.web.masking import Viewer, customers_for, journal_for, masked, orders_for, require_buyer_data
from poller.web.problems import Problem
from store import queries
from store.engine import Store, Transaction
from store.records import CustomerStatus

router = APIRouter()
log = structlog.get_logger("order_sync")

PAGE_SIZE = 50
MAX_PAIRS = 100


@router.get("/customers")
def list_customers(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    status: Annotated[str, Query(max_length=16)] = "",
    cursor: Cursor = None,
) -> Response:
    """List customers, newest first; tombstones, too."""
    records, more = customers_page(service, cursor, PAGE_SIZE, status or None)
    return page(
        request,
        "customers.html",
        customers=customers_for(caller, records),
        more=more,
        chosen={"status": status},
        statuses=get_args(CustomerStatus),
        first=cursor is None,
    )


@router.get("/customers/{customer_id}")
def show_customer(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    customer_id: Id,
    done: Annotated[str, Query(max_length=20)] = "",
    other: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
    moved: Annotated[int, Query(ge=0)] = 0,
    lost: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """Show one customer with its orders and journal. The merge of a tombstone can be undone here."""
    with service.store.read() as tx:
        customer = queries.get_customer(tx, customer_id)
        if customer is None:
            raise Unknown(f"there is no customer {customer_id}.")
        orders = queries.list_orders(tx, limit=PAGE_SIZE + 1, customer_id=customer_id)
        entries = queries.journal_of(tx, customer_id)
    (shown,) = customers_for(caller, [customer])
    return page(
        request,
        "customer.html",
        customer=shown,
        orders=orders_for(caller, orders[:PAGE_SIZE]),
        more=len(orders) > PAGE_SIZE,
        entries=journal_for(caller, entries),
        done=done,
        other=other,
        moved=moved,
        lost=lost,
    )


# --- merge and undo ---------------------------------------------------------------------------------


@router.get("/customers/{customer_id}/merge")
def preview_merge(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    customer_id: Id,
    other: Annotated[int, Query(ge=1, le=LARGEST_ID)],
) -> Response:
    """Compare two customers and preview their merge."""
    return _merge_page(request, service.store, service.shared_emails, caller, (customer_id, other), None)


@router.post("/customers/{customer_id}/merge/preview")
def preview_choice(request: Request, service: ServiceDep, caller: CallerDep, customer_id: Id) -> Response:
    """Preview a merge with a choice of main e-mails."""
    fields = fields_of(request)
    pair, keep = (customer_id, _id(fields.one("other"))), fields.all("keep")
    if keep:
        require_buyer_data(caller, "choosing e-mails")
    return _merge_page(request, service.store, service.shared_emails, caller, pair, keep)


def _merge_page(
    request: Request,
    store: Store,
    shared_emails: frozenset[str],
    caller: Viewer,
    pair: tuple[int, int],
    keep: list[str] | None,
) -> Response:
    with store.read() as tx:
        sides = [queries.get_customer(tx, customer_id) for customer_id in pair]
        for customer_id, side in zip(pair, sides, strict=True):
            if side is None:
                raise Unknown(f"there is no customer {customer_id}.")
        etag = etag_of(tx, *pair)
        try:
            planned = merges.preview(tx, *pair, shared_emails, keep)
            refused = None
        except Refused as error:
            named = error.named if caller.sees_buyers else ()
            planned, refused = None, f"{error} {', '.join(named)}".strip()
    shown = customers_for(caller, [side for side in sides if side is not None])
    after: dict[str, Any] | None = None
    stopping: Any = []
    if planned is not None:
        # Its buyer data comes from the two records, which were logged as disclosed above.
        after = customer_object(planned.kept)
        stopping = [main.email for main in planned.stopping]
        if not caller.sees_buyers:
            (after,), stopping = customers_for(caller, [planned.kept]), masked(stopping)
    emails = [main.email for side in sides if side is not None for main in side.emails if main.email]
    return page(
        request,
        "merge.html",
        sides=shown,
        after=after,
        moved=0 if planned is None else planned.moved,
        filled=() if planned is None else (*planned.filled, *(f"label {name}" for name in planned.labels)),
        stopping=stopping,
        choices=emails if caller.sees_buyers and len(emails) > 1 else [],
        keep=keep,
        etag=etag,
        refused=refused,
    )


def _id(text: str) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_ID))
    if not is_number or not 0 < int(text) <= LARGEST_ID:
        raise Problem(422, "invalid", "a customer number is a whole number above 0.")
    return int(text)


@router.post("/customers/{customer_id}/merge")
def merge_customers(request: Request, service: ServiceDep, caller: CallerDep, customer_id: Id) -> Response:
    """Merge exactly as previewed."""
    fields = fields_of(request)
    other = _id(fields.one("other"))
    keep = fields.all("keep") if fields.one("chosen") else None
    if keep:
        require_buyer_data(caller, "choosing e-mails")

    def work(tx: Transaction) -> int:
        check_version(tx, [fields.one("etag")], customer_id, other)
        done = merges.merge(tx, customer_id, other, caller.who, service.shared_emails, keep)
        return done.moved

    moved = service.store.commit(work)
    return redirect_to(f"/customers/{customer_id}?done=merged&other={other}&moved={moved}")


@router.post("/customers/{customer_id}/unmerge")
def unmerge_customer(request: Request, service: ServiceDep, caller: CallerDep, customer_id: Id) -> Response:
    """Undo the merge of this customer."""
    leave = [email for email in fields_of(request).all("leave") if email]
    if leave:
        require_buyer_data(caller, "choosing e-mails")
    done = service.store.commit(
        lambda tx: merges.unmerge(tx, customer_id, caller.who, service.shared_emails, leave)
    )
    return redirect_to(
        f"/customers/{customer_id}?done=unmerged&other={done.kept.customer_id}&moved={done.moved}"
        f"&lost={len(done.lost)}"
    )


@router.get("/merge")
def choose_merge(request: Request, kept: str = "", other: str = "") -> Response:
    """Redirect from the form with two numbers to the comparison."""
    return RedirectResponse(f"{PREFIX}/customers/{_id(kept)}/merge?other={_id(other)}", 303)


# --- duplicates -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Suggested pairs, and when the search for them began."""

    at: datetime
    suggestions: Suggestions


class DuplicateSearch:
    """Searches for duplicates in a thread, since it reads all customers; one search at a time."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.checked: int | None = None
        """Customers checked so far; None while no search runs."""
        self.total = 0
        self.result: SearchResult | None = None
        self.failed = False

    def start(self, store: Store) -> None:
        """Start a search, unless one is running."""
        if not duplicate_search.acquire(blocking=False):
            return
        self.checked, self.failed = 0, False
        threading.Thread(target=self._run, args=(store,), name="duplicates", daemon=True).start()

    def _run(self, store: Store) -> None:
        try:
            with store.read() as tx:
                self.total = queries.count_customers(tx)
                suggestions = duplicates.find(tx, limit=MAX_PAIRS, tell=self._report)
                self.result = SearchResult(tx.now, suggestions)
        except Exception as error:
            self.failed = True
            log.error("looking for duplicates broke", error=type(error).__name__)
        finally:
            self.checked = None
            duplicate_search.release()

    def _report(self, checked: int) -> None:
        if self._stop.is_set():
            raise Problem(503, "stopping", "the service is stopping.")
        self.checked = checked


def _search(request: Request) -> DuplicateSearch:
    search: DuplicateSearch = request.app.state.duplicates
    return search


@router.get("/duplicates")
def show_duplicates(request: Request) -> Response:
    """Show the pairs that the last search found."""
    return page(request, "duplicates.html", search=_search(request))


@router.post("/duplicates")
def find_duplicates(request: Request, service: ServiceDep) -> Response:
    """Start a search for duplicates."""
    _search(request).start(service.store)
    return redirect_to("/duplicates")
