"""Alerting people through apprise: gather the facts, decide, tell, and write down that it was told.

What is to be told is claimed in the database first, so that of several processes one tells it. A process
that dies while telling leaves it to the next one: better twice than never.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

from poller.ingest.accounts import Account, Setup
from poller.matching import buyer_visibility
from poller.monitoring.alert_rules import (
    KINDS,
    LATELY,
    Credential,
    Facts,
    Finding,
    Notice,
    Trouble,
    decide,
    troubles,
)
from poller.monitoring.attention import unproven
from poller.monitoring.gather import gather
from poller.monitoring.readiness import limits_of
from poller.monitoring.status import Status
from store import alerts as stored
from store import webhooks
from store.engine import Store, is_conflict
from store.queries import UNCOUNTED

log = structlog.get_logger("order_sync")


@dataclass(frozen=True, slots=True)
class Told:
    """Whether one address took a message. ``address`` says its kind, and nothing secret."""

    address: str
    accepted: bool
    problem: str | None = None


Tell = Callable[[str, str, bool], Sequence[Told]]
"""Tells a title and a text, and whether it is good news, to everybody."""


def kind_of(url: str, number: int) -> str:
    """An address as it may be shown: its place in the list and its scheme."""
    return f"number {number} ({url.partition('://')[0]})"


def through(urls: Sequence[str]) -> Tell:
    """Tell through apprise, whose own words are not repeated: they may hold what an address keeps secret."""

    def tell(title: str, text: str, good: bool) -> list[Told]:
        import apprise  # a quarter of a second, for those who have addresses

        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        kind = apprise.NotifyType.SUCCESS if good else apprise.NotifyType.WARNING
        results = []
        for number, url in enumerate(urls, 1):
            address = apprise.Apprise.instantiate(url)
            name = kind_of(url, number)
            if not isinstance(address, apprise.NotifyBase):
                results.append(Told(name, False, "apprise does not understand it"))
                continue
            try:
                accepted = bool(address.notify(body=text, title=title, notify_type=kind))
            except Exception as error:  # whatever one address does, the others are told
                results.append(Told(name, False, type(error).__name__))
                continue
            results.append(Told(name, accepted, None if accepted else "it was not accepted"))
        return results

    return tell


class Alerting:
    """Looks what is wrong, and tells it. ``tell`` stands in for apprise."""

    def __init__(self, store: Store, setup: Callable[[], Setup], tell: Tell | None = None) -> None:
        self._store = store
        self._setup = setup
        self._tell = tell

    def look(self) -> None:
        """Tell what people do not know yet. What another process is just seeing to is left to it."""
        try:
            given = facts(self._store, self._setup())
        except Exception as error:
            if not is_conflict(error):
                raise
        else:
            self.see(given)

    def see(self, facts: Facts) -> None:
        """Decide on these facts, and tell."""
        for notice in self._claimed(troubles(facts, limits_of(self._setup().settings))):
            if self._told(notice):
                with self._store.begin() as tx:
                    if notice.kind == "over":
                        stored.forget(tx, [notice.standing.alert])
                    else:
                        stored.note_notified(tx, notice.standing.alert)

    def _claimed(self, wrong: Sequence[Trouble]) -> Sequence[Notice]:
        """What this process is to tell; nothing when another one was first."""
        try:
            with self._store.begin() as tx:
                standing = stored.load(tx)
                decision = decide(wrong, standing, tx.now)
                stored.save(tx, decision.save, standing)
                stored.forget(tx, decision.forget)
        except Exception as error:
            if not is_conflict(error):
                raise
            return ()
        return decision.tell

    def _told(self, notice: Notice) -> bool:
        """Whether anybody was reached. Without addresses the log is who is told."""
        say = log.info if notice.kind == "over" else log.warning
        say("alert", alert=notice.standing.alert, state=notice.kind, problem=notice.standing.sentence)
        urls = self._setup().settings.alert_urls
        tell = self._tell or (through([url.get_secret_value() for url in urls]) if urls else None)
        if tell is None:
            return True
        results = tell(notice.title, notice.text, notice.kind == "over")
        for result in results:
            if not result.accepted:
                log.warning("alert was not delivered", address=result.address, problem=result.problem)
        return any(result.accepted for result in results)


def facts(store: Store, setup: Setup) -> Facts:
    """Everything that alerts are decided from."""
    status = gather(store, setup, lambda _: UNCOUNTED)
    credentials = _credentials(store, setup.accounts)
    with store.read() as tx:
        hooks = tuple((hook, webhooks.backlog(tx, hook)) for hook in webhooks.load(tx))
        lately = stored.quarantined_since(tx, tx.now - LATELY)
    return Facts(status, lately, credentials, hooks, tuple(_unproven(status)), tuple(_unshown(status)))


def _unproven(status: Status) -> Iterator[Finding]:
    for source in status.sources:
        for marketplace in source.marketplaces:
            name = f"{source.account}:{marketplace.marketplace}"
            if sentences := unproven(source.account, marketplace):
                yield Finding(name, " ".join(sentences))


def _unshown(status: Status) -> Iterator[Finding]:
    for source in status.sources:
        for drop in source.identity_drops:
            yield Finding(f"{source.source}:{drop.field}", buyer_visibility.sentence(source.source, drop))


def _credentials(store: Store, accounts: Mapping[str, Account]) -> tuple[Credential, ...]:
    """Since when what accounts identify themselves with is in use; what is new is written down."""
    used = _used(store.lookup.fingerprint, accounts)
    with store.read() as tx:
        since = stored.in_use_since(tx, used)
    if since.keys() != used.keys():
        with store.begin() as tx:
            since = stored.note_use(tx, used)
    return tuple(Credential(name, kind, since[name, kind]) for name in sorted(accounts) for kind in KINDS)


def _used(fingerprint: Callable[[str], str], accounts: Mapping[str, Account]) -> dict[tuple[str, str], str]:
    used: dict[tuple[str, str], str] = {}
    for name, account in accounts.items():
        settings = account.settings
        newest = settings.lwa_client_secret[0].get_secret_value()
        used[name, "secret"] = fingerprint(f"{settings.lwa_client_id}\0{newest}")
        used[name, "authorisation"] = fingerprint(settings.refresh_token.get_secret_value())
    return used
