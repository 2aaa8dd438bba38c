"""A connector's view of the stored budget: every HTTP attempt takes a token here first.

The token for a page is taken in the transaction that claims its window, when nothing has to be fetched
before. Taking any other one renews the claim in the same transaction, so that a slow answer with retries
never outlives its claim unnoticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from connectors.base import Operation, UsagePlan
from connectors.errors import BudgetEmpty
from store import budgets, ledger
from store.bucket import Bucket
from store.budgets import BudgetKey
from store.engine import Store, Transaction
from store.progress import Window


def stored_bucket(
    tx: Transaction,
    application: str,
    account: str,
    operation: Operation,
    plans: Mapping[Operation, UsagePlan],
) -> Bucket:
    """An account's stored budget for one operation, as of now; a full one before the first request."""
    plan = plans[operation]
    return budgets.read(tx, BudgetKey(application, account, operation), plan.rate, plan.burst)


@dataclass
class Spending:
    """One caller's budget for one account.

    ``taken`` counts the requests that had a token, ``retries`` those of them for what had failed before.
    """

    store: Store
    application: str
    account: str
    plans: Mapping[Operation, UsagePlan]
    reserve: float = 0.0
    """Left in searchOrders' bucket."""
    reserves: dict[Operation, float] = field(default_factory=dict)
    """Left in the buckets of other operations."""
    window: Window | None = None
    paid: bool = False
    """Whether searchOrders' next token was taken ahead, and that is committed."""
    monotonic: Callable[[], float] = time.monotonic
    taken: int = 0
    retries: int = 0
    _rates: dict[str, float] = field(default_factory=dict)
    _claimed_at: float = 0.0

    def key(self, operation: Operation) -> BudgetKey:
        return BudgetKey(self.application, self.account, operation)

    def bucket(self, tx: Transaction, operation: Operation) -> Bucket:
        """The budget of one operation, without taking."""
        return stored_bucket(tx, self.application, self.account, operation, self.plans)

    def take(self, operation: Operation, *, again: bool = False) -> None:
        """Take a token. Raises BudgetEmpty; ``store.ledger.Superseded`` when the claim is lost."""
        if self.paid and operation == "searchOrders":
            self.paid = False
            self._see_that_it_is_ours()
            self.taken += 1
            return
        with self.store.begin(durable=False) as tx:
            if self.window is not None:
                ledger.renew(tx, self.window)
            reserve = self.reserve if operation == "searchOrders" else self.reserves.get(operation, 0.0)
            ready = self._take(tx, operation, reserve)
        if ready is not None:
            raise BudgetEmpty(f"the budget for {operation} is used up", ready)
        self.taken += 1
        self.retries += again

    def _see_that_it_is_ours(self) -> None:
        """Renew the claim that a token was taken with, if that was not just now. Raises Superseded."""
        if self.window is not None and self.monotonic() - self._claimed_at > ledger.FRESH.total_seconds():
            with self.store.begin(durable=False) as tx:
                ledger.renew(tx, self.window)

    def take_ahead(self, tx: Transaction, reserve: float) -> bool:
        """Take searchOrders' next token in a transaction that has just claimed the window that it is for.

        Whether there was one; what is committed counts, so ``paid`` is set by whoever has committed it.
        """
        self._claimed_at = tx.began_at
        return self._take(tx, "searchOrders", reserve) is None

    def _take(self, tx: Transaction, operation: Operation, reserve: float) -> datetime | None:
        """Take a token within a transaction. Returns when to come back, if there was none."""
        plan = self.plans[operation]
        bucket, ready = budgets.take(tx, self.key(operation), plan.rate, plan.burst, reserve)
        self._rates[operation] = bucket.rate
        return ready

    def observe_rate(self, operation: Operation, rate: float) -> None:
        """Amazon named its rate; written only when it is another than the token was counted with."""
        if self._rates.get(operation) == rate:
            return
        plan = self.plans[operation]
        with self.store.begin(durable=False) as tx:
            budgets.set_rate(tx, self.key(operation), plan.rate, plan.burst, rate)
        self._rates[operation] = rate

    def drain(self, operation: Operation) -> datetime:
        """Amazon answered 429. Returns when the next token is there."""
        plan = self.plans[operation]
        with self.store.begin(durable=False) as tx:
            return budgets.drain(tx, self.key(operation), plan.rate, plan.burst)
