"""The quarantine over HTTP: list, show, retry."""

from __future__ import annotations

from fastapi import APIRouter, Response

from poller.actions.quarantine import quarantine_object, retried
from poller.errors import Unknown
from poller.export import Quarantined, QuarantinedWhole
from poller.web.dependencies import Answer, CallerDep, ChangeDep, ServiceDep, Word
from poller.web.masking import MASK, disclosed
from poller.web.schemas.quarantine import Retried, RetryRequest
from store import quarantine
from store.audit_records import about
from store.engine import Transaction

router = APIRouter(tags=["quarantine"])


@router.get("/quarantine")
def list_quarantine(service: ServiceDep) -> list[Quarantined]:
    """List the orders that could not be read, oldest first."""
    with service.store.read() as tx:
        entries = quarantine.entries(tx)
    return [quarantine_object(entry) for entry in entries]


def find_entry(tx: Transaction, account: str, order_id: str) -> quarantine.Quarantined:
    """Return an order's entry. Raises Unknown if the order is not in quarantine."""
    for entry in quarantine.entries(tx, [order_id]):
        if entry.account == account:
            return entry
    raise Unknown("this order is not in quarantine: `order-sync quarantine list` lists those that are.")


@router.get("/quarantine/{account}/{order_id}")
def show_quarantined(
    service: ServiceDep, caller: CallerDep, account: Word, order_id: Word
) -> QuarantinedWhole:
    """Show why an order is in quarantine, and what Amazon sent."""
    with service.store.read() as tx:
        entry = find_entry(tx, account, order_id)
    payload = entry.payload or None
    if payload is not None and caller.sees_buyers:
        disclosed(caller, about("quarantine", (entry.order_id,)))
    elif payload is not None:
        payload = MASK
    return {**quarantine_object(entry), "payload": payload}


@router.post("/quarantine/{account}/{order_id}/retry", response_model=Retried)
def retry_quarantined(
    service: ServiceDep, change: ChangeDep, account: Word, order_id: Word, body: RetryRequest
) -> Response:
    """Retry an order, from what is stored or from Amazon."""

    def work() -> Answer:
        with service.store.read() as tx:
            entry = find_entry(tx, account, order_id)
        problem = retried(service.store, service.accounts, entry, body.refetch)
        answer = {"order_id": order_id, "account": account, "stored": problem is None, "message": problem}
        return Answer(200, answer)

    return change.outside_transaction(work)
