"""Whether an account still has the seller whose orders it holds, known by the authorisation they came with.

Amazon names no seller with an authorisation. A new one, as after a renewal, is believed when Amazon finds
with it an order that the account holds; until then nothing is requested or stored.
"""

from __future__ import annotations

from connectors.base import Budget, OrderConnector
from connectors.errors import CredentialsRefused, OrderNotFound
from poller.errors import Refused
from poller.ingest.sources import Source
from store import accounts
from store.engine import Store, Transaction

TRIED = 3
"""Orders that Amazon must not find before an authorisation is believed to be another seller's."""


class AnotherSeller(CredentialsRefused):
    """Amazon finds none of the account's newest orders with the credentials that it has now."""

    kind = "another_seller"
    refuses = "seller"


class Renamed(CredentialsRefused):
    """The orders of these credentials are another account's."""

    kind = "renamed"
    refuses = "renamed"


def changed_business(tx: Transaction, source: Source) -> str | None:
    """Return why this process must start again: the account's business is another one by now. Else None."""
    business = accounts.business_of(tx, source.account)
    if business in (None, source.rules.business):
        return None
    return (
        f"the customers of account {source.account} belong to the business {business} since it was renamed: "
        "set that as its business and start this process again"
    )


def is_known(tx: Transaction, source: Source) -> bool:
    """Return True if an account's orders came with these credentials, or it has none yet."""
    known = accounts.authorisation_of(tx, source.account)
    if known is None and accounts.holder_of(tx, source.authorisation) is None:
        accounts.settle_authorisation(tx, source.account, source.authorisation)
        return True
    return known == source.authorisation


def require(store: Store, source: Source) -> None:
    """Raise Refused if an account has other credentials than its orders came with."""
    if not store.commit(lambda tx: is_known(tx, source)):
        raise Refused(
            f"account {source.account} has other credentials than its orders came with, or another "
            "account's: a run of the service or `order-sync sync` finds out if they are the same seller's."
        )


def confirm(store: Store, connector: OrderConnector, source: Source, budget: Budget) -> None:
    """Find out whether new credentials are the same seller's, by up to three orders; remember it if they are.

    Raises AnotherSeller, Renamed and the connector's errors. Amazon documents 404 for an order that does not
    exist, and no other answer for one of another seller; whatever else it answers, nothing is believed.
    """
    with store.read() as tx:
        holder = accounts.holder_of(tx, source.authorisation)
        newest = accounts.newest_orders(tx, source.account, TRIED)
    if holder not in (None, source.account):
        raise Renamed(f"the orders of its credentials are those of account {holder}")
    is_found = not newest
    for order_id in newest:
        try:
            connector.get(order_id, (), budget)
        except OrderNotFound:
            continue
        is_found = True
        break
    if not is_found:
        raise AnotherSeller("Amazon finds none of its newest orders with the credentials that it has now")
    store.commit(lambda tx: accounts.settle_authorisation(tx, source.account, source.authorisation))
