"""Readiness, what is wrong, and who is notified of it when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from poller.monitoring import attention
from poller.monitoring.alert_rules import (
    EXPIRY_REPEATED_AFTER,
    OVER_AFTER,
    QUARANTINE_GROWTH,
    REPEATED_AFTER,
    SENT_WITHIN,
    Alert,
    Concern,
    Credential,
    Facts,
    Notice,
    alerts_of,
    decide,
)
from poller.monitoring.readiness import Limits, Reason, readiness
from poller.monitoring.status import (
    Gap,
    MarketplaceStatus,
    PaceStatus,
    RefusalStatus,
    RetentionStatus,
    SourceStatus,
    Status,
)
from store.alerts import Standing
from store.change_records import Backlog, Hook, Position
from store.quarantine import Counts
from store.queries import UNCOUNTED
from store.runs import Run

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
LIMITS = Limits(timedelta(hours=1), timedelta(hours=6), timedelta(minutes=15))
SECOND = timedelta(seconds=1)


def marketplace(*gaps: Gap, **changed: Any) -> MarketplaceStatus:
    values: dict[str, Any] = {
        "marketplace": "UK",
        "marketplace_id": "M",
        "covered_until": NOON,
        "behind_seconds": 0.0,
        "covered": (),
        "gaps": gaps,
        "live_from": NOON,
        "history_from": None,
        "history_covered": (),
        "history_gaps": (),
        "enrolled": True,
        "alone_since": None,
        "trouble": None,
        "verification": None,
        "unsettled_verifications": (),
        "verification_waits": None,
    }
    return MarketplaceStatus(**{**values, **changed})


def source(**changed: Any) -> SourceStatus:
    values: dict[str, Any] = {
        "source": "acme:EU",
        "account": "acme",
        "covered_until": NOON,
        "behind_seconds": 0.0,
        "succeeded_at": NOON,
        "failing_since": None,
        "failures": 0,
        "last_error": None,
        "last_error_kind": None,
        "last_error_status": None,
        "last_error_code": None,
        "last_run": None,
        "next_at": NOON,
        "next_why": "",
        "pace": None,
        "refusal": None,
        "marketplaces": (marketplace(),),
        "windows": (),
        "backfills": (),
        "budgets": (),
        "identity": (),
        "identity_drops": (),
    }
    return SourceStatus(**{**values, **changed})


def status(*sources: SourceStatus) -> Status:
    return Status(
        NOON, (), sources, (), UNCOUNTED, Counts(0, 0, None, None), RetentionStatus(30, 18, 0, None)
    )


def reasons(*sources: SourceStatus) -> list[Reason]:
    found = readiness(status(*sources), LIMITS)
    assert found.ready is not bool(found.reasons)
    return list(found.reasons)


def refusal(since: datetime) -> RefusalStatus:
    return RefusalStatus("account", "invalid_grant", since, "authorise again")


# --- ready ------------------------------------------------------------------------------------------


def test_a_service_with_fresh_sources_is_ready() -> None:
    assert reasons(source(), source(source="acme:UK")) == []


def test_without_a_source_nothing_is_ready() -> None:
    (reason,) = reasons()
    assert reason.why == "sources"


def test_the_newest_success_may_be_as_old_as_its_limit() -> None:
    assert reasons(source(succeeded_at=NOON - LIMITS.success)) == []
    (reason,) = reasons(source(), source(source="acme:UK", succeeded_at=NOON - LIMITS.success - SECOND))
    assert (reason.why, reason.subject) == ("success", "acme:UK")
    assert "since 2026-06-15 10:59 UTC" in reason.sentence


def test_a_source_that_never_succeeded_is_not_ready() -> None:
    (reason,) = reasons(source(succeeded_at=None))
    assert reason.why == "success"


def test_the_oldest_gap_may_be_as_old_as_its_limit() -> None:
    at_limit = Gap(NOON - LIMITS.gap, NOON, "waiting")
    beyond = Gap(NOON - LIMITS.gap - SECOND, NOON - timedelta(hours=6), "set_aside")
    assert reasons(source(marketplaces=(marketplace(at_limit),))) == []
    (reason,) = reasons(source(marketplaces=(marketplace(beyond, at_limit),)))
    assert (reason.why, reason.subject) == ("gap", "acme:UK")


def test_reading_may_be_as_far_behind_as_a_gap_may_be_old() -> None:
    assert reasons(source(marketplaces=(marketplace(covered_until=NOON - LIMITS.gap),))) == []
    far = marketplace(covered_until=NOON - timedelta(days=25))
    (reason,) = reasons(source(marketplaces=(far,)))
    assert (reason.why, reason.subject) == ("gap", "acme:UK")
    assert "orders updated since 2026-05-21 12:00 UTC have not all been read" in reason.sentence


# --- in words ---------------------------------------------------------------------------------------


def said(**changed: Any) -> list[str]:
    values = {"pace": PaceStatus(180, 0, 0), "next_at": NOON + SECOND, **changed}
    return list(attention._about_source(source(**values), NOON))


def test_a_source_that_is_behind_is_not_well() -> None:
    late = timedelta(minutes=36)
    assert said(covered_until=NOON - late) == []
    assert said(covered_until=NOON - late - SECOND) == [
        "acme:EU: complete only up to 2026-06-15 11:23 UTC, 36 min ago: it is catching up."
    ]
    assert said(covered_until=NOON - timedelta(days=25), succeeded_at=NOON - timedelta(hours=2)) == [
        "acme:EU: complete only up to 2026-05-21 12:00 UTC, 25 days ago: no page has been stored since "
        "2026-06-15 10:00 UTC, the service's log says why."
    ]


def test_what_is_behind_for_a_reason_is_said_once() -> None:
    gap = Gap(NOON - timedelta(hours=9), NOON - timedelta(hours=8), "set_aside", NOON, "HTTP 500")
    for place in (marketplace(gap), marketplace(alone_since=NOON, trouble="HTTP 500")):
        (sentence,) = said(covered_until=NOON - timedelta(hours=9), marketplaces=(place,))
        assert "HTTP 500" in sentence


def test_a_last_run_in_the_future_is_said() -> None:
    def run(started_at: datetime) -> Run:
        return Run(1, "acme:EU", started_at, started_at, "complete", 0, 0, 1, None, 0, 0, 0, 0)

    assert said(last_run=run(NOON + timedelta(minutes=2))) == []
    (sentence,) = said(last_run=run(NOON + timedelta(hours=5)))
    assert "the last run is dated 2026-06-15 17:00 UTC, in the future" in sentence


# --- still ready ------------------------------------------------------------------------------------


def test_a_marketplace_that_the_seller_is_not_enrolled_in_is_the_reason_and_its_gap_is_not() -> None:
    old = Gap(NOON - timedelta(days=9), NOON, "waiting")
    (reason,) = reasons(source(marketplaces=(marketplace(old, enrolled=False), marketplace())))
    assert (reason.why, reason.subject) == ("enrolment", "acme:UK")
    assert "enrol, or set enabled = false" in reason.sentence


def test_a_refusal_may_last_as_long_as_its_limit() -> None:
    assert reasons(source(refusal=refusal(NOON - LIMITS.refusal))) == []
    (reason,) = reasons(source(refusal=refusal(NOON - LIMITS.refusal - SECOND)))
    assert (reason.why, reason.subject) == ("authorisation", "acme:EU")
    assert "authorise again" in reason.sentence


# --- what is wrong ----------------------------------------------------------------------------------


def wrong(**facts: Any) -> dict[str, Alert]:
    given = Facts(**{"status": status(source()), **facts})
    return {alert.name: alert for alert in alerts_of(given, LIMITS)}


def test_a_marketplace_that_the_seller_is_not_enrolled_in_is_an_alert() -> None:
    gone = status(source(marketplaces=(marketplace(enrolled=False), marketplace(marketplace="DE"))))
    assert list(wrong(status=gone)) == ["enrolment:acme:UK"]


def test_when_all_is_well_nothing_is_wrong() -> None:
    assert wrong() == {}


def test_what_is_not_ready_is_wrong() -> None:
    old = NOON - timedelta(days=1)
    gap = Gap(old, NOON, "set_aside")
    ill = source(succeeded_at=old, refusal=refusal(old), marketplaces=(marketplace(gap),))
    assert wrong(status=status(ill)).keys() == {"stalled:acme:EU", "refused:acme:EU", "gap:acme:UK"}
    assert wrong(status=status()).keys() == {"sources:"}


def test_a_source_that_has_just_been_set_up_is_not_wrong_until_it_fails() -> None:
    new = source(succeeded_at=None)
    assert wrong(status=status(new)) == {}
    failing = replace(new, failing_since=NOON)
    assert wrong(status=status(failing)).keys() == {"stalled:acme:EU"}


def test_a_quarantine_that_grows_is_wrong() -> None:
    assert wrong(quarantined_lately=QUARANTINE_GROWTH - 1) == {}
    assert wrong(quarantined_lately=QUARANTINE_GROWTH).keys() == {"quarantine"}


def test_credentials_that_are_about_to_expire_are_reported_a_month_before() -> None:
    def used(kind: Any, days: int) -> tuple[Credential, ...]:
        return (Credential("acme", kind, NOON - timedelta(days=days)),)

    assert wrong(credentials=used("secret", 149)) == {}
    trouble = wrong(credentials=used("secret", 150))["expires:acme:secret"]
    assert "by 2026-07-15 at the latest" in trouble.sentence
    assert trouble.repeat == EXPIRY_REPEATED_AFTER
    assert wrong(credentials=used("authorisation", 334)) == {}
    assert wrong(credentials=used("authorisation", 335)).keys() == {"expires:acme:authorisation"}


def test_a_webhook_that_accepts_nothing_or_gave_up_is_wrong() -> None:
    hook = Hook(4, "https://example.com", "whsec_AA==", Position(1), 0, NOON)
    none = Backlog(3, 0, NOON)
    failing = replace(hook, failing_since=NOON - timedelta(hours=2), last_error="status 500")
    assert wrong(hooks=((hook, none),)) == {}
    assert wrong(hooks=((replace(failing, failing_since=NOON), none),)) == {}
    found = wrong(hooks=((failing, none),))
    assert found.keys() == {"receiver:4"}
    assert "example.com" not in found["receiver:4"].sentence
    assert wrong(hooks=((hook, Backlog(0, 2, None)),)).keys() == {"dead:4"}


def test_what_other_parts_found_is_wrong() -> None:
    found = wrong(verifications=(Concern("acme:UK", "a"),), buyers=(Concern("acme:EU:email", "b"),))
    assert {name: t.sentence for name, t in found.items()} == {
        "unproven:acme:UK": "a",
        "unshown:acme:EU:email": "b",
    }


# --- telling ----------------------------------------------------------------------------------------

ALERT = Alert("stalled:acme:EU", "nothing is read.")


class People:
    """People who are notified, and what they remember: the shell around ``decide``, without a database."""

    def __init__(self, reached: bool = True) -> None:
        self.standing: dict[str, Standing] = {}
        self.sent: list[tuple[str, str]] = []
        self.reached = reached

    def look(self, now: datetime, *alerts: Alert) -> list[str]:
        """Decide as of this time. Return the kinds of the notices."""
        decision = decide(alerts, self.standing, now)
        self.standing |= {each.alert: each for each in decision.save}
        for alert in decision.forget:
            del self.standing[alert]
        for notice in decision.notices:
            if self.reached:
                self._note(notice, now)
        return [notice.kind for notice in decision.notices]

    def _note(self, notice: Notice, now: datetime) -> None:
        alert = notice.standing.alert
        if notice.kind == "over":
            del self.standing[alert]
        else:
            known = self.standing[alert]
            self.standing[alert] = replace(known, told_at=now, times=known.times + 1, telling_until=None)


def test_an_alert_is_sent_once_then_daily_and_when_it_is_over() -> None:
    people, sent, now = People(), [], NOON
    while now < NOON + timedelta(hours=50):
        sent += [(now - NOON, kind) for kind in people.look(now, ALERT)]
        now += timedelta(minutes=1)
    assert sent == [(timedelta(), "new"), (REPEATED_AFTER, "still"), (2 * REPEATED_AFTER, "still")]
    ended = now
    sent = []
    while now < ended + timedelta(hours=1):
        sent += [(now - ended, kind) for kind in people.look(now)]
        now += timedelta(minutes=1)
    assert sent == [(OVER_AFTER, "over")]
    assert people.standing == {}


def test_what_comes_back_at_once_was_not_over() -> None:
    people = People()
    people.look(NOON, ALERT)
    assert people.look(NOON + timedelta(minutes=1)) == []
    assert people.look(NOON + timedelta(minutes=9), ALERT) == []
    assert people.look(NOON + timedelta(minutes=10)) == []
    assert people.look(NOON + timedelta(minutes=19)) == []
    assert people.look(NOON + timedelta(minutes=21)) == ["over"]
    assert people.look(NOON + timedelta(minutes=22), ALERT) == ["new"]


def test_what_reached_no_one_is_sent_again_soon_and_only_if_it_lasts() -> None:
    people = People(reached=False)
    assert people.look(NOON, ALERT) == ["new"]
    assert people.look(NOON + timedelta(minutes=1), ALERT) == []
    assert people.look(NOON + SENT_WITHIN, ALERT) == ["new"]
    people.look(NOON + timedelta(minutes=5))
    assert people.look(NOON + timedelta(minutes=16)) == []
    assert people.standing == {}


def test_a_reminder_of_what_expires_comes_weekly() -> None:
    people, sent, now = People(), [], NOON
    while now < NOON + timedelta(days=15):
        sent += [now - NOON for _ in people.look(now, replace(ALERT, repeat=EXPIRY_REPEATED_AFTER))]
        now += timedelta(hours=1)
    assert sent == [timedelta(), EXPIRY_REPEATED_AFTER, 2 * EXPIRY_REPEATED_AFTER]


def test_notices_say_what_when_and_that_it_is_over() -> None:
    standing = Standing("x", "nothing is read.", NOON)
    assert Notice("new", standing).text == "nothing is read."
    assert Notice("still", standing).text == "nothing is read. (since 2026-06-15 12:00 UTC)"
    assert Notice("over", standing).text == "No longer so (since 2026-06-15 12:00 UTC): nothing is read."
    assert Notice("over", standing).title == "amazon-order-sync: over"
