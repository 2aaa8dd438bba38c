"""Decide what a webhook sends, how it is signed, when it is retried and when it is given up.

Messages follow the Standard Webhooks specification (https://www.standardwebhooks.com): the headers
``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``, which is ``v1,`` and the base64 of the
HMAC-SHA256 over ``id.timestamp.body``. Pure: nothing here sends or stores.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from poller.text import time_text
from store.change_records import Change, Held, Hook, Position

SECRET_PREFIX = "whsec_"

EVENTS_OF_A_TURN = 50
"""Most new events, and most waiting events, that one turn sends."""

FIRST_RETRY_AFTER = timedelta(seconds=5)
EVENT_PAUSES_MOST = timedelta(hours=4)
RECEIVER_PAUSES_MOST = timedelta(minutes=5)
"""Longest pause between retries of one event, and of a receiver that accepts nothing."""

EVENT_ATTEMPTS = 15
"""Then an event is given up, after about 14 hours."""


def new_secret() -> str:
    """Return a new secret in the form of the specification."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


@dataclass(frozen=True, slots=True)
class Message:
    """The message of one event: every attempt sends the same, except for its time and signature."""

    message_id: str
    body: bytes

    def headers(self, secret: str, timestamp: int) -> dict[str, str]:
        return {
            "content-type": "application/json",
            "webhook-id": self.message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(secret, self.message_id, timestamp, self.body),
        }


def event_object(change: Change) -> dict[str, object]:
    """Return an event as programs read it: type, time, ids, version and position; no buyer data."""
    about = "order" if change.kind.startswith("order.") else "customer"
    ids: dict[str, object] = (
        {
            "account": change.account,
            "order_id": change.order_id,
            "marketplace": change.marketplace,
            "customer_id": change.customer_id,
        }
        if about == "order"
        else {
            "business": change.business,
            "customer_id": change.customer_id,
            "merged_into": change.merged_into,
        }
    )
    return {
        "type": change.kind,
        "timestamp": time_text(change.at),
        "data": {**ids, "version": change.version, "position": str(change.position)},
    }


def message_of(change: Change) -> Message:
    """Return the message of an event. Its id names record and version, so a repeat can be recognised."""
    what = change.kind.partition(".")[0]
    message_id = f"{what}_{change.position.key}_{change.version}"
    return Message(message_id, json.dumps(event_object(change), separators=(",", ":")).encode())


# --- a turn -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What a turn sends: at most one event of each record, so in any order.

    ``held``: the state of events that were tried before. ``behind``: new events that must not overtake a
    waiting one. ``position``: the webhook's position after the turn.
    """

    send: tuple[Change, ...]
    held: dict[Position, Held]
    behind: tuple[Position, ...]
    position: Position


def plan(
    hook: Hook,
    waiting: Sequence[tuple[Held, Change | None]],
    fresh: Sequence[Change],
    upto: Position,
    blocked: set[tuple[int, int]],
) -> Plan:
    """Decide what to send. ``fresh``: the events after the webhook's position, up to ``upto``.

    A second event of a record ends the turn. It is sent only once the first is recorded as accepted: if a
    process dies and its turn is repeated, no older event follows a newer one.

    A receiver that did not accept the last event gets a single one, a new one if possible, so that one event
    that it refuses does not block all others.
    """
    new: dict[tuple[int, int], Change] = {}
    behind: list[Position] = []
    position = hook.position
    for change in fresh:
        if change.record in new or (hook.failures and new):
            break
        if change.record in blocked:
            behind.append(change.position)
        else:
            new[change.record] = change
        position = change.position
    else:
        position = upto
    if hook.failures:
        waiting = [] if new else waiting[:1]
    older = [event for _, event in waiting if event is not None]
    held = {each.position: each for each, _ in waiting}
    return Plan((*older, *new.values()), held, tuple(behind), position)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The result of a turn: the webhook, the events to hold, and the events that are done."""

    hook: Hook
    hold: tuple[Held, ...]
    done: tuple[Position, ...]


def conclude(hook: Hook, plan: Plan, answers: dict[Position, str | None], now: datetime) -> Conclusion:
    """Decide what a turn changes. ``answers``: for each sent event why it was not accepted, or None.

    What was not sent, for lack of time or because others failed, waits.
    """
    failed = [error for error in answers.values() if error is not None]
    any_accepted = len(failed) < len(answers)
    if any_accepted:
        hook = replace(hook, failures=0, failing_since=None, retry_at=None, last_error=None, succeeded_at=now)
    elif failed:
        failures = hook.failures + 1
        hook = replace(
            hook,
            failures=failures,
            failing_since=hook.failing_since or now,
            retry_at=now + _pause(failures, RECEIVER_PAUSES_MOST),
            last_error=failed[-1],
        )
    sent = [change.position for change in plan.send]
    done = [p for p in plan.held if p not in sent]  # of records that were erased
    hold = [Held(position, "waiting", 0, now, now) for position in plan.behind]
    for position in sent:
        before = plan.held.get(position)
        if position not in answers:
            hold += [] if before else [Held(position, "waiting", 0, now, now)]
        elif (error := answers[position]) is None:
            done.append(position)
        else:
            first = before or Held(position, "waiting", 0, now, now)
            hold.append(_failed(first, error, hook, now))
    return Conclusion(replace(hook, position=max(hook.position, plan.position)), tuple(hold), tuple(done))


def _failed(held: Held, error: str, hook: Hook, now: datetime) -> Held:
    """Count a failed attempt. Give the event up only if its receiver accepted others since the first."""
    attempts = held.attempts + 1
    failed_at = held.failed_at if held.attempts else now
    alive = hook.succeeded_at is not None and hook.succeeded_at > failed_at
    dead = attempts >= EVENT_ATTEMPTS and alive
    pause = _pause(attempts, EVENT_PAUSES_MOST)
    return replace(
        held,
        state="dead" if dead else "waiting",
        attempts=attempts,
        failed_at=failed_at,
        next_at=now + pause,
        last_error=error,
    )


def _pause(failures: int, longest: timedelta) -> timedelta:
    doubled: int = 2 ** min(failures - 1, 20)
    return min(FIRST_RETRY_AFTER * doubled, longest)
