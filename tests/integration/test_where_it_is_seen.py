"""What is not well is seen at every door: the table of the documentation, held by making each situation."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from html import unescape
from pathlib import Path

import httpx
import pytest
import structlog

from poller.bootstrap import Service
from poller.cli import status as command
from poller.cli.failures import sentences_of
from poller.monitoring.alert_rules import PROCESS_SENT_AFTER
from poller.monitoring.alerts import FAULT_SENT_AFTER, Alerting, Delivery
from poller.monitoring.gather import gather
from poller.monitoring.readiness import check
from poller.web.console import forms
from poller.web.server import WebServer, listen
from store.engine import DatabaseError
from tests.acceptance.test_docs import quoted, rows, section
from tests.acceptance.web_world import ALL, signed_in
from tests.databases import long_on
from tests.integration.situations import SITUATIONS, situation
from tests.integration.store_world import clock_of

DOCUMENTED = {row[0]: row[1:] for row in rows(section("docs/operation.md", "## Where it is seen"))}
AWAY = "the database does not answer"


def test_every_situation_is_documented() -> None:
    assert list(DOCUMENTED) == list(SITUATIONS)


@contextmanager
def browsing(service: Service, cookies: dict[str, str]) -> Iterator[httpx.Client]:
    """Serve it, to a browser."""
    server = WebServer(service, listen("127.0.0.1", 0))
    server.start()
    try:
        with httpx.Client(base_url=server.url, timeout=60, cookies=cookies) as client:
            yield client
    finally:
        service.stop.set()
        server.join()


def ready(client: httpx.Client) -> str:
    return {200: "ready", 503: "not ready"}[client.get("/readyz").status_code]


def sent(service: Service) -> tuple[list[str], list[str]]:
    """Check for alerts; return what people are sent, and what is logged."""
    texts: list[str] = []
    with structlog.testing.capture_logs() as logged:
        alerting = Alerting(service.store, lambda: service.setup, lambda _, text, __: note(texts, text))
        alerting.check()
        clock_of(service.store).sleep(PROCESS_SENT_AFTER.total_seconds())
        alerting.check()
    return texts, [str(entry["problem"]) for entry in logged if entry["event"] == "alert"]


@long_on("postgresql")
@pytest.mark.parametrize("name", [name for name in SITUATIONS if name != AWAY])
def test_status_readiness_alerts_console_and_log_say_the_same(
    name: str,
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, readiness, alert = DOCUMENTED[name]
    with situation(tmp_path, name, database_url) as service:
        health = gather(service.store, service.setup).health
        assert {item.why for item in health} == set(quoted(words))

        monkeypatch.setattr(command, "opened", lambda **_: nullcontext(service))
        command.status()
        printed = re.sub(r"\s+", " ", capsys.readouterr().out)
        assert printed.startswith("Needs attention:" if health else "All is well")

        with browsing(service, signed_in(service.store, "ann", *ALL)) as client:
            assert ready(client) == readiness
            page = client.get("/console/")
            shown = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", page.text)))
        assert page.status_code == 200, page.text
        for item in health:
            assert item.sentence in printed
            assert item.sentence.replace("`", "") in shown, shown

        texts, logged = sent(service)
        assert logged == texts
        urgent = [item.sentence for item in health if item.urgency != "note"]
        assert sorted(texts) == sorted(urgent)
        assert {"yes": True, "no": False}[alert] is bool(texts)


def test_a_database_that_does_not_answer_is_said_at_every_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, readiness, alert = DOCUMENTED[AWAY]
    reason = "Connection refused"
    with situation(tmp_path, AWAY) as service:
        (item,) = check(service.store, service.setup).reasons
        assert ([item.why], item.urgency, reason in item.sentence) == (quoted(words), "unready", True)
        monkeypatch.setattr(command, "opened", lambda **_: nullcontext(service))
        with pytest.raises(DatabaseError) as raised:
            command.status()
        assert reason in sentences_of(raised.value)[1]
        with browsing(service, {forms.SESSION: "x" * 43}) as client:
            assert ready(client) == readiness
            page = client.get("/console/")
        assert page.status_code == 503
        assert (
            "The database cannot be reached or used; <code>order-sync db check</code> says why." in page.text
        )
        texts: list[str] = []
        alerting = Alerting(service.store, lambda: service.setup, lambda _, text, __: note(texts, text))
        now = time.monotonic()
        with structlog.testing.capture_logs() as logged:
            for passed in (0.0, FAULT_SENT_AFTER):
                monkeypatch.setattr(time, "monotonic", lambda passed=passed: now + passed)
                with pytest.raises(DatabaseError):
                    alerting.check()
        assert (alert, [reason in text for text in texts]) == ("yes", [True])
        assert [entry["problem"] for entry in logged if entry["event"] == "alert"] == texts


def note(texts: list[str], text: str) -> list[Delivery]:
    texts.append(text)
    return [Delivery("number 1", True)]
