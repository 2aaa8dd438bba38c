"""The vocabulary of the audit log: who did or saw what, from where, through which door, and how it ended.

An entry names records by their ids and holds no buyer data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

Door = Literal["http", "console", "cli", "service"]
"""Where an action came in: the HTTP API, the console, the command line, or the service by itself."""

Kind = Literal["order", "customer"]

Outcome = Literal["done", "refused", "failed"]

Action = Literal[
    "disclosed",
    "exported",
    "imported",
    "signed_in",
    "signed_out",
    "sign_in_refused",
    "token_missing",
    "token_refused",
    "scope_refused",
    "form_refused",
    "locked",
    "token_added",
    "token_removed",
    "user_added",
    "user_removed",
    "link_made",
    "user_unlocked",
    "password_changed",
    "second_factor_changed",
    "session_ended",
    "access_reviewed",
    "webhook_added",
    "webhook_removed",
    "webhook_replayed",
    "keys_rotated",
    "account_renamed",
    "account_confirmed",
    "database_copied",
    "purged",
    "customer_forgotten",
    "account_forgotten",
]

ACTIONS: Mapping[Action, str] = {
    "disclosed": "buyer data of the named records was shown",
    "exported": "records with buyer data were exported; `selection` says which, `count` how many",
    "imported": "customers were imported, or an import was tried (`--dry-run`)",
    "signed_in": "a user signed in to the console",
    "signed_out": "a user signed out of the console",
    "sign_in_refused": "a wrong name, password or second factor at the console",
    "token_missing": "a request to the API without a token",
    "token_refused": "a request to the API with a token that is wrong or has expired",
    "scope_refused": "a request for which the caller lacks the scope",
    "form_refused": "a form of the console that no page of ours has sent",
    "locked": "too many attempts: an address or a user has to wait",
    "token_added": "a token of the API was made",
    "token_removed": "a token of the API was removed",
    "user_added": "a user of the console was made",
    "user_removed": "a user of the console was removed",
    "link_made": "a link that signs a user in once was made",
    "user_unlocked": "a locked user may sign in again",
    "password_changed": "a user has another password",
    "second_factor_changed": "a user's second factor was set up or removed",
    "session_ended": "a session of the console was ended from outside",
    "access_reviewed": "a person has reviewed who has access",
    "webhook_added": "a receiver of changes was added",
    "webhook_removed": "a receiver of changes was removed",
    "webhook_replayed": "events were sent to a receiver again",
    "keys_rotated": "stored data was resealed with another key",
    "account_renamed": "an account's records were carried over to another name",
    "account_confirmed": "an account goes on with another seller's credentials",
    "database_copied": "the whole database was copied to another one",
    "purged": "data past its retention period was erased",
    "customer_forgotten": "a person was forgotten",
    "account_forgotten": "all buyers of an account were forgotten",
}
"""What each action means."""

assert tuple(ACTIONS) == get_args(Action)

MAX_NAMED = 100
"""Most records that an entry names; of more, it has the number and the first and last."""

ALL = "*"
"""Stands for the records of an entry that are too many to be named."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, from where (an address, or this machine and its terminal), through which door."""

    who: str
    client: str
    door: Door


SERVICE = Actor("service", "", "service")


@dataclass(frozen=True, slots=True)
class Records:
    """The records that an entry is about; of many, only their number and a ``selection`` in words.

    ``what``: orders, customers, journal or quarantine. ``all_of``: kinds of which many are meant.
    """

    what: str
    orders: tuple[str, ...] = ()
    customers: tuple[int, ...] = ()
    count: int = 0
    selection: Mapping[str, str] = field(default_factory=dict)
    all_of: tuple[Kind, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry. ``times``: how often it happened, for refusals that are counted. ``detail``: a few words.

    ``entry`` and ``at`` are set by the store.
    """

    actor: Actor
    action: Action
    outcome: Outcome = "done"
    records: Records | None = None
    detail: str | None = None
    times: int = 1
    entry: int = 0
    at: datetime | None = None


def about(
    what: str, orders: tuple[str, ...] = (), customers: tuple[int, ...] = (), **selection: str
) -> Records:
    """Return records by their ids, summarised if they are too many to be named."""
    ids = [*orders, *customers]
    if len(ids) <= MAX_NAMED:
        return Records(what, orders, customers, len(ids), selection)
    kinds: tuple[Kind, ...] = (
        *(("order",) if orders else ()),
        *(("customer",) if customers else ()),
    )
    ends = {"first": str(ids[0]), "last": str(ids[-1])}
    return Records(what, count=len(ids), selection={**selection, **ends}, all_of=kinds)
