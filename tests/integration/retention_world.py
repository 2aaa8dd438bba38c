"""A store with a clock that runs, and a shop whose rules erase: what tests of retention share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from connectors.orders import AmazonOrder, AmazonPackage, UnreadableOrder
from poller.ingest.sources import AccountRules
from poller.matching.retention import Retention
from poller.privacy.purge import Purge, Purged
from store import revisions, tables
from store.engine import Store, create_engine
from store.sealing import Sealer
from tests.harness import KEY, SimulatedClock
from tests.integration.store_world import account_rules, apply
from tests.unit.matching_world import T0, an_order

MONTH = Retention(30, 18)


def day(number: float) -> datetime:
    """Return the time this number of days after the first order."""
    return T0 + timedelta(days=number)


def minutes(at: datetime) -> float:
    """Return it in minutes, as ``an_order`` takes ``updated``."""
    return (at - T0) / timedelta(minutes=1)


ANN = "ann@marketplace.amazon.co.uk"


def delivered(order_id: str = "o1", email: str | None = ANN, **changes: Any) -> AmazonOrder:
    """Return a copy whose one package is delivered; ``on``: the day of its update."""
    on = changes.pop("on", 2.0)
    given = {
        "status": "SHIPPED",
        "packages": (AmazonPackage("p1", "DELIVERED", shipped_at=day(on - 1)),),
        "created_at": day(on - 2),
        "updated": minutes(day(on)),
    }
    return an_order(order_id, email, **{**given, **changes})


@dataclass
class Place:
    """The database of one shop; its clock starts at the day of the first order."""

    url: str
    clock: SimulatedClock = field(default_factory=lambda: SimulatedClock(T0))
    retention: Retention = MONTH

    def __post_init__(self) -> None:
        engine = create_engine(self.url)
        revisions.upgrade(engine)
        self.store = Store(engine, Sealer([KEY]), clock=self.clock)

    @property
    def rules(self) -> AccountRules:
        return replace(account_rules(), retention=self.retention)

    def apply(self, *orders: AmazonOrder, unreadable: tuple[UnreadableOrder, ...] = ()) -> None:
        """Store a page now."""
        apply(self.store, *orders, rules=self.rules, unreadable=unreadable)

    def purge(self, on: float | None = None) -> Purged:
        """Erase what is due, on a day or now."""
        if on is not None:
            self.clock.go_to(day(on))
        return Purge(self.store, self.retention).run()

    def sealed(self) -> dict[str, set[bytes]]:
        """Return every stored sealed value by table and column."""
        found: dict[str, set[bytes]] = {}
        with self.store.read() as tx:
            for name, columns in tables.SEALED.items():
                table = tables.metadata.tables[name]
                for column in columns:
                    query = sa.select(table.c[column]).where(table.c[column].is_not(None))
                    found[f"{name}.{column}"] = set(tx.conn.execute(query).scalars())
        return found

    def values(self) -> set[bytes]:
        """Return every stored sealed value."""
        return set().union(*self.sealed().values())

    def files(self) -> bytes:
        """Return all bytes of an SQLite database: the file, its log and anything else beside it."""
        path = Path(sa.make_url(self.url).database or "")
        return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))


def a_place(url: str) -> Iterator[Place]:
    """Open a place for a fixture."""
    place = Place(url)
    with closing(place.store):
        yield place
