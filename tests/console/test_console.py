"""A person at a browser walks through the console: a real Chromium, a real service, a simulated Amazon.

Each page is also photographed into build/screenshots: desktop and phone, light and dark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, expect

from poller.web.passwords import hashed
from store import queries, tables, users
from tests.acceptance.command_line import ROOT, STARTED
from tests.acceptance.web_world import BAD, BUYERS, ORDERS, Served, logged, said, served

pytestmark = pytest.mark.console

PHOTOS = ROOT / "build" / "screenshots"
SCREENS: dict[str, Any] = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}
PASSWORD = "correct horse battery"
WAIT = 20_000
expect.set_options(timeout=WAIT)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with five orders and one in quarantine, and with two users."""
    with served(tmp_path_factory.mktemp("console")) as place:
        place.store.commit(lambda tx: tx.conn.execute(sa.insert(tables.runs), list(a_day_of_runs())))
        for name, scopes in (("ann", ("read", "write", "buyer-data")), ("bob", ("read",))):
            kept = hashed(PASSWORD)
            place.store.commit(lambda tx, n=name, k=kept, s=scopes: users.add(tx, n, k, s))  # type: ignore[misc]
        yield place


def a_day_of_runs() -> Iterator[dict[str, Any]]:
    """Runs of one day: busy at noon, and two hours of failures at Amazon."""
    for number in range(1, 240):
        started = STARTED - timedelta(minutes=6 * number)
        is_failing = 100 < number < 120
        yield {
            "source": "acme:EU",
            "started_at": started,
            "finished_at": started + timedelta(seconds=2),
            "outcome": "failed" if is_failing else "complete",
            "pages": 1,
            "orders": 0 if is_failing else round(14 - 12 * abs(started.hour - 12) / 12),
            "requests": 5 if is_failing else 1,
            "retries": 4 if is_failing else 0,
            "message": "searchOrders: status 503" if is_failing else None,
        }


@contextmanager
def at(
    browser: Browser, place: Served, name: str | None = "ann", *, refused: bool = False, **options: Any
) -> Iterator[Page]:
    """Open a browser of its own, signed in if there is a name.

    Errors in the browser fail the test, for example a broken script or a violation of the policy; not a
    form that is ``refused``.
    """
    context = browser.new_context(base_url=place.url, **{**SCREENS["desktop"], **options})
    context.set_default_timeout(WAIT)
    complaints: list[str] = []
    asked: list[str] = []
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        if name is not None:
            sign_in(page, name, PASSWORD)
        yield page
        assert not [each for each in complaints if not (refused and "status of 422" in each)]
        assert all(url.startswith((place.url, "data:")) for url in asked), "an asset of another host"
    finally:
        context.close()


def sign_in(page: Page, name: str, password: str) -> None:
    page.goto("/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def menu(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def photograph(page: Page, name: str) -> None:
    """Take screenshots of the page, on both screens and in both colour schemes."""
    PHOTOS.mkdir(parents=True, exist_ok=True)
    before = page.viewport_size
    for screen, options in SCREENS.items():
        page.set_viewport_size(options["viewport"])
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= options["viewport"]["width"], f"{name} is too wide on a {screen}: {wide}"
        for light in ("light", "dark"):
            page.emulate_media(color_scheme=light)
            page.screenshot(path=PHOTOS / f"{name}-{screen}-{light}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    if before is not None:
        page.set_viewport_size(before)


# --- signing in -------------------------------------------------------------------------------------


def test_signing_in_leads_to_the_requested_page_and_out_again(browser: Browser, place: Served) -> None:
    with at(browser, place, None) as page:
        page.goto("/console/quarantine")
        assert page.url.endswith("/console/sign-in?next=/console/quarantine")
        photograph(page, "sign-in")
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Quarantine")).to_be_visible()
        assert page.url.endswith("/console/quarantine")
        (cookie,) = [c for c in page.context.cookies() if c["name"] == "order_sync_session"]
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Lax"
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Password")).to_be_visible()
        page.goto("/console/")
        expect(page.get_by_label("Password")).to_be_visible()


# --- the walk ---------------------------------------------------------------------------------------


def test_the_overview_leads_with_sales_and_refreshes_by_itself(browser: Browser, place: Served) -> None:
    with at(browser, place) as page:
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        expect(
            page.get_by_role("img", name=re.compile("^Orders a day in the last 30 days: 5"))
        ).to_be_visible()
        assert page.get_by_role("img").count() == 3, "orders, EUR and GBP"
        expect(page.get_by_role("link", name="acme:EU")).to_be_visible()
        needs = page.locator(".attention")
        expect(needs.get_by_text("1 order in quarantine, refetched automatically")).to_be_visible()
        expect(needs.get_by_role("link", name="Quarantine")).to_be_visible()
        expect(page).to_have_title(re.compile(r"^\(\d\) Overview"))
        photograph(page, "overview")
        page.get_by_text("acme:EU in detail").click()
        expect(
            page.get_by_role("img", name=re.compile("[0-9,]+ orders stored in the last 24"))
        ).to_be_visible()
        photograph(page, "overview-detail")
        stored = page.get_by_role("img", name=re.compile("orders stored"))
        before = stored.get_attribute("aria-label") or ""
        run = {**next(a_day_of_runs()), "orders": 1234}
        place.store.commit(lambda tx: tx.conn.execute(sa.insert(tables.runs), [run]))
        expect(stored).not_to_have_attribute("aria-label", before)
        expect(stored).to_be_visible()


def test_an_order_is_found_by_all_its_keys_and_explains_its_customer(browser: Browser, place: Served) -> None:
    with at(browser, place) as page:
        for words in (ORDERS[0], "quentin-a@marketplace.amazon.co.uk"):
            page.get_by_role("combobox", name="Search").fill(words)
            page.keyboard.press("Enter")
            expect(page.locator("main").get_by_text(ORDERS[0]).first).to_be_visible()
            assert words == ORDERS[0] or words not in page.url
        page.get_by_role("combobox", name="Search").fill("QUENTIN a")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("cell", name="Quentin a", exact=True)).to_have_count(1)
        photograph(page, "search")
        with place.store.read() as tx:
            (order,) = queries.find_orders(tx, ORDERS[0])
        page.get_by_role("combobox", name="Search").fill(order.lines[0].sku or "")
        page.keyboard.press("Enter")
        page.get_by_role("link", name=ORDERS[0]).click()
        page.get_by_text("Why this customer").click()
        expect(page.get_by_text("R6", exact=False).first).to_be_visible()
        expect(page.get_by_text("7 Secret Street").first).to_be_visible()
        photograph(page, "order")
        page.get_by_text("All fields").click()
        expect(page.get_by_text("fulfilled_by", exact=True)).to_be_visible()
        photograph(page, "all-fields")
        menu(page, "Orders")
        photograph(page, "orders")
        page.locator("tbody tr").nth(1).click(position={"x": 300, "y": 15})
        expect(page.get_by_role("heading", name=re.compile("^Order 111-"))).to_be_visible()
        page.go_back()
        page.get_by_label("Marketplace").select_option("DE")
        page.get_by_role("button", name="Show").click()
        expect(page.locator("tbody tr")).to_have_count(1)


def test_two_customers_are_merged_with_a_preview_and_separated_again(browser: Browser, place: Served) -> None:
    with at(browser, place) as page:
        with place.store.read() as tx:
            two = [queries.find_orders(tx, i)[0].customer_id or 0 for i in ORDERS[2:4]]
        kept, other = sorted(two)
        menu(page, "Customers")
        photograph(page, "customers")
        page.locator(f'a[href="/console/customers/{kept}"]').click()
        page.get_by_label("Customer to merge into this one").fill(str(other))
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_role("heading", name=f"Merge customer {other} into {kept}?")).to_be_visible()
        expect(page.get_by_text("1 order of customer")).to_be_visible()
        photograph(page, "merge")
        page.get_by_role("button", name="Merge", exact=True).click()
        expect(page.get_by_text(f"Merged customer {other} into this one")).to_be_visible()
        expect(page.locator("section[aria-labelledby=orders] tbody tr")).to_have_count(2)
        photograph(page, "merged")
        with place.store.read() as tx:
            assert queries.statuses(tx, [kept, other]) == {kept: "active", other: "merged"}
            assert queries.journal_of(tx, kept)[-1].who == "user:ann"
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_text("; 1 order moved back")).to_be_visible()
        with place.store.read() as tx:
            assert queries.statuses(tx, [kept, other]) == {kept: "active", other: "active"}


def test_duplicates_are_searched_and_compared(browser: Browser, place: Served) -> None:
    with at(browser, place) as page:
        menu(page, "Duplicates")
        page.get_by_role("button", name="Search all customers").click()
        page.get_by_role("link", name=re.compile("Merge")).first.click()
        expect(page.get_by_role("heading", name=re.compile("Merge customer"))).to_be_visible()
        page.go_back()
        photograph(page, "duplicates")


def test_a_backfill_is_planned_started_and_watched_until_it_is_done(browser: Browser, place: Served) -> None:
    for number in range(3):
        created = STARTED - timedelta(days=40 + number)
        place.shop.world.order(f"222-0000000-000000{number}", created=created, marketplace="UK")
    with at(browser, place) as page:
        menu(page, "Backfills")
        page.get_by_label("From").fill(f"{STARTED - timedelta(days=50):%Y-%m-%d}")
        page.get_by_label("To (day after the last)").fill(f"{STARTED - timedelta(days=30):%Y-%m-%d}")
        page.get_by_label("Method", exact=True).select_option("search")
        page.get_by_label("Marketplace").select_option("UK acme")
        page.get_by_role("button", name="Estimate").click()
        expect(page.get_by_role("heading", name="Estimate")).to_be_visible()
        photograph(page, "backfill-plan")
        page.get_by_role("button", name="Start backfill").click()
        expect(page.get_by_text("planned", exact=True)).to_be_visible()
        photograph(page, "backfill")
        address = page.url
        place.shop("sync", "--wait")
        expect(page.get_by_text("done", exact=True)).to_be_visible()
        expect(page.get_by_role("progressbar")).to_have_attribute("value", "100.0")
        assert page.url == address
        menu(page, "Runs")
        photograph(page, "runs")
    with place.store.read() as tx:
        assert queries.find_orders(tx, "222-0000000-0000000")


def test_an_order_in_quarantine_shows_its_payload_and_is_retried_in_both_ways(
    browser: Browser, place: Served
) -> None:
    with at(browser, place) as page:
        menu(page, "Quarantine")
        photograph(page, "quarantine")
        page.get_by_role("link", name=BAD).click()
        expect(page.locator("pre")).to_contain_text("quantityOrdered")
        photograph(page, "quarantined")
        page.get_by_role("button", name="Retry from stored data").click()
        expect(page.get_by_role("alert")).to_contain_text("It stays")
        place.shop.world.update(BAD, STARTED, poison=None)
        page.get_by_role("button", name="Refetch from Amazon").click()
        expect(page.get_by_role("heading", name=f"Order {BAD} is stored")).to_be_visible()
        page.get_by_role("link", name="Show order").click()
        expect(page.get_by_text("Why this customer")).to_be_visible()


# --- who may what -----------------------------------------------------------------------------------


def test_a_user_without_that_scope_sees_no_buyer_and_no_button(browser: Browser, place: Served) -> None:
    with place.store.read() as tx:
        customer_id = queries.list_customers(tx, limit=1)[0].customer_id
    with logged() as events, at(browser, place, "bob") as page:
        for path in (
            "/console/orders",
            f"/console/orders/acme/{ORDERS[0]}",
            "/console/customers",
            f"/console/customers/{customer_id}",
            "/console/backfills",
        ):
            page.goto(path)
            text = page.content()
            assert not [piece for piece in BUYERS if piece in text], path
            assert (
                page.get_by_role(
                    "button", name=re.compile("Merge|Refetch|Retry|Start backfill|Pause")
                ).count()
                == 0
            )
        page.get_by_role("combobox", name="Search").fill("Quentin")
        page.keyboard.press("Enter")
        expect(
            page.get_by_text("only order IDs, SKUs, tracking numbers and customers' numbers are searched")
        ).to_be_visible()
    assert said(events) == []


def test_what_a_user_sees_is_logged(browser: Browser, place: Served) -> None:
    with logged() as events, at(browser, place) as page:
        page.goto(f"/console/orders/acme/{ORDERS[0]}")
    assert said(events) == [{"who": "user:ann", "what": "orders", "ids": [ORDERS[0]]}]
    assert not [piece for piece in BUYERS if piece in str(events)]


def test_everything_is_reached_by_keyboard(browser: Browser, place: Served) -> None:
    with at(browser, place) as page:
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content"
        reached = set()
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("(document.activeElement.textContent || '').trim()"))
        assert {"Search", "Sign out", "Orders", "Customers", "Backfills", "Quarantine"} <= reached


@pytest.mark.parametrize("light", ["light", "dark"])
def test_text_has_contrast(browser: Browser, place: Served, light: str) -> None:
    with at(browser, place, color_scheme=light) as page:
        for path in ("/console/", "/console/orders", "/console/backfills", "/console/runs"):
            page.goto(path)
            weak = page.evaluate((Path(__file__).parent / "contrast.js").read_text())
            assert weak == [], path
