"""Readiness, metrics and the change feed over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from poller.customers import edits
from poller.customers.fields import checked
from store import changes, tables
from tests.acceptance.web_world import BUYERS, ORDERS, Served, problem, served


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(Path(tmp_path_factory.mktemp("watched"))) as place:
        yield place


def edit(place: Served, customer_id: int, **values: str) -> None:
    place.store.commit(lambda tx: edits.edit(tx, customer_id, checked(values), "tests"))


@pytest.mark.long
def test_readiness_is_public_and_its_reasons_are_for_readers(tmp_path: Path) -> None:
    with served(tmp_path) as place:
        with place.store.begin() as tx:
            long_ago = tx.now - timedelta(hours=2)
            tx.conn.execute(sa.update(tables.sources).values(succeeded_at=long_ago))
        reader = place.client("read")
        answer = reader.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "not ready"
        assert ("success", "acme:EU") in {(r["why"], r["subject"]) for r in answer.json()["reasons"]}
        for client in (place.client(), place.client("write"), place.client(Authorization="Bearer wrong")):
            answer = client.get("/readyz")
            assert (answer.status_code, answer.json()) == (503, {"status": "not ready", "reasons": None})


@pytest.mark.long
def test_the_service_is_ready_after_a_sync(place: Served) -> None:
    place.shop("sync")
    answer = place.client("read").get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "reasons": []})


def test_metrics_say_that_the_database_is_away_to_those_who_were_known(
    place: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = place.client("read")
    assert reader.get("/metrics").status_code == 200

    def refuse(*_: object, **__: object) -> None:
        raise sa.exc.OperationalError("SELECT", {}, Exception("Connection refused"))

    monkeypatch.setattr(place.store.engine, "connect", refuse)
    answer = reader.get("/metrics")
    assert answer.status_code == 200
    figures = {family.name: family.samples for family in text_string_to_metric_families(answer.text)}
    assert [sample.value for sample in figures["order_sync_database_up"]] == [0]
    problem(place.client(Authorization="Bearer wrong").get("/metrics"), 401, "token")
    problem(reader.get("/orders"), 503, "database")


def test_prometheus_reads_the_figures(place: Served) -> None:
    answer = place.client("read").get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"order_sync_database_up", "order_sync_orders"} <= names
    assert not [piece for piece in BUYERS if piece in answer.text]


def everything_after(client: httpx.Client, position: str, limit: int) -> tuple[list[dict[str, object]], str]:
    """Return all events after a position, read in parts, and the position to continue from."""
    events: list[dict[str, object]] = []
    while True:
        answer = client.get("/changes", params={"after": position, "limit": limit}).json()
        assert len(answer["events"]) <= limit
        events += answer["events"]
        position = answer["position"]
        if not answer["more"]:
            return events, position


def test_a_follower_of_the_changes_sees_each_once_and_in_order(place: Served) -> None:
    client = place.client("read")
    events, position = everything_after(client, "0", 2)
    assert events == everything_after(client, "0", 100)[0]
    assert {e["data"]["order_id"] for e in events if e["type"] == "order.created"} == set(ORDERS)  # type: ignore[index]
    assert not [piece for piece in BUYERS if piece in str(events)]
    assert everything_after(client, position, 100)[0] == []
    customer_id = client.get(f"/orders/{ORDERS[0]}").json()["customer_id"]
    edit(place, customer_id, price_list="Trade")
    (event,), later = everything_after(client, position, 100)
    assert (event["type"], event["data"]["customer_id"]) == ("customer.changed", customer_id)  # type: ignore[index]
    assert everything_after(client, later, 100)[0] == []


def test_a_position_that_cannot_be_continued_is_refused(
    place: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = place.client("read")
    assert "of another database" in problem(client.get("/changes?after=999999999"), 422, "position")
    assert "is a number" in problem(client.get("/changes?after=yesterday"), 422, "position")
    early = client.get("/changes?limit=1").json()["position"]
    monkeypatch.setattr(changes, "KEPT", changes.KEPT * -1)
    with place.store.begin() as tx:
        assert changes.trim(tx) > 0
    assert "export everything again" in problem(client.get(f"/changes?after={early}"), 410, "position-gone")
