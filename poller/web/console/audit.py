"""The page of the audit log, for users with all scopes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from poller.audit import shown_records
from poller.web.audit import audit_page, require_all_scopes
from poller.web.console.rendering import page
from poller.web.dependencies import CallerDep, Cursor, ServiceDep
from poller.web.problems import Problem
from store.audit import Filter
from store.audit_records import ACTIONS

router = APIRouter()

PAGE_SIZE = 100


@router.get("/audit")
def list_entries(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    who: Annotated[str, Query(max_length=80)] = "",
    action: Annotated[str, Query(max_length=24)] = "",
    order: Annotated[str, Query(max_length=80)] = "",
    customer: Annotated[str, Query(max_length=19)] = "",
    cursor: Cursor = None,
) -> Response:
    """List who did and saw what, newest first."""
    require_all_scopes(caller)
    if customer and not (customer.isascii() and customer.isdigit()):
        raise Problem(422, "invalid", "a customer number is a whole number above 0.")
    wanted = Filter(who or None, action or None, order or None, int(customer) if customer else None)
    entries, more = audit_page(service, cursor, PAGE_SIZE, wanted)
    return page(
        request,
        "audit.html",
        entries=[(entry, shown_records(entry.records)) for entry in entries],
        more=more,
        chosen={"who": who, "action": action, "order": order, "customer": customer},
        actions=ACTIONS,
        first=cursor is None,
    )
