"""``order-sync webhooks``, and the service that notifies receivers of what it reads from Amazon."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.simulator.world import Seller, World
from tests.acceptance.command_line import STARTED, Shop, open_shop
from tests.acceptance.test_cli_service import running
from tests.integration.receiver import Receiver, receiving

FIRST, SECOND = "111-0000000-0000001", "111-0000000-0000002"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    world = World(Seller("acme", ("UK",)))
    world.order(FIRST, created=STARTED - timedelta(days=1))
    with open_shop(tmp_path / "shop", world) as shop:
        yield shop


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.mark.long
def test_the_service_notifies_a_receiver_of_what_it_reads(shop: Shop, receiver: Receiver) -> None:
    added = shop("webhooks", "add", receiver.url)
    (secret,) = added.lines
    assert "webhook 1 is notified of changes after position 0" in added.err
    arrived = threading.Event()

    def answer(_: object) -> int:
        if len(receiver.taken) >= 1:
            arrived.set()
        return 204

    receiver.answer = answer
    with running(shop) as process:
        assert arrived.wait(60)
        process.terminate()
        assert process.wait(10) == 0
        assert process.stderr is not None
        log = process.stderr.read()
    events = {request.event["type"]: request.event["data"] for request in receiver.taken}
    assert events["order.created"]["order_id"] == FIRST
    assert events["customer.created"]["customer_id"] == events["order.created"]["customer_id"]
    assert all(request.is_signed_with(secret) for request in receiver.taken)
    assert secret not in log
    assert receiver.url not in log
    (hook,) = shop("webhooks", "list", "--json").json()
    assert (hook["id"], hook["url"], hook["waiting"], hook["dead"]) == (1, receiver.url, 0, 0)
    assert "secret" not in hook


@pytest.mark.long
def test_web_hooks_are_listed_replayed_and_removed(shop: Shop, receiver: Receiver) -> None:
    shop("sync")
    position = shop("export", "orders").messages[-1]
    shop("webhooks", "add", receiver.url)
    shop("webhooks", "add", "https://example.com/second?token=s3cr3t", "--since", "0")
    first, second = shop("webhooks", "list", "--json").json()
    assert first["position"] == position
    assert (second["position"], second["url"]) == ("0", "https://example.com/second?…")
    assert second["behind_since"] is not None
    table = shop("webhooks", "list").out
    assert "https://example.com/second?…" in table
    assert "s3cr3t" not in table
    printed = shop("webhooks", "replay", "1", "--since", "0").err
    assert "all events after position 0 will be sent again" in printed
    assert shop("webhooks", "list", "--json").json()[0]["position"] == "0"
    assert "0 events will be sent again" in shop("webhooks", "replay", "1", "--dead").err
    assert shop("webhooks", "dead", "1", "--json").json() == []
    assert "no dead events" in shop("webhooks", "dead", "1").err
    shop("webhooks", "remove", "1")
    assert [hook["id"] for hook in shop("webhooks", "list", "--json").json()] == [2]
    shop("webhooks", "remove", "2")
    assert "there are no webhooks" in shop("webhooks", "list").err


@pytest.mark.long
def test_bad_input_is_refused_in_one_sentence(shop: Shop) -> None:
    shop("sync")
    for arguments, sentence in (
        (("add", "http://example.com/"), "error: URL must be an https URL; plain http only to 127.0.0.1"),
        (("add", "https://example.com/", "--since", "x"), "error: --since: a position is a number"),
        (
            ("add", "https://example.com/", "--since", "999999"),
            "error: --since: position 999999 is of",
        ),
        (("remove", "7"), "error: there is no webhook 7"),
        (("dead", "7"), "error: there is no webhook 7"),
        (("replay", "7", "--dead"), "error: there is no webhook 7"),
        (("replay", "7"), "error: give --since P or --dead"),
        (("replay", "7", "--dead", "--since", "1"), "error: give --since P or --dead"),
    ):
        printed = shop("webhooks", *arguments, status=2).messages
        assert len(printed) == 1
        assert printed[0].startswith(sentence)
