"""A connector's view of the stored budget: every HTTP attempt takes a token here first.

If an access token is at hand, the token for a window's next page is taken in the transaction that claims
the window. Taking any other token renews the claim in the same transaction: a slow answer with retries
cannot outlive its claim unnoticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from connectors.base import Operation, UsagePlan
from connectors.errors import BudgetEmpty
from store import budgets, ledger
from store.budgets import BudgetKey
from store.engine import Store, Transaction
from store.progress import Window
from store.token_bucket import Bucket


def stored_bucket(
    tx: Transaction,
    application: str,
    account: str,
    operation: Operation,
    plans: Mapping[Operation, UsagePlan],
) -> Bucket:
    """Return an account's stored budget for one operation as of now; a full one before the first request."""
    plan = plans[operation]
    return budgets.read(tx, BudgetKey(application, account, operation), plan.rate, plan.burst)


@dataclass
class AccountBudget:
    """One account's stored buckets, and how many requests one run has made with their tokens.

    ``taken`` counts the requests that had a token, ``retries`` those of them that repeated a failed one.
    """

    store: Store
    application: str
    account: str
    plans: Mapping[Operation, UsagePlan]
    monotonic: Callable[[], float] = time.monotonic
    taken: int = 0
    retries: int = 0
    _rates: dict[str, float] = field(default_factory=dict)

    def key(self, operation: Operation) -> BudgetKey:
        return BudgetKey(self.application, self.account, operation)

    def bucket(self, tx: Transaction, operation: Operation) -> Bucket:
        """Read the bucket of one operation, without taking a token."""
        return stored_bucket(tx, self.application, self.account, operation, self.plans)

    def take(self, tx: Transaction, operation: Operation, reserve: float = 0.0) -> datetime | None:
        """Take a token, leaving ``reserve``. Return None, or when to come back if there was no token."""
        plan = self.plans[operation]
        bucket, ready = budgets.take(tx, self.key(operation), plan.rate, plan.burst, reserve)
        self._rates[operation] = bucket.rate
        return ready

    def take_ahead(self, tx: Transaction, reserve: float) -> float | None:
        """Take the searchOrders token of a window in the transaction that claims the window.

        Return what ``Allowance.prepaid_at`` is, once ``tx`` has committed; None if there was no token.
        """
        return tx.began_at if self.take(tx, "searchOrders", reserve) is None else None

    def count(self, *, again: bool) -> None:
        """Count a request whose token is taken and committed."""
        self.taken += 1
        self.retries += again

    def set_rate(self, operation: Operation, rate: float) -> None:
        """Store the rate that Amazon named, if the last token was counted with another one."""
        if self._rates.get(operation) == rate:
            return
        plan = self.plans[operation]
        with self.store.begin(durable=False) as tx:
            budgets.set_rate(tx, self.key(operation), plan.rate, plan.burst, rate)
        self._rates[operation] = rate

    def drain(self, operation: Operation) -> datetime:
        """Empty a bucket. Return when its next token is there."""
        plan = self.plans[operation]
        with self.store.begin(durable=False) as tx:
            return budgets.drain(tx, self.key(operation), plan.rate, plan.burst)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one connector call may spend of its account's budget (a ``connectors.base.Budget``).

    ``reserves`` are the tokens left in each bucket. ``window``'s claim is renewed with each token.
    ``prepaid_at`` is when the first request's token was taken ahead (monotonic seconds), if it was.
    """

    budget: AccountBudget
    reserves: Mapping[Operation, float] = field(default_factory=dict)
    window: Window | None = None
    prepaid_at: float | None = None

    def take(self, operation: Operation, *, again: bool = False) -> None:
        """Take a token. Raises BudgetEmpty; ``store.ledger.Superseded`` if the window's claim is lost."""
        if self.prepaid_at is not None and operation == "searchOrders" and not again:
            self._check_claim(self.prepaid_at)
        else:
            with self.budget.store.begin(durable=False) as tx:
                if self.window is not None:
                    ledger.renew(tx, self.window)
                ready = self.budget.take(tx, operation, self.reserves.get(operation, 0.0))
            if ready is not None:
                raise BudgetEmpty(f"the budget for {operation} is used up", ready)
        self.budget.count(again=again)

    def _check_claim(self, claimed_at: float) -> None:
        """Renew the claim, unless it was made just now. Raises Superseded if it is lost."""
        if (
            self.window is not None
            and self.budget.monotonic() - claimed_at > ledger.UNRENEWED.total_seconds()
        ):
            with self.budget.store.begin(durable=False) as tx:
                ledger.renew(tx, self.window)

    def observe_rate(self, operation: Operation, rate: float) -> None:
        """Amazon named its rate."""
        self.budget.set_rate(operation, rate)

    def drain(self, operation: Operation) -> datetime:
        """Amazon answered 429. Return when the next token is there."""
        return self.budget.drain(operation)
