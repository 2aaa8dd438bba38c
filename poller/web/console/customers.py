"""Pages about customers: the list, one customer, merging two side by side, undoing it, duplicates."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, get_args

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from poller.bootstrap import Service
from poller.customers import duplicates, merges
from poller.customers.duplicates import Suggestions
from poller.errors import Refused, Unknown
from poller.export import customer_object, journal_object, order_object
from poller.web import customers as api
from poller.web import dependencies
from poller.web.access import Caller
from poller.web.console.forms import PREFIX, fields_of
from poller.web.console.rendering import onwards, page
from poller.web.dependencies import Cursor, Here, Id, Who
from poller.web.masking import customers_for, journal_for, masked, orders_for
from poller.web.problems import Problem
from store import queries
from store.engine import Transaction
from store.orders import order_currency
from store.records import CustomerStatus

router = APIRouter()
log = structlog.get_logger("order_sync")

MANY = 50
PAIRS = 100


@router.get("/customers")
def list_customers(
    request: Request,
    service: Here,
    caller: Who,
    status: Annotated[str, Query(max_length=16)] = "",
    cursor: Cursor = None,
) -> Response:
    """Customers, the newest first; tombstones too."""
    before = None if cursor is None else dependencies.position_of(cursor, int)[0]
    with service.store.read() as tx:
        found = queries.list_customers(tx, limit=MANY + 1, status=status or None, before=before)
    found.sort(key=lambda customer: -customer.customer_id)
    more = dependencies.cursor_of(found[MANY - 1].customer_id) if len(found) > MANY else None
    return page(
        request,
        "customers.html",
        customers=customers_for(caller, [customer_object(c) for c in found[:MANY]]),
        more=more,
        chosen={"status": status},
        statuses=get_args(CustomerStatus),
        first=cursor is None,
    )


@router.get("/customers/{customer_id}")
def show_customer(
    request: Request,
    service: Here,
    caller: Who,
    customer_id: Id,
    done: Annotated[str, Query(max_length=20)] = "",
    other: Annotated[int, Query(ge=0, le=dependencies.LARGEST_ID)] = 0,
    moved: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """One customer with its orders and who changed what; a tombstone can be taken back here."""
    with service.store.read() as tx:
        customer = queries.get_customer(tx, customer_id)
        if customer is None:
            raise Unknown(f"there is no customer {customer_id}.")
        orders = queries.list_orders(tx, limit=MANY + 1, customer_id=customer_id)
        entries = queries.journal_of(tx, customer_id)
    (shown,) = customers_for(caller, [customer_object(customer)])
    return page(
        request,
        "customer.html",
        customer=shown,
        orders=orders_for(caller, [order_object(o, order_currency(o)) for o in orders[:MANY]]),
        more=len(orders) > MANY,
        entries=journal_for(caller, [journal_object(entry) for entry in entries]),
        done=done,
        other=other,
        moved=moved,
    )


# --- merge and undo ---------------------------------------------------------------------------------


@router.get("/customers/{customer_id}/merge")
def preview_merge(
    request: Request,
    service: Here,
    caller: Who,
    customer_id: Id,
    other: Annotated[int, Query(ge=1, le=dependencies.LARGEST_ID)],
) -> Response:
    """Two customers side by side, and what would become of them."""
    return _previewed(request, service, caller, customer_id, other, None)


@router.post("/customers/{customer_id}/merge/preview")
def preview_choice(request: Request, service: Here, caller: Who, customer_id: Id) -> Response:
    """The same with a choice of main e-mails."""
    fields = fields_of(request)
    return _previewed(request, service, caller, customer_id, _id(fields.one("other")), fields.all("keep"))


def _previewed(
    request: Request, service: Service, caller: Caller, kept: int, other: int, keep: list[str] | None
) -> Response:
    with service.store.read() as tx:
        sides = [queries.get_customer(tx, customer_id) for customer_id in (kept, other)]
        for customer_id, side in zip((kept, other), sides, strict=True):
            if side is None:
                raise Unknown(f"there is no customer {customer_id}.")
        etag = api.etag_of(tx, kept, other)
        try:
            planned = merges.preview(tx, kept, other, service.shared_emails, keep)
            refused = None
        except Refused as error:
            named = error.named if caller.sees_buyers else ()
            planned, refused = None, f"{error} {', '.join(named)}".strip()
    shown = customers_for(caller, [customer_object(side) for side in sides if side is not None])
    after: dict[str, Any] | None = None
    stopping: Any = []
    if planned is not None:
        # What it shows was disclosed with the two records that it is made of.
        after = customer_object(planned.kept)
        stopping = [main.email for main in planned.stopping]
        if not caller.sees_buyers:
            (after,), stopping = customers_for(caller, [after]), masked(stopping)
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
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= dependencies.LARGEST_ID:
        raise Problem(422, "invalid", "this is no number of a customer.")
    return int(text)


@router.post("/customers/{customer_id}/merge")
def merge_customers(request: Request, service: Here, caller: Who, customer_id: Id) -> Response:
    """Merge, just as it was shown."""
    fields = fields_of(request)
    other = _id(fields.one("other"))
    keep = fields.all("keep") if fields.one("chosen") else None

    def work(tx: Transaction) -> int:
        api.check_version(tx, fields.one("etag"), customer_id, other)
        done = merges.merge(tx, customer_id, other, caller.who, service.shared_emails, keep)
        return done.moved

    moved = service.store.commit(work)
    return onwards(f"/customers/{customer_id}?done=merged&other={other}&moved={moved}")


@router.post("/customers/{customer_id}/unmerge")
def unmerge_customer(request: Request, service: Here, caller: Who, customer_id: Id) -> Response:
    """Undo the merge of this customer."""
    leave = [email for email in fields_of(request).all("leave") if email]
    done = service.store.commit(
        lambda tx: merges.unmerge(tx, customer_id, caller.who, service.shared_emails, leave)
    )
    return onwards(f"/customers/{customer_id}?done=unmerged&other={done.kept.customer_id}&moved={done.moved}")


@router.get("/merge")
def choose_merge(request: Request, kept: str = "", other: str = "") -> Response:
    """Where the form with two numbers leads."""
    return RedirectResponse(f"{PREFIX}/customers/{_id(kept)}/merge?other={_id(other)}", 303)


# --- duplicates -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, and when it was begun to look."""

    at: datetime
    suggestions: Suggestions


class Finder:
    """Looks for duplicates beside the requests, since it goes through all customers; one at a time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.seen: int | None = None
        """Customers that were looked at so far; None while nobody looks."""
        self.total = 0
        self.found: Found | None = None
        self.failed = False

    def begin(self) -> None:
        """Look, unless somebody does already."""
        if not api.looking.acquire(blocking=False):
            return
        self.seen, self.failed = 0, False
        threading.Thread(target=self._look, name="duplicates", daemon=True).start()

    def _look(self) -> None:
        try:
            with self._service.store.read() as tx:
                self.total = queries.count_customers(tx)
                found = duplicates.find(tx, limit=PAIRS, tell=self._tell)
                self.found = Found(tx.now, found)
        except Exception as error:
            self.failed = True
            log.error("looking for duplicates broke", error=type(error).__name__)
        finally:
            self.seen = None
            api.looking.release()

    def _tell(self, seen: int) -> None:
        if self._service.stop.is_set():
            raise Problem(503, "stopping", "the service stops.")
        self.seen = seen


def _finder(request: Request) -> Finder:
    finder: Finder = request.app.state.finder
    return finder


@router.get("/duplicates")
def show_duplicates(request: Request) -> Response:
    """Pairs that may be one customer, as they were found last."""
    return page(request, "duplicates.html", finder=_finder(request))


@router.get("/duplicates/live")
def refresh_duplicates(request: Request) -> Response:
    """The part of the page that changes by itself."""
    return page(request, "_duplicates.html", finder=_finder(request))


@router.post("/duplicates")
def find_duplicates(request: Request) -> Response:
    """Look through all customers."""
    _finder(request).begin()
    return onwards("/duplicates")
