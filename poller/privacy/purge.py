"""Erase what ``poller.matching.retention`` says is due (R60-R63), in small transactions.

Every step may be repeated, even by two processes at once: an order is marked in the transaction that erases
it, and a record in the one that finds none of its orders waiting. The pauses between them let pages be
written. At the end the erased data is removed from the database's files too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from connectors.base import OrderConnector
from connectors.errors import ConnectorError
from poller.matching.retention import (
    UNFINISHED,
    Retention,
    erased,
    hash_only,
    quarantine_term,
    term,
)
from poller.privacy.attribution import correct
from poller.text import lasting
from store import customers, erasure, journal, merges, quarantine
from store.engine import Store, Transaction

ERASED_AT_ONCE = 100
"""Orders or records that one transaction erases, within some hundredths of a second."""

CHECKED_AT_ONCE = 2_000
"""Records that one query checks for having been left behind."""

PAUSE_SECONDS = 0.05
"""Between two transactions, so that a page that waits to be written is."""


CLOCKS_AGREE_WITHIN = timedelta(minutes=2)
"""What is erased by a wrong clock is lost: Amazon sends it again, and R63 refuses it."""


@dataclass
class Purged:
    """The result of a purge. ``deleted``: orders that are gone altogether (R64).

    ``clean``: the database's files hold no trace of what was erased. ``put_off``: why nothing was, in words.
    """

    orders: int = 0
    records: int = 0
    hashes: int = 0
    payloads: int = 0
    deleted: int = 0
    finished: bool = True
    clean: bool = True
    put_off: str | None = None

    def counts(self) -> dict[str, int]:
        """Return what was erased, for the log."""
        names = ("orders", "records", "hashes", "payloads", "deleted")
        return {name: getattr(self, name) for name in names}


@dataclass
class Purge:
    """One purge. ``advanced`` receives the number of erased orders after each batch.

    The journal of each changed record names ``who``. With ``connectors``, one must say that Amazon's clock
    agrees with the database's.
    """

    store: Store
    retention: Retention
    who: str = "retention"
    stopping: Callable[[], bool] = lambda: False
    rest: Callable[[float], object] = lambda _: None
    advanced: Callable[[int], None] = lambda _: None
    connectors: Iterable[OrderConnector] = ()
    done: Purged = field(default_factory=Purged)

    def due(self) -> int:
        """Return how many orders are past their term."""
        with self.store.read() as tx:
            over = self.retention.over_since(tx.now)
            return 0 if over is None else erasure.count_due(tx, over)

    def run(self) -> Purged:
        """Erase everything that is due, until stopped; nothing while the clocks differ."""
        self.done.put_off = self._reason_to_wait()
        if self.done.put_off is not None:
            self.done.finished = False
            return self.done
        if self.retention.days is not None:
            correct(self.store, self.stopping, lambda: self.rest(PAUSE_SECONDS))
            self._repeat(_enter_terms)
            self._repeat(self._due_orders)
            self._repeat(self._due_payloads)
            self._left_behind()
        if self.retention.order_months is not None and self.retention.days is not None:
            self._repeat(self._old_orders)
            self.store.commit(self._old_payloads)
        if self.retention.hash_months is not None:
            self._repeat(self._due_hashes)
        self.done.finished = not self.stopping()
        erased_any = any(self.done.counts().values())
        self.done.clean = self.store.leave_no_trace(erasure.TABLES if erased_any else ())
        return self.done

    def _reason_to_wait(self) -> str | None:
        is_unknown = False
        for connector in self.connectors:
            try:
                amazon = connector.ask_time()
            except ConnectorError:
                is_unknown = True
                continue
            apart = self.store.now() - amazon
            if abs(apart) <= CLOCKS_AGREE_WITHIN:
                return None
            which = "ahead of" if apart > timedelta() else "behind"
            clocks = f"the database's clock is {lasting(abs(apart))} {which} Amazon's"
            return f"{clocks}: nothing is erased before they agree"
        return "Amazon does not say what time it is: nothing is erased before it does" if is_unknown else None

    def _repeat(self, step: Callable[[Transaction], int]) -> None:
        """Repeat a step until it finds nothing."""
        while not self.stopping() and self.store.commit(step):
            self.rest(PAUSE_SECONDS)

    def _over(self, tx: Transaction) -> datetime:
        over = self.retention.over_since(tx.now)
        assert over is not None
        return over

    def _due_orders(self, tx: Transaction) -> int:
        over = self._over(tx)
        refs = erasure.due_orders(tx, over, ERASED_AT_ONCE)
        erasure.erase_orders(tx, refs)
        payloads = quarantine.erase(tx, [(ref.account, ref.order_id) for ref in refs])
        ids = {ref.customer_id for ref in refs if ref.customer_id is not None}
        records = erase_records(tx, ids, over, self.who)
        self._count(orders=len(refs), payloads=len(payloads), records=records)
        return len(refs)

    def _old_orders(self, tx: Transaction) -> int:
        """Delete orders without buyer data that are older than orders are kept (R64)."""
        refs = erasure.old_orders(tx, self._kept_since(tx), ERASED_AT_ONCE)
        erasure.delete_orders(tx, refs)
        self._count(deleted=len(refs))
        return len(refs)

    def _old_payloads(self, tx: Transaction) -> int:
        return erasure.delete_old_payloads(tx, self._kept_since(tx))

    def _kept_since(self, tx: Transaction) -> datetime:
        since = self.retention.orders_since(tx.now)
        assert since is not None
        return since

    def _due_payloads(self, tx: Transaction) -> int:
        keys = quarantine.past_term(tx, self._over(tx), ERASED_AT_ONCE)
        self._count(payloads=len(quarantine.erase(tx, keys)))
        return len(keys)

    def _left_behind(self) -> None:
        """Erase records that no due order leads to any more."""
        after: int | None = 0
        while after is not None and not self.stopping():
            with self.store.read() as tx:
                over = self._over(tx)
                ids, after = erasure.left_behind(tx, after, over, over - UNFINISHED, CHECKED_AT_ONCE)
            for start in range(0, len(ids), ERASED_AT_ONCE):
                batch = ids[start : start + ERASED_AT_ONCE]
                self._count(records=self.store.commit(partial(self._erase_records, batch)))
                self.rest(PAUSE_SECONDS)

    def _erase_records(self, customer_ids: Collection[int], tx: Transaction) -> int:
        return erase_records(tx, customer_ids, self._over(tx), self.who)

    def _due_hashes(self, tx: Transaction) -> int:
        """Erase the e-mail hashes of customers that have been inactive for too long (R61)."""
        since = self.retention.unknown_since(tx.now)
        assert since is not None
        ids = erasure.idle_customers(tx, since, ERASED_AT_ONCE)
        records, last = customers.load(tx, ids), erasure.last_orders(tx, ids)
        for customer_id, record in records.items():
            ordered = last.get(customer_id, record.idle_since)
            if ordered is not None and ordered > since:
                erasure.set_idle(tx, customer_id, ordered)
                continue
            kept = tuple(main for main in record.emails if main.email is not None)
            customers.change(tx, replace(record, emails=kept, idle_since=None), record)
            merged = erasure.with_tombstones(tx, [customer_id])
            journal.erase(tx, merged, keep_entered=True, keep_hashes=False)
            if len(kept) < len(record.emails):
                customers.write_journal(tx, self.who, "purge", customer_id)
            self._count(hashes=len(record.emails) - len(kept))
        return len(ids)

    def _count(
        self, *, orders: int = 0, records: int = 0, hashes: int = 0, payloads: int = 0, deleted: int = 0
    ) -> None:
        self.done.orders += orders
        self.done.records += records
        self.done.hashes += hashes
        self.done.payloads += payloads
        self.done.deleted += deleted
        self.advanced(self.done.orders)


def _enter_terms(tx: Transaction) -> int:
    """Give a term to what an older version stored without one."""
    for account, order_id, first_seen in quarantine.without_term(tx):
        quarantine.set_term(tx, account, order_id, quarantine_term(None, first_seen))
    orders = erasure.without_term(tx, ERASED_AT_ONCE)
    erasure.save_terms(tx, {key: term(order).at for key, order in orders})
    return len(orders)


def erase_records(tx: Transaction, customer_ids: Collection[int], over: datetime, who: str) -> int:
    """Erase Amazon's data from the records that no order keeps. Return how many changed.

    The same happens to what was merged into them and to what the journal quotes. Their merges can still be
    undone, so hashes that merges hold are kept like those in slots (R61).
    """
    erasure.lock_customers(tx, customer_ids)
    ids = erasure.with_tombstones(tx, erasure.not_waiting(tx, customer_ids, over))
    records, last = customers.load(tx, ids), erasure.last_orders(tx, ids)
    holding = merges.hold_hashes(tx, ids)
    changed = 0
    for customer_id, record in records.items():
        left = erased(record)
        emptied = left != record
        if (hash_only(left) or customer_id in holding) and left.idle_since is None:
            left = replace(left, idle_since=last.get(customer_id, record.created_at))
        if left != record:
            customers.change(tx, left, record)
        if emptied:
            customers.write_journal(tx, who, "purge", customer_id)
            changed += 1
    journal.erase(tx, ids, keep_entered=True, keep_hashes=True)
    return changed
