"""Refused attempts in the audit log. Strangers make them, so what they may write is bounded.

The first refusal of a minute is an entry at once: of each action, address, and name. Those that follow within
the minute are counted, and are one more entry once it is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from poller.audit import write_line
from poller.web.access import Caller
from poller.web.attempts import network_of
from poller.web.problems import LacksScope, Problem
from poller.web.requests import RequestInfo
from store import audit
from store.audit_records import Action, Actor, AuditEntry, Door
from store.engine import DatabaseError, NoConnection, Store

MOST_A_MINUTE = 60
"""Refusals that are kept apart within a minute; all others count as one."""

LINES_A_MINUTE = 10
"""Log lines of the same refusal within a minute."""

ANYONE = "anonymous"
"""Who sent a request without valid credentials."""

_OF_KINDS: dict[str, Action] = {
    "locked": "locked",
    "form": "form_refused",
    "origin": "form_refused",
    "cookies": "form_refused",
    "link": "sign_in_refused",
}


class Refusals:
    """The refusals of one process."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._minute = now().replace(second=0, microsecond=0)
        self._counts: dict[tuple[AuditEntry, str], int] = {}

    @property
    def is_due(self) -> bool:
        """Return True if counts of a minute that is over wait to be stored."""
        return bool(self._counts) and self._minute != self._now().replace(second=0, microsecond=0)

    def note(self, store: Store, entry: AuditEntry, name: str = "") -> None:
        """Store a refusal, or count it. An entry that cannot be stored is a log line all the same.

        Refusals of each ``name`` that was typed are kept apart, also of names that no entry may hold: known
        and unknown ones take the same time.
        """
        with self._lock:
            entries = self._past()
            kept = replace(entry, actor=replace(entry.actor, client=network_of(entry.actor.client)))
            if (kept, name) not in self._counts and len(self._counts) >= MOST_A_MINUTE:
                kept, name = replace(kept, actor=Actor(ANYONE, "", kept.actor.door)), ""
            count = self._counts[kept, name] = self._counts.get((kept, name), 0) + 1
        if count <= LINES_A_MINUTE:
            write_line(entry)
        if count == 1:
            entries.append(kept)
        _store(store, entries)

    def flush(self, store: Store) -> None:
        """Store the counts of a minute that is over."""
        with self._lock:
            entries = self._past()
        _store(store, entries)

    def close(self, store: Store) -> None:
        """Store all counts: the service stops."""
        with self._lock:
            entries = self._past(at_once=True)
        _store(store, entries)

    def _past(self, *, at_once: bool = False) -> list[AuditEntry]:
        """Return what is left to store of the minute before, or of this one, and begin another."""
        minute = self._now().replace(second=0, microsecond=0)
        if minute == self._minute and not at_once:
            return []
        rest = [replace(kept, times=count - 1) for (kept, _), count in self._counts.items() if count > 1]
        self._minute, self._counts = minute, {}
        return rest


def _store(store: Store, entries: list[AuditEntry]) -> None:
    if entries:
        with suppress(DatabaseError, NoConnection):
            store.commit(lambda tx: audit.insert(tx, *entries), durable=False)


def entry_of(problem: Problem, request: RequestInfo, caller: Caller | None, door: Door) -> AuditEntry | None:
    """Return the entry of a request that was refused; None if the problem is no matter of access."""
    action: Action | None = _OF_KINDS.get(problem.kind)
    who, detail = ANYONE if caller is None else caller.who, None
    if isinstance(problem, LacksScope):
        action, who, detail = "scope_refused", problem.who, problem.scope
    elif problem.kind == "token":
        action = "token_refused" if request.header_values("authorization") else "token_missing"
    elif problem.kind == "link":
        detail = "link"
    if action is None:
        return None
    return AuditEntry(Actor(who, request.client, door), action, "refused", detail=detail)
