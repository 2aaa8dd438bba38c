"""What is not well, whether the service is ready, and who is notified of it when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from config.problems import Problem
from config.settings import Settings
from poller.ingest.accounts import Setup
from poller.matching.buyer_visibility import Drop
from poller.monitoring.alert_rules import (
    EXPIRY_REPEATED_AFTER,
    OVER_AFTER,
    REPEATED_AFTER,
    SENT_WITHIN,
    Alert,
    Notice,
    alerts_of,
    decide,
)
from poller.monitoring.health import QUARANTINE_GROWTH, Credential, Facts, Limits, health
from poller.monitoring.readiness import readiness
from poller.monitoring.status import (
    Gap,
    Item,
    MarketplaceStatus,
    PaceStatus,
    RefusalStatus,
    RetentionStatus,
    SourceStatus,
)
from store.alerts import Standing
from store.change_records import Backlog, Hook, Position
from store.quarantine import Counts
from store.queries import UNCOUNTED
from store.runs import Run

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
LIMITS = Limits()
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


def items(*sources: SourceStatus, **facts: Any) -> tuple[Item, ...]:
    given: dict[str, Any] = {
        "now": NOON,
        "totals": UNCOUNTED,
        "quarantined": Counts(0, 0, None, None),
        "retention": RetentionStatus(30, 18, 0, None),
        **facts,
    }
    return health(Setup(Settings(), (), "tests"), Facts(sources=sources, **given))


def reasons(*sources: SourceStatus) -> list[Item]:
    found = readiness(items(*sources))
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
    assert reason.why == "start"


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
    assert (reason.why, reason.subject) == ("behind", "acme:EU")
    assert "complete only up to 2026-05-21 12:00 UTC, 25 days ago" in reason.sentence
    (reason,) = reasons(source(marketplaces=(replace(far, alone_since=NOON), marketplace())))
    assert (reason.why, reason.subject) == ("alone", "acme:UK")


# --- in words ---------------------------------------------------------------------------------------


def said(**changed: Any) -> list[str]:
    values = {"pace": PaceStatus(180, 0, 0), "next_at": NOON + SECOND, **changed}
    return [item.sentence for item in items(source(**values))]


def read_until(covered_until: datetime) -> tuple[MarketplaceStatus, ...]:
    return (marketplace(covered_until=covered_until), marketplace())


def test_a_source_that_is_behind_is_not_well() -> None:
    late = timedelta(minutes=36)
    assert said(marketplaces=read_until(NOON - late)) == []
    assert said(marketplaces=read_until(NOON - late - SECOND)) == [
        "acme:EU: complete only up to 2026-06-15 11:23 UTC, 36 min ago: it is catching up."
    ]
    assert said(
        marketplaces=read_until(NOON - timedelta(days=25)), succeeded_at=NOON - timedelta(hours=2)
    ) == [
        "acme:EU: complete only up to 2026-05-21 12:00 UTC, 25 days ago: no page has been stored since "
        "2026-06-15 10:00 UTC, the service's log says why."
    ]


def test_what_is_behind_for_a_reason_is_said_once_and_hides_no_other() -> None:
    gap = Gap(NOON - timedelta(hours=9), NOON - timedelta(hours=8), "set_aside", NOON, "HTTP 500")
    for place in (marketplace(gap), marketplace(alone_since=NOON, trouble="HTTP 500")):
        behind = replace(place, covered_until=NOON - timedelta(hours=9))
        (sentence,) = said(marketplaces=(behind,))
        assert "HTTP 500" in sentence
        assert len(said(marketplaces=(behind, *read_until(NOON - timedelta(hours=1))))) == 2


def test_the_oldest_gap_is_what_keeps_a_service_from_being_ready() -> None:
    def gap(hours: int, state: Any) -> Gap:
        lower = NOON - timedelta(hours=hours)
        return Gap(lower, lower + timedelta(hours=1), state, NOON, "HTTP 500")

    place = marketplace(gap(2, "set_aside"), gap(9, "waiting"), gap(4, "reading"), gap(8, "set_aside"))
    found = items(source(marketplaces=(place,)))
    assert [(item.urgency, item.sentence[:43]) for item in found] == [
        ("unready", "acme:UK: orders updated since 2026-06-15 03"),
        ("note", "acme:UK: orders updated between 2026-06-15 "),
        ("note", "acme:UK: orders updated between 2026-06-15 "),
    ]


def test_a_last_run_in_the_future_is_said_and_the_service_is_not_ready() -> None:
    def run(started_at: datetime) -> Run:
        return Run(1, "acme:EU", started_at, started_at, "complete", 0, 0, 1, None, 0, 0, 0, 0)

    assert said(last_run=run(NOON + timedelta(minutes=2))) == []
    (reason,) = reasons(source(last_run=run(NOON + timedelta(hours=5))))
    assert (reason.why, reason.subject) == ("clock", "acme:EU")
    assert "the last run is dated 2026-06-15 17:00 UTC, in the future" in reason.sentence


def test_what_is_most_urgent_comes_first() -> None:
    found = items(source(marketplaces=(marketplace(enrolled=False),)), retention=overdue(days=3))
    assert [item.urgency for item in found] == ["unready", "alert"]
    held = replace(UNCOUNTED, held=1)
    assert [item.urgency for item in items(source(), retention=overdue(days=3), totals=held)] == [
        "alert",
        "note",
    ]


def overdue(days: int) -> RetentionStatus:
    return RetentionStatus(30, 18, 1, NOON - timedelta(days=30 + days))


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


def wrong(*sources: SourceStatus, **facts: Any) -> dict[str, Alert]:
    return {alert.name: alert for alert in alerts_of(items(*(sources or (source(),)), **facts))}


def test_a_marketplace_that_the_seller_is_not_enrolled_in_is_an_alert() -> None:
    gone = source(marketplaces=(marketplace(enrolled=False), marketplace(marketplace="DE")))
    assert list(wrong(gone)) == ["enrolment:acme:UK"]


def test_when_all_is_well_nothing_is_wrong() -> None:
    assert wrong() == {}


def test_what_is_not_ready_is_wrong() -> None:
    old = NOON - timedelta(days=1)
    gap = Gap(old, NOON, "set_aside")
    ill = source(succeeded_at=old, refusal=refusal(old), marketplaces=(marketplace(gap),))
    assert wrong(ill).keys() == {"authorisation:acme:EU", "gap:acme:UK"}
    assert wrong(source(succeeded_at=old)).keys() == {"success:acme:EU"}
    assert {alert.name for alert in alerts_of(items())} == {"sources:"}


def test_a_source_that_has_just_been_set_up_is_not_wrong_until_it_fails() -> None:
    new = source(succeeded_at=None)
    assert wrong(new) == {}
    failing = replace(new, failing_since=NOON)
    assert wrong(failing).keys() == {"success:acme:EU"}


def test_a_quarantine_that_grows_is_wrong() -> None:
    some = Counts(9, 3, NOON, NOON, 1)
    assert wrong(quarantined=some, quarantined_lately=QUARANTINE_GROWTH - 1) == {}
    found = wrong(quarantined=some, quarantined_lately=QUARANTINE_GROWTH)
    assert found.keys() == {"quarantine:"}
    assert found["quarantine:"].sentence.startswith("5 orders came into quarantine within a day. 2 orders in")


def test_erasing_that_is_overdue_is_wrong() -> None:
    assert wrong(retention=overdue(days=1)) == {}
    assert "the first 2 days ago" in wrong(retention=overdue(days=2))["retention:"].sentence


def test_what_a_problem_of_the_configuration_stops_decides_if_it_is_wrong() -> None:
    problems = (Problem("a", "account", "acme"), Problem("b", "nothing", "uk"))
    setup = Setup(Settings(), problems, "tests")
    facts = Facts(NOON, (source(),), UNCOUNTED, Counts(0, 0, None, None), RetentionStatus(30, 18, 0, None))
    found = health(setup, facts)
    assert [item.sentence for item in found] == ["a", "b"]
    assert [alert.name for alert in alerts_of(found)] == ["configuration:acme"]


def test_credentials_that_are_about_to_expire_are_reported_a_month_before() -> None:
    def used(kind: Any, days: int) -> tuple[Credential, ...]:
        return (Credential("acme", kind, NOON - timedelta(days=days)),)

    assert wrong(credentials=used("secret", 149)) == {}
    trouble = wrong(credentials=used("secret", 150))["expiry:acme:secret"]
    assert "by 2026-07-15 at the latest" in trouble.sentence
    assert trouble.repeat == EXPIRY_REPEATED_AFTER
    assert wrong(credentials=used("authorisation", 334)) == {}
    assert wrong(credentials=used("authorisation", 335)).keys() == {"expiry:acme:authorisation"}


def test_a_webhook_that_accepts_nothing_or_gave_up_is_wrong() -> None:
    hook = Hook(4, "https://example.com", "whsec_AA==", Position(1), 0, NOON)
    none = Backlog(3, 0, NOON)
    failing = replace(hook, failing_since=NOON - timedelta(hours=2), last_error="status 500")
    assert wrong(hooks=((hook, none),)) == {}
    assert wrong(hooks=((replace(failing, failing_since=NOON), none),)) == {}
    found = wrong(hooks=((failing, none),))
    assert found.keys() == {"receiver:4"}
    assert "example.com" not in found["receiver:4"].sentence
    assert wrong(hooks=((hook, Backlog(0, 2, None)),)).keys() == {"events:4"}


def test_the_first_finding_of_a_marketplace_is_wrong_and_drops_are() -> None:
    late = marketplace(verification_waits="the marketplace is failing")
    drop = Drop(NOON.date(), "email", 0.1, 0.9, 40)
    found = wrong(source(marketplaces=(late,), identity_drops=(drop,)))
    assert found.keys() == {"verification:acme:UK", "buyers:acme:EU:email"}


def test_two_things_of_one_name_are_one_alert() -> None:
    problems = (Problem("a.", "marketplace", "uk.toml"), Problem("b.", "marketplace", "uk.toml"))
    facts = Facts(NOON, (source(),), UNCOUNTED, Counts(0, 0, None, None), RetentionStatus(30, 18, 0, None))
    assert alerts_of(health(Setup(Settings(), problems, "tests"), facts)) == [
        Alert("configuration:uk.toml", "a. b.")
    ]
    far = marketplace(Gap(NOON - timedelta(days=2), NOON, "waiting"), covered_until=NOON - timedelta(days=2))
    split = source(source="acme:UK", marketplaces=(far,), succeeded_at=NOON - timedelta(days=2))
    names = [alert.name for alert in alerts_of(items(split))]
    assert len(names) == len({*names}) == 2


# --- telling ----------------------------------------------------------------------------------------

ALERT = Alert("success:acme:EU", "nothing is read.")


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


def test_what_may_be_over_at_once_is_sent_when_it_has_lasted() -> None:
    people, alert = People(), replace(ALERT, after=timedelta(minutes=2))
    assert people.look(NOON, alert) == []
    assert people.look(NOON + timedelta(minutes=1), alert) == []
    assert people.look(NOON + timedelta(minutes=2), alert) == ["new"]
    people = People()
    assert people.look(NOON, alert) == []
    assert people.look(NOON + timedelta(minutes=1)) == []
    assert people.look(NOON + timedelta(minutes=12)) == []
    assert people.sent == []
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


def test_what_comes_by_report_alone_makes_no_source_behind() -> None:
    """Its bound is that of the last report, a day ago."""
    others = marketplace(
        marketplace="NON_AMAZON", covered_until=NOON - timedelta(hours=20), behind_seconds=None
    )
    assert items(source(marketplaces=(marketplace(), others))) == items(source())
