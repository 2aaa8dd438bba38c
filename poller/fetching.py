"""Asking Amazon for one order by its id, because a person wants it."""

from __future__ import annotations

from collections.abc import Iterator

from connectors.errors import OrderNotFound
from poller.bootstrap import Account, Service
from poller.customers.refused import Refused
from store import queries
from store.engine import Store
from store.records import OrderRecord


class NotStored(Exception):
    """Amazon does not know the order, or what it sent could not be understood."""


def account_of(service: Service, name: str) -> Account:
    """An account that may run. Raises Refused, naming those that there are."""
    account = service.accounts.get(name)
    if account is None:
        known = ", ".join(sorted(service.accounts)) or "none"
        raise Refused(f"there is no account {name} that can be used; there is {known}.")
    if not account.sources:
        raise Refused(f"account {name} has no marketplace that is enabled.")
    return account


def fetched(service: Service, account: Account, order_id: str) -> str:
    """Fetch one order and store it; says what happened.

    Raises NotStored when there is nothing to store, and the connector's errors.
    """
    name = account.settings.name
    before = _version(service.store, name, order_id)
    wanted = _datasets(account, before)
    syncer = service.syncer(account.sources[0].key)
    try:
        unreadable = syncer.fetch_order(order_id, wanted)
    except OrderNotFound:
        raise NotStored(f"Amazon knows no order {order_id} of account {name}.") from None
    if unreadable is not None:
        raise NotStored(f"{order_id}: could not be understood and is in quarantine ({unreadable.reason}).")
    after = _version(service.store, name, order_id)
    if before is None:
        return f"{order_id}: new, stored"
    if after is not None and after.changed_at != before.changed_at:
        return f"{order_id}: changed, stored"
    return f"{order_id}: unchanged"


def _version(store: Store, account: str, order_id: str) -> OrderRecord | None:
    with store.read() as tx:
        return next(iter(queries.find_orders(tx, order_id, account)), None)


def _datasets(account: Account, stored: OrderRecord | None) -> tuple[str, ...]:
    """What the order's marketplace wants; of an unknown one, what any of the account's wants."""
    settings = account.marketplaces.get(stored.marketplace_id or "") if stored is not None else None
    if settings is not None:
        return tuple(settings.included_data)
    wanted: Iterator[str] = (word for m in account.marketplaces.values() for word in m.included_data)
    return tuple(sorted(set(wanted)))
