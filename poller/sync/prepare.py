"""What a run sees to before its first page: that the ledger knows its source as the configuration has it.

Most runs find all of it done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta

from connectors.base import Budget, OrderConnector, PayloadReader
from connectors.errors import ConnectorError, CredentialsRefused
from poller.ingest.apply import decide_again
from poller.ingest.quarantine import after_upgrade
from poller.ingest.sources import Source
from poller.version import program_version
from store import ledger, orders, queries, runs
from store.engine import Store, Transaction
from store.progress import MarketplaceProgress, SourceProgress, Way, Window

ENROLMENT_EVERY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Entered:
    """A source as it stands in the ledger, with all marketplaces of its account by their ids."""

    source: SourceProgress
    marketplaces: dict[str, MarketplaceProgress]
    pending: tuple[Window, ...]
    """The source's own windows that are not finished, oldest first."""


# --- the source and its marketplaces ----------------------------------------------------------------


def enter(tx: Transaction, source: Source, start: datetime, history_by: Way) -> Entered:
    """Enter what is new of a source: live reading begins at ``start``, history is to be fetched before it."""
    progress = ledger.load_source(tx, source.key)
    if progress is None:
        progress = SourceProgress(source.key, source.account, created_pass_at=tx.now)
        ledger.save_source(tx, progress, new=True)
    known = ledger.load_marketplaces(tx, source.account)
    for marketplace_id, polled in source.marketplaces.items():
        before = known.get(marketplace_id)
        if before is None:
            before = MarketplaceProgress(source.account, marketplace_id, source.key, start, start, start)
            ledger.save_marketplace(tx, before, new=True)
        since = datetime.combine(polled.start_date, time(), UTC)
        after = _open_history(tx, replace(before, source=source.key), since, history_by)
        if after != before:
            ledger.save_marketplace(tx, after)
        known[marketplace_id] = after
    source_of = {m: each.source for m, each in known.items()}
    return Entered(progress, known, ledger.adopt_windows(tx, source.account, source.key, source_of))


def _open_history(
    tx: Transaction, progress: MarketplaceProgress, since: datetime, way: Way
) -> MarketplaceProgress:
    reached = progress.history_from or progress.live_from
    if since >= reached:
        return progress
    ledger.open_backfill(tx, progress.account, progress.marketplace_id, "start_date", since, reached, way)
    return replace(progress, history_from=since)


# --- what waited for another configuration, or another version of this program ----------------------


def is_behind(tx: Transaction, source: Source) -> bool:
    """Whether ``catch_up`` has something to do."""
    return queries.is_behind(tx, source.account, program_version(), *_now_known(source))


def catch_up(store: Store, source: Source, read_payload: PayloadReader) -> None:
    """Give orders their customers that waited for the configuration; read again what could not be read.

    They wait because their marketplace was unknown (R26) or held those without an e-mail (R21).
    """

    def match_some(tx: Transaction) -> bool:
        waiting = orders.waiting(tx, source.account, *_now_known(source), limit=200)
        decide_again(tx, source.rules, waiting)
        return bool(waiting)

    while store.commit(match_some):
        pass
    while store.commit(lambda tx: after_upgrade(tx, source.rules, 50, read_payload)):
        pass


def _now_known(source: Source) -> tuple[list[str], list[str]]:
    """The marketplaces that are configured, and those of them that hold no order back."""
    by_marketplace = source.rules.by_marketplace
    holding_none = sorted(m for m, rules in by_marketplace.items() if rules.without_email != "hold")
    return sorted(by_marketplace), holding_none


# --- once a day -------------------------------------------------------------------------------------


def enrolment_is_due(progress: SourceProgress, now: datetime) -> bool:
    """Whether it is time to ask where the seller is enrolled."""
    return progress.enrolment_at is None or abs(now - progress.enrolment_at) >= ENROLMENT_EVERY


def tidy(store: Store, source: Source) -> None:
    """Let go of what nobody will ask for again."""

    def forget(tx: Transaction) -> None:
        ledger.forget_finished(tx, source.key)
        runs.condense(tx, source.key)

    store.commit(forget)


def check_enrolment(store: Store, connector: OrderConnector, source: Source, budget: Budget) -> None:
    """A marketplace that the seller is not enrolled in stops alone. Raises CredentialsRefused."""
    try:
        enrolled = connector.participations(budget)
    except CredentialsRefused:
        raise
    except ConnectorError:
        return  # asked again at the next run; a wrong enrolment also shows in the answers to searches
    with store.begin() as tx:
        progress = ledger.load_source(tx, source.key)
        if progress is None:
            return
        ledger.save_source(tx, replace(progress, enrolment_at=tx.now))
        if not enrolled & source.rules.by_marketplace.keys():
            return  # an answer about other shops altogether (the sandbox does this): not to be believed
        for marketplace in ledger.load_marketplaces(tx, source.account).values():
            is_enrolled = marketplace.marketplace_id in enrolled
            if marketplace.marketplace_id in source.marketplaces and marketplace.enrolled is not is_enrolled:
                trouble = None if is_enrolled else "the seller is not enrolled in this marketplace"
                ledger.save_marketplace(tx, replace(marketplace, enrolled=is_enrolled, trouble=trouble))
