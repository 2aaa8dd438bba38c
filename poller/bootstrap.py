"""The composition root: builds connectors, sources and the store from the configuration.

Only this file, the command line and the running process know the real clock, the real network and the
environment. Everything below is given what it needs.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import structlog

from config.load import Config, fingerprint, load
from config.marketplaces import MarketplaceSettings
from config.problems import Problem
from config.settings import AccountSettings
from connectors.amazon.auth import TOKEN_URL, Credentials
from connectors.amazon.connector import AmazonConnector
from connectors.amazon.parse import order_of_json
from connectors.amazon.usage_plans import PLANS
from connectors.base import Attempt, PayloadReader
from connectors.errors import Deferred
from connectors.marketplaces import BY_NAME, ENDPOINTS
from poller.errors import Unusable
from poller.ingest.accounts import Account, Setup
from poller.ingest.sources import AccountRules, PolledMarketplace, Source, ids_of, sources_of
from poller.matching.marketplace_rules import MarketplaceRules
from poller.sync.decide import Pace
from poller.sync.run import SourceSync
from store import accounts, revisions, transfer
from store.engine import Engine, Store, create_engine, file_of, make_private, try_writing
from store.records import normal_email
from store.sealing import Sealer

log = structlog.get_logger("order_sync")


class Stopping(Deferred):
    """The process is shutting down; the next start continues."""


class Tally:
    """Counts HTTP attempts by operation and outcome, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.retried: Counter[str] = Counter()

    def __call__(self, attempt: Attempt) -> None:
        with self._lock:
            self.outcomes[attempt.operation, attempt.outcome] += 1
            if attempt.retried:
                self.retried[attempt.outcome] += 1

    def counts(self) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
        """Return attempts by operation and outcome, and attempts that were retried, by outcome."""
        with self._lock:
            return dict(self.outcomes), dict(self.retried)


def utc_now() -> datetime:
    return datetime.now(UTC)


def endpoint_of(settings: AccountSettings, region: str) -> str:
    """Return the SP-API base URL of an account."""
    return settings.endpoint or {str(name): url for name, url in ENDPOINTS.items()}[region]


def token_url_of(settings: AccountSettings) -> str:
    """Return the URL that issues an account's access tokens."""
    return settings.token_url or TOKEN_URL


def spare_the_collector() -> None:
    """Make Python search for reference cycles far less often. Call once, after all imports.

    A page is thousands of small objects without cycles: the search took a third of its time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _owner() -> str:
    """Return a unique name of this process, for claims."""
    return f"{socket.gethostname()[:30]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Service:
    """Everything wired together. A context manager; ``reload`` reloads the configuration."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.stop = threading.Event()
        self.tally = Tally()
        self.read_payload: PayloadReader = order_of_json
        self._rng = random.Random()
        self.owner = _owner()
        self.config: Config = load(environ, BY_NAME)
        self.setup = Setup(self.config.settings, self.config.problems, self.owner)
        self._fingerprint = fingerprint(self.config.settings.config_dir, self.config.secret_files)
        self._http = httpx.Client(limits=httpx.Limits(max_connections=32, max_keepalive_connections=16))
        self._store: Store | None = None

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections."""
        self._http.close()
        if self._store is not None:
            self._store.close()

    # --- the database -------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The store; call ``open_store`` first."""
        if self._store is None:
            raise RuntimeError("the store is not open")
        return self._store

    @property
    def is_open(self) -> bool:
        """Whether the store is open."""
        return self._store is not None

    def open_store(self, *, create: bool) -> Store:
        """Open the database with the configured keys.

        ``create``: create and upgrade an SQLite database; a PostgreSQL one is upgraded by command only.
        Raises Unusable for a missing key or a schema of another version, and ``store.engine.Unavailable``
        errors while the database is away.
        """
        if self._store is not None:
            return self._store
        settings = self.config.settings
        if self.config.unusable:
            raise Unusable(*(p.message for p in self.config.problems if p.stops == "everything"))
        if settings.encryption_key is None:
            raise Unusable(
                "ORDER_SYNC_ENCRYPTION_KEY is not set: make a key with `order-sync keys new`, keep it safe "
                "(without it buyer data can never be read again), and set it."
            )
        engine = create_engine(settings.database_url.get_secret_value(), settings.database_connections)
        store = Store(engine, Sealer([key.get_secret_value() for key in settings.encryption_key]))
        try:
            _prepare(engine, create=create)
            _ = store.lookup  # a wrong key shows here
        except BaseException:
            engine.dispose()
            raise
        self._store = store
        return store

    # --- accounts -----------------------------------------------------------------------------------

    @property
    def accounts(self) -> Mapping[str, Account]:
        """The accounts that may run, by name."""
        return self.setup.accounts

    @property
    def sources(self) -> Mapping[str, tuple[Account, Source]]:
        """The sources that may run, by key."""
        return self.setup.sources

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the configuration."""
        return self.setup.problems

    @property
    def shared_emails(self) -> frozenset[str]:
        """The configured addresses that identify no one (R17), in their normal form."""
        return frozenset(normal_email(email) for email in self.config.settings.shared_emails)

    def businesses(self) -> dict[str, str]:
        """Return the business of each account; a stored one wins over a configured one."""
        configured = {name: account.business for name, account in self.config.settings.accounts.items()}
        with self.store.read() as tx:
            return configured | accounts.businesses_of(tx)

    def wire(self) -> None:
        """Build accounts and sources from the configuration; keep connectors whose settings are the same."""
        problems = list(self.config.problems)
        wired: dict[str, Account] = {}
        businesses = self._businesses()
        files: dict[str, dict[str, MarketplaceSettings]] = {}
        for marketplace in self.config.marketplaces:
            files.setdefault(marketplace.account, {})[marketplace.marketplace_id] = marketplace
        for name, settings in sorted(self.config.settings.accounts.items()):
            marketplaces = files.get(name, {})
            if all(marketplace.region is None for marketplace in marketplaces.values()):
                problems.append(
                    Problem(f"account {name} has no marketplace file: it is not polled.", "nothing")
                )
                continue
            business = businesses[name]
            if business != settings.business:
                problems.append(
                    Problem(
                        f"account {name}: its customers belong to the business {business} and cannot be "
                        f"moved to {settings.business}; set its BUSINESS back, or use a new account name.",
                        "account",
                        name,
                    )
                )
                continue
            wired[name] = self._account(settings, marketplaces)
        sources = {s.key: (account, s) for account in wired.values() for s in account.sources}
        self.setup = Setup(self.config.settings, tuple(problems), self.owner, wired, sources)

    def _businesses(self) -> dict[str, str]:
        """Return the business in force of each account that has marketplaces; record new ones."""
        selling = sorted({marketplace.account for marketplace in self.config.marketplaces})
        configured = {name: self.config.settings.accounts[name].business for name in selling}
        with self.store.read() as tx:
            recorded = accounts.businesses_of(tx)
        if configured.items() <= recorded.items():
            return recorded
        with self.store.begin() as tx:
            return accounts.settle_businesses(tx, configured)

    def _account(self, settings: AccountSettings, marketplaces: Mapping[str, MarketplaceSettings]) -> Account:
        region = next(m.region for m in marketplaces.values() if m.region is not None)
        before = self.accounts.get(settings.name)
        if before is not None and before.settings == settings and before.region == region:
            connector = before.connector
        else:
            connector = self._connector(settings, region)
        rules = AccountRules(
            settings.name,
            settings.business,
            {
                marketplace_id: _rules(m, settings.business)
                for m in marketplaces.values()
                for marketplace_id in ids_of(m.marketplace_id)
            },
            self.shared_emails,
            self.setup.retention,
        )
        polled = [
            PolledMarketplace(m.marketplace_id, m.code, m.start_date, tuple(m.included_data), m.split)
            for m in marketplaces.values()
            if m.enabled
        ]
        fingerprint_of = self.store.lookup.fingerprint
        secret = "\0".join(
            [settings.lwa_client_id, *(s.get_secret_value() for s in settings.lwa_client_secret)]
        )
        credential = f"{secret}\0{settings.refresh_token.get_secret_value()}"
        sources = sources_of(
            rules,
            region,
            polled,
            application=fingerprint_of(settings.lwa_client_id),
            credential=fingerprint_of(credential),
            secret=fingerprint_of(secret),
            authorisation=fingerprint_of(settings.refresh_token.get_secret_value()),
        )
        return Account(settings, region, rules, connector, sources, marketplaces, PLANS)

    def _connector(self, settings: AccountSettings, region: str) -> AmazonConnector:
        return AmazonConnector(
            settings.name,
            Credentials(
                settings.lwa_client_id,
                tuple(s.get_secret_value() for s in settings.lwa_client_secret),
                settings.refresh_token.get_secret_value(),
            ),
            endpoint=endpoint_of(settings, region),
            token_url=token_url_of(settings),
            http=self._http,
            now=utc_now,
            sleep=self._sleep,
            rng=self._rng,
            observer=self.tally,
        )

    def _sleep(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopping("the service is stopping", utc_now())

    def reload(self, *, only_if_changed: bool = True) -> bool:
        """Reload the configuration. Return True if it changed; an unusable one only sets ``problems``."""
        before = self.config
        now = fingerprint(before.settings.config_dir, before.secret_files)
        if only_if_changed and now == self._fingerprint:
            return False
        fresh = load(self.environ, BY_NAME)
        self._fingerprint = now  # of before loading: a change in between is loaded next time
        if fresh.stopped:
            self.setup = replace(self.setup, problems=fresh.problems)
            return False
        self.config = fresh
        self.setup = replace(self.setup, settings=fresh.settings)
        self.wire()
        return True

    def syncer(self, key: str) -> SourceSync:
        """Return a run of a source. Raises KeyError if it is not configured."""
        account, source = self.sources[key]
        settings = self.config.settings
        return SourceSync(
            self.store,
            account.connector,
            source,
            account.plans,
            Pace(settings.poll_seconds, settings.poll_seconds_busy),
            self.owner,
            self.stop.is_set,
        )


def _rules(settings: MarketplaceSettings, business: str) -> MarketplaceRules:
    return MarketplaceRules(
        account=settings.account,
        business=business,
        marketplace_id=settings.marketplace_id,
        code=settings.code,
        currency=settings.currency,
        price_list=settings.price_list,
        tax_code=settings.tax_code,
        discount_percent=settings.discount_percent,
        pending=settings.pending,
        without_email=settings.without_email,
        included_data=frozenset(settings.included_data),
        status_new=settings.order_status.new,
        status_fba=settings.order_status.fba,
        status_prime=settings.order_status.prime,
        labels=dict(settings.labels),
    )


def _prepare(engine: Engine, *, create: bool) -> None:
    newest = revisions.newest_revision()
    try:
        revisions.check_known(engine)
        if create and file_of(engine.url) is not None:
            revisions.upgrade(engine)
    except (revisions.NewerDatabase, revisions.UpgradeFailed) as error:
        raise Unusable(f"{error}.") from None
    if create and file_of(engine.url) is not None:
        try_writing(engine)
        if (file := make_private(engine)) is not None:
            log.warning("database file made private", file=str(file), note="every user could read it")
    elif (found := revisions.revision(engine)) != newest:
        at = "empty" if found is None else f"at schema revision {found}"
        raise Unusable(f"the database is {at}, this version needs {newest}: run `order-sync db upgrade`.")
    elif transfer.is_unfinished(engine):
        raise Unusable("the database is an unfinished copy: finish it with `order-sync db copy`.")
