"""Pages about the quarantine: what could not be understood, why, and trying again."""

from __future__ import annotations

import json
from contextlib import nullcontext

from fastapi import APIRouter, Request, Response

from poller.actions.quarantine import quarantine_object, tried_again
from poller.bootstrap import Service
from poller.web import quarantine as api
from poller.web.access import Caller
from poller.web.console.forms import fields_of
from poller.web.console.rendering import page
from poller.web.dependencies import Here, Who, Word, asking
from poller.web.masking import MASK, disclosed
from store import quarantine as stored
from store.quarantine import Quarantined

router = APIRouter()


@router.get("/quarantine")
def list_quarantine(request: Request, service: Here) -> Response:
    """Orders that could not be understood, oldest first."""
    with service.store.read() as tx:
        found = stored.entries(tx)
    return page(request, "quarantine.html", entries=[quarantine_object(entry) for entry in found])


@router.get("/quarantine/{account}/{order_id}")
def show_quarantined(request: Request, service: Here, caller: Who, account: Word, order_id: Word) -> Response:
    """Why an order is in quarantine, and what Amazon sent."""
    with service.store.read() as tx:
        entry = api.one(tx, account, order_id)
    return _shown(request, caller, entry, None)


def _shown(request: Request, caller: Caller, entry: Quarantined, message: str | None) -> Response:
    payload = _readable(entry.payload) if entry.payload else None
    if payload is not None and caller.sees_buyers:
        disclosed(caller, "quarantine", [entry.order_id])
    elif payload is not None:
        payload = MASK
    return page(request, "quarantined.html", entry=quarantine_object(entry), payload=payload, message=message)


def _readable(payload: str) -> str:
    """JSON with its lines; what is none stays as it is."""
    try:
        return json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
    except ValueError:
        return payload


@router.post("/quarantine/{account}/{order_id}/retry")
def retry_quarantined(
    request: Request, service: Here, caller: Who, account: Word, order_id: Word
) -> Response:
    """Try again with what is stored, or ask Amazon again."""
    refetch = bool(fields_of(request).one("refetch"))
    with service.store.read() as tx:
        entry = api.one(tx, account, order_id)
    with asking() if refetch else nullcontext():
        message = tried_again(service, entry, refetch)
    if message is None:
        return page(request, "released.html", account=account, order_id=order_id)
    return _shown(request, caller, _newest(service, entry), message)


def _newest(service: Service, entry: Quarantined) -> Quarantined:
    with service.store.read() as tx:
        return api.one(tx, entry.account, entry.order_id)
