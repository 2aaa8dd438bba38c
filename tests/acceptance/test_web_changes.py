"""Changes over HTTP are carried out once, and no edit is lost; on both databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from store import queries
from store.tables import idempotency_keys
from tests.acceptance.command_line import ROOT
from tests.acceptance.web_victim import TOKEN
from tests.acceptance.web_world import BUYERS, Served, problem, said, served
from tests.acceptance.web_world import logged as watched
from tests.databases import long_on


@pytest.fixture
def place(tmp_path: Path, database_url: str) -> Iterator[Served]:
    with served(tmp_path, database_url) as place:
        yield place


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def at_once(count: int, ask: Any) -> list[httpx.Response]:
    """Send ``count`` requests at the same time; ``ask`` gets a number."""
    barrier = threading.Barrier(count)

    def together(number: int) -> httpx.Response:
        barrier.wait()
        response: httpx.Response = ask(number)
        return response

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(together, range(count)))


def customers_named(client: httpx.Client, name: str) -> list[int]:
    items = client.get("/customers", params={"limit": 500}).json()["items"]
    return [item["customer_id"] for item in items if item["name"] == name]


# --- idempotency keys ---------------------------------------------------------------------------------


@pytest.mark.long
def test_a_change_with_a_key_is_carried_out_once_and_answered_alike(place: Served) -> None:
    client, other = place.client("read", "write", "buyer-data"), place.client("write")
    wanted = {"name": "Zoe Invented", "email_1": "zoe@example.com"}
    first = client.post("/customers", json=wanted, headers=keyed("one"))
    assert first.status_code == 201
    assert first.headers["Location"] == f"/customers/{first.json()['customer_id']}"
    again = client.post("/customers", json=wanted, headers=keyed("one"))
    assert again.json() == first.json()
    assert (again.status_code, again.headers["ETag"]) == (201, first.headers["ETag"])
    assert (again.headers["Idempotent-Replayed"], first.headers.get("Idempotent-Replayed")) == ("true", None)
    assert customers_named(client, "Zoe Invented") == [first.json()["customer_id"]]

    problem(client.post("/customers", json={"name": "Zoe"}, headers=keyed("one")), 422, "key-reused")
    problem(client.post("/backfills/1/pause", headers=keyed("one")), 422, "key-reused")
    # Another caller's key is another key.
    assert other.post("/customers", json={"price_list": "Trade"}, headers=keyed("one")).status_code == 201

    # What was refused was not carried out, so its key is free.
    taken = {"name": "Zoe Third", "email_1": "zoe@example.com"}
    assert "email_1" in problem(client.post("/customers", json=taken, headers=keyed("two")), 422, "refused")
    assert client.post("/customers", json={"name": "Zoe Third"}, headers=keyed("two")).status_code == 201

    with place.store.begin() as tx:
        rows = tx.rows(sa.select(idempotency_keys))
        assert len(rows) == 3
        kept = repr(rows)
        assert not [piece for piece in (*BUYERS, "Zoe", "zoe") if piece in kept]
        tx.conn.execute(sa.update(idempotency_keys).values(at=tx.now - timedelta(days=1)))
    later = client.post("/customers", json={"name": "Zoe Fourth"}, headers=keyed("one"))
    assert (later.status_code, later.headers.get("Idempotent-Replayed")) == (201, None)
    with place.store.read() as tx:
        assert len(tx.rows(sa.select(idempotency_keys.c.key))) == 1
    for key in ("", "x" * 129, "with blank"):
        problem(client.post("/customers", json={"name": "Z"}, headers=keyed(key)), 422, "invalid")


@pytest.mark.long
def test_equal_requests_at_the_same_time_are_carried_out_once(place: Served) -> None:
    clients = [place.client(), *(place.client("read", "write", "buyer-data") for _ in range(1))]
    clients[0].headers.update(clients[1].headers)
    wanted = {"name": "Zoe Invented"}
    answers = at_once(
        6, lambda number: clients[number % 2].post("/customers", json=wanted, headers=keyed("one"))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert Counter("Idempotent-Replayed" in answer.headers for answer in answers) == {True: 5, False: 1}
    assert len({answer.text for answer in answers}) == 1
    assert len(customers_named(clients[0], "Zoe Invented")) == 1


@pytest.mark.long
@long_on("sqlite")
def test_a_process_that_dies_in_between_leaves_all_or_nothing(tmp_path: Path, database_url: str) -> None:
    with served(tmp_path, database_url) as place:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("ORDER_SYNC_")}
        done = subprocess.run(
            [sys.executable, "-m", "tests.acceptance.web_victim"],
            cwd=ROOT,
            env=environ | place.shop.environ | {"ORDER_SYNC_API_TOKEN": TOKEN},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    lives: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(lives) > 5
    assert {tuple(life["before"]) for life in lives} == {(0, 0), (1, 1)}
    for life in lives:
        assert life["status"] == 201
        assert life["replayed"] == (life["before"] == [1, 1])
        assert life["after"] == [1, 1]


# --- versions -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_no_edit_is_lost(place: Served) -> None:
    ann = place.client("read", "write", "buyer-data")
    customer_id = ann.get("/customers").json()["items"][0]["customer_id"]
    path = f"/customers/{customer_id}"
    seen = ann.get(path).headers["ETag"]
    assert "ETag" in problem(ann.patch(path, json={"price_list": "Trade"}), 428, "if-match")

    first = ann.patch(path, json={"price_list": "Trade"}, headers={"If-Match": seen})
    assert first.json() == {"customer_id": customer_id, "changed": ["price_list"], "stops_recognising": 0}
    assert first.headers["ETag"] == ann.get(path).headers["ETag"] != seen
    late = ann.patch(path, json={"price_list": "Retail"}, headers={"If-Match": seen})
    problem(late, 412, "changed")
    assert late.headers["ETag"] == first.headers["ETag"]
    assert ann.get(path).json()["price_list"] == "Trade"

    # An e-mail is part of the record, and so are labels.
    for change in ({"email_2": "zoe@example.com"}, {"labels": {"segment": "B2B"}}, {"delivery": None}):
        before = ann.get(path).headers["ETag"]
        assert ann.patch(path, json=change, headers={"If-Match": f'"0-0", {before}'}).status_code == 200
        assert ann.get(path).headers["ETag"] != before
    shown = ann.get(path).json()
    assert (shown["emails"][1], shown["labels"]["segment"], shown["delivery"]) == (
        "zoe@example.com",
        "B2B",
        None,
    )
    assert ann.patch(path, json={"name": "Zoe"}, headers={"If-Match": "*"}).status_code == 200
    problem(ann.patch("/customers/999", json={"name": "Z"}, headers={"If-Match": "*"}), 404, "unknown")
    nothing = ann.patch(path, json={}, headers={"If-Match": "*"})
    assert problem(nothing, 422, "refused") == "nothing to change: name at least one field."
    # A repeated edit is answered by its key, although the record has a new version.
    seen = ann.get(path).headers["ETag"]
    sent = [
        ann.patch(path, json={"tax_code": "T1"}, headers={"If-Match": seen, **keyed("k")}) for _ in range(2)
    ]
    assert [answer.status_code for answer in sent] == [200, 200]


@pytest.mark.long
def test_of_concurrent_edits_all_but_one_are_refused(place: Served) -> None:
    client = place.client("read", "write")
    path = f"/customers/{client.get('/customers').json()['items'][0]['customer_id']}"
    for turn in range(3):
        seen = client.get(path).headers["ETag"]
        answers = at_once(
            4,
            lambda number, turn=turn, seen=seen: client.patch(
                path, json={"price_list": f"{turn}-{number}"}, headers={"If-Match": seen}
            ),
        )
        assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
        won = next(number for number, answer in enumerate(answers) if answer.status_code == 200)
        assert client.get(path).json()["price_list"] == f"{turn}-{won}"


@pytest.mark.long
def test_a_merge_is_as_it_was_previewed_and_is_undone(place: Served) -> None:
    client = place.client("read", "write", "buyer-data")
    kept, other = sorted(item["customer_id"] for item in client.get("/customers").json()["items"])[:2]
    moving = len(client.get("/orders", params={"customer_id": other}).json()["items"])
    wanted = {"other_id": other}
    with watched() as events:
        preview = client.post(f"/customers/{kept}/merge/preview", json=wanted)
    assert {piece["what"] for piece in said(events)} == {"customers"}
    shown = preview.json()
    assert (shown["moved"], len(shown["emails"]), shown["stopping"]) == (moving, 2, [])
    seen = client.get(f"/customers/{other}").headers["ETag"]
    client.patch(f"/customers/{other}", json={"price_list": "Trade"}, headers={"If-Match": seen})
    stale = {"If-Match": preview.headers["ETag"]}
    problem(client.post(f"/customers/{kept}/merge", json=wanted, headers=stale), 412, "changed")

    preview = client.post(f"/customers/{kept}/merge/preview", json=wanted)
    sent = {"If-Match": preview.headers["ETag"], **keyed("merge")}
    for _ in range(2):
        done = client.post(f"/customers/{kept}/merge", json=wanted, headers=sent)
        assert done.json() == {"customer_id": kept, "other_id": other, "moved": moving}
    assert client.get(f"/customers/{other}").json()["merged_into"] == kept
    assert client.get(f"/customers/{kept}").json()["emails"] == preview.json()["emails"]
    problem(client.post(f"/customers/{kept}/merge", json=wanted), 422, "refused")
    problem(client.post("/customers/999/merge", json=wanted), 404, "unknown")
    with place.store.read() as tx:
        assert queries.journal_of(tx, kept)[-1].who == "token:read-write-buyer-data"
    with watched() as events:
        (entry,) = client.get(f"/customers/{kept}/journal").json()
        masked = place.client("read").get(f"/customers/{kept}/journal")
    assert (entry["action"], entry["other_id"]) == ("merge", other)
    assert entry["after"]["email_2"] in preview.json()["emails"]
    assert masked.json()[0]["after"]["email_2"] == "***"
    assert not [piece for piece in BUYERS if piece in masked.text]
    who = "token:read-write-buyer-data"
    assert said(events) == [{"who": who, "what": "journal", "ids": [kept, other]}]

    back = client.post(f"/customers/{other}/unmerge", json={})
    assert back.json() == {
        "customer_id": other,
        "kept_id": kept,
        "moved": moving,
        "arrived": 0,
        "stayed": 0,
        "entered": 0,
        "lost": 0,
    }
    assert client.get(f"/customers/{other}").headers["ETag"] == back.headers["ETag"]
    problem(client.post(f"/customers/{other}/unmerge", json={}), 422, "refused")
