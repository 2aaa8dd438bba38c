"""Another attempt at an order in quarantine, because a person asks for it; and how its entry is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.errors import ConnectorError, Deferred
from connectors.marketplaces import BY_ID
from poller.actions.orders import NotStored, NotUnderstood, fetched
from poller.ingest.accounts import Account
from poller.ingest.quarantine import apply_stored
from poller.text import iso_rounded_up, time_text
from store import quarantine
from store.engine import Store
from store.quarantine import Quarantined

NAMELESS = "not even its order id is known, so Amazon cannot be asked for it"


def ask_again(entry: Quarantined) -> str:
    """What may still be done about an order whose payload is gone, as the end of a sentence."""
    again = "`order-sync quarantine retry --refetch` asks for it again"
    return again if quarantine.has_id(entry) else NAMELESS


def quarantine_object(entry: Quarantined) -> dict[str, Any]:
    """One entry with its fixed keys; the payload is not among them."""
    return {
        "order_id": entry.order_id,
        "account": entry.account,
        "marketplace": marketplace_of(entry),
        "reason": entry.reason,
        "attempts": entry.attempts,
        "next_attempt_at": time_text(entry.next_attempt_at),
        "first_seen_at": time_text(entry.first_seen_at),
    }


def marketplace_of(entry: Quarantined) -> str | None:
    place = BY_ID.get(entry.marketplace_id or "")
    return entry.marketplace_id if place is None else place.code


def tried_again(
    store: Store, accounts: Mapping[str, Account], entry: Quarantined, refetch: bool
) -> str | None:
    """Apply one entry again. Returns why it stays in quarantine, or None."""
    account = accounts.get(entry.account)
    if account is None:
        return f"stays: account {entry.account} is not configured"
    if not refetch:
        return _applied_again(store, account, entry)
    if not account.sources:
        return f"stays: account {entry.account} has no marketplace that is enabled"
    if not quarantine.has_id(entry):
        return f"stays: {NAMELESS}"
    try:
        fetched(store, account, entry.order_id)
    except NotUnderstood as error:
        return f"stays: could not be understood ({error.reason})"
    except NotStored as failure:
        return f"stays: {str(failure).removeprefix(f'{entry.order_id}: ')}"
    except Deferred as error:
        return f"stays: {error} until {iso_rounded_up(error.until)}"
    except ConnectorError as error:
        return f"stays: {error}"
    return None


def _applied_again(store: Store, account: Account, entry: Quarantined) -> str | None:
    read_payload = account.connector.read_payload
    problem = store.commit(lambda tx: apply_stored(tx, account.rules, entry, read_payload))
    if problem == quarantine.HAS_BEEN_ERASED:
        problem += f"; {ask_again(entry)}"
    return None if problem is None else f"stays: {problem}"
