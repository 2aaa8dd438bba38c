"""Comparing and merging two customers, and undoing a merge."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from poller.customers import merges
from poller.customers.comparison import compared, sentences
from poller.errors import NoCustomer, Refused
from poller.web.console.forms import PREFIX, fields_of
from poller.web.console.rendering import page, redirect_to
from poller.web.customers import check_version, etag_of
from poller.web.dependencies import LARGEST_ID, CallerDep, Id, ServiceDep
from poller.web.masking import MASK, Viewer, customers_for, require_buyer_data
from poller.web.problems import Problem
from store import customers, queries
from store.engine import Store, Transaction
from store.records import CustomerRecord

router = APIRouter()

Origin = Literal["", "duplicates"]
"""The page that a merge was begun from, and that it leads back to."""


@router.get("/customers/{customer_id}/merge")
def preview_merge(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    customer_id: Id,
    other: Annotated[int, Query(ge=1, le=LARGEST_ID)],
    origin: Annotated[Origin, Query(alias="from")] = "",
) -> Response:
    """Compare two customers and preview their merge."""
    pair = (customer_id, other)
    return _merge_page(request, service.store, service.shared_emails, caller, pair, None, origin)


@router.post("/customers/{customer_id}/merge/preview")
def preview_choice(request: Request, service: ServiceDep, caller: CallerDep, customer_id: Id) -> Response:
    """Preview a merge with a choice of main e-mails."""
    fields = fields_of(request)
    pair, keep = (customer_id, _id(fields.one("other"))), fields.all("keep")
    if keep:
        require_buyer_data(caller, "choosing e-mails")
    origin = fields.one("from")
    return _merge_page(request, service.store, service.shared_emails, caller, pair, keep, origin)


def _merge_page(
    request: Request,
    store: Store,
    shared_emails: frozenset[str],
    caller: Viewer,
    pair: tuple[int, int],
    keep: list[str] | None,
    origin: str,
) -> Response:
    with store.read() as tx:
        kept, other = (_found(tx, customer_id) for customer_id in pair)
        etag = etag_of(tx, *pair)
        try:
            planned, refused = merges.preview(tx, *pair, shared_emails, keep), None
        except Refused as error:
            named = error.named if caller.sees_buyers else ()
            planned, refused = None, f"{error} {', '.join(named)}".strip()
        orders = customers.order_counts(tx, pair)
    rows = compared(kept, other, None if planned is None else planned.kept, orders)
    if not caller.sees_buyers:
        rows = tuple(row.masked(MASK) for row in rows)
    emails = [main.email for side in (kept, other) for main in side.emails if main.email]
    return page(
        request,
        "merge.html",
        sides=customers_for(caller, [kept, other]),
        rows=rows,
        planned=planned is not None,
        sentences=() if planned is None else sentences(*pair, rows),
        kept_emails=[] if planned is None else [main.email for main in planned.kept.emails],
        choices=emails if caller.sees_buyers and len(emails) > 1 else [],
        keep=keep,
        etag=etag,
        refused=refused,
        origin=origin,
    )


def _found(tx: Transaction, customer_id: int) -> CustomerRecord:
    customer = queries.get_customer(tx, customer_id)
    if customer is None:
        raise NoCustomer(customer_id)
    return customer


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
    if fields.one("from") == "duplicates":
        return redirect_to(f"/duplicates?kept={customer_id}&merged={other}&moved={moved}")
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
