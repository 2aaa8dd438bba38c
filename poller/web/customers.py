"""Customers over HTTP: list, show, create, edit, merge, unmerge, duplicates."""

from __future__ import annotations

import threading
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse

from poller.customers import duplicates, edits, merges
from poller.customers.fields import Changes, checked
from poller.errors import Unknown
from poller.export import customer_object, journal_object
from poller.web import schemas
from poller.web.dependencies import (
    Answer,
    Changing,
    Cursor,
    Here,
    Id,
    Limit,
    Who,
    Word,
    cursor_of,
    position_of,
)
from poller.web.masking import customers_for, disclosed, journal_for, masked
from poller.web.problems import Problem
from store import customers, queries
from store.engine import Transaction
from store.records import CustomerStatus

router = APIRouter(tags=["customers"])

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match", max_length=300, description="The ETag of what was read: nobody's edit gets lost."
    ),
]

looking = threading.Lock()
"""Looking for duplicates goes through all customers: one at a time."""


# --- versions ---------------------------------------------------------------------------------------


def etag_of(tx: Transaction, *customer_ids: int) -> str:
    """The version of some records. Raises Unknown."""
    parts = []
    for customer_id in customer_ids:
        version = queries.version_of(tx, customer_id)
        if version is None:
            raise Unknown(f"there is no customer {customer_id}.")
        parts.append(f"{customer_id}-{version}")
    return '"' + ".".join(parts) + '"'


def check_version(tx: Transaction, if_match: str | None, *customer_ids: int) -> None:
    """Raises Problem when the locked records are not those that were read."""
    customers.load(tx, customer_ids)
    now = etag_of(tx, *customer_ids)
    if if_match is None or if_match.strip() == "*":
        return
    if now not in (tag.strip() for tag in if_match.split(",")):
        raise Problem(
            412, "changed", "it was changed since it was read: read it again.", headers={"ETag": now}
        )


# --- list and show ----------------------------------------------------------------------------------


@router.get("/customers")
def list_customers(
    service: Here,
    caller: Who,
    status: CustomerStatus | None = None,
    business: Annotated[Word | None, Query(description="Only this business's.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> schemas.Page[schemas.Customer]:
    """Customers, the newest first; tombstones too."""
    before = None if cursor is None else position_of(cursor, int)[0]
    with service.store.read() as tx:
        found = queries.list_customers(tx, limit=limit + 1, status=status, business=business, before=before)
    found.sort(key=lambda customer: -customer.customer_id)
    items = customers_for(caller, [customer_object(customer) for customer in found[:limit]])
    more = cursor_of(found[limit - 1].customer_id) if len(found) > limit else None
    return schemas.Page[schemas.Customer].model_validate({"items": items, "next": more})


@router.post("/customers/search")
def search_customers(
    service: Here, caller: Who, wanted: schemas.SearchWanted
) -> schemas.Page[schemas.Customer]:
    """Customers by a main e-mail, in every business. Needs the scope buyer-data: the answer tells it."""
    if not caller.sees_buyers:
        raise Problem(403, "scope", f"{caller.who} may not see buyer-data, and so not search by it.")
    with service.store.read() as tx:
        found = queries.list_customers(tx, limit=500, email=wanted.email)
    items = customers_for(caller, [customer_object(customer) for customer in found])
    return schemas.Page[schemas.Customer].model_validate({"items": items, "next": None})


@router.get("/customers/duplicates")
def find_duplicates(service: Here, limit: Limit = 50) -> schemas.Duplicates:
    """Pairs of customers that may be one and the same, the likeliest first. Goes through all of them."""
    if not looking.acquire(blocking=False):
        raise Problem(503, "busy", "somebody is looking for duplicates.", headers={"Retry-After": "30"})
    try:
        with service.store.read() as tx:
            found = duplicates.find(tx, limit=limit, tell=lambda _: None)
    finally:
        looking.release()
    pairs = [
        {"customer_id": p.customer_id, "other_id": p.other_id, "score": p.score, "reasons": list(p.reasons)}
        for p in found.pairs
    ]
    return schemas.Duplicates.model_validate({"items": pairs, "total": found.total})


@router.get("/customers/{customer_id}")
def show_customer(service: Here, caller: Who, response: Response, customer_id: Id) -> schemas.Customer:
    """One customer with its ETag; a tombstone tells what it was merged into."""
    with service.store.read() as tx:
        customer = queries.get_customer(tx, customer_id)
        response.headers["ETag"] = etag_of(tx, customer_id)
    if customer is None:
        raise Unknown(f"there is no customer {customer_id}.")
    (shown,) = customers_for(caller, [customer_object(customer)])
    return schemas.Customer.model_validate(shown)


@router.get("/customers/{customer_id}/journal")
def show_journal(service: Here, caller: Who, customer_id: Id) -> list[schemas.JournalEntry]:
    """Who changed what, oldest first."""
    with service.store.read() as tx:
        etag_of(tx, customer_id)
        entries = queries.journal_of(tx, customer_id)
    shown = journal_for(caller, [journal_object(entry) for entry in entries])
    return [schemas.JournalEntry.model_validate(entry) for entry in shown]


# --- create and edit --------------------------------------------------------------------------------


@router.post("/customers", status_code=201, response_model=schemas.Changed)
def create_customer(service: Here, caller: Who, once: Changing, wanted: schemas.CustomerNew) -> Response:
    """Create a customer by hand."""
    changes = checked(wanted.given(), wanted.labelled(), service.shared_emails)
    business = edits.settle_business(service.businesses(), wanted.business)

    def work(tx: Transaction) -> Answer:
        created = edits.create(tx, business, changes, caller.who)
        return _changed(tx, created.customer_id, changes, 201)

    return once.within(work)


@router.patch("/customers/{customer_id}", response_model=schemas.Changed)
def edit_customer(
    service: Here,
    caller: Who,
    once: Changing,
    customer_id: Id,
    wanted: schemas.CustomerEdit,
    if_match: IfMatch = None,
) -> Response:
    """Change fields by hand; needs If-Match. No sync overwrites what is set here."""
    if if_match is None:
        raise Problem(428, "if-match", "send the ETag of the record that was read as If-Match.")
    changes = checked(wanted.given(), wanted.labelled(), service.shared_emails)

    def work(tx: Transaction) -> Answer:
        check_version(tx, if_match, customer_id)
        lost = edits.edit_and_count(tx, customer_id, changes, caller.who)
        return _changed(tx, customer_id, changes, 200, lost)

    return once.within(work)


def _changed(tx: Transaction, customer_id: int, changes: Changes, status: int, lost: int = 0) -> Answer:
    names = sorted([*changes.values, *(f"label {key}" for key in changes.labels)])
    headers = {"ETag": etag_of(tx, customer_id)}
    if status == 201:
        headers["Location"] = f"/customers/{customer_id}"
    body = {"customer_id": customer_id, "changed": names, "stops_recognising": lost}
    return Answer(status, body, headers)


# --- merge and unmerge ------------------------------------------------------------------------------


@router.post("/customers/{customer_id}/merge/preview", response_model=schemas.MergePreview)
def preview_merge(service: Here, caller: Who, customer_id: Id, wanted: schemas.MergeWanted) -> Response:
    """What merging another customer into this one would do; changes nothing."""
    with service.store.read() as tx:
        planned = merges.preview(tx, customer_id, wanted.other_id, service.shared_emails, wanted.keep_emails)
        etag = etag_of(tx, customer_id, wanted.other_id)
    emails: Any = [main.email for main in planned.kept.emails]
    stopping: Any = [main.email for main in planned.stopping]
    if caller.sees_buyers:
        disclosed(caller, "customers", [customer_id, wanted.other_id] if any(emails + stopping) else [])
    else:
        emails, stopping = masked(emails), masked(stopping)
    body = {
        "customer_id": customer_id,
        "other_id": wanted.other_id,
        "moved": planned.moved,
        "emails": emails,
        "stopping": stopping,
        "filled": list(planned.filled),
        "labels": list(planned.labels),
    }
    return JSONResponse(body, headers={"ETag": etag})


@router.post("/customers/{customer_id}/merge", response_model=schemas.Merged)
def merge_customers(
    service: Here,
    caller: Who,
    once: Changing,
    customer_id: Id,
    wanted: schemas.MergeWanted,
    if_match: IfMatch = None,
) -> Response:
    """Merge another customer into this one; with the preview's ETag as If-Match, just as it was shown."""

    def work(tx: Transaction) -> Answer:
        if if_match is not None:
            check_version(tx, if_match, customer_id, wanted.other_id)
        done = merges.merge(
            tx, customer_id, wanted.other_id, caller.who, service.shared_emails, wanted.keep_emails
        )
        body = {"customer_id": customer_id, "other_id": wanted.other_id, "moved": done.moved}
        return Answer(200, body, {"ETag": etag_of(tx, customer_id)})

    return once.within(work)


@router.post("/customers/{customer_id}/unmerge", response_model=schemas.Unmerged)
def unmerge_customer(
    service: Here, caller: Who, once: Changing, customer_id: Id, wanted: schemas.UnmergeWanted
) -> Response:
    """Undo the merge of this customer, as far as nobody has changed since what it changed."""

    def work(tx: Transaction) -> Answer:
        done = merges.unmerge(tx, customer_id, caller.who, service.shared_emails, wanted.leave)
        body = {
            "customer_id": customer_id,
            "kept_id": done.kept.customer_id,
            "moved": done.moved,
            "arrived": done.arrived,
            "stayed": done.stayed,
            "entered": len(done.entered),
        }
        return Answer(200, body, {"ETag": etag_of(tx, customer_id)})

    return once.within(work)
