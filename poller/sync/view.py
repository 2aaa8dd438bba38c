"""Reads what a decision about one source depends on; ``status`` shows the next step by the same view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from connectors.base import Operation
from poller.backfill.ground import Rates, grounds
from poller.ingest.sources import Source
from poller.sync import decide
from poller.sync.decide import Pace, View
from store import orders
from store.engine import Transaction
from store.progress import Backfill, MarketplaceProgress, SourceProgress, Window
from store.token_bucket import Bucket


@dataclass(frozen=True, slots=True)
class Rows:
    """What the ledger holds about one source. ``backfills``: those of its account to be carried out."""

    source: SourceProgress
    marketplaces: Mapping[str, MarketplaceProgress]
    windows: Sequence[Window]
    backfills: Sequence[Backfill]


def view_of(
    tx: Transaction,
    source: Source,
    rows: Rows,
    *,
    amazon_now: datetime,
    bucket: Callable[[Operation], Bucket],
    pace: Pace,
    owner: str,
) -> View:
    """Return the view of a source. ``bucket`` reads the stored budget of an operation."""
    search = bucket("searchOrders")
    backfills = [b for b in rows.backfills if b.marketplace_id in source.marketplaces]
    return View(
        source=rows.source,
        marketplaces={m: rows.marketplaces[m] for m in source.marketplaces},
        included_data={m: polled.included_data for m, polled in source.marketplaces.items()},
        windows=tuple(rows.windows),
        backfills=backfills,
        now=tx.now,
        amazon_now=amazon_now,
        bucket=search,
        pace=pace,
        owner=owner,
        grounds=grounds(
            tx, backfills, rows.windows, lambda: Rates(search, bucket("getOrder"), decide.slowest(pace))
        ),
    )


def with_second_edge(tx: Transaction, view: View) -> View:
    """Return the view with where the page of the next second look would be full, if one is due."""
    start = decide.second_look_start(view)
    if start is None or start == view.second_edge_after:
        return view
    ids, until = sorted(view.marketplaces), start + decide.SECOND_LOOK_SPAN
    edge = orders.nth_updated(tx, view.source.account, ids, start, until, decide.SECOND_LOOK_ORDERS)
    return replace(view, second_edge=edge, second_edge_after=start)
