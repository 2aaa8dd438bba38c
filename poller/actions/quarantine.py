"""Retry an order in quarantine on request; show its entry."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.errors import ConnectorError, Deferred
from connectors.marketplaces import BY_ID
from poller import export
from poller.actions.orders import NotStored, NotUnderstood, fetched
from poller.errors import Refused
from poller.ingest.accounts import Account
from poller.ingest.quarantine import apply_stored
from poller.text import iso_rounded_up, time_text
from store import quarantine
from store.engine import Store
from store.quarantine import Quarantined

WITHOUT_ID = "it has no usable id, so it can't be requested again"


def refetch_hint(entry: Quarantined) -> str:
    """Say what helps an order whose payload was erased, as the end of a sentence."""
    refetch = "`order-sync quarantine retry --refetch` requests it again"
    return refetch if quarantine.has_id(entry) else WITHOUT_ID


def quarantine_object(entry: Quarantined) -> export.Quarantined:
    """Return an entry with its fixed keys, without the payload."""
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
    """Return the country code of an entry's marketplace, or its id if it is not Amazon's."""
    place = BY_ID.get(entry.marketplace_id or "")
    return entry.marketplace_id if place is None else place.code


def retried(store: Store, accounts: Mapping[str, Account], entry: Quarantined, refetch: bool) -> str | None:
    """Apply an entry again. Return why it stays in quarantine, or None."""
    account = accounts.get(entry.account)
    if account is None:
        return f"stays: account {entry.account} is not configured"
    if not refetch:
        return _applied(store, account, entry)
    if not account.sources:
        return f"stays: account {entry.account} has no enabled marketplace"
    if not quarantine.has_id(entry):
        return f"stays: {WITHOUT_ID}"
    try:
        fetched(store, account, entry.order_id)
    except NotUnderstood as error:
        return f"stays: could not be read ({error.reason})"
    except NotStored as error:
        return f"stays: {str(error).removeprefix(f'{entry.order_id}: ')}"
    except Deferred as error:
        return f"stays: {error} until {iso_rounded_up(error.until)}"
    except (ConnectorError, Refused) as error:
        return f"stays: {error}"
    return None


def _applied(store: Store, account: Account, entry: Quarantined) -> str | None:
    read_payload = account.connector.read_payload
    problem = store.commit(lambda tx: apply_stored(tx, account.rules, entry, read_payload))
    if problem == quarantine.HAS_BEEN_ERASED:
        problem += f"; {refetch_hint(entry)}"
    return None if problem is None else f"stays: {problem}"
