"""The audit log over HTTP, for callers with all scopes: it tells what others do."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from poller.audit import Audited, audit_object
from poller.bootstrap import Service
from poller.web.access import Caller
from poller.web.dependencies import (
    LARGEST_ID,
    CallerDep,
    Cursor,
    Limit,
    ServiceDep,
    Word,
    before_of,
    page_of,
    utc,
)
from poller.web.problems import LacksScope
from poller.web.schemas.base import Page
from poller.web.tokens import SCOPES
from store import audit
from store.audit import Filter
from store.audit_records import Action, AuditEntry

router = APIRouter(tags=["audit"])


def require_all_scopes(caller: Caller) -> None:
    """Raise Problem unless the caller has all scopes, which the audit log needs."""
    for scope in SCOPES:
        if scope not in caller.scopes:
            raise LacksScope(caller.who, scope, "the audit log")


@router.get("/audit", response_model=Page[Audited])
def list_entries(
    service: ServiceDep,
    caller: CallerDep,
    who: Annotated[Word | None, Query(description="For example user:ann; user:* for all users.")] = None,
    action: Action | None = None,
    order_id: Annotated[Word | None, Query(description="Only entries that may be about this order.")] = None,
    customer_id: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
    since: Annotated[datetime | None, Query(description="Of this time or later.")] = None,
    until: Annotated[datetime | None, Query(description="Before this time.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List who did and saw what, newest first. Needs all scopes."""
    require_all_scopes(caller)
    wanted = Filter(who, action, order_id, customer_id, utc(since), utc(until))
    entries, more = audit_page(service, cursor, limit, wanted)
    return JSONResponse({"items": [audit_object(entry) for entry in entries], "next": more})


def audit_page(
    service: Service, cursor: str | None, limit: int, wanted: Filter
) -> tuple[list[AuditEntry], str | None]:
    """Return a page of the audit log and the next cursor."""
    before = before_of(cursor)
    with service.store.read() as tx:
        entries = audit.newest(tx, limit + 1, wanted, before)
    return page_of(entries, limit, lambda entry: (entry.entry,))
