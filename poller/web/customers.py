"""Customers over HTTP: list, show, create, edit, merge, unmerge, find duplicates."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse

from poller.bootstrap import Service
from poller.customers import duplicates, edits, merges
from poller.customers.fields import BUYERS, Changes, checked
from poller.errors import NoCustomer
from poller.export import Customer, JournalEntry
from poller.web.access import Caller
from poller.web.dependencies import (
    Answer,
    CallerDep,
    ChangeDep,
    Cursor,
    Id,
    Limit,
    ServiceDep,
    Word,
    before_of,
    page_of,
)
from poller.web.masking import customers_for, disclosed, journal_for, masked, require_buyer_data
from poller.web.problems import Problem
from poller.web.schemas.base import Page
from poller.web.schemas.customers import (
    Changed,
    CustomerEdit,
    Duplicates,
    Merged,
    MergePreview,
    MergeRequest,
    NewCustomer,
    SearchRequest,
    Unmerged,
    UnmergeRequest,
)
from store import customers, queries
from store.audit_records import about
from store.engine import Transaction
from store.records import CustomerRecord, CustomerStatus

router = APIRouter(tags=["customers"])

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=300,
        description="The ETag of the record as you read it, so that no edit is lost.",
    ),
]

duplicate_search = threading.Lock()
"""A search for duplicates reads all customers: only one runs at a time."""


# --- versions ---------------------------------------------------------------------------------------


def etag_of(tx: Transaction, *customer_ids: int) -> str:
    """Return the ETag of some customers. Raises Unknown."""
    parts = []
    for customer_id in customer_ids:
        version = queries.version_of(tx, customer_id)
        if version is None:
            raise NoCustomer(customer_id)
        parts.append(f"{customer_id}-{version}")
    return '"' + ".".join(parts) + '"'


def tags_of(if_match: str | None) -> list[str] | None:
    """Return the ETags of an If-Match header; None if every version will do."""
    if if_match is None or if_match.strip() == "*":
        return None
    return [tag.strip() for tag in if_match.split(",")]


def check_version(tx: Transaction, tags: Collection[str] | None, *customer_ids: int) -> None:
    """Lock the customers. Raises Problem if they have changed since one of ``tags`` was read."""
    customers.load(tx, customer_ids)
    current = etag_of(tx, *customer_ids)
    if tags is not None and current not in tags:
        raise Problem(
            412,
            "changed",
            "the record has changed since you read it: read it again.",
            headers={"ETag": current},
        )


# --- list and show ----------------------------------------------------------------------------------


@router.get("/customers")
def list_customers(
    service: ServiceDep,
    caller: CallerDep,
    status: CustomerStatus | None = None,
    business: Annotated[Word | None, Query(description="Only customers of this business.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Customer]:
    """List customers, newest first; tombstones, too."""
    records, more = customers_page(service, cursor, limit, status, business)
    return Page[Customer].model_validate({"items": customers_for(caller, records), "next": more})


def customers_page(
    service: Service, cursor: str | None, limit: int, status: str | None, business: str | None = None
) -> tuple[list[CustomerRecord], str | None]:
    """Return a page of customers and the next cursor."""
    before = before_of(cursor)
    with service.store.read() as tx:
        records = queries.list_customers(tx, limit=limit + 1, status=status, business=business, before=before)
    records.sort(key=lambda customer: -customer.customer_id)
    return page_of(records, limit, lambda customer: (customer.customer_id,))


@router.post("/customers/search")
def search_customers(service: ServiceDep, caller: CallerDep, body: SearchRequest) -> Page[Customer]:
    """Find customers of any business by a main e-mail. Needs the scope buyer-data: the answer reveals it."""
    require_buyer_data(caller, "searching by e-mail")
    with service.store.read() as tx:
        records = queries.list_customers(tx, limit=500, email=body.email)
    items = customers_for(caller, records)
    return Page[Customer].model_validate({"items": items, "next": None})


@router.get("/customers/duplicates")
def find_duplicates(service: ServiceDep, limit: Limit = 50) -> Duplicates:
    """Return pairs of customers that may be the same, likeliest first. Reads all customers."""
    if not duplicate_search.acquire(blocking=False):
        raise Problem(503, "busy", "another search for duplicates is running.", headers={"Retry-After": "30"})
    try:
        with service.store.read() as tx:
            suggestions = duplicates.find(tx, limit=limit, tell=lambda _: None)
    finally:
        duplicate_search.release()
    pairs = [
        {"customer_id": p.customer_id, "other_id": p.other_id, "score": p.score, "reasons": list(p.reasons)}
        for p in suggestions.pairs
    ]
    return Duplicates.model_validate({"items": pairs, "total": suggestions.total})


@router.get("/customers/{customer_id}", response_model=Customer)
def show_customer(
    service: ServiceDep, caller: CallerDep, response: Response, customer_id: Id
) -> dict[str, Any]:
    """Show one customer with its ETag; a tombstone names the customer it was merged into."""
    with service.store.read() as tx:
        customer = queries.get_customer(tx, customer_id)
        response.headers["ETag"] = etag_of(tx, customer_id)
    if customer is None:
        raise NoCustomer(customer_id)
    (shown,) = customers_for(caller, [customer])
    return shown


@router.get("/customers/{customer_id}/journal", response_model=list[JournalEntry])
def show_journal(service: ServiceDep, caller: CallerDep, customer_id: Id) -> list[dict[str, Any]]:
    """List who changed what, oldest first."""
    with service.store.read() as tx:
        etag_of(tx, customer_id)
        entries = queries.journal_of(tx, customer_id)
    return journal_for(caller, entries)


# --- create and edit --------------------------------------------------------------------------------


def _checked(service: Service, caller: Caller, body: CustomerEdit) -> Changes:
    """Check the fields that were sent. Raises Refused, and Problem if the caller may not set one of them.

    Who may not see buyers could learn from the answer whose an address is: it is refused if another customer
    has it, and the search for duplicates names those with the same phone or name.
    """
    given = body.field_values()
    for name in BUYERS:
        if name in given:
            require_buyer_data(caller, f"setting {name}")
    return checked(given, body.label_texts(), service.shared_emails)


@router.post("/customers", status_code=201, response_model=Changed)
def create_customer(service: ServiceDep, caller: CallerDep, change: ChangeDep, body: NewCustomer) -> Response:
    """Create a customer by hand. What a buyer gives (names, e-mails, …) needs the scope buyer-data."""
    changes = _checked(service, caller, body)
    business = edits.settle_business(service.businesses(), body.business)

    def work(tx: Transaction) -> Answer:
        created = edits.create(tx, business, changes, caller.who)
        return _changed(tx, created.customer_id, changes, 201)

    return change.in_transaction(work)


@router.patch("/customers/{customer_id}", response_model=Changed)
def edit_customer(
    service: ServiceDep,
    caller: CallerDep,
    change: ChangeDep,
    customer_id: Id,
    body: CustomerEdit,
    if_match: IfMatch = None,
) -> Response:
    """Change fields by hand; needs If-Match. No sync overwrites these values.

    What a buyer gives (names, e-mails, phone, addresses without their country) needs the scope buyer-data.
    """
    if if_match is None:
        raise Problem(428, "if-match", "If-Match is missing: send the ETag of the record as you read it.")
    changes = _checked(service, caller, body)

    def work(tx: Transaction) -> Answer:
        check_version(tx, tags_of(if_match), customer_id)
        lost = edits.edit_and_count(tx, customer_id, changes, caller.who)
        return _changed(tx, customer_id, changes, 200, lost)

    return change.in_transaction(work)


def _changed(tx: Transaction, customer_id: int, changes: Changes, status: int, lost: int = 0) -> Answer:
    names = sorted([*changes.values, *(f"label {key}" for key in changes.labels)])
    headers = {"ETag": etag_of(tx, customer_id)}
    if status == 201:
        headers["Location"] = f"/customers/{customer_id}"
    body = {"customer_id": customer_id, "changed": names, "stops_recognising": lost}
    return Answer(status, body, headers)


# --- merge and unmerge ------------------------------------------------------------------------------


def _check_choice(caller: Caller, emails: Sequence[str] | None) -> None:
    """Raise Problem if a caller who may not see e-mails chose some: the answer says whose they are."""
    if emails:
        require_buyer_data(caller, "choosing e-mails")


@router.post("/customers/{customer_id}/merge/preview", response_model=MergePreview)
def preview_merge(service: ServiceDep, caller: CallerDep, customer_id: Id, body: MergeRequest) -> Response:
    """Preview merging another customer into this one; changes nothing. `keep_emails` needs buyer-data."""
    _check_choice(caller, body.keep_emails)
    with service.store.read() as tx:
        planned = merges.preview(tx, customer_id, body.other_id, service.shared_emails, body.keep_emails)
        etag = etag_of(tx, customer_id, body.other_id)
    emails: Any = [main.email for main in planned.kept.emails]
    stopping: Any = [main.email for main in planned.stopping]
    if caller.sees_buyers:
        if any(emails + stopping):
            disclosed(caller, about("customers", customers=(customer_id, body.other_id)))
    else:
        emails, stopping = masked(emails), masked(stopping)
    preview = {
        "customer_id": customer_id,
        "other_id": body.other_id,
        "moved": planned.moved,
        "emails": emails,
        "stopping": stopping,
        "filled": list(planned.filled),
        "labels": list(planned.labels),
    }
    return JSONResponse(preview, headers={"ETag": etag})


@router.post("/customers/{customer_id}/merge", response_model=Merged)
def merge_customers(
    service: ServiceDep,
    caller: CallerDep,
    change: ChangeDep,
    customer_id: Id,
    body: MergeRequest,
    if_match: IfMatch = None,
) -> Response:
    """Merge another customer into this one; with the preview's ETag as If-Match, exactly as previewed.

    `keep_emails` needs the scope buyer-data.
    """
    _check_choice(caller, body.keep_emails)

    def work(tx: Transaction) -> Answer:
        if if_match is not None:
            check_version(tx, tags_of(if_match), customer_id, body.other_id)
        done = merges.merge(
            tx, customer_id, body.other_id, caller.who, service.shared_emails, body.keep_emails
        )
        merged = {"customer_id": customer_id, "other_id": body.other_id, "moved": done.moved}
        return Answer(200, merged, {"ETag": etag_of(tx, customer_id)})

    return change.in_transaction(work)


@router.post("/customers/{customer_id}/unmerge", response_model=Unmerged)
def unmerge_customer(
    service: ServiceDep, caller: CallerDep, change: ChangeDep, customer_id: Id, body: UnmergeRequest
) -> Response:
    """Undo the merge of this customer; fields that were changed since the merge keep their values.

    `leave` needs the scope buyer-data.
    """
    _check_choice(caller, body.leave)

    def work(tx: Transaction) -> Answer:
        done = merges.unmerge(tx, customer_id, caller.who, service.shared_emails, body.leave)
        unmerged = {
            "customer_id": customer_id,
            "kept_id": done.kept.customer_id,
            "moved": done.moved,
            "arrived": done.arrived,
            "stayed": done.stayed,
            "entered": len(done.entered),
            "lost": len(done.lost),
        }
        return Answer(200, unmerged, {"ETag": etag_of(tx, customer_id)})

    return change.in_transaction(work)
