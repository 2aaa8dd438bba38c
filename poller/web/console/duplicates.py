"""The page of duplicates: pairs that may be one customer, found by a search in a thread of its own."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Query, Request, Response

from poller.customers import duplicates
from poller.customers.duplicates import Pair, Suggestions
from poller.customers.likeness import WORDS
from poller.web.console.rendering import page, redirect_to, unchanged
from poller.web.customers import duplicate_search
from poller.web.dependencies import LARGEST_ID, CallerDep, ServiceDep
from poller.web.masking import Viewer, customers_for
from poller.web.problems import Problem
from store import customers, queries
from store.engine import Store, Transaction

router = APIRouter()
log = structlog.get_logger("order_sync")

MAX_PAIRS = 100


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Suggested pairs, and when the search for them began."""

    at: datetime
    suggestions: Suggestions


class DuplicateSearch:
    """Searches for duplicates in a thread, since it reads all customers; one search at a time."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.checked: int | None = None
        """Customers checked so far; None while no search runs."""
        self.total = 0
        self.result: SearchResult | None = None
        self.failed = False

    def start(self, store: Store) -> None:
        """Start a search, unless one is running."""
        if not duplicate_search.acquire(blocking=False):
            return
        self.checked, self.failed = 0, False
        threading.Thread(target=self._run, args=(store,), name="duplicates", daemon=True).start()

    def _run(self, store: Store) -> None:
        try:
            with store.read() as tx:
                self.total = queries.count_customers(tx)
                suggestions = duplicates.find(tx, limit=MAX_PAIRS, tell=self._report)
                self.result = SearchResult(tx.now, suggestions)
        except Exception as error:
            self.failed = True
            log.error("looking for duplicates broke", error=type(error).__name__)
        finally:
            self.checked = None
            duplicate_search.release()

    def _report(self, checked: int) -> None:
        if self._stop.is_set():
            raise Problem(503, "stopping", "the service is stopping.")
        self.checked = checked


def _search(request: Request) -> DuplicateSearch:
    search: DuplicateSearch = request.app.state.duplicates
    return search


@router.get("/duplicates")
def show_duplicates(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    kept: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
    merged: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
    moved: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """Show the pairs that the last search found and that are still two customers."""
    search = _search(request)
    checked, result = search.checked, search.result
    with service.store.read() as tx:
        state = (
            queries.last_change(tx, "customers"),
            checked,
            search.total,
            search.failed,
            result and result.at,
        )
        if (same := unchanged(request, state)) is not None:
            return same
        pairs = [] if result is None or checked is not None else _standing(tx, result.suggestions.pairs)
        ids = {customer_id for pair in pairs for customer_id in (pair.customer_id, pair.other_id)}
        records = customers.load(tx, ids)
        orders = customers.order_counts(tx, ids) if ids else {}
    return page(
        request,
        "duplicates.html",
        state=state,
        checked=checked,
        total=search.total,
        failed=search.failed,
        result=result,
        pairs=[] if not pairs else _shown(caller, pairs, records, orders),
        kept=kept,
        merged=merged,
        moved=moved,
    )


def _standing(tx: Transaction, pairs: tuple[Pair, ...]) -> list[Pair]:
    """Return the pairs of which both are living customers."""
    ids = {customer_id for pair in pairs for customer_id in (pair.customer_id, pair.other_id)}
    living = {i for i, status in queries.statuses(tx, ids).items() if status in ("active", "unidentified")}
    return [pair for pair in pairs if {pair.customer_id, pair.other_id} <= living]


def _shown(
    caller: Viewer, pairs: list[Pair], records: dict[int, Any], orders: dict[int, int]
) -> list[dict[str, Any]]:
    """Return the pairs with both customers as the caller may see them."""
    shown = {customer["customer_id"]: customer for customer in customers_for(caller, records.values())}
    return [
        {
            "sides": [
                {**shown[customer_id], "orders": orders[customer_id]}
                for customer_id in (pair.customer_id, pair.other_id)
            ],
            "score": pair.score,
            "why": [WORDS[reason] for reason in pair.reasons],
        }
        for pair in pairs
    ]


@router.post("/duplicates")
def find_duplicates(request: Request, service: ServiceDep) -> Response:
    """Start a search for duplicates."""
    _search(request).start(service.store)
    return redirect_to("/duplicates")
