"""The truth behind the simulator: applications, sellers, and their orders with every version.

A world is plain data plus the few questions that the API has to answer about it: who may come in, what
is listed in an interval now. Answers come from sorted lists, so that a world of twenty thousand orders
answers as fast as a small one; a list is kept until a version appears, leaves, or ages out, because a
walk asks for the same list on every page.
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
"""The restricted roles: the first shows a merchant's buyers, the second names and tax numbers."""

HISTORY = timedelta(days=730)
LONG_HISTORY_SINCE = datetime(2016, 1, 1, tzinfo=UTC)
LONG_HISTORY = frozenset({"JP", "AU", "SG"})
"""Marketplaces whose orders are shown since 2016 instead of for two years (Orders API model)."""

CLIENT_ID = "amzn1.application-oa2-client.simulated"
CLIENT_SECRET = "simulated-client-secret"


@dataclass(frozen=True, slots=True)
class Seller:
    """A selling partner in one region. ``marketplaces`` are country codes or ids it is enrolled in."""

    name: str = "seller"
    marketplaces: tuple[str, ...] = ("UK",)
    roles: frozenset[str] = ALL_ROLES
    refresh_token: str = "Atzr|simulated-refresh-token"
    client_id: str = CLIENT_ID

    @property
    def marketplace_ids(self) -> frozenset[str]:
        return frozenset(BY_NAME[one].id for one in self.marketplaces)

    @property
    def region(self) -> Region:
        return BY_NAME[self.marketplaces[0]].region


@dataclass(slots=True)
class _Books:
    """One seller's orders, with the sorted lists that answer questions by time."""

    orders: dict[str, Order] = field(default_factory=dict)
    created: list[tuple[datetime, str]] = field(default_factory=list)
    updated: list[tuple[datetime, str, int]] = field(default_factory=list)
    appearing: list[datetime] = field(default_factory=list)
    revision: int = 0


class World:
    """Sellers, the applications they authorised, and their orders.

    ``list_order`` is how answers are sorted: ``scattered`` (stable, but by nothing that a client could
    use: Amazon promises no order) or ``time``. Not thread-safe: the simulator holds a lock.
    """

    def __init__(self, *sellers: Seller, list_order: ListOrder = "scattered") -> None:
        self.list_order = list_order
        self.sellers: dict[str, Seller] = {}
        self.applications: dict[str, set[str]] = {CLIENT_ID: {CLIENT_SECRET}}
        """The valid client secrets of each client id."""
        self.authorisations: dict[str, tuple[str, str]] = {}
        """Refresh token -> (client id, seller's name)."""
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
        """A world of one seller with ``orders`` invented orders, the same for the same arguments.

        All times lie between ``start`` and ``end``. ``habits`` are the shares of ``populate``.
        """
        codes = tuple(marketplaces)
        world = cls(seller or Seller(marketplaces=codes), list_order=list_order)
        world.add(*populate(seed=seed, marketplaces=codes, orders=orders, start=start, end=end, **habits))
        return world

    # --- who ---------------------------------------------------------------------------------------

    def enrol(self, seller: Seller) -> None:
        """Add a seller, or replace the one of that name (other roles, other marketplaces)."""
        self.sellers[seller.name] = seller
        self._books.setdefault(seller.name, _Books())
        self.applications.setdefault(seller.client_id, {CLIENT_SECRET})
        self.authorise(seller.name, seller.refresh_token, seller.client_id)

    def authorise(self, seller: str, refresh_token: str, client_id: str = CLIENT_ID) -> None:
        """The seller lets an application in, once more or anew."""
        self.authorisations[refresh_token] = (client_id, seller)

    def revoke(self, refresh_token: str) -> None:
        """The authorisation is gone: Login with Amazon will answer ``invalid_grant``."""
        self.authorisations.pop(refresh_token, None)

    # --- orders ------------------------------------------------------------------------------------

    def add(self, *orders: Order, seller: str | None = None) -> None:
        """Add orders, or replace those whose id is already there (say, by a longer history)."""
        books = self._of(seller)
        known = [one for one in orders if one.order_id in books.orders]
        if known:
            self._forget(books, {one.order_id for one in known})
        many = len(orders) > 20
        for one in orders:
            books.orders[one.order_id] = one
            created = (one.created, one.order_id)
            updates = [(v.last_updated, one.order_id, i) for i, v in enumerate(one.versions)]
            appearing = [v.visible_at for v in one.versions]
            if many:
                books.created.append(created)
                books.updated.extend(updates)
                books.appearing.extend(appearing)
            else:
                insort(books.created, created)
                for update, moment in zip(updates, appearing, strict=True):
                    insort(books.updated, update)
                    insort(books.appearing, moment)
        if many:
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
        """Give an order of this world one more version (see ``Order.then``)."""
        longer = self._of(seller).orders[order_id].then(at, **changes)
        self.add(longer, seller=seller)
        return longer

    def orders(self, seller: str | None = None) -> tuple[Order, ...]:
        """Every order of a seller, in the order of (created time, order id): the truth, for oracles."""
        books = self._of(seller)
        return tuple(books.orders[order_id] for _, order_id in books.created)

    def find(self, seller: str, order_id: str, at: datetime) -> tuple[Order, Version] | None:
        """What is shown of one order at ``at``, or None."""
        found = self._books[seller].orders.get(order_id)
        version = found.current(at) if found else None
        return (found, version) if found and version and shown_still(found, at) else None

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
        """The orders that a search of this interval (inclusive) lists at ``at``; never change the list.

        An order is listed by its current version only: updated again, it leaves the old interval.
        """
        books = self._books[seller]
        epoch = bisect_right(books.appearing, at)
        aged = bisect_left(books.created, (at - HISTORY, ""))
        key = (
            seller, books.revision, epoch, aged, self.list_order,
            axis, after, before, marketplace_ids, statuses, fulfilled_by,
        )  # fmt: skip
        kept = self._lists.get(key)
        if kept is None:
            found = self._by_creation if axis == "created" else self._by_update
            kept = [
                (one, version)
                for one, version in found(books, at, after, before)
                if one.listed_under in marketplace_ids
                and not one.unlisted
                and (not statuses or version.facts.status in statuses)
                and (not fulfilled_by or version.facts.fulfilled_by in fulfilled_by)
                and shown_still(one, at)
            ]
            kept.sort(key=_by_time(axis) if self.list_order == "time" else _scattered)
            if len(self._lists) >= 64:
                self._lists.clear()
            self._lists[key] = kept
        return kept

    def reported(
        self, seller: str, *, at: datetime, after: datetime, before: datetime, marketplace_ids: frozenset[str]
    ) -> list[Version]:
        """What a report made at ``at`` knows of the orders created in an interval (inclusive).

        It knows an order once the API does, and then every update at once, however late the API shows it.
        """
        books = self._books[seller]
        low, high = bisect_left(books.created, (after, "")), bisect_right(books.created, (before, "\uffff"))
        found = (books.orders[order_id] for _, order_id in books.created[low:high])
        return [
            next(version for version in reversed(one.versions) if version.last_updated <= at)
            for one in found
            if one.listed_under in marketplace_ids and one.current(at) and shown_still(one, at)
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
    """Amazon shows two years of history, in Japan, Australia and Singapore all since 2016."""
    if BY_ID[one.listed_under].code in LONG_HISTORY:
        return one.created >= LONG_HISTORY_SINCE
    return one.created >= at - HISTORY


def _scattered(entry: tuple[Order, Version]) -> bytes:
    return hashlib.blake2b(entry[0].order_id.encode(), digest_size=8, key=b"no order").digest()


def _by_time(axis: Axis) -> Callable[[tuple[Order, Version]], tuple[datetime, str]]:
    if axis == "created":
        return lambda entry: (entry[0].created, entry[0].order_id)
    return lambda entry: (entry[1].last_updated, entry[0].order_id)
