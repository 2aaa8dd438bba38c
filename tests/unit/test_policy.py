"""Evidence for the policy: each finding follows from the facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from config.problems import Problem
from config.settings import check_settings
from poller.monitoring.health import Credential
from poller.monitoring.status import RetentionStatus
from poller.web.access_review import Review, review
from poller.web.policy import ITEMS, Facts, count_of, evidence
from store.access_reviews import AccessReview
from store.tokens import StoredToken
from store.users import ConsoleUser
from tests.harness import NOON

DAY = timedelta(days=1)
ANN = ConsoleUser("ann", "hash", NOON - DAY, True, ("read",), NOON - DAY, NOON, None, NOON - DAY)
ERP = StoredToken("erp", ("read",), b"", NOON - DAY, NOON + 80 * DAY, NOON)


def settings(**given: str) -> Any:
    made, problems = check_settings(given)
    assert not problems
    return made


def reviewed(user: ConsoleUser = ANN, token: StoredToken = ERP, *, has_setting: bool = False) -> Review:
    return review([(user, 0)], [token], has_setting=has_setting, now=NOON)


GOOD = Facts(
    now=NOON,
    settings=settings(require_totp="on", order_retention_months="18"),
    problems=(),
    review=reviewed(),
    reviewed=AccessReview(NOON - DAY, "cli:root", 1, 1, 0),
    first_entry=None,
    last_entry=None,
    credentials=(Credential("acme", "secret", NOON - DAY), Credential("", "key", NOON - DAY)),
    retention=RetentionStatus(30, 18, 0, None),
    erased_at=NOON,
    oldest_order=NOON - 500 * DAY,
    sslmode=None,
    versions={"Python": "3.11"},
)


def test_a_good_installation_leaves_to_a_person_what_only_a_person_can_show() -> None:
    found = evidence(GOOD)
    assert [one.item for one in found] == [item for item, _, _ in ITEMS]
    assert [one.item for one in found if one.state == "not met"] == []
    assert [one.item.partition(":")[0] for one in found if one.state == "by a person"] == [
        "encryption at rest",
        "incident plan, Amazon within 24 hours",
        "backups",
        "vulnerabilities",
    ]
    assert count_of(found, "met") == len(found) - 4


@pytest.mark.parametrize(
    ("changed", "item", "words"),
    [
        ({"reviewed": None}, "access: reviewed", "no review took place"),
        (
            {"reviewed": AccessReview(NOON - 93 * DAY, "cli:root", 1, 1, 0)},
            "access: reviewed",
            "last review 2026",
        ),
        ({"review": reviewed(replace(ANN, name="owner"))}, "access: a name", "owner"),
        ({"settings": settings(api_token="x" * 40, require_totp="on")}, "access: a name", "API_TOKEN"),
        ({"review": reviewed(replace(ANN, password_at=NOON - 365 * DAY))}, "passwords", "ann"),
        ({"settings": settings()}, "multi-factor", "not demanded"),
        ({"review": reviewed(token=replace(ERP, expires_at=None))}, "API keys", "token erp has no expiry"),
        ({"review": reviewed(has_setting=True)}, "API keys", "setting:api_token has no expiry"),
        (
            {"credentials": (Credential("acme", "secret", NOON - 366 * DAY),)},
            "API keys",
            "acme: client secret in use for 366 days",
        ),
        ({"credentials": (Credential("", "key", NOON - 366 * DAY),)}, "key management", "366 days"),
        ({"problems": (Problem("used without TLS: add", "nothing"),)}, "encryption on the way", "TLS"),
        ({"retention": RetentionStatus(None, 18, 0, None)}, "buyer data", "never erased"),
        ({"retention": RetentionStatus(31, 18, 0, None)}, "buyer data", "after 31 days"),
        ({"retention": RetentionStatus(30, 18, 2, NOON)}, "buyer data", "2 orders overdue"),
        ({"settings": settings(order_retention_months="19")}, "all other data", "after 19 months"),
    ],
)
def test_what_is_lacking_is_named(changed: dict[str, Any], item: str, words: str) -> None:
    (one,) = [one for one in evidence(replace(GOOD, **changed)) if one.item.startswith(item)]
    assert one.state == "not met"
    assert words in one.finding


@pytest.mark.parametrize(
    ("changed", "item", "words"),
    [
        ({"listen": "0.0.0.0:8000"}, "network", "show the firewall"),
        ({"require_totp": "on"}, "all other data", "show the law"),
    ],
)
def test_what_depends_on_others_is_for_a_person(changed: dict[str, str], item: str, words: str) -> None:
    (one,) = [
        one for one in evidence(replace(GOOD, settings=settings(**changed))) if one.item.startswith(item)
    ]
    assert (one.state, words in one.finding) == ("by a person", True)


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "met"),
        ({"sslmode": "verify-full"}, "met"),
        ({"sslmode": "disable"}, "by a person"),
        ({"settings": settings(listen="0.0.0.0:8000")}, "by a person"),
        ({"settings": settings(listen="0.0.0.0:8000", public_url="http://127.0.0.1")}, "by a person"),
        ({"settings": settings(listen="0.0.0.0:8000", public_url="https://orders.example")}, "met"),
        ({"settings": settings(listen="off")}, "met"),
        ({"problems": (Problem("x: PostgreSQL may be used without TLS: do", "nothing"),)}, "not met"),
    ],
)
def test_encryption_on_the_way_is_met_only_where_it_is_known(changed: dict[str, Any], verdict: str) -> None:
    (found,) = [one for one in evidence(replace(GOOD, **changed)) if "on the way" in one.item]
    assert found.state == verdict, found
