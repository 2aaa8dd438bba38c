"""The truth behind the simulator: applications, sellers, and their orders with every version.

A world is plain data plus the few queries that the API makes: who has access, and which orders an interval
lists now. Queries read sorted lists, so that a world of 20,000 orders answers as fast as a small one. A
listing is cached until a version appears, leaves or ages out, because a walk needs it for every page.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from connectors.base import Axis
from connectors.marketplaces import BY_ID, BY_NAME, Region
from connectors.simulator.orders import Order, Version, order
from connectors.simulator.population import populate

ListOrder = Literal["scattered", "time"]

DIRECT_TO_CONSUMER = "DIRECT_TO_CONSUMER"
TAX = "TAX"
ALL_ROLES = frozenset({DIRECT_TO_CONSUMER, TAX})
"""The restricted roles. The first shows the buyers of merchant-fulfilled orders, the second names and tax
numbers."""

HISTORY = timedelta(days=730)
LONG_HISTORY_SINCE = datetime(2016, 1, 1, tzinfo=UTC)
LONG_HISTORY = frozenset({"JP", "AU", "SG"})
"""Marketplaces that show orders since 2016 instead of for two years (Orders API model)."""

CLIENT_ID = "amzn1.application-oa2-client.simulated"
CLIENT_SECRET = "simulated-client-secret"


@dataclass(frozen=True, slots=True)
class Seller:
    """A selling partner in one region, enrolled in ``marketplaces`` (country codes or IDs)."""

    name: str = "seller"
    marketplaces: tuple[str, ...] = ("UK",)
    roles: frozenset[str] = ALL_ROLES
    refresh_token: str = "Atzr|simulated-refresh-token"
    client_id: str = CLIENT_ID

    @property
    def marketplace_ids(self) -> frozenset[str]:
        return frozenset(BY_NAME[name].id for name in self.marketplaces)

    @property
    def region(self) -> Region:
        region = BY_NAME[self.marketplaces[0]].region
        assert region is not None
        return region


@dataclass(slots=True)
class _Books:
    """One seller's orders, with sorted lists for queries by time."""

    orders: dict[str, Order] = field(default_factory=dict)
    created: list[tuple[datetime, str]] = field(default_factory=list)
    updated: list[tuple[datetime, str, int]] = field(default_factory=list)
    appearing: list[datetime] = field(default_factory=list)
    revision: int = 0


class World:
    """Sellers, the applications they authorised, and their orders.

    ``list_order`` sorts the answers: ``scattered`` (stable, but of no use to a client, because Amazon
    promises no order) or ``time``. Not thread-safe: the simulator holds a lock.
    """

    def __init__(self, *sellers: Seller, list_order: ListOrder = "scattered") -> None:
        self.list_order = list_order
        self.sellers: dict[str, Seller] = {}
        self.applications: dict[str, set[str]] = {CLIENT_ID: {CLIENT_SECRET}}
        """Client ID -> client secrets that Login with Amazon takes."""
        self.expired_secrets: set[str] = set()
        """Secrets for which it still grants access tokens, which the API refuses (models issue 4489)."""
        self.authorisations: dict[str, tuple[str, str]] = {}
        """Refresh token -> (client ID, seller's name)."""
        self._books: dict[str, _Books] = {}
        self._lists: dict[tuple[object, ...], list[tuple[Order, Version]]] = {}
        for seller in sellers or (Seller(),):
            self.enrol(seller)

    @classmethod
    def generate(
        cls,
        *,
        seed: int,
        marketplaces: Iterable[str],
        orders: int,
        start: datetime,
        end: datetime,
        seller: Seller | None = None,
        list_order: ListOrder = "scattered",
        **habits: Any,
    ) -> World:
        """Return a world of one seller with ``orders`` invented orders, the same for the same arguments.

        All times lie between ``start`` and ``end``. ``habits`` are the shares of ``populate``.
        """
        codes = tuple(marketplaces)
        world = cls(seller or Seller(marketplaces=codes), list_order=list_order)
        world.add(*populate(seed=seed, marketplaces=codes, orders=orders, start=start, end=end, **habits))
        return world

    # --- access ------------------------------------------------------------------------------------

    def enrol(self, seller: Seller) -> None:
        """Add a seller, or replace the one of that name (other roles, other marketplaces)."""
        self.sellers[seller.name] = seller
        self._books.setdefault(seller.name, _Books())
        self.applications.setdefault(seller.client_id, {CLIENT_SECRET})
        self.authorise(seller.name, seller.refresh_token, seller.client_id)

    def authorise(self, seller: str, refresh_token: str, client_id: str = CLIENT_ID) -> None:
        """Authorise an application, for the first time or again."""
        self.authorisations[refresh_token] = (client_id, seller)

    def revoke(self, refresh_token: str) -> None:
        """Remove an authorisation: Login with Amazon will answer ``invalid_grant``."""
        self.authorisations.pop(refresh_token, None)

    # --- orders ------------------------------------------------------------------------------------

    def add(self, *orders: Order, seller: str | None = None) -> None:
        """Add orders, or replace those with the same ID (for example by a longer history)."""
        books = self._of(seller)
        replaced = {added.order_id for added in orders if added.order_id in books.orders}
        if replaced:
            self._forget(books, replaced)
        sorts_once = len(orders) > 20
        for added in orders:
            books.orders[added.order_id] = added
            created = (added.created, added.order_id)
            updates = [(v.last_updated, added.order_id, i) for i, v in enumerate(added.versions)]
            appearing = [v.visible_at for v in added.versions]
            if sorts_once:
                books.created.append(created)
                books.updated.extend(updates)
                books.appearing.extend(appearing)
            else:
                insort(books.created, created)
                for update, time in zip(updates, appearing, strict=True):
                    insort(books.updated, update)
                    insort(books.appearing, time)
        if sorts_once:
            books.created.sort()
            books.updated.sort()
            books.appearing.sort()
        books.revision += 1

    def order(self, order_id: str, *, seller: str | None = None, **facts: Any) -> Order:
        """Make an order (see ``orders.order``), add it, and return it."""
        made = order(order_id, **facts)
        self.add(made, seller=seller)
        return made

    def update(self, order_id: str, at: datetime, *, seller: str | None = None, **changes: Any) -> Order:
        """Give an order of this world another version (see ``Order.then``)."""
        longer = self._of(seller).orders[order_id].then(at, **changes)
        self.add(longer, seller=seller)
        return longer

    def orders(self, seller: str | None = None) -> tuple[Order, ...]:
        """Return every order of a seller, sorted by (created time, order ID): the truth, for oracles."""
        books = self._of(seller)
        return tuple(books.orders[order_id] for _, order_id in books.created)

    def find(self, seller: str, order_id: str, at: datetime) -> tuple[Order, Version] | None:
        """Return an order and the version shown at ``at``, or None."""
        known = self._books[seller].orders.get(order_id)
        version = known.current(at) if known else None
        return (known, version) if known and version and shown_still(known, at) else None

    def listing(
        self,
        seller: str,
        *,
        at: datetime,
        axis: Axis,
        after: datetime,
        before: datetime,
        marketplace_ids: frozenset[str],
        statuses: frozenset[str] = frozenset(),
        fulfilled_by: frozenset[str] = frozenset(),
    ) -> list[tuple[Order, Version]]:
        """Return the orders that a search of this interval (inclusive) lists at ``at``. Read-only.

        An order is listed by its current version only: when updated again, it leaves the old interval.
        """
        books = self._books[seller]
        epoch = bisect_right(books.appearing, at)
        aged = bisect_left(books.created, (at - HISTORY, ""))
        key = (
            seller, books.revision, epoch, aged, self.list_order,
            axis, after, before, marketplace_ids, statuses, fulfilled_by,
        )  # fmt: skip
        listed = self._lists.get(key)
        if listed is None:
            in_interval = self._by_creation if axis == "created" else self._by_update
            listed = [
                (each, version)
                for each, version in in_interval(books, at, after, before)
                if each.listed_under in marketplace_ids
                and not each.unlisted
                and (not statuses or version.facts.status in statuses)
                and (not fulfilled_by or version.facts.fulfilled_by in fulfilled_by)
                and shown_still(each, at)
            ]
            listed.sort(key=_by_time(axis) if self.list_order == "time" else _scattered)
            if len(self._lists) >= 64:
                self._lists.clear()
            self._lists[key] = listed
        return listed

    def reported(
        self,
        seller: str,
        *,
        at: datetime,
        after: datetime,
        before: datetime,
        marketplace_ids: frozenset[str] | None,
    ) -> list[Version]:
        """Return the versions that a report made at ``at`` lists of orders created in an interval.

        ``marketplace_ids`` None: of all marketplaces. It lists an order once the API does, and from then on
        every update at once, however late the API is.
        """
        books = self._books[seller]
        low, high = bisect_left(books.created, (after, "")), bisect_right(books.created, (before, "\uffff"))
        in_interval = (books.orders[order_id] for _, order_id in books.created[low:high])
        return [
            next(version for version in reversed(each.versions) if version.last_updated <= at)
            for each in in_interval
            if marketplace_ids is None or each.listed_under in marketplace_ids
            if each.current(at) and shown_still(each, at)
        ]

    # --- within ------------------------------------------------------------------------------------

    def _of(self, seller: str | None) -> _Books:
        return self._books[seller if seller is not None else next(iter(self.sellers))]

    @staticmethod
    def _forget(books: _Books, order_ids: set[str]) -> None:
        for order_id in order_ids:
            for version in books.orders.pop(order_id).versions:
                del books.appearing[bisect_left(books.appearing, version.visible_at)]
        books.created = [entry for entry in books.created if entry[1] not in order_ids]
        books.updated = [entry for entry in books.updated if entry[1] not in order_ids]

    @staticmethod
    def _by_creation(
        books: _Books, at: datetime, after: datetime, before: datetime
    ) -> Iterable[tuple[Order, Version]]:
        low = bisect_left(books.created, (after, ""))
        for created, order_id in books.created[low:]:
            if created > before:
                return
            one = books.orders[order_id]
            version = one.current(at)
            if version is not None:
                yield one, version

    @staticmethod
    def _by_update(
        books: _Books, at: datetime, after: datetime, before: datetime
    ) -> Iterable[tuple[Order, Version]]:
        low = bisect_left(books.updated, (after, "", 0))
        for last_updated, order_id, index in books.updated[low:]:
            if last_updated > before:
                return
            one = books.orders[order_id]
            version = one.versions[index]
            if one.current(at) is version:
                yield one, version


def shown_still(one: Order, at: datetime) -> bool:
    """Return True within the history that Amazon shows: two years, or since 2016 in JP, AU and SG."""
    if BY_ID[one.listed_under].code in LONG_HISTORY:
        return one.created >= LONG_HISTORY_SINCE
    return one.created >= at - HISTORY


def _scattered(entry: tuple[Order, Version]) -> bytes:
    return hashlib.blake2b(entry[0].order_id.encode(), digest_size=8, key=b"no order").digest()


def _by_time(axis: Axis) -> Callable[[tuple[Order, Version]], tuple[datetime, str]]:
    if axis == "created":
        return lambda entry: (entry[0].created, entry[0].order_id)
    return lambda entry: (entry[1].last_updated, entry[0].order_id)
