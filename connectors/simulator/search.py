"""Reads a request to the Orders API as strictly as Amazon does.

Source: Orders API model 2026-01-01, the parameters of ``searchOrders`` and ``getOrder``. What the model
leaves open (an empty value, an unknown parameter, a time without an offset) is refused, so that a client
that relies on it fails here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from connectors.base import Axis
from connectors.simulator.messages import Query, invalid
from connectors.simulator.visibility import DATASETS

STATUSES = frozenset(
    {
        "PENDING_AVAILABILITY",
        "PENDING",
        "UNSHIPPED",
        "PARTIALLY_SHIPPED",
        "SHIPPED",
        "CANCELLED",
        "UNFULFILLABLE",
    }
)
FULFILLERS = frozenset({"MERCHANT", "AMAZON"})
FRESHNESS = timedelta(minutes=2)
"""Minimum age of an upper bound."""

_PARAMETERS = frozenset(
    {
        "createdAfter",
        "createdBefore",
        "lastUpdatedAfter",
        "lastUpdatedBefore",
        "fulfillmentStatuses",
        "marketplaceIds",
        "fulfilledBy",
        "maxResultsPerPage",
        "paginationToken",
        "includedData",
    }
)


@dataclass(frozen=True, slots=True)
class Search:
    """A valid ``searchOrders`` request. ``marketplace_ids`` empty: all of the seller's.

    ``frozen`` are the parameters that must stay the same while a page token is used.
    """

    axis: Axis
    after: datetime
    before: datetime | None
    marketplace_ids: frozenset[str]
    statuses: frozenset[str]
    fulfilled_by: frozenset[str]
    included: frozenset[str]
    page_size: int
    page_token: str | None
    frozen: tuple[tuple[str, tuple[str, ...]], ...]


def read_search(query: Query) -> Search:
    """Read a query, without checking its bounds against the clock. Raises Refusal (400)."""
    _only(query, _PARAMETERS)
    created, updated = _time(query, "createdAfter"), _time(query, "lastUpdatedAfter")
    if (created is None) == (updated is None):
        raise invalid("Give exactly one of createdAfter and lastUpdatedAfter.")
    axis: Axis = "created" if created is not None else "updated"
    family, other = ("created", "lastUpdated") if axis == "created" else ("lastUpdated", "created")
    if f"{other}Before" in query:
        raise invalid(f"{other}Before does not go with {family}After.")
    after = created or updated
    assert after is not None
    marketplace_ids = _list(query, "marketplaceIds")
    if len(marketplace_ids) > 50:
        raise invalid("At most 50 marketplaceIds may be given.")
    return Search(
        axis=axis,
        after=after,
        before=_time(query, f"{family}Before"),
        marketplace_ids=frozenset(marketplace_ids),
        statuses=_words(query, "fulfillmentStatuses", STATUSES),
        fulfilled_by=_words(query, "fulfilledBy", FULFILLERS),
        included=_words(query, "includedData", DATASETS),
        page_size=_page_size(query),
        page_token=_single(query, "paginationToken"),
        frozen=tuple(
            sorted((k, v) for k, v in query.items() if k not in {"paginationToken", "maxResultsPerPage"})
        ),
    )


def check_bounds(search: Search, now: datetime) -> datetime:
    """Return the upper bound that applies at Amazon's ``now``. Raises Refusal if it is too young."""
    name = "createdBefore" if search.axis == "created" else "lastUpdatedBefore"
    latest = now - FRESHNESS
    if search.before is not None and search.before > latest:
        raise invalid(f"{name} must be at least two minutes before the time of the request.")
    before = search.before or latest
    if before < search.after:
        raise invalid(f"{name} must not be earlier than its lower bound.")
    return before


def read_included(query: Query) -> frozenset[str]:
    """Read the only parameter of ``getOrder``. Raises Refusal (400)."""
    _only(query, frozenset({"includedData"}))
    return _words(query, "includedData", DATASETS)


def _only(query: Query, known: frozenset[str]) -> None:
    unknown = sorted(query.keys() - known)
    if unknown:
        raise invalid(f"Unknown parameter {unknown[0]}.")


def _single(query: Query, name: str) -> str | None:
    values = query.get(name)
    if values is None:
        return None
    if len(values) != 1 or not values[0]:
        raise invalid(f"{name} must have one value.")
    return values[0]


def _list(query: Query, name: str) -> list[str]:
    words = [word for value in query.get(name, ()) for word in value.split(",")]
    if not all(words):
        raise invalid(f"{name} has an empty value.")
    return words


def _words(query: Query, name: str, known: frozenset[str]) -> frozenset[str]:
    words = frozenset(_list(query, name))
    if not words <= known:
        raise invalid(f"{name} has an unknown value.")
    return words


def _time(query: Query, name: str) -> datetime | None:
    text = _single(query, name)
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"{name} is not an ISO 8601 time.") from None
    if time.tzinfo is None:
        raise invalid(f"{name} has no offset from UTC.")
    return time.astimezone(UTC)


def _page_size(query: Query) -> int:
    text = _single(query, "maxResultsPerPage")
    if text is None:
        return 100
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        raise invalid("maxResultsPerPage must be from 1 to 100.")
    return int(text)
