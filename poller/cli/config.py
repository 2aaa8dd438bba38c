"""``order-sync config check``: what is wrong with the configuration, and whether Amazon agrees with it.

Offline it needs neither database nor key; when there is an SQLite file, the key is tried on it. Online it
asks Amazon three things for each account, through the same connector and the same stored request budget as
the service. Without a database that can be used it takes a throw-away one, so that everything is wired as it
is in earnest. It counts buyer data and never shows any.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Annotated
from urllib.parse import urlsplit

import typer

from config.load import Config, load
from config.problems import Problem
from connectors.base import SearchQuery
from connectors.errors import (
    AccessRefused,
    ApplicationRefused,
    ConnectorError,
    CredentialsRefused,
    Deferred,
    Unreachable,
)
from connectors.marketplaces import BY_ID, BY_NAME
from connectors.orders import AmazonOrder
from poller.bootstrap import Account, Service, endpoint_of, token_url_of
from poller.cli.db import closing_engine, key_problems
from poller.cli.failures import Failure, sentences_of
from poller.cli.output import put, say
from poller.cli.session import NO_KEY, check_place, log_quietly, open_store, sqlite_file
from poller.ingest.budget import AccountBudget, Allowance
from poller.matching.statuses import SHOWING_BUYERS
from poller.monitoring.attention import ACCESS_REMEDY, REFUSED
from poller.privacy.key_rotation import about_keys
from poller.sync.windows import SIGNPOST_MARGIN
from poller.text import counted, iso_rounded_up
from store.engine import DatabaseError
from store.sealing import new_key

LOOKED_BACK = timedelta(days=3)

app = typer.Typer()


@app.callback()
def config() -> None:
    """Check the configuration."""


@app.command()
def check(
    online: Annotated[
        bool,
        typer.Option(
            "--online", help="Ask Amazon too: token, enrolment, a first page, visible buyer fields."
        ),
    ] = False,
) -> None:
    """What is wrong, in one sentence each. Exit 1 when something is."""
    read = load(os.environ, BY_NAME)
    problems = tuple(dict.fromkeys((*read.problems, *_further(read))))
    errors = [p for p in problems if p.severity == "error"]
    warnings = [p for p in problems if p.severity == "warning"]
    for problem in (*errors, *warnings):
        put(f"{problem.severity}: {problem.message}")
    for sentence in _about_keys(read):
        put(f"note: {sentence}")
    if sqlite_file(read.settings.database_url.get_secret_value()) is None:
        put("note: the database was not looked at; `order-sync db check` does, and tries the key on it")
    if not errors:
        many = counted(len(read.marketplaces), "marketplace")
        accounts = counted(len({m.account for m in read.marketplaces}), "account")
        put(f"{'settings and files are' if online else 'configuration is'} fine: {many}, {accounts}")
    refused = online and not _all_proven(read)
    if errors or refused:
        raise typer.Exit(1)


def _further(read: Config) -> Iterator[Problem]:
    """What only shows when everything is looked at together."""
    if read.settings.encryption_key is None and not any(
        p.message.upper().startswith("ORDER_SYNC_ENCRYPTION_KEY") for p in read.problems
    ):
        yield Problem(NO_KEY, "everything")
    polled = {m.account for m in read.marketplaces}
    for name in sorted(read.settings.accounts.keys() - polled):
        yield Problem(
            f"account {name} has no marketplace file that can be used: it is not polled.", "nothing"
        )
    if read.marketplaces and not any(m.enabled for m in read.marketplaces):
        yield Problem("no marketplace is enabled: nothing is polled.", "nothing")
    if not read.unusable:
        yield from (Problem(sentence, "everything") for sentence in _about_file(read))


def _about_file(read: Config) -> list[str]:
    """What is wrong with SQLite's file, and with the key for it. A database elsewhere is not asked."""
    url = read.settings.database_url.get_secret_value()
    file = sqlite_file(url)
    if file is None:
        return []
    try:
        check_place(url, create=True)
        if not file.exists():
            return []
        with closing_engine(url) as engine:
            return [] if read.settings.encryption_key is None else key_problems(read, engine)
    except Failure as failure:
        return list(failure.sentences)
    except DatabaseError as error:
        return [sentences_of(error)[1]]


def _about_keys(read: Config) -> list[str]:
    """What is to be known of old keys, when there are any and the database can be asked."""
    if read.stopped or len(read.settings.encryption_key or ()) < 2:
        return []
    with Service(os.environ) as service:
        log_quietly(service)
        try:
            open_store(service, create=False)
            return about_keys(service.store)
        except Exception as error:
            why = str(error) if isinstance(error, Failure) else sentences_of(error)[1]
            return [f"whether the old keys are still needed cannot be told: {why}"]


# --- online -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was asked. ``good`` is None when it could not be found out."""

    good: bool | None
    text: str


_MARKS: Mapping[bool | None, str] = {True: "ok", False: "wrong", None: "?"}


def _all_proven(read: Config) -> bool:
    """Ask Amazon about every account that may run; whether nothing is wrong."""
    if not read.marketplaces:
        put("wrong    no account with a marketplace can be used: nothing to ask Amazon about")
        return False
    good = True
    with _wired(read) as service:
        for name, account in sorted(service.accounts.items()):
            put()
            endpoint, tokens = endpoint_of(account.settings, account.region), token_url_of(account.settings)
            put(f"{name} ({account.region}), at {_host(endpoint)}, tokens from {_host(tokens)}:")
            for finding in _findings(service, account):
                put(f"  {_MARKS[finding.good]:6} {finding.text}")
                good = good and finding.good is not False
    return good


@contextmanager
def _wired(read: Config) -> Iterator[Service]:
    """The service on its own database, or on a throw-away one when that cannot be used or is not there."""
    with Service(os.environ) as service:
        log_quietly(service)
        try:
            open_store(service, create=False)
            service.wire()
        except Exception as error:
            why = str(error) if isinstance(error, Failure) else sentences_of(error)[1]
        else:
            yield service
            return
    if not _is_new(read):
        say(f"without the stored request budget: {why}")
    with TemporaryDirectory(prefix="order-sync-") as folder:
        instead = {
            "ORDER_SYNC_CONFIG_DIR": str(read.settings.config_dir),
            "ORDER_SYNC_DATABASE_URL": f"sqlite:///{folder}/check.db",
            "ORDER_SYNC_ENCRYPTION_KEY": new_key(),
        }
        replaced = {name.removesuffix("_FILE").upper() for name in instead}
        environ = {k: v for k, v in os.environ.items() if k.upper().removesuffix("_FILE") not in replaced}
        with Service({**environ, **instead}) as service:
            service.open_store(create=True)
            service.wire()
            yield service


def _is_new(read: Config) -> bool:
    """Whether nothing has been synced yet, so that there is no budget to miss."""
    file = sqlite_file(read.settings.database_url.get_secret_value())
    return file is not None and not file.exists()


def _findings(service: Service, account: Account) -> Iterator[Finding]:
    """Ask one account's three questions, as far as the answers before allow."""
    polled = [s for s in account.marketplaces.values() if s.enabled]
    if not account.sources:
        yield Finding(None, "no marketplace is enabled: Amazon is not asked")
        return
    application = account.sources[0].application
    allowance = Allowance(AccountBudget(service.store, application, account.settings.name, service.plans))
    try:
        account.connector.amazon_now()
    except ConnectorError as error:
        yield _failed("token", error, account)
        return
    yield Finding(True, "token: Login with Amazon accepts the credentials")

    ids = {m.marketplace_id for m in polled}
    try:
        enrolled = account.connector.participations(allowance)
    except ConnectorError as error:
        yield _failed("enrolment", error, account)
    else:
        yield from _enrolment(ids, enrolled)
        ids &= enrolled
    if not ids:
        return
    datasets = sorted({word for m in polled for word in m.included_data})
    now = account.connector.amazon_now()
    query = SearchQuery(
        "created", now - LOOKED_BACK, now - SIGNPOST_MARGIN, tuple(sorted(ids)), tuple(datasets)
    )
    try:
        page = account.connector.search(query, None, allowance)
    except ConnectorError as error:
        yield _failed("first page", error, account)
        return
    unreadable = f", {len(page.unreadable)} of them not understood" if page.unreadable else ""
    many = len(page.orders) + len(page.unreadable)
    yield Finding(True, f"first page: {counted(many, 'order')} of the last three days{unreadable}")
    yield from _visible(page.orders, datasets)


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _failed(what: str, error: ConnectorError, account: Account) -> Finding:
    if isinstance(error, Deferred):
        return Finding(None, f"{what}: not asked; {error} until {iso_rounded_up(error.until)}")
    if isinstance(error, Unreachable):
        url, setting = endpoint_of(account.settings, account.region), "ENDPOINT"
        if str(error).startswith("accessToken"):
            url, setting = token_url_of(account.settings), "TOKEN_URL"
        return Finding(
            False,
            f"{what}: {error} from {_host(url)}; see whether this machine may connect there (firewall, "
            f"proxy: HTTPS_PROXY and NO_PROXY), and the account's {setting} if it is set",
        )
    if isinstance(error, CredentialsRefused):
        kind = "application" if isinstance(error, ApplicationRefused) else "account"
        return Finding(False, f"{what}: {error}; {REFUSED[kind]}")
    hint = f"; {ACCESS_REMEDY}" if isinstance(error, AccessRefused) else ""
    return Finding(False, f"{what}: {error}{hint}")


def _enrolment(configured: set[str], enrolled: frozenset[str]) -> Iterator[Finding]:
    missing, further = configured - enrolled, (enrolled & BY_ID.keys()) - configured
    if missing:
        yield Finding(
            False,
            f"enrolment: the seller is not enrolled in {_codes(missing)}; enrol, or set enabled = false",
        )
    else:
        yield Finding(True, f"enrolment: the seller is enrolled in {_codes(configured)}")
    if further:
        yield Finding(
            True, f"enrolment: also enrolled in {_codes(further)}, which have no file or are not enabled"
        )


def _codes(ids: Sequence[str] | set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(BY_ID[i].code if i in BY_ID else i for i in ids))


_FIELDS = {
    "buyer name": ("BUYER", "Direct-to-Consumer Delivery (Restricted), or one of the tax roles"),
    "buyer e-mail": ("BUYER", "Direct-to-Consumer Delivery (Restricted); without it no buyer is recognised"),
    "delivery address": ("RECIPIENT", "Direct-to-Consumer Delivery (Restricted)"),
}


def _visible(orders: Sequence[AmazonOrder], datasets: Sequence[str]) -> Iterator[Finding]:
    """How many of the merchant's own orders show their buyers."""
    ours = [o for o in orders if o.fulfilled_by == "MERCHANT" and o.status in SHOWING_BUYERS]
    if not ours:
        text = "visible buyer fields: no merchant-fulfilled order of the last three days to judge by"
        yield Finding(None, text)
        return
    seen = {
        "buyer name": sum(o.buyer is not None and o.buyer.name is not None for o in ours),
        "buyer e-mail": sum(o.buyer is not None and o.buyer.email is not None for o in ours),
        "delivery address": sum("delivery" in o.present for o in ours),
    }
    for field, (dataset, role) in _FIELDS.items():
        share = f"{field}: visible in {seen[field]} of {counted(len(ours), 'merchant-fulfilled order')}"
        if seen[field]:
            yield Finding(True, share)
        elif dataset not in datasets:
            yield Finding(False, f"{share}; add {dataset} to included_data")
        else:
            yield Finding(
                False,
                f"{share}; the application seems to lack the role {role}. After a role was given, the seller "
                "authorises again, and the new refresh token goes into the settings",
            )
