"""Alerting in the database and through apprise: one of several processes sends, and none sends a secret."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from poller.bootstrap import Service
from poller.ingest.accounts import Setup
from poller.monitoring import readiness
from poller.monitoring.alert_rules import OVER_AFTER
from poller.monitoring.alerts import (
    FAULT_REPEATED_AFTER,
    FAULT_SENT_AFTER,
    Alerting,
    Delivery,
    Send,
    through_apprise,
    why_refused,
)
from poller.monitoring.gather import gather
from poller.monitoring.status import Item
from store import alerts, quarantine, tables, verifications
from store.engine import DatabaseError
from store.verification_records import Finding, Verification
from tests.acceptance.command_line import order_sync
from tests.integration.receiver import Receiver, receiving
from tests.integration.service_world import opened_service
from tests.integration.store_world import clock_of, count, count_buyers, open_store
from tests.integration.test_store_engine import together


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with opened_service(database_url, tmp_path) as opened:
        yield opened


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def healthy(service: Service) -> tuple[Item, ...]:
    return gather(service.store, service.setup).health


def ill(service: Service) -> tuple[Item, ...]:
    return (*healthy(service), Item("verification", "acme:UK", "two orders are missing.", "alert"))


def sentences(service: Service) -> list[str]:
    return [item.sentence for item in healthy(service)]


def telling(heard: list[str], reached: bool = True) -> Send:
    def send(title: str, text: str, good: bool) -> Sequence[Delivery]:
        heard.append(f"{title}: {text}")
        return [Delivery("number 1 (json)", reached)]

    return send


def test_an_alert_is_sent_once_and_when_it_is_over(service: Service) -> None:
    heard: list[str] = []
    alerting = Alerting(service.store, lambda: service.setup, telling(heard))
    clock = clock_of(service.store)
    for _ in range(3):
        alerting.notify(ill(service))
        clock.sleep(60)
    assert heard == ["amazon-order-sync: needs attention: two orders are missing."]
    alerting.notify(healthy(service))
    clock.sleep(OVER_AFTER.total_seconds())
    alerting.notify(healthy(service))
    assert len(heard) == 2
    assert heard[1].startswith("amazon-order-sync: over: No longer so")
    assert count(service.store, tables.alerts) == 0


def test_what_no_address_accepted_is_sent_again(service: Service) -> None:
    heard: list[str] = []
    clock = clock_of(service.store)
    Alerting(service.store, lambda: service.setup, telling(heard, reached=False)).notify(ill(service))
    clock.sleep(60)
    Alerting(service.store, lambda: service.setup, telling(heard)).notify(ill(service))
    assert len(heard) == 1
    clock.sleep(120)
    Alerting(service.store, lambda: service.setup, telling(heard)).notify(ill(service))
    assert len(heard) == 2
    clock.sleep(3600)
    Alerting(service.store, lambda: service.setup, telling(heard)).notify(ill(service))
    assert len(heard) == 2


def test_of_several_processes_one_sends(service: Service, database_url: str) -> None:
    heard: list[str] = []
    given = ill(service)
    alertings = []
    with ExitStack() as stack:
        for _ in range(4):
            other = Service(service.environ)
            stack.callback(other.close)
            store = open_store(database_url)
            store._clock = service.store._clock
            other._store = store
            alertings.append(Alerting(other.store, partial(getattr, other, "setup"), telling(heard)))
        for _ in range(3):
            together(4, lambda number: alertings[number].notify(given))
            clock_of(service.store).sleep(60)
    assert len(heard) == 1
    with service.store.read() as tx:
        (standing,) = alerts.load(tx).values()
    assert standing.times == 1


def test_the_quarantine_and_the_age_of_credentials_are_those_of_the_database(service: Service) -> None:
    with service.store.begin() as tx:
        for number in range(5):
            quarantine.put(tx, quarantine.Quarantined("acme", f"{number}", None, "nonsense", "{}"))
    heard: list[str] = []
    alerting = Alerting(service.store, lambda: service.setup, telling(heard))
    alerting.check()
    assert [line for line in heard if "5 orders came into quarantine within a day" in line] == heard
    clock_of(service.store).sleep(timedelta(days=160).total_seconds())
    alerting.check()
    clock_of(service.store).sleep(OVER_AFTER.total_seconds())
    alerting.check()
    (expiry,) = (text for text in sentences(service) if "the client secret is in use since" in text)
    assert any(expiry in line for line in heard)
    assert any("over: No longer so" in line and "came into quarantine" in line for line in heard)


def test_what_other_parts_found_wrong_is_sent(service: Service) -> None:
    with service.store.begin() as tx:
        proof = Verification(
            *("acme", "A1F83G8C2ARO7P", tx.now - timedelta(days=30), tx.now, tx.now, "report", "scheduled"),
            repair=True,
            position=tx.now,
        )
        missing = Finding("o9", "missing", None, None, "not_found")
        begun = verifications.begin(tx, proof)
        verifications.save(tx, replace(begun, state="done", findings=(missing,), listed=7))
        for ago, many in ((1, 10), (0, 1)):
            count_buyers(tx, "acme:EU", (tx.now - timedelta(days=ago)).date(), 10, many, many)
    heard: list[str] = []
    alerting = Alerting(service.store, lambda: service.setup, telling(heard))
    alerting.check()
    (unsettled,) = (line for line in heard if "Amazon lists 1 order" in line)
    assert "o9" not in unsettled
    assert sum("came with" in line for line in heard) == 2
    with service.store.begin() as tx:
        begun = verifications.begin(tx, replace(proof, position=proof.lower))
        failed = replace(begun, state="failed", message="no report")
        verifications.save(tx, failed)
    assert any("verification failed: no report" in sentence for sentence in sentences(service))


def test_a_new_secret_begins_a_new_life(service: Service) -> None:
    def expiring(setup: Setup) -> set[str]:
        return {item.subject for item in gather(service.store, setup).health if item.why == "expiry"}

    Alerting(service.store, lambda: service.setup, telling([])).check()
    clock_of(service.store).sleep(timedelta(days=340).total_seconds())
    account = service.accounts["acme"]
    renewed = account.settings.model_copy(
        update={"lwa_client_secret": (SecretStr("new"), SecretStr("secret"))}
    )
    setup = replace(service.setup, accounts={"acme": replace(account, settings=renewed)})
    assert expiring(service.setup) == {"acme:secret", "acme:authorisation"}
    assert expiring(setup) == {"acme:authorisation"}


def test_readiness_of_a_whole_service_and_of_one_whose_database_is_away(service: Service) -> None:
    found = readiness.check(service.store, service.setup)
    assert [reason.why for reason in found.reasons] == ["start"]
    service.store.engine.dispose()
    service._store = open_store("postgresql+psycopg://nobody@127.0.0.1:1/nowhere")
    service._store._lookup = object()  # type: ignore[assignment]
    assert [reason.why for reason in readiness.check(service.store, service.setup).reasons] == ["database"]


# --- through apprise --------------------------------------------------------------------------------


def apprise_url(receiver: Receiver) -> str:
    return receiver.url.replace("http://", "json://user:very-secret@")


def test_apprise_carries_title_and_text(receiver: Receiver) -> None:
    (result,) = through_apprise([apprise_url(receiver)])("a title", "a text", False)
    assert (result.address, result.accepted, result.problem) == ("number 1 (json)", True, None)
    (request,) = receiver.seen
    assert request.event["title"] == "a title"
    assert request.event["message"] == "a text"


def test_an_address_that_fails_keeps_the_others_from_nothing_and_is_never_named(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with receiving() as refusing:
        refusing.answer = lambda request: 500
        urls = ["nonsense://very-secret", apprise_url(refusing), apprise_url(receiver)]
        results = through_apprise(urls)("a title", "a text", True)
    assert [result.accepted for result in results] == [False, False, True]
    assert (results[0].problem or "").startswith("apprise does not understand it: https://")
    assert results[1].problem == "it answered 500"
    assert "very-secret" not in "".join(map(repr, results)) + caplog.text


def test_alerts_test_sends_a_trial_to_every_address(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_text(f"{apprise_url(receiver)}\n{apprise_url(receiver)}\n")
    file.chmod(0o600)
    done = order_sync("alerts", "test", environ={"ORDER_SYNC_ALERT_URLS_FILE": str(file)})
    assert done.lines == ["ok     number 1 (json)", "ok     number 2 (json)"]
    assert len(receiver.seen) == 2
    receiver.answer = lambda request: 404
    environ = {"ORDER_SYNC_ALERT_URLS": apprise_url(receiver)}
    failed = order_sync("alerts", "test", environ=environ, status=1)
    assert failed.lines == ["wrong  number 1 (json): it answered 404: nothing is at this address"]
    assert "very-secret" not in failed.out + failed.err


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("json://user:very-secret@127.0.0.1:1/", "the connection is refused: check host and port"),
        ("mailto://user:very-secret@127.0.0.1:1/?to=a@b.example&smtp=127.0.0.1&from=a@b.example", "refused"),
    ],
)
def test_alerts_test_says_why_an_address_cannot_be_reached(url: str, why: str) -> None:
    failed = order_sync("alerts", "test", environ={"ORDER_SYNC_ALERT_URLS": url}, status=1)
    assert why in failed.out
    assert "very-secret" not in failed.out + failed.err


@pytest.mark.parametrize(
    ("logged", "why"),
    [
        ("Failed to send JSON notification: Unauthorized, error=401.", "it answered 401: user, password or"),
        ("Socket Exception: [Errno -2] Name or service not known very-secret", "its host is unknown"),
        ("certificate verify failed: self-signed very-secret", "its TLS certificate is not trusted"),
        ("Read timed out. very-secret", "no answer in time"),
        ("(535, b'5.7.8 Error: authentication failed very-secret')", "its server refuses user or password"),
        ("very-secret", "it was not accepted: check it in ORDER_SYNC_ALERT_URLS"),
    ],
)
def test_why_an_address_refused_is_said_without_apprise_s_words(logged: str, why: str) -> None:
    assert why_refused(["Sending", logged]).startswith(why)
    assert "very-secret" not in why_refused([logged])


def test_alerts_test_says_what_is_missing_or_wrong() -> None:
    missing = order_sync("alerts", "test", status=2)
    assert "ORDER_SYNC_ALERT_URLS is not set" in missing.err
    wrong = order_sync("alerts", "test", environ={"ORDER_SYNC_ALERT_URLS": "very-secret"}, status=2)
    assert "number 1 is not one" in wrong.err
    assert "very-secret" not in wrong.err


@pytest.fixture
def refusing(service: Service) -> Callable[[bool], None]:
    """Lets the database take no writes, as a replica or a full disk does, or take them again."""

    def refuse(is_refusing: bool) -> None:
        engine = service.store.engine
        if engine.dialect.name == "postgresql":
            words = "ALTER DATABASE {} SET default_transaction_read_only = {}"
            with engine.connect() as connection:
                connection.execute(sa.text("SET default_transaction_read_only = off"))
                connection.commit()
                name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
                connection.exec_driver_sql(words.format(name, "on" if is_refusing else "off"))
                connection.commit()
            engine.dispose()
        else:
            engine.dispose()
            if is_refusing:
                sa.event.listen(engine, "connect", _read_only)
            else:
                sa.event.remove(engine, "connect", _read_only)

    return refuse


def _read_only(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA query_only = ON")


def test_a_database_that_refuses_writes_is_sent_without_it(
    service: Service, refusing: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    alerting = Alerting(service.store, lambda: service.setup, telling(heard))
    alerting.notify(ill(service))
    heard.clear()
    refusing(True)
    for pause in (0.0, FAULT_SENT_AFTER - 1, 1.0, FAULT_REPEATED_AFTER - 1, 1.0):
        now += pause
        with pytest.raises(DatabaseError):
            alerting.check()
    assert len(heard) == 2
    assert heard[0].startswith("amazon-order-sync: needs attention: the database ")
    assert "Nothing is stored meanwhile." in heard[0]
    assert (
        "read-only transaction" if "postgresql" in str(service.store.engine.url) else "readonly"
    ) in heard[0]
    refusing(False)
    alerting.check()
    alerting.check()
    assert [text.split(":")[1] for text in heard[2:] if "cannot be used" in text] == [" over"]
