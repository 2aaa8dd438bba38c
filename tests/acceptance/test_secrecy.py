"""No credential, no token and nothing of a buyer is ever in the clear outside the seller's own hands.

A shop lives through a few days of orders of every kind and faults of every kind, with every logger as
talkative as it can be. Then everything that was written anywhere is searched for everything that must not
be there, and, so that the search itself is proven, for some things that must.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa
import structlog

from config.logging import configure_logging
from connectors.amazon.auth import Credentials
from connectors.base import Operation, SearchQuery
from connectors.errors import ConnectorError
from connectors.simulator.api import Simulator
from connectors.simulator.faults import OUTRIGHT, Faults
from connectors.simulator.orders import POISONS, Address, Line, TaxNumber
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, World
from poller.sync.run import RunReport
from store import ledger, quarantine, queries, tables
from store.sealing import Sealer
from tests.harness import DATASETS, KEY, NOON, Shop, SimulatedClock, rules_for

SEED = 11
SHORTEST = 5
"""Shorter texts turn up by chance; a test that cries wolf is not believed."""


def a_world() -> World:
    """Orders of every kind that the simulator invents, and one that has everything a buyer can give."""
    world = World.generate(
        seed=SEED,
        marketplaces=("UK",),
        orders=220,
        start=NOON - timedelta(days=4),
        end=NOON + timedelta(days=1),
        poisoned=0.05,
        withheld=0.1,
    )
    everything = world.order(
        "777-0000001-0000001",
        created=NOON + timedelta(minutes=10),
        name="Philippa Unmistakable",
        email="philippa.unmistakable@marketplace.amazon.co.uk",
        company="Unmistakable Trading Ltd",
        purchase_order_number="PO-UNMISTAKABLE-1",
        tax_numbers=(TaxNumber("VAT", "XX998877665", "Unmistakable Legal Name Ltd"),),
        drop_off="Under the unmistakable flowerpot",
        instruction="Knock unmistakably",
        delivery=Address(
            name="Rosalind Unmistakable",
            company="Unmistakable Deliveries",
            line1="99 Unmistakable Avenue",
            line2="Unmistakable Annexe",
            line3="Unmistakable Gate",
            city="Unmistakabury",
            county="Unmistakashire",
            postal_code="UN99 9MK",
            country="GB",
            phone="+44 1632 960999",
        ),
        lines=(
            Line(
                "i-unmistakable",
                gift_message="An unmistakable gift",
                customized_url="https://zme-caps.amazon.co.uk/unmistakable",
                cancel_requested="An unmistakable request",
            ),
        ),
    )
    first = everything.versions[-1].facts.lines[0]
    gone = replace(first, cancelled_by="BUYER", cancel_reason="Unmistakably gone")
    world.update("777-0000001-0000001", NOON + timedelta(minutes=20), status="SHIPPED", lines=(gone,))
    broken = everything.versions[-1].facts
    world.order(
        "777-0000002-0000002",
        created=NOON + timedelta(minutes=10),
        name=broken.name,
        email=broken.email,
        poison="buyer_a_list",
    )
    return world


# --- what must not be found -----------------------------------------------------------------------


def buyers(world: World) -> Iterator[str | None]:
    """Everything in the world that a buyer gave."""
    for order in world.orders():
        for facts in (version.facts for version in order.versions):
            yield from (facts.name, facts.email, facts.company, facts.purchase_order_number)
            yield from (facts.drop_off, facts.instruction)
            if facts.delivery is not None:
                home = facts.delivery
                yield from (home.name, home.company, home.line1, home.line2, home.line3)
                yield from (home.city, home.county, home.postal_code, home.phone)
            for number in facts.tax_numbers:
                yield from (number.number, number.legal_name)
            for line in facts.lines:
                yield from (line.gift_message, line.customized_url, line.cancel_requested, line.cancel_reason)


def spellings(text: str) -> set[bytes]:
    """The ways in which a text may be written down, all in small letters."""
    forms = {text.casefold(), text.strip().lower()}
    forms |= {quote(form, safe="") for form in forms}
    forms |= {json.dumps(form)[1:-1] for form in forms} | {ascii(form)[1:-1] for form in forms}
    return {form.lower().encode() for form in forms}


def readable(content: bytes) -> bytes:
    """What of a place could be read, each piece once, in small letters: most is noise and repetition."""
    pieces = re.findall(rb"[\x20-\x7e\xc2-\xf4\x80-\xbf]{%d,}" % SHORTEST, content.replace(b"\\x", b"\n"))
    return b"\n".join(sorted({piece.lower() for piece in pieces}))


def found_in(text: bytes, needles: Iterable[str]) -> set[str]:
    """The needles that are there; one of digits (a postal code) must not be part of a longer number."""
    return {needle for needle in needles if any(_is_in(text, form) for form in spellings(needle))}


def _is_in(text: bytes, form: bytes) -> bool:
    if form not in text:
        return False
    return re.search(rb"(?<![0-9.])%s(?![0-9])" % re.escape(form), text) is not None or not form.isdigit()


class Tokens:
    """Notes every access token and page token that the simulator hands out."""

    _GIVEN = re.compile(rb'"(access_token|nextToken)": ?"([^"]+)"')

    def __init__(self) -> None:
        self.given: dict[str, set[str]] = {"access_token": set(), "nextToken": set()}

    def hear(self, answer: httpx.Response) -> None:
        for kind, token in self._GIVEN.findall(answer.read()):
            self.given[kind.decode()].add(token.decode())


# --- where it is searched -------------------------------------------------------------------------


@pytest.fixture
def everything_logged(capsys: pytest.CaptureFixture[str]) -> Iterator[io.StringIO]:
    """All loggers at DEBUG into one text, besides the product's own configuration of logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = ("sqlalchemy", "sqlalchemy.engine", "sqlalchemy.pool", "httpx", "httpcore", "sp_api", "alembic")
    levels = {name: logging.getLogger(name).level for name in names}
    written = io.StringIO()
    raw = logging.StreamHandler(written)
    raw.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    root.handlers[:] = [raw]  # without pytest's, which would format every line once more
    configure_logging("json", "debug")
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield written
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def errors_of_the_connector(shop: Shop) -> Iterator[str]:
    """Every kind of fault once more, directly, with all that an error can show."""

    class NoLimit:
        def take(self, operation: Operation, *, again: bool = False) -> None: ...
        def observe_rate(self, operation: Operation, rate: float) -> None: ...
        def drain(self, operation: Operation) -> Any:
            return shop.clock()

    marketplace_ids = (rules_for("UK").marketplace_id,)
    query = SearchQuery("updated", NOON - timedelta(days=9), NOON, marketplace_ids, DATASETS)
    for kind in sorted(OUTRIGHT):
        shop.simulator.faults = Faults()
        shop.clock.sleep(7200)  # the bucket is full again, and the access token has expired
        connector = shop.new_connector()
        page = None
        try:
            connector.amazon_now()
            page = connector.search(query, None, NoLimit())
            yield repr(page)
            shop.simulator.faults = Faults.only(kind)
            connector.search(query, page.next_token, NoLimit())
        except ConnectorError as error:
            yield "".join([*traceback.format_exception(error), repr(error), str(error), str(vars(error))])
        try:
            connector.get("777-0000001-0000001", DATASETS, NoLimit())
        except ConnectorError as error:
            yield "".join([*traceback.format_exception(error), repr(error), str(error), str(vars(error))])


def reprs_of_what_is_stored(shop: Shop) -> Iterator[str]:
    with shop.store.read() as tx:
        for table in tables.metadata.sorted_tables:
            for row in tx.rows(sa.select(table)):
                yield repr(tuple(row))
        upto = tx.readable_change_no()
        yield from map(repr, queries.changed_orders(tx, 0, upto))
        yield from map(repr, queries.changed_customers(tx, 0, upto))
        yield from map(repr, quarantine.entries(tx))
        for source in shop.sources():
            yield from map(repr, ledger.pending_windows(tx, source.account, source.key))
            yield repr(source)
        yield from map(repr, (tx, shop.store, shop.connector, Sealer([KEY])))
    yield repr(Credentials(CLIENT_ID, (CLIENT_SECRET,), shop.seller.refresh_token))
    yield from map(repr, shop.attempts)


@pytest.mark.long
def test_no_credential_token_or_buyer_datum_is_written_anywhere(
    tmp_path: Path, everything_logged: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    path, world, clock, tokens = tmp_path / "order-sync.db", a_world(), SimulatedClock(), Tokens()
    trouble = Faults.everything(SEED, 0.4) + Faults.only("invalid_grant", during=(NOON, NOON))
    simulator = Simulator(world, now=clock, faults=trouble)
    start = date(2026, 6, 11)
    shop = Shop(f"sqlite:///{path}", simulator, clock, [rules_for("UK")], start_date=start)
    shop.http.event_hooks["response"].append(tokens.hear)
    reports: list[RunReport] = shop.run_until(NOON + timedelta(hours=1))
    logging.getLogger("sqlalchemy.engine").setLevel(logging.WARNING)  # an hour of its chatter is enough
    reports += shop.run_until(NOON + timedelta(hours=2))
    simulator.faults = Faults()
    reports += shop.run_until(NOON + timedelta(hours=3))
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    simulator.faults = Faults.only("invalid_grant")
    shop.connector = shop.new_connector()
    reports += shop.sync()
    texts = {
        "the reports of runs": "\n".join(f"{report!r} {report.message}" for report in reports),
        "the reprs of what is stored": "\n".join(reprs_of_what_is_stored(shop)),
        "the connector's errors": "\n".join(errors_of_the_connector(shop)),
    }
    exported = json.dumps(shop.exported(), ensure_ascii=False)
    shop.close()
    files |= {f"{file.name}, closed": file.read_bytes() for file in tmp_path.iterdir()}
    texts["the log"] = everything_logged.getvalue()
    texts["the product's own log"] = capsys.readouterr().err
    places = files | {name: text.encode() for name, text in texts.items()}

    # Everything happened that the search is about.
    assert {"order-sync.db", "order-sync.db-wal", "order-sync.db-shm"} <= files.keys()
    assert {report.outcome for report in reports} >= {"complete", "failed"}
    assert reports[-1].outcome == "failed"
    assert "777-0000001-0000001" in exported
    assert "Rosalind Unmistakable" in exported
    assert {"SHIPPED", "CANCELLED", "UNSHIPPED"} <= set(re.findall(r'"status": "([A-Z]+)"', exported))
    assert len(tokens.given["access_token"]) > 5
    assert len(tokens.given["nextToken"]) > 5
    assert set(POISONS) & {facts.poison for o in world.orders() for facts in (o.versions[0].facts,)}

    credentials = {shop.seller.refresh_token, CLIENT_SECRET, KEY.hex(), base64.b64encode(KEY).decode()}
    personal = {text for text in buyers(world) if text is not None and len(text) >= SHORTEST}
    assert len(personal) > 300
    forbidden = personal | credentials | tokens.given["access_token"] | tokens.given["nextToken"]

    # The search finds what is there: first where it may be, then what may be where it searches.
    assert len(found_in(readable(exported.encode()), personal)) > 100
    texts_searched = {name: readable(content) for name, content in places.items()}
    for name in ("order-sync.db, closed", "the reprs of what is stored", "the log", "the product's own log"):
        assert found_in(texts_searched[name], ["777-0000001-0000001"]), f"the search is blind in {name}"
    assert found_in(texts_searched["the connector's errors"], ["searchOrders"])

    for name, text in texts_searched.items():
        assert found_in(text, forbidden) == set(), f"in {name}"
