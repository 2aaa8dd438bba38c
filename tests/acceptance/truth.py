"""What a shop has claimed and stored, held against the simulator's truth instead of against what was served.

The naive oracle judges what became of the answers that came; only a look at the world itself shows an
order that never came, although its stretch of time is claimed as seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import InvalidOperation

import sqlalchemy as sa

from connectors.simulator.orders import Version
from poller.sync.decide import SHORTEST_OVERLAP, SIGNPOST_MARGIN
from store import codec, ledger, quarantine
from store.progress import Interval, gaps
from store.tables import orders, windows
from tests.harness import Shop
from tests.oracle import read

SECOND_LOOK = timedelta(hours=24)
"""An order that Amazon shows less late than this is found by the second look (the design's promise)."""

OVERLAP = SIGNPOST_MARGIN + SHORTEST_OVERLAP
"""An order that Amazon shows less late than this is found by live looks (the design's promise)."""


def stored_versions(shop: Shop) -> dict[str, datetime]:
    """The update time of the stored version of every order, by order id."""
    with shop.store.read() as tx:
        return {row.order_id: row.last_updated_at for row in tx.rows(sa.select(orders))}


def quarantined_ids(shop: Shop) -> set[str]:
    with shop.store.read() as tx:
        return {entry.order_id for entry in quarantine.entries(tx)}


def covered(shop: Shop, marketplace_id: str) -> dict[str, list[Interval]]:
    """What is claimed as seen of a marketplace, by look."""
    account = shop.account_rules().account
    with shop.store.read() as tx:
        return {
            "first": ledger.read_coverage(tx, account, marketplace_id, "first"),
            "second": ledger.read_coverage(tx, account, marketplace_id, "second"),
            "created": ledger.read_coverage(tx, account, marketplace_id, "created"),
        }


def has_id(version: Version) -> bool:
    """Whether anybody can tell which order this is; some poisoned ones do not say."""
    payload = version.payload if version.facts.poison else {"orderId": version.facts.order_id}
    return isinstance(payload, dict) and isinstance(payload.get("orderId"), str)


def overclaimed(shop: Shop) -> list[str]:
    """Orders that are not stored in their present version, although their time is claimed as seen.

    What Amazon shows late counts for the first look only when the overlap must have found it, and for the
    second look, which is what it is for.
    """
    now = shop.simulator.amazon_now()
    stored, aside = stored_versions(shop), quarantined_ids(shop)
    claims = {r.marketplace_id: covered(shop, r.marketplace_id) for r in shop.rules}
    unread = being_read(shop)
    found = []
    for order in shop.simulator.world.orders():
        version = order.current(now)
        if version is None or order.listed_under not in claims or not has_id(version):
            continue
        if order.is_of_other_shop:
            continue
        claim = claims[order.listed_under]
        seen = stored.get(order.order_id)
        present = seen is not None or order.order_id in aside
        newest = (seen is not None and seen >= version.last_updated) or order.order_id in aside
        updated, late = version.last_updated, version.visible_at - version.last_updated
        settled = order.listed_under not in unread
        if not newest and late == timedelta(0) and _within(updated, claim["first"]):
            found.append(f"{order.order_id}: its update is claimed as seen, but is not stored")
        if not newest and late <= OVERLAP and settled and _within(updated, claim["first"], OVERLAP):
            found.append(f"{order.order_id}: the overlap must have shown its update, but it is not stored")
        if not newest and late < SECOND_LOOK and _within(updated, claim["second"]):
            found.append(f"{order.order_id}: claimed as seen by the second look, but is not stored")
        punctual = order.versions[0].visible_at == order.created
        if not present and punctual and _within(order.created, claim["created"]):
            found.append(f"{order.order_id}: its creation is claimed as seen, but it is not stored")
    return found


def _within(moment: datetime, seen: list[Interval], beyond: timedelta = timedelta(0)) -> bool:
    """Whether a time, and what follows it, was seen without a gap."""
    return any(interval.lower <= moment and moment + beyond <= interval.upper for interval in seen)


def being_read(shop: Shop) -> set[str]:
    """Marketplaces of which live windows are still open, in doubt or set aside."""
    c = windows.c
    query = sa.select(c.marketplace_ids).where(c.kind == "live", c.state.not_in(("done", "cancelled")))
    with shop.store.read() as tx:
        return {m for row in tx.rows(query) for m in codec.load_words(row.marketplace_ids)}


def incomplete(shop: Shop, live_from: datetime, start: datetime) -> list[str]:
    """Orders of the seller's configured marketplaces that are not stored as Amazon shows them at last.

    ``start`` is where history begins. Of a change that lies before ``live_from`` and was shown late, only
    the order itself is promised.
    """
    stored, aside = stored_versions(shop), quarantined_ids(shop)
    mine = {r.marketplace_id for r in shop.rules} & shop.simulator.world.sellers[
        shop.seller.name
    ].marketplace_ids
    now = shop.simulator.amazon_now()
    found = []
    for order in shop.simulator.world.orders():
        version = order.current(now)
        if version is None or order.listed_under not in mine or not has_id(version):
            continue
        if order.is_of_other_shop:
            continue
        if order.created < start and version.last_updated < live_from:
            continue
        if order.order_id in aside and version.facts.poison:
            continue
        seen = stored.get(order.order_id)
        promised = version.last_updated >= live_from or version.visible_at <= version.last_updated
        if seen is None:
            found.append(f"{order.order_id}: is not stored")
        elif promised and seen < version.last_updated:
            found.append(f"{order.order_id}: its last change is not stored")
    return found


def misplaced(shop: Shop) -> Iterator[str]:
    """Whether quarantine holds exactly what the oracle could not read either when it was served last."""
    sound = {o.order_id for o in shop.simulator.world.orders() if not o.versions[0].facts.poison}
    expected: dict[str, set[str]] = {}
    for payload in (payload for served in shop.simulator.served for payload in served.orders):
        order_id = payload.get("orderId") if isinstance(payload, dict) else None
        if order_id in sound:
            continue
        text = json.dumps(payload, sort_keys=True)
        name = order_id if isinstance(order_id, str) else text
        try:
            read(payload, ())  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation):
            expected.setdefault(name, set()).add(text)
        else:
            expected.pop(name, None)
    with shop.store.read() as tx:
        entries = quarantine.entries(tx)
    for entry in entries:
        text = json.dumps(json.loads(entry.payload), sort_keys=True)
        if text not in (expected.pop(entry.order_id, None) or expected.pop(text, set())):
            yield f"{entry.order_id} should not be in quarantine ({entry.reason})"
    for name in expected:
        yield f"{name[:40]} should be in quarantine"


def unfinished(shop: Shop, live_from: datetime) -> Iterator[str]:
    """Windows that are still open, backfills that are not done, and gaps in what must have been seen."""
    account = shop.account_rules().account
    enrolled = shop.simulator.world.sellers[shop.seller.name].marketplace_ids
    with shop.store.read() as tx:
        for row in tx.rows(sa.select(windows).where(windows.c.state.not_in(("done", "cancelled")))):
            if enrolled.isdisjoint(codec.load_words(row.marketplace_ids)):
                continue  # waits until the seller is enrolled there
            yield f"window {row.window_id} ({row.kind}, {row.axis}) is {row.state}: {row.last_error}"
        for backfill in ledger.load_backfills(tx, account):
            if backfill.state != "done" and backfill.marketplace_id in enrolled:
                yield f"backfill {backfill.backfill_id} is {backfill.state}"
        progress = ledger.load_marketplaces(tx, account)
    yesterday = shop.simulator.amazon_now() - timedelta(hours=12)
    for asked in shop.simulator.requests:
        if asked.at > yesterday and asked.status not in (200, 404):
            yield f"{asked.operation} is still answered with {asked.status} at {asked.at}"
    for rules in shop.rules:
        seen = covered(shop, rules.marketplace_id)
        if rules.marketplace_id not in enrolled:
            if any(seen.values()):
                yield f"{rules.code}: claimed as seen, but the seller is not enrolled there"
            continue
        newest = progress[rules.marketplace_id].position
        if newest < shop.clock() - timedelta(hours=12):
            yield f"{rules.code}: live reading has only got to {newest}"
        for gap in gaps(seen["first"], live_from, newest):
            yield f"{rules.code}: not seen between {gap.lower} and {gap.upper}"


__all__ = ["covered", "incomplete", "misplaced", "overclaimed", "stored_versions", "unfinished"]
