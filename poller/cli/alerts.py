"""``order-sync alerts``: send a test alert."""

from __future__ import annotations

import os

import typer

from config.load import load
from connectors.marketplaces import BY_NAME
from poller.cli.failures import BAD_INPUT, FAULT, Failure
from poller.cli.output import put
from poller.cli.session import problems_of
from poller.monitoring.alerts import through_apprise

app = typer.Typer()


@app.callback()
def alerts() -> None:
    """Alerts go to the addresses of ORDER_SYNC_ALERT_URLS."""


@app.command()
def test() -> None:
    """Send a test message to every address. Exit status 0 if all accepted it, else 1."""
    config = load(os.environ, BY_NAME)
    if problems := problems_of(config, "ORDER_SYNC_ALERT_URLS"):
        raise Failure(*problems, status=BAD_INPUT)
    urls = [url.get_secret_value() for url in config.settings.alert_urls]
    if not urls:
        raise Failure(
            "ORDER_SYNC_ALERT_URLS is not set: set it to the apprise URLs that alerts go to.",
            status=BAD_INPUT,
        )
    results = through_apprise(urls)("amazon-order-sync: test", "This is a test: alerts arrive here.", True)
    for result in results:
        put(f"{'ok    ' if result.accepted else 'wrong '} {result.address}{_why(result.problem)}")
    if not all(result.accepted for result in results):
        raise typer.Exit(FAULT)


def _why(problem: str | None) -> str:
    return "" if problem is None else f": {problem}"
