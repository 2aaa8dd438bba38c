"""Runs, verifications, the audit log and quarantine in the console."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa

from connectors.marketplaces import BY_NAME
from store import tables, verifications
from store.engine import Transaction
from store.verification_records import Finding, Verification
from tests.acceptance.command_line import STARTED
from tests.acceptance.web_world import ALL, BAD, ORDERS, Served, form, served

DAY = timedelta(days=1)
LIVE = {"X-Live": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("lists")) as place:
        yield place


@pytest.fixture(scope="module")
def ann(place: Served) -> httpx.Client:
    return place.browser("ann", *ALL)


def rows(text: str) -> list[str]:
    """Return the rows of the list in words."""
    return [
        re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)).strip()
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", text, re.DOTALL)[1:]
    ]


# --- runs -------------------------------------------------------------------------------------------


def test_waiting_is_folded_and_the_next_run_is_named(place: Served, ann: httpx.Client) -> None:
    waiting = [
        {
            "source": "acme:EU",
            "started_at": STARTED + timedelta(minutes=number),
            "finished_at": STARTED + timedelta(minutes=number, seconds=1),
            "outcome": "deferred",
            "pages": 0,
            "orders": 0,
            "requests": 0,
            "message": "history waits for reports",
        }
        for number in range(22)
    ]
    place.store.commit(lambda tx: tx.conn.execute(sa.insert(tables.runs), waiting))
    text = ann.get("/console/runs").text
    assert rows(text)[0].startswith("acme:EU 22 \u00d7 waiting 20"), rows(text)[0]
    assert "history waits for reports" in rows(text)[0]
    assert '<span class="tag waiting">22 \u00d7 waiting</span>' in text
    assert "deferred" not in text
    assert re.search(r"<strong>acme:EU</strong> next <time", text)


# --- verifications ----------------------------------------------------------------------------------


def verified(place: Served, *findings: Finding) -> Verification:
    """Store a verification that is done."""
    upper = STARTED - DAY
    asked = Verification(
        "acme", BY_NAME["UK"].id, upper - 7 * DAY, upper, upper, "report", "scheduled", False, upper
    )

    def stored(tx: Transaction) -> Verification:
        begun = verifications.begin(tx, asked)
        return verifications.save(tx, replace(begun, state="done", listed=7, findings=findings))

    return place.store.commit(stored)


def test_findings_lead_to_their_orders_or_can_be_fetched(place: Served, ann: httpx.Client) -> None:
    at = STARTED - 2 * DAY
    findings = (
        Finding("111-0000000-0000777", "missing", at, at),
        Finding(ORDERS[0], "missing", at, at, "stored"),
        Finding(ORDERS[1], "older", at, at),
        Finding(BAD, "quarantined", at, at),
    )
    job = verified(place, *findings)
    listed = ann.get("/console/verifications").text
    assert '<span class="tag failed">done</span>' in listed
    path = f"/console/verifications/{job.verification_id}"
    assert f'href="{path}"' in listed
    text = ann.get(path).text
    assert "NOT complete: 7 orders listed, 2 missing, 1 older than Amazon&#39;s copy" in text
    for target in (f"orders/acme/{ORDERS[0]}", f"orders/acme/{ORDERS[1]}", f"quarantine/acme/{BAD}"):
        assert f'href="/console/{target}"' in text, target
        assert ann.get(f"/console/{target}").status_code == 200
    assert 'href="/console/orders/acme/111-0000000-0000777"' not in text
    assert 'action="/console/orders/acme/111-0000000-0000777/fetch"' in text
    bob = place.browser("bob", "read")
    assert "/fetch" not in bob.get(path).text
    assert ann.get("/console/verifications/4711").status_code == 404


def test_a_verification_is_requested_and_what_is_refused_stays_in_the_form(
    place: Served, ann: httpx.Client
) -> None:
    first, end = f"{STARTED - 3 * DAY:%Y-%m-%d}", f"{STARTED - 2 * DAY:%Y-%m-%d}"
    wanted = {"place": "UK acme", "from": first, "to": end, "by": "report", "repair": "yes"}
    for changed, sentence in (
        ({"from": end, "to": first}, f"From {end} is not before to {first}"),
        ({"from": "soon"}, "From soon is not a date or time"),
        ({"place": "US acme"}, "US of account acme is not polled"),
        ({"place": "UK other"}, "There is no usable account other"),
        ({"by": "mail"}, "By mail is unknown: it is report or search."),
        ({"from": "1999-01-01", "to": "1999-01-02", "place": ""}, "is not an Amazon marketplace"),
    ):
        answer = ann.post("/console/verifications", data=form(ann, **wanted | changed))
        assert answer.status_code == 422, changed
        assert sentence in answer.text, answer.text
        assert f'name="to" type="date" required value="{(wanted | changed)["to"]}"' in answer.text
    bob = place.browser("bob-too", "read")
    assert bob.post("/console/verifications", data=form(bob, **wanted)).status_code == 403
    assert "Start a verification" not in bob.get("/console/verifications").text
    answer = ann.post("/console/verifications", data=form(ann, **wanted))
    assert answer.status_code == 303
    again = ann.post("/console/verifications", data=form(ann, **wanted))
    assert again.headers["location"] == answer.headers["location"], "the one of this period goes on"
    with place.store.read() as tx:
        (job, *_) = verifications.listed(tx, limit=1, before=None)
    assert answer.headers["location"] == f"/console/verifications/{job.verification_id}"
    assert (job.reason, job.repair, job.by, job.account) == ("requested", True, "report", "acme")
    assert "not compared yet" in ann.get(answer.headers["location"]).text.lower()


# --- the audit log ----------------------------------------------------------------------------------


def test_the_audit_log_is_filtered_by_day_and_stays_fresh_without_being_read(
    place: Served, ann: httpx.Client
) -> None:
    ann.get(f"/console/orders/acme/{ORDERS[0]}")
    today = place.store.now().date()
    found = ann.get("/console/audit", params={"from": f"{today}", "to": f"{today}", "order": ORDERS[0]})
    assert rows(found.text)
    assert all("user:ann" in row for row in rows(found.text))
    assert f'value="{today}"' in found.text
    for params in ({"to": f"{today - DAY}"}, {"from": f"{today + DAY}"}):
        assert "No entry matches." in ann.get("/console/audit", params=params).text
    assert ann.get("/console/audit", params={"to": "9999-12-31"}).status_code == 200
    wrong = ann.get("/console/audit", params={"from": "soon"})
    assert wrong.status_code == 422
    assert "From soon is not a date or time" in wrong.text
    assert ann.get("/console/audit", params={"customer": "9" * 19}).status_code == 422
    again = {**LIVE, "If-None-Match": found.headers["etag"]}
    assert ann.get(found.url.path + "?" + found.url.query.decode(), headers=again).status_code == 304
    ann.get(f"/console/orders/acme/{ORDERS[0]}")
    assert ann.get(found.url.path + "?" + found.url.query.decode(), headers=again).status_code == 200


@pytest.mark.parametrize(
    "path", ["customers", "duplicates", "runs", "verifications", "audit", "quarantine", "backfills"]
)
def test_open_lists_stay_fresh(ann: httpx.Client, path: str) -> None:
    """The part that is replaced has an id, and asking for it again reads nothing that was read."""
    first = ann.get(f"/console/{path}")
    assert re.search(r'<div [^>]*id="\w+" data-live="', first.text), path
    again = {**LIVE, "If-None-Match": first.headers["etag"]}
    if path != "runs":  # which says when the next one is due
        assert ann.get(f"/console/{path}", headers=again).status_code == 304
