"""What a run does before its first page: enter its source into the ledger, catch up with a new configuration
or version, ask once a day where the seller is enrolled. Most runs find all of it done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import structlog

from connectors.base import Budget, OrderConnector, PayloadReader
from connectors.errors import AccessRefused, ConnectorError, CredentialsRefused
from connectors.marketplaces import BY_ID
from poller.ingest.apply import decide_again, narrow_down
from poller.ingest.quarantine import after_upgrade
from poller.ingest.sources import Source
from poller.sync.decide import SETTLED_AFTER
from poller.sync.view import Rows
from poller.version import program_version
from store import ledger, orders, queries, runs
from store.engine import Store, Transaction, Unavailable, is_conflict
from store.progress import MarketplaceProgress, SourceProgress, Way

log = structlog.get_logger("order_sync")

ENROLMENT_EVERY = timedelta(days=1)
ENROLMENT_AGAIN = timedelta(minutes=5)
"""A marketplace that was missing from one answer is requested again this much later before it is believed."""


# --- the source and its marketplaces ----------------------------------------------------------------


def enter_source(tx: Transaction, source: Source) -> SourceProgress:
    """Return what a source did last, after entering it if it is new."""
    progress = ledger.load_source(tx, source.key)
    if progress is None:
        progress = SourceProgress(source.key, source.account)
        ledger.save_source(tx, progress, new=True)
    return progress


def enter(tx: Transaction, source: Source, start: datetime, history_by: Way) -> Rows:
    """Enter what is new of a source: live looks begin at ``start``, history is fetched before it."""
    progress = enter_source(tx, source)
    known = ledger.load_marketplaces(tx, source.account)
    for marketplace_id, polled in source.marketplaces.items():
        before = known.get(marketplace_id)
        since = datetime.combine(polled.start_date, time(), UTC)
        since = max(since, source.rules.retention.orders_since(tx.now) or since)
        if before is None:
            # A day of history is not settled yet: orders of it may be shown after the backfill has read it.
            settled = min(start, max(start - SETTLED_AFTER, since))
            before = MarketplaceProgress(
                source.account, marketplace_id, source.key, start, start, start, settled
            )
            ledger.save_marketplace(tx, before, new=True)
        after = _open_history(tx, replace(before, source=source.key), since, history_by)
        if after != before:
            ledger.save_marketplace(tx, after)
        known[marketplace_id] = after
    source_of = {m: each.source for m, each in known.items()}
    pending = ledger.adopt_windows(tx, source.account, source.key, source_of)
    return Rows(progress, known, pending, ledger.wanted_backfills(tx, source.account))


def read(tx: Transaction, source: Source) -> Rows:
    """Return what the ledger holds about a source that was entered; locks the source."""
    progress = ledger.load_source(tx, source.key)
    if progress is None:
        raise LookupError(f"source {source.key} is not in the ledger")
    return Rows(
        progress,
        ledger.load_marketplaces(tx, source.account),
        ledger.pending_windows(tx, source.account, source.key),
        ledger.wanted_backfills(tx, source.account),
    )


def _open_history(
    tx: Transaction, progress: MarketplaceProgress, since: datetime, way: Way
) -> MarketplaceProgress:
    reached = progress.history_from or progress.live_from
    if since >= reached:
        return progress
    ledger.open_backfill(tx, progress.account, progress.marketplace_id, "start_date", since, reached, way)
    return replace(progress, history_from=since)


# --- what waited for another configuration, or another version of this program ----------------------


def is_due(tx: Transaction, source: Source, rows: Rows) -> bool:
    """Return True if ``catch_up`` or ``daily`` has something to do."""
    is_behind = queries.is_behind(tx, source.account, program_version(), *_configured(source))
    return is_behind or _is_enrolment_due(rows, tx.now)


def catch_up(store: Store, source: Source, read_payload: PayloadReader) -> None:
    """Give orders their customers that waited for the configuration; read again what could not be read.

    They wait because their marketplace was unknown (R26) or held those without an e-mail (R21).
    """
    broken: set[str] = set()

    def match_some(tx: Transaction) -> bool:
        listed = orders.waiting(tx, source.account, *_configured(source), limit=200 + len(broken))
        waiting = [order_id for order_id in listed if order_id not in broken]
        broken.update(_match(tx, source, waiting))
        return bool(waiting)

    with store.read() as tx:
        if not queries.is_behind(tx, source.account, program_version(), *_configured(source)):
            return
    while store.commit(match_some):
        pass
    while store.commit(lambda tx: after_upgrade(tx, source.rules, 50, read_payload)):
        pass


def _match(tx: Transaction, source: Source, order_ids: Sequence[str]) -> Sequence[str]:
    """Match orders again. Return those that break alone.

    They stay without a customer, and are tried again at the next run. Raises a conflict.
    """

    def match(ids: Sequence[str]) -> None:
        with tx.savepoint():
            decide_again(tx, source.rules, ids)

    broken = narrow_down(order_ids, match, lambda e: isinstance(e, Unavailable) or is_conflict(e))
    for order_id, error in broken:
        name = type(error).__name__
        log.error("an order could not be matched", order=order_id, error=name, exc_info=error)
    return [order_id for order_id, _ in broken]


def _configured(source: Source) -> tuple[list[str], list[str]]:
    """Return the marketplaces that are configured, and those of them that hold no order back."""
    by_marketplace = source.rules.by_marketplace
    holding_none = sorted(m for m, rules in by_marketplace.items() if rules.without_email != "hold")
    return sorted(by_marketplace), holding_none


# --- once a day -------------------------------------------------------------------------------------


def daily(store: Store, connector: OrderConnector, source: Source, rows: Rows, budget: Budget) -> None:
    """Prune the ledger, and ask where the seller is enrolled, if that is due. Raises CredentialsRefused."""
    if not _is_enrolment_due(rows, store.now()):
        return

    def prune(tx: Transaction) -> None:
        ledger.forget_finished(tx, source.key)
        runs.condense(tx, source.key)

    store.commit(prune)
    enrolled: frozenset[str] | None = None
    try:
        enrolled = connector.participations(budget)
    except CredentialsRefused:
        raise
    except AccessRefused:
        pass  # an application without the role for it; searches show it, too
    except ConnectorError:
        return  # the next run requests it again
    store.commit(lambda tx: _note_enrolment(tx, source, enrolled))


def _is_enrolment_due(rows: Rows, now: datetime) -> bool:
    asked_at = rows.source.enrolment_at
    if asked_at is None:
        return True
    is_unsure = any(
        m.absent_since is not None and abs(asked_at - m.absent_since) < ENROLMENT_AGAIN
        for m in rows.marketplaces.values()
        if m.source == rows.source.source
    )
    return abs(now - asked_at) >= (ENROLMENT_AGAIN if is_unsure else ENROLMENT_EVERY)


def _note_enrolment(tx: Transaction, source: Source, enrolled: frozenset[str] | None) -> None:
    progress = ledger.load_source(tx, source.key)
    if progress is None:
        return
    ledger.save_source(tx, replace(progress, enrolment_at=tx.now))
    if enrolled is None or not enrolled & BY_ID.keys() & source.rules.by_marketplace.keys():
        return  # no answer, or one about other shops altogether, as the sandbox gives: it says nothing
    for before in ledger.load_marketplaces(tx, source.account).values():
        if before.marketplace_id in source.marketplaces:
            after = after_answer(before, before.marketplace_id in enrolled, tx.now)
            if after != before:
                ledger.save_marketplace(tx, after)


def after_answer(before: MarketplaceProgress, is_listed: bool, now: datetime) -> MarketplaceProgress:
    """Return a marketplace after Amazon listed the seller's marketplaces with or without it.

    One that was enrolled before counts as absent only at the second answer: answers may be incomplete.
    """
    if is_listed:
        if before.enrolled is True and before.absent_since is None:
            return before
        trouble = None if before.enrolled is False else before.trouble
        return replace(before, enrolled=True, absent_since=None, trouble=trouble)
    absent_since = before.absent_since or now
    if before.enrolled is True and now - absent_since < ENROLMENT_AGAIN:
        return replace(before, absent_since=absent_since)
    trouble = "the seller is not enrolled in this marketplace"
    return replace(before, enrolled=False, absent_since=absent_since, trouble=trouble)


def not_polled(source: Source, marketplaces: Mapping[str, MarketplaceProgress]) -> str | None:
    """Return which wanted marketplaces are not polled, in a sentence; None if all are."""
    codes = sorted(
        polled.code
        for marketplace_id, polled in source.marketplaces.items()
        if marketplace_id in marketplaces and marketplaces[marketplace_id].enrolled is False
    )
    return f"{' and '.join(codes)}, where the seller is not enrolled" if codes else None
