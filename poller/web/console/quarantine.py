"""Quarantine pages: the list, one order with reason and payload, retrying."""

from __future__ import annotations

from contextlib import nullcontext

from fastapi import APIRouter, Request, Response

from poller.actions.quarantine import quarantine_object, retried
from poller.text import indented
from poller.web.console.forms import fields_of
from poller.web.console.rendering import page
from poller.web.dependencies import CallerDep, ServiceDep, Word, asking_amazon
from poller.web.masking import MASK, Viewer, disclosed
from poller.web.quarantine import find_entry
from store import quarantine
from store.audit_records import about
from store.quarantine import Quarantined

router = APIRouter()


@router.get("/quarantine")
def list_quarantine(request: Request, service: ServiceDep) -> Response:
    """List the orders that could not be read, oldest first."""
    with service.store.read() as tx:
        entries = quarantine.entries(tx)
    return page(request, "quarantine.html", entries=[quarantine_object(entry) for entry in entries])


@router.get("/quarantine/{account}/{order_id}")
def show_quarantined(
    request: Request, service: ServiceDep, caller: CallerDep, account: Word, order_id: Word
) -> Response:
    """Show why an order is in quarantine, and what Amazon sent."""
    with service.store.read() as tx:
        entry = find_entry(tx, account, order_id)
    return _entry_page(request, caller, entry, None)


def _entry_page(request: Request, caller: Viewer, entry: Quarantined, message: str | None) -> Response:
    payload = indented(entry.payload, ascii_only=False) if entry.payload else None
    if payload is not None and caller.sees_buyers:
        disclosed(caller, about("quarantine", (entry.order_id,)))
    elif payload is not None:
        payload = MASK
    return page(request, "quarantined.html", entry=quarantine_object(entry), payload=payload, message=message)


@router.post("/quarantine/{account}/{order_id}/retry")
def retry_quarantined(
    request: Request, service: ServiceDep, caller: CallerDep, account: Word, order_id: Word
) -> Response:
    """Retry from what is stored, or refetch from Amazon."""
    refetch = bool(fields_of(request).one("refetch"))
    with service.store.read() as tx:
        entry = find_entry(tx, account, order_id)
    with asking_amazon() if refetch else nullcontext():
        message = retried(service.store, service.accounts, entry, refetch)
    if message is None:
        return page(request, "released.html", account=account, order_id=order_id)
    with service.store.read() as tx:
        entry = find_entry(tx, account, order_id)
    return _entry_page(request, caller, entry, message)
