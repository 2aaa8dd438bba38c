"""What a webhook decides: signatures, addresses, what a turn sends, what its answers change."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest

from config.addresses import reach_of
from config.values import webhook_url
from poller.webhooks.rules import (
    EVENT_ATTEMPTS,
    Plan,
    conclude,
    message_of,
    new_secret,
    plan,
    signature,
)
from store.change_records import Change, Held, Hook, Position
from store.engine.outbox import CUSTOMER, ORDER

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
HOOK = Hook(1, "https://example.com/hook", "whsec_AA==", Position(10), 3, NOON)


def change(number: int, key: int = 1, what: int = ORDER) -> Change:
    if what == CUSTOMER:
        return Change(
            Position(number, what, key), "customer.merged", NOON, business="b", customer_id=key, merged_into=9
        )
    return Change(
        Position(number, what, key),
        "order.changed",
        NOON,
        account="acme",
        order_id=f"o{key}",
        marketplace="UK",
        customer_id=7,
    )


# --- messages ---------------------------------------------------------------------------------------


def test_the_signature_is_that_of_the_specifications_example() -> None:
    """Check the example of the specification's own libraries."""
    signed = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_is_fresh_and_as_long_as_the_specification_asks() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert 24 <= len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) <= 64


def test_a_message_holds_ids_version_and_position() -> None:
    message = message_of(change(12))
    assert json.loads(message.body) == {
        "type": "order.changed",
        "timestamp": "2026-06-15T12:00:00Z",
        "data": {
            "account": "acme",
            "order_id": "o1",
            "marketplace": "UK",
            "customer_id": 7,
            "version": 12,
            "position": "12.2.1",
        },
    }
    of_customer = json.loads(message_of(change(13, what=CUSTOMER)).body)
    assert of_customer["type"] == "customer.merged"
    assert of_customer["data"] == {
        "business": "b",
        "customer_id": 1,
        "merged_into": 9,
        "version": 13,
        "position": "13.1.1",
    }


def test_every_attempt_has_the_same_id_and_body_and_its_own_time_and_signature() -> None:
    first, second = message_of(change(12)), message_of(change(12))
    assert first == second
    assert "." not in first.message_id
    assert first.message_id != message_of(change(13)).message_id
    assert first.message_id != message_of(change(12, what=CUSTOMER)).message_id
    early, late = first.headers(HOOK.secret, 1000), first.headers(HOOK.secret, 1001)
    assert early["webhook-id"] == late["webhook-id"]
    assert early["webhook-signature"] != late["webhook-signature"]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?key=1",
        "https://10.0.0.5:8443/in-our-own-network",
        "http://127.0.0.1:9000/",
        "http://[::1]:9000/",
        "http://localhost/x",
    ],
)
def test_addresses_that_may_receive_changes(url: str) -> None:
    assert webhook_url(f" {url} ") == url


@pytest.mark.parametrize(
    ("url", "end"),
    [
        ("http://example.com/", "plain http only to 127.0.0.1"),
        ("http://10.0.0.5/", "plain http only to 127.0.0.1"),
        ("ftp://example.com/", "must be an https URL"),
        ("example.com", "must be an https URL"),
        ("https://", "must be an https URL"),
        ("https://example.com:0/", "must be an https URL"),
        ("https://example.com:x/", "must be an https URL"),
        ("https://user:pass@example.com/", "without a user"),
        ("https://example.com/#x", "without a user, a password or a fragment"),
        ("https://exa mple.com/", "must be an https URL"),
        ("https://169.254.169.254/latest/meta-data", "link-local"),
        ("https://[fe80::1]/", "link-local"),
        ("https://[::ffff:169.254.169.254]/", "link-local"),
        ("https://2852039166/", "four decimal"),
        ("https://0xA9FEA9FE/", "four decimal"),
        ("https://169.254.43518/", "four decimal"),
        ("https://0.0.0.0/", "unspecified"),
        ("https://224.0.0.1/", "multicast"),
        ("https://169\u3002254\u3002169\u3002254/", "metadata"),
        ("https://\uff11\uff16\uff19.254.169.254/", "metadata"),
        ("https://\uff12852039166/", "four decimal"),
        ("https://[64:ff9b::a9fe:a9fe]/", "metadata"),
        ("https://[2002:a9fe:a9fe::]/", "metadata"),
        ("https://[fd00:ec2::254]/", "metadata"),
        ("https://100.100.100.200/", "metadata"),
        ("https://192.0.0.192/", "metadata"),
        ("https://evil.example%00.x/", "must be an https URL"),
    ],
)
def test_addresses_that_are_refused(url: str, end: str) -> None:
    with pytest.raises(ValueError, match=end):
        webhook_url(url)


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("8.8.8.8", "public"),
        ("2606:4700::1111", "public"),
        ("64:ff9b::808:808", "public"),
        ("10.1.2.3", "private"),
        ("127.0.0.1", "private"),
        ("::1", "private"),
        ("fd12::1", "private"),
        ("100.64.0.1", "private"),
        ("::ffff:10.1.2.3", "private"),
        ("64:ff9b:1::a01:203", "private"),
        ("2002:7f00:1::", "private"),
        ("255.255.255.255", "forbidden"),
        ("::", "forbidden"),
        ("fe80::1", "forbidden"),
        ("ff02::1", "forbidden"),
    ],
)
def test_an_address_reaches_as_far_as_the_one_within_it(address: str, reach: str) -> None:
    assert reach_of(ip_address(address)) == reach


# --- turns ------------------------------------------------------------------------------------------


def held(number: int, key: int = 1, attempts: int = 1, failed_at: datetime = NOON) -> Held:
    return Held(Position(number, ORDER, key), "waiting", attempts, failed_at, NOON)


def planned(hook: Hook, waiting: list[Held], fresh: list[Change], blocked: set[tuple[int, int]]) -> Plan:
    changes = [(each, change(each.position.change_no, each.position.key)) for each in waiting]
    return plan(hook, changes, fresh, Position(99), blocked)


def test_a_second_event_of_a_record_is_left_to_the_next_turn_with_all_after_it() -> None:
    made = planned(HOOK, [], [change(11), change(12, 2), change(13), change(14, 3)], set())
    assert made.send == (change(11), change(12, 2))
    assert made.position == Position(12, ORDER, 2)


def test_a_turn_that_takes_up_everything_ends_where_the_events_end() -> None:
    assert planned(HOOK, [], [change(11), change(12, 2)], set()).position == Position(99)


def test_a_new_event_does_not_overtake_a_waiting_one_of_its_record() -> None:
    made = planned(HOOK, [held(5)], [change(11), change(12, 2)], {(ORDER, 1)})
    assert made.send == (change(5), change(12, 2))
    assert made.behind == (Position(11, ORDER, 1),)


def test_a_failing_receiver_gets_one_new_event_at_a_time() -> None:
    troubled = replace(HOOK, failures=1)
    made = planned(troubled, [held(5)], [change(11), change(12, 2), change(13, 3)], {(ORDER, 1)})
    assert made.send == (change(12, 2),)
    assert made.behind == (Position(11, ORDER, 1),)
    assert made.position == Position(12, ORDER, 2)
    assert made.held == {}


def test_or_else_one_that_waits() -> None:
    troubled = replace(HOOK, failures=1)
    made = planned(troubled, [held(5), held(6, 2)], [], set())
    assert made.send == (change(5),)
    assert list(made.held) == [Position(5, ORDER, 1)]


def test_what_was_taken_is_done_and_what_was_not_waits_as_does_what_was_not_sent() -> None:
    made = planned(HOOK, [held(5, 3)], [change(11), change(12, 2), change(14, 4)], set())
    answers: dict[Position, str | None] = {
        Position(5, ORDER, 3): None,
        Position(11, ORDER, 1): None,
        Position(12, ORDER, 2): "status 500",
    }
    result = conclude(HOOK, made, answers, NOON + timedelta(minutes=1))
    assert result.done == (Position(5, ORDER, 3), Position(11, ORDER, 1))
    waiting = {h.position: (h.attempts, h.last_error) for h in result.hold}
    assert waiting == {
        Position(12, ORDER, 2): (1, "status 500"),
        Position(14, ORDER, 4): (0, None),
    }
    assert result.hook.position == Position(99)
    assert (result.hook.failures, result.hook.succeeded_at) == (0, NOON + timedelta(minutes=1))


def test_a_waiting_event_of_a_record_that_was_erased_is_done() -> None:
    made = plan(HOOK, [(held(5), None)], [], Position(10), set())
    assert conclude(HOOK, made, {}, NOON).done == (Position(5, ORDER, 1),)


def test_a_receiver_rests_longer_and_longer_but_never_longer_than_five_minutes() -> None:
    hook, now, rests = HOOK, NOON, []
    for number in range(12):
        made = planned(hook, [], [change(11 + number)], set())
        hook = conclude(hook, made, {Position(11 + number, ORDER, 1): "no answer"}, now).hook
        assert hook.retry_at is not None
        rests.append((hook.retry_at - now).total_seconds())
        now = hook.retry_at
    assert rests == [5, 10, 20, 40, 80, 160, *[300] * 6]
    assert hook.failing_since == NOON
    done = conclude(hook, planned(hook, [], [change(50)], set()), {Position(50, ORDER, 1): None}, now).hook
    assert (done.failures, done.failing_since, done.retry_at, done.last_error) == (0, None, None, None)


def refused(before: Held, hook: Hook, now: datetime) -> Held:
    made = planned(hook, [before], [], set())
    (after,) = conclude(hook, made, {before.position: "status 400"}, now).hold
    return after


def test_an_event_that_a_living_receiver_keeps_refusing_is_given_up_after_half_a_day() -> None:
    now, event = NOON, held(5, attempts=0)
    for _ in range(EVENT_ATTEMPTS):
        assert event.state == "waiting"
        alive = replace(HOOK, succeeded_at=now)
        event = refused(event, alive, now)
        last, now = now, event.next_at
    assert (event.state, event.attempts) == ("dead", EVENT_ATTEMPTS)
    assert timedelta(hours=12) < last - NOON < timedelta(hours=24)


def test_no_event_is_given_up_while_its_receiver_takes_nothing_at_all() -> None:
    now, event = NOON, held(5, attempts=0)
    for _ in range(3 * EVENT_ATTEMPTS):
        event = refused(event, replace(HOOK, succeeded_at=NOON - timedelta(days=1)), now)
        now = event.next_at
    assert event.state == "waiting"
    assert now - NOON > timedelta(days=5)
