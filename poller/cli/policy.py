"""``order-sync policy``: evidence for Amazon's data protection policy."""

from __future__ import annotations

import os
import platform
import ssl
from collections.abc import Iterator
from dataclasses import asdict

import typer

from config.load import tls_mode
from poller.bootstrap import Service
from poller.cli.options import AsJson
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import opened
from poller.monitoring.gather import credentials_in_use, retention_status
from poller.text import time_text
from poller.version import program_version
from poller.web.access_review import review
from poller.web.policy import Evidence, Facts, count_of, evidence
from poller.web.users import is_over
from store import access_reviews, audit, erasure, queries, sessions, tokens, users

app = typer.Typer()


@app.callback()
def group() -> None:
    """Print evidence for Amazon's data protection policy."""


@app.command()
def report(as_json: AsJson = False) -> None:
    """Print what this installation does about each item of the policy, for an auditor.

    Changes nothing, and shows no buyer data and no secret. Exits with 0 whatever it finds.
    """
    with opened() as service:
        service.wire()
        facts = _facts(service)
    found = evidence(facts)
    if as_json:
        put_json(
            {
                "at": time_text(facts.now),
                "versions": dict(facts.versions),
                "items": [asdict(one) for one in found],
                "settings": dict(_settings(service)),
            }
        )
        return
    put(f"Amazon's data protection policy, {facts.now:%Y-%m-%d %H:%M} UTC")
    put()
    put_table(
        ("item", "state", "found", "see"),
        [(one.item, one.state, one.finding, one.command or "") for one in found],
    )
    put()
    put_table(("setting in force", "value"), list(_settings(service)))
    say(_summary(found))


def _summary(found: list[Evidence]) -> str:
    return (
        f"{count_of(found, 'met')} met, {count_of(found, 'not met')} not met, "
        f"{count_of(found, 'by a person')} for a person to show; docs/security.md explains each"
    )


def _facts(service: Service) -> Facts:
    setup, store = service.setup, service.store
    database, version = store.database_version()
    with store.read() as tx:
        live = [session.name for session in sessions.load(tx) if not is_over(session, tx.now)]
        return Facts(
            now=tx.now,
            settings=setup.settings,
            problems=setup.problems,
            review=review(
                [(user, live.count(user.name)) for user in users.load(tx)],
                tokens.load(tx),
                has_setting=setup.settings.api_token is not None,
                now=tx.now,
            ),
            reviewed=access_reviews.last(tx),
            first_entry=next(iter(audit.after(tx, 0, 1, audit.Filter())), None),
            last_entry=next(iter(audit.newest(tx, 1, audit.Filter())), None),
            credentials=credentials_in_use(tx, setup),
            retention=retention_status(tx, setup.retention),
            erased_at=erasure.last_erased(tx),
            oldest_order=queries.oldest_order(tx),
            sslmode=tls_mode(setup.settings.database_url.get_secret_value(), os.environ),
            versions={
                "amazon-order-sync": program_version(),
                "Python": platform.python_version(),
                ssl.OPENSSL_VERSION.partition(" ")[0]: ssl.OPENSSL_VERSION.split()[1],
                database: version,
            },
        )


def _settings(service: Service) -> Iterator[tuple[str, str]]:
    settings = service.config.settings
    off = "off"
    yield "ORDER_SYNC_RETENTION_DAYS", str(settings.retention_days or off)
    yield "ORDER_SYNC_HASH_RETENTION_MONTHS", str(settings.hash_retention_months or off)
    yield "ORDER_SYNC_ORDER_RETENTION_MONTHS", str(settings.order_retention_months or off)
    yield "ORDER_SYNC_LISTEN", off if settings.listen is None else "{}:{}".format(*settings.listen)
    yield "ORDER_SYNC_PUBLIC_URL", settings.public_url or off
    yield "ORDER_SYNC_TRUSTED_PROXIES", ", ".join(map(str, settings.trusted_proxies)) or off
    yield "ORDER_SYNC_REQUIRE_TOTP", "on" if settings.require_totp else off
    yield "ORDER_SYNC_OIDC_ISSUER", settings.oidc_issuer or off
    yield "ORDER_SYNC_ALERT_URLS", f"{len(settings.alert_urls)} set" if settings.alert_urls else off
