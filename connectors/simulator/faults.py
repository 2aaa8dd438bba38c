"""Which faults the simulator injects, and when; the same for the same seed.

A rule names a kind of fault and when it strikes: with a probability, on certain calls, within an interval, or
always. Each decision is drawn from (seed, operation, number of the call), never from a running generator, so
that a call's faults do not depend on the calls before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from random import Random

SEARCH = "searchOrders"
GET = "getOrder"
PARTICIPATIONS = "getMarketplaceParticipations"
CREATE_REPORT = "createReport"
GET_REPORT = "getReport"
GET_DOCUMENT = "getReportDocument"
DOWNLOAD = "download"
TOKEN = "token"

_API = frozenset({SEARCH, GET, PARTICIPATIONS, CREATE_REPORT, GET_REPORT, GET_DOCUMENT})
_ORDERS = frozenset({SEARCH, GET})
_EVERYWHERE = _API | {TOKEN, DOWNLOAD}

OUTRIGHT: dict[str, frozenset[str]] = {
    "throttled_json": _API,
    "throttled_empty": _API,
    **{f"html_{status}": _EVERYWHERE for status in (500, 502, 503)},
    **{f"empty_{status}": _API for status in (500, 502, 503)},
    **{f"bare_json_{status}": _API for status in (500, 502, 503)},
    "html_200": _API,
    "truncated_json": _API,
    "dropped": _EVERYWHERE,
    "dropped_halfway": _API | {DOWNLOAD},
    "hang": _EVERYWHERE,
    "forbidden": _API,
    "access_token_lost": _API,
    "invalid_grant": frozenset({TOKEN}),
    "page_token_refused": frozenset({SEARCH}),
    "page_token_expired": frozenset({SEARCH}),
}
"""Kinds that spoil a whole answer, with the operations they can strike; at most one strikes a call."""

SUBTLE: dict[str, frozenset[str]] = {
    "same_token": frozenset({SEARCH}),
    "same_page": frozenset({SEARCH}),
    "repeated_order": frozenset({SEARCH}),
    "stale_copy": _ORDERS,
    "empty_page": frozenset({SEARCH}),
    "missing_token": frozenset({SEARCH}),
    **{
        f"rate_{word}": _API
        for word in ("not_a_number", "nan", "infinite", "negative", "zero", "huge", "absent")
    },
}
"""Kinds that leave an answer well-formed but wrong; several may strike one call.

``same_token``: the next page's token is the one just used. ``same_page``: a new token leads to the page just
given. ``repeated_order``: the next page begins with this page's last order. ``stale_copy``: an order that was
already shown in a newer version comes in the version before. ``empty_page``: a page without orders has a
token, which leads to the orders that belong here. ``missing_token``: a full page that is not the last has no
token, so that it looks like a last page that happens to be full (which has none at Amazon either).
"""

REPORTS: dict[str, frozenset[str]] = {
    "report_cancelled": frozenset({CREATE_REPORT}),
    "report_fatal": frozenset({CREATE_REPORT}),
    "report_empty": frozenset({GET_DOCUMENT}),
    "report_truncated": frozenset({GET_DOCUMENT}),
    "report_malformed": frozenset({GET_DOCUMENT}),
    "report_address_expired": frozenset({DOWNLOAD}),
}
"""Kinds for reports only: the fate of the requested report, or the content of the document.

``report_truncated``: the document ends early, without a sign of it. ``report_malformed``: a row lacks
columns.
"""

KINDS = OUTRIGHT | SUBTLE | REPORTS
RARE = frozenset({"invalid_grant", "empty_page", "missing_token"}) | REPORTS.keys()
"""Not in ``Faults.everything``; a script must name them. ``invalid_grant`` is final for an account, one page
alone does not show a ``missing_token``, Amazon's model merely does not exclude an ``empty_page``, and not
every client requests reports."""

RATES = {
    "rate_not_a_number": "a few",
    "rate_nan": "nan",
    "rate_infinite": "inf",
    "rate_negative": "-1",
    "rate_zero": "0.0",
    "rate_huge": "1e9",
    "rate_absent": None,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """When a kind of fault strikes; all given conditions must hold.

    ``calls`` are numbers of calls of one operation, from 1. ``during`` is an interval of Amazon's time,
    without its end. The rule ends at ``until``.
    """

    kind: str
    probability: float = 1.0
    calls: frozenset[int] | None = None
    during: tuple[datetime, datetime] | None = None
    operations: frozenset[str] | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such fault: {self.kind}")

    def applies(self, operation: str, number: int, at: datetime) -> bool:
        if operation not in KINDS[self.kind]:
            return False
        if self.operations is not None and operation not in self.operations:
            return False
        if self.calls is not None and number not in self.calls:
            return False
        if self.until is not None and at >= self.until:
            return False
        return self.during is None or self.during[0] <= at < self.during[1]


@dataclass(frozen=True, slots=True)
class Faults:
    """A set of rules, and the seed of their dice."""

    rules: tuple[Rule, ...] = ()
    seed: int = 0

    @classmethod
    def only(
        cls,
        *kinds: str,
        probability: float = 1.0,
        calls: Iterable[int] | None = None,
        during: tuple[datetime, datetime] | None = None,
        operations: Iterable[str] | None = None,
        seed: int = 0,
        until: datetime | None = None,
    ) -> Faults:
        """Return rules for these kinds only; see ``Rule``."""
        numbers = None if calls is None else frozenset(calls)
        names = None if operations is None else frozenset(operations)
        rules = tuple(Rule(kind, probability, numbers, during, names, until) for kind in kinds)
        return cls(rules, seed)

    @classmethod
    def everything(cls, seed: int, intensity: float = 0.3, until: datetime | None = None) -> Faults:
        """Return rules for every kind but RARE. About ``intensity`` of all calls are spoilt, as many lie."""
        outright = [kind for kind in OUTRIGHT if kind not in RARE]
        shares = [(kind, intensity / len(outright)) for kind in outright]
        subtle = [kind for kind in SUBTLE if kind not in RARE]
        shares += [(kind, intensity / len(subtle)) for kind in subtle]
        return cls(tuple(Rule(kind, share, until=until) for kind, share in shares), seed)

    def __add__(self, other: Faults) -> Faults:
        """Return the rules of both, with the seed of the left."""
        return Faults(self.rules + other.rules, self.seed)

    def strike(self, operation: str, number: int, at: datetime) -> frozenset[str]:
        """Return the kinds that strike call ``number`` of ``operation``, at most one of ``OUTRIGHT``."""
        if not self.rules:
            return frozenset()
        random = Random(f"{self.seed} {operation} {number}")
        struck: set[str] = set()
        outright: list[str] = []
        for rule in self.rules:
            draw = random.random()
            if draw < rule.probability and rule.applies(operation, number, at):
                (outright.append if rule.kind in OUTRIGHT else struck.add)(rule.kind)
        if outright:
            struck.add(random.choice(outright))
        return frozenset(struck)
