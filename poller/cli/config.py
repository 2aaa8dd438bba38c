"""``order-sync config check``: what is wrong with the configuration, also against Amazon.

Offline it needs neither database nor key; if there is an SQLite file, the key is tried on it. Online it makes
three requests per account through the connector and the stored request budget of the service, or through a
throw-away database if there is no usable one. It counts buyer data and never shows any.
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

from config.env_file import completed
from config.files import exposure, shown_path
from config.load import Config, load
from config.problems import Problem, each_once
from connectors.base import SearchQuery
from connectors.errors import (
    ConnectorError,
    CredentialsRefused,
    Deferred,
    Unreachable,
)
from connectors.marketplaces import BY_ID, BY_NAME
from connectors.orders import AmazonOrder
from poller.bootstrap import Service, endpoint_of, token_url_of
from poller.cli.db import closing_engine, key_problems
from poller.cli.failures import Failure, sentences_of
from poller.cli.output import put, say
from poller.cli.session import NO_KEY, check_place, log_quietly, open_store, problems_of, sqlite_file
from poller.ingest.accounts import Account
from poller.ingest.budget import AccountBudget, Allowance
from poller.matching.emails import is_address
from poller.matching.statuses import SHOWING_BUYERS
from poller.monitoring.health import ACCESS_REMEDIES, REFUSAL_REMEDIES
from poller.privacy.key_rotation import about_keys
from poller.sync.decide import SIGNPOST_MARGIN
from poller.text import counted, iso_rounded_up
from store.engine import DatabaseError
from store.sealing import new_key

CHECKED_PERIOD = timedelta(days=3)

app = typer.Typer()


@app.callback()
def group() -> None:
    """Check the configuration."""


@app.command()
def check(
    online: Annotated[
        bool,
        typer.Option(
            "--online", help="Check with Amazon, too: token, enrolment, first page, visible buyer fields."
        ),
    ] = False,
) -> None:
    """Print what is wrong, one sentence each. Exit status 1 if something is."""
    read = load(os.environ, BY_NAME)
    problems = each_once((*read.problems, *_further(read)))
    errors = [p for p in problems if p.severity == "error"]
    warnings = [p for p in problems if p.severity == "warning"]
    for problem in (*errors, *warnings):
        put(f"{problem.severity}: {problem.message}")
    for sentence in (*_about_modes(read), *_about_keys(read)):
        put(f"note: {sentence}")
    if sqlite_file(read.settings.database_url.get_secret_value()) is None:
        put("note: the database was not checked; `order-sync db check` does, and tries the key on it")
    if not errors:
        marketplaces = counted(len(read.marketplaces), "marketplace")
        accounts = counted(len({m.account for m in read.marketplaces}), "account")
        put(f"{'settings and files are' if online else 'configuration is'} fine: {marketplaces}, {accounts}")
    refused = online and not _is_accepted(read)
    if errors or refused:
        raise typer.Exit(1)


def _further(read: Config) -> Iterator[Problem]:
    """Yield the problems that only show when all parts are checked together."""
    if read.settings.encryption_key is None and not problems_of(read, "ORDER_SYNC_ENCRYPTION_KEY"):
        yield Problem(NO_KEY, "everything")
    polled = {m.account for m in read.marketplaces}
    for name in sorted(read.settings.accounts.keys() - polled):
        yield Problem(f"account {name} has no usable marketplace file: it is not polled.", "nothing")
    if read.marketplaces and not any(m.enabled for m in read.marketplaces):
        yield Problem("no marketplace is enabled: nothing is polled.", "nothing")
    if not read.unusable:
        yield from (Problem(sentence, "everything") for sentence in _about_file(read))


def _about_file(read: Config) -> list[str]:
    """Return what is wrong with the SQLite file and the key for it. Other databases are not checked."""
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


def _about_modes(read: Config) -> Iterator[str]:
    """Yield a sentence about each file of a secret that every user may read. Others are refused."""
    for file in read.secret_files:
        if exposure(file) == "shared":
            place = shown_path(str(file))
            yield f"{place} may be read by every user here; that is accepted because its mount is read-only"


def _about_keys(read: Config) -> list[str]:
    """Return sentences about old keys, if there are any."""
    if read.stopped or len(read.settings.encryption_key or ()) < 2:
        return []
    with Service(os.environ) as service:
        log_quietly(service)
        try:
            open_store(service, create=False)
            return about_keys(service.store)
        except Exception as error:
            why = str(error) if isinstance(error, Failure) else sentences_of(error)[1]
            return [f"cannot check if the old keys are still needed: {why}"]


# --- online -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one check with Amazon. ``passed`` is None if it could not be made."""

    passed: bool | None
    text: str


_MARKS: Mapping[bool | None, str] = {True: "ok", False: "wrong", None: "?"}


def _is_accepted(read: Config) -> bool:
    """Check every usable account with Amazon. Returns True if nothing is wrong."""
    if not read.marketplaces:
        put("wrong    no account with a marketplace can be used: nothing to check with Amazon")
        return False
    accepted = True
    with _wired(read) as service:
        for name, account in sorted(service.accounts.items()):
            put()
            endpoint, tokens = endpoint_of(account.settings, account.region), token_url_of(account.settings)
            put(f"{name} ({account.region}), at {_host(endpoint)}, tokens from {_host(tokens)}:")
            for answer in _answers(service, account):
                put(f"  {_MARKS[answer.passed]:6} {answer.text}")
                accepted = accepted and answer.passed is not False
    return accepted


@contextmanager
def _wired(read: Config) -> Iterator[Service]:
    """Yield the service on its own database, or on a throw-away one if that is missing or unusable."""
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
        say(f"checking without the stored request budget: {why}")
    with TemporaryDirectory(prefix="order-sync-") as folder:
        instead = {
            "ORDER_SYNC_CONFIG_DIR": str(read.settings.config_dir),
            "ORDER_SYNC_DATABASE_URL": f"sqlite:///{folder}/check.db",
            "ORDER_SYNC_ENCRYPTION_KEY": new_key(),
        }
        replaced = {name.removesuffix("_FILE").upper() for name in instead}
        given = completed(os.environ).environ
        environ = {k: v for k, v in given.items() if k.upper().removesuffix("_FILE") not in replaced}
        with Service({**environ, **instead}) as service:
            service.open_store(create=True)
            service.wire()
            yield service


def _is_new(read: Config) -> bool:
    """Return True if nothing has been synced yet, so there is no stored budget to miss."""
    file = sqlite_file(read.settings.database_url.get_secret_value())
    return file is not None and not file.exists()


def _answers(service: Service, account: Account) -> Iterator[Answer]:
    """Check one account: token, enrolment, first page. Each check needs those before."""
    polled = [s for s in account.marketplaces.values() if s.enabled and s.marketplace_id in BY_ID]
    if not account.sources:
        yield Answer(None, "no marketplace is enabled: not checked with Amazon")
        return
    application = account.sources[0].application
    allowance = Allowance(AccountBudget(service.store, application, account.name, account.plans))
    try:
        account.connector.amazon_now()
    except ConnectorError as error:
        yield _failed("token", error, account)
        return
    yield Answer(True, "token: Login with Amazon accepts the credentials")

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
        "created", now - CHECKED_PERIOD, now - SIGNPOST_MARGIN, tuple(sorted(ids)), tuple(datasets)
    )
    try:
        page = account.connector.search(query, None, allowance)
    except ConnectorError as error:
        yield _failed("first page", error, account)
        return
    unreadable = f", {len(page.unreadable)} of them could not be read" if page.unreadable else ""
    orders = len(page.orders) + len(page.unreadable)
    yield Answer(True, f"first page: {counted(orders, 'order')} of the last three days{unreadable}")
    yield from _visible(page.orders, datasets)


def _host(url: str) -> str:
    return urlsplit(url).netloc


_CONNECTION_HINTS = (
    (
        "certificate is not trusted",
        "a proxy of your network that opens TLS needs its certificate in the file that SSL_CERT_FILE names; "
        "check that",
    ),
    ("certificate is for another host", "check which host answers under this name (DNS, proxy)"),
    ("host name is unknown", "check the name server of this machine"),
)
"""What to check, by why there was no answer."""


def _failed(name: str, error: ConnectorError, account: Account) -> Answer:
    if isinstance(error, Deferred):
        return Answer(None, f"{name}: not made; {error} until {iso_rounded_up(error.until)}")
    if isinstance(error, Unreachable):
        url, setting = endpoint_of(account.settings, account.region), "ENDPOINT"
        if str(error).startswith("accessToken"):
            url, setting = token_url_of(account.settings), "TOKEN_URL"
        hint = next(
            (hint for word, hint in _CONNECTION_HINTS if word in str(error)),
            "check that this machine may connect there (firewall, proxy: HTTPS_PROXY and NO_PROXY)",
        )
        return Answer(
            False, f"{name}: {error} from {_host(url)}; {hint}, and the account's {setting} if it is set"
        )
    if isinstance(error, CredentialsRefused):
        return Answer(False, f"{name}: {error}; {REFUSAL_REMEDIES[error.refuses]}")
    hint = f"; {ACCESS_REMEDIES[error.kind]}" if error.kind in ACCESS_REMEDIES else ""
    return Answer(False, f"{name}: {error}{hint}")


def _enrolment(configured: set[str], enrolled: frozenset[str]) -> Iterator[Answer]:
    missing, further = configured - enrolled, (enrolled & BY_ID.keys()) - configured
    if missing:
        yield Answer(
            False,
            f"enrolment: the seller is not enrolled in {_codes(missing)}; enrol, or set enabled = false",
        )
    else:
        yield Answer(True, f"enrolment: the seller is enrolled in {_codes(configured)}")
    if further:
        yield Answer(
            True, f"enrolment: also enrolled in {_codes(further)}, which have no file or are not enabled"
        )


def _codes(ids: Sequence[str] | set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(BY_ID[i].code if i in BY_ID else i for i in ids))


_FIELDS = {
    "buyer name": ("BUYER", "Direct-to-Consumer Delivery (Restricted), or one of the tax roles"),
    "buyer e-mail": (
        "BUYER",
        "Direct-to-Consumer Delivery (Restricted); without it no returning buyer is recognised",
    ),
    "delivery address": ("RECIPIENT", "Direct-to-Consumer Delivery (Restricted)"),
}


def _visible(orders: Sequence[AmazonOrder], datasets: Sequence[str]) -> Iterator[Answer]:
    """Yield for each buyer field how many merchant-fulfilled orders show it."""
    checked = [o for o in orders if o.fulfilled_by == "MERCHANT" and o.status in SHOWING_BUYERS]
    if not checked:
        text = "visible buyer fields: the last three days have no merchant-fulfilled order to check"
        yield Answer(None, text)
        return
    seen = {
        "buyer name": sum(o.buyer is not None and o.buyer.name is not None for o in checked),
        "buyer e-mail": sum(is_address(o.buyer.email or "") for o in checked if o.buyer is not None),
        "delivery address": sum("delivery" in o.present for o in checked),
    }
    for field, (dataset, role) in _FIELDS.items():
        share = f"{field}: visible in {seen[field]} of {counted(len(checked), 'merchant-fulfilled order')}"
        if seen[field]:
            yield Answer(True, share)
        elif dataset not in datasets:
            yield Answer(False, f"{share}; add {dataset} to included_data")
        else:
            yield Answer(
                False,
                f"{share}; the application seems to lack the role {role}. After adding it, let the seller "
                "authorise again, and set the new refresh token",
            )
