"""Key rotation: reseal everything with the first key, in small transactions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from poller.privacy.purge import PAUSE_SECONDS
from poller.text import counted
from store import processes, rotation
from store.engine import Store, Transaction

ROWS_AT_ONCE = 200
"""Rows that one transaction reseals."""

PASSES_MOST = 5
"""A process that keeps writing with an old first key must not keep a rotation going for ever."""


@dataclass
class Rotation:
    """One rotation. ``advanced`` receives the number of resealed values after each batch."""

    store: Store
    stopping: Callable[[], bool] = lambda: False
    rest: Callable[[float], object] = lambda _: None
    advanced: Callable[[int], None] = lambda _: None
    replaced: int = 0
    damaged: int = 0
    """Values that do not open, with any key: they stay as they are."""

    def run(self) -> int:
        """Reseal all tables. Return how many values still need an old key."""
        left = self._left()
        for _ in range(PASSES_MOST):
            if not left or self.stopping():
                break
            self.damaged = 0
            for name in rotation.PLACES:
                if name != rotation.LAST or self._left() == 1:
                    self._table(name)
            left = self._left()
        return left

    def _left(self) -> int:
        with self.store.read() as tx:
            return rotation.count_old(tx).total() - self.damaged

    def _table(self, name: str) -> None:
        after: rotation.Position | None = None
        while not self.stopping():
            with self.store.read() as tx:
                batch = rotation.find(tx, name, after, ROWS_AT_ONCE)
            if batch.rows:
                replaced, damaged = self.store.commit(partial(_reseal, batch))
                self.replaced += replaced
                self.damaged += damaged
                self.advanced(self.replaced)
                self.rest(PAUSE_SECONDS)
            after = batch.after
            if after is None:
                return


def _reseal(batch: rotation.Batch, tx: Transaction) -> tuple[int, int]:
    return rotation.reseal(tx, batch)


def without_first_key(store: Store) -> list[str]:
    """Return the names of running processes that could not read what is sealed with the first key."""
    with store.read() as tx:
        current = tx.sealer.current.hex()
        return [p.name for p in processes.load(tx) if p.is_alive(tx.now) and current not in p.key_ids]


def about_keys(store: Store) -> list[str]:
    """Return a sentence about each key after the first: what still needs it, or that nothing does."""
    with store.read() as tx:
        ids = tx.sealer.key_ids
        needed = rotation.count_old(tx) if len(ids) > 1 else {}
        sealing = {p.key_ids[0]: p.name for p in processes.load(tx) if p.is_alive(tx.now)}
    sentences = []
    for number, key in enumerate(ids[1:], start=2):
        values = needed.get(key, 0)
        name = f"key {number} of ORDER_SYNC_ENCRYPTION_KEY"
        if values:
            need = counted(values, "value needs", "values need")
            sentences.append(f"{need} {name}; `order-sync keys rotate` reseals them with the first key.")
        elif key.hex() in sealing:
            process = sealing[key.hex()]
            sentences.append(f"the process {process} still seals with {name}: put the new key first there.")
        else:
            sentences.append(f"nothing needs {name} any more: remove it from the settings of every process.")
    return sentences
