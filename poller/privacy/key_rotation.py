"""Sealing everything with the first key in small transactions, until nothing else is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from poller.privacy.purge import REST
from store import rotation
from store.engine import Store, Transaction

BATCH = 200
"""Rows in one transaction."""

PASSES = 5
"""Whoever writes with an old first key all the time is not waited for any longer."""


@dataclass
class Rotation:
    """One rotation. ``advanced`` is told after each batch how many values were sealed anew."""

    store: Store
    stopping: Callable[[], bool] = lambda: False
    rest: Callable[[float], object] = lambda _: None
    advanced: Callable[[int], None] = lambda _: None
    replaced: int = 0

    def run(self) -> int:
        """Go over all tables until nothing is left of old keys; returns how many values are."""
        left = self._left()
        for _ in range(PASSES):
            if not left or self.stopping():
                break
            for name in rotation.PLACES:
                if name != rotation.LAST or self._left() == 1:
                    self._table(name)
            left = self._left()
        return left

    def _left(self) -> int:
        with self.store.read() as tx:
            return rotation.count_old(tx).total()

    def _table(self, name: str) -> None:
        after: rotation.Position | None = None
        while not self.stopping():
            with self.store.read() as tx:
                found = rotation.find(tx, name, after, BATCH)
            if found.rows:
                self.replaced += self.store.commit(partial(_reseal, found))
                self.advanced(self.replaced)
                self.rest(REST)
            after = found.after
            if after is None:
                return


def _reseal(found: rotation.Batch, tx: Transaction) -> int:
    return rotation.reseal(tx, found)


def about_keys(store: Store) -> list[str]:
    """A sentence about each configured key but the first: what still needs it, or that nothing does."""
    with store.read() as tx:
        ids = tx.sealer.key_ids
        needed = rotation.count_old(tx) if len(ids) > 1 else {}
    sentences = []
    for number, key in enumerate(ids[1:], start=2):
        many = needed.get(key, 0)
        name = f"key {number} of ORDER_SYNC_ENCRYPTION_KEY"
        if many:
            what = "value needs" if many == 1 else "values need"
            sentences.append(f"{many} {what} {name}; `order-sync keys rotate` seals them with the first key.")
        else:
            sentences.append(f"nothing needs {name} any more: take it out of the settings of every process.")
    return sentences
