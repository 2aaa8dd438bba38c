"""An account under another name, or with another seller's credentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poller.errors import Refused, Unknown
from poller.ingest.accounts import Setup
from poller.ingest.sources import Source
from store import accounts, audit, runs
from store.audit_records import Actor, AuditEntry
from store.engine import Store, Transaction


@dataclass(frozen=True, slots=True)
class Rename:
    """What was carried over."""

    orders: int
    customers: int


def confirm(store: Store, setup: Setup, name: str, actor: Actor) -> None:
    """Record that an account's present credentials are its seller's. Raises Unknown."""
    source = _sources(setup, name)[0]

    def settle(tx: Transaction) -> None:
        audit.insert(tx, AuditEntry(actor, "account_confirmed", detail=name))
        accounts.settle_authorisation(tx, name, source.authorisation)
        runs.forgive(tx, name)

    store.commit(settle)


def rename(store: Store, setup: Setup, old: str, new: str, actor: Actor) -> Rename:
    """Carry all that is stored of an account over to another name. Raises Unknown and Refused."""
    source = _sources(setup, new)[0]
    if old in setup.settings.accounts:
        raise Refused(f"account {old} is still configured: rename it in its files or variables first.")

    configured = setup.settings.accounts[new].business

    def carry_over(tx: Transaction) -> Rename:
        business = accounts.businesses_of(tx).get(old)
        if business is None:
            raise Unknown(
                f"nothing is stored of an account {old}: the name so far comes first, then the new one."
            )
        if business != configured:
            raise Refused(
                f"the customers of account {old} belong to the business {business}: set "
                f"ORDER_SYNC_ACCOUNTS__{new.upper()}__BUSINESS={business}, or `business` in its file, "
                "restart what runs, then rename."
            )
        if accounts.has_orders(tx, new):
            raise Refused(f"account {new} has orders of its own, which cannot be mixed with those of {old}.")
        if accounts.authorisation_of(tx, old) not in (None, source.authorisation):
            raise Refused(
                f"account {new} has other credentials than {old} had when its orders were stored: set those, "
                "rename, and change them afterwards."
            )
        carried = accounts.rename(tx, old, new)
        runs.forgive(tx, new)
        # Last: others that enter something wait from here on.
        audit.insert(tx, AuditEntry(actor, "account_renamed", detail=f"{old} to {new}"))
        return Rename(*carried)

    return store.commit(carry_over)


def _sources(setup: Setup, name: str) -> Sequence[Source]:
    account = setup.accounts.get(name)
    if account is None or not account.sources:
        raise Unknown(f"there is no account {name} that could be polled: `order-sync config check` says why.")
    return account.sources
