"""A merge, an edit and a backfill, each done with the keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, Page, expect

from poller.web.passwords import hashed
from store import queries, users
from tests.acceptance.command_line import STARTED
from tests.acceptance.web_world import ALL, ORDERS, Served, served
from tests.console.test_console import PASSWORD, at

pytestmark = pytest.mark.console

FOCUSED = """() => {
  const element = document.activeElement;
  const label = element.labels && element.labels.length ? element.labels[0].textContent : "";
  const name = element.getAttribute("aria-label") || label || element.textContent || "";
  return name.trim().replace(/\\s+/g, " ");
}"""
MOST_TABS = 150


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("keyboard")) as place:
        kept = hashed(PASSWORD)
        place.store.commit(lambda tx: users.add(tx, "ann", kept, ALL))
        yield place


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has this name has the focus, and look that one sees where it is."""
    seen: list[str] = []
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED))
        if seen[-1] == name:
            outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{name} has the focus and does not show it"
            return
    raise AssertionError(f"{name} is not reached by Tab: {seen}")


def go(page: Page, name: str) -> None:
    """Open what has this name."""
    tab_to(page, name)
    page.keyboard.press("Enter")


def test_two_customers_are_merged_and_separated(browser: Browser, place: Served) -> None:
    with place.store.read() as tx:
        found = [queries.find_orders(tx, order_id)[0].customer_id or 0 for order_id in ORDERS[1:3]]
    kept, other = sorted(found)
    with at(browser, place) as page:
        go(page, "Duplicates")
        expect(page.get_by_role("heading", name="Duplicates")).to_be_visible()
        tab_to(page, "Keep")
        page.keyboard.type(str(kept))
        tab_to(page, "Merge into it")
        page.keyboard.type(str(other))
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=f"Merge customer {other} into {kept}?")).to_be_visible()
        tab_to(page, "Comparison")
        go(page, re.sub(r"\s+", " ", page.locator("details.equal summary").inner_text()))
        expect(page.locator("details.equal tbody tr").first).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="What happens")).to_be_visible()
        go(page, "Merge")
        expect(page.get_by_text(f"Merged customer {other} into this one")).to_be_visible()
        go(page, "Undo")
        expect(page.get_by_text("1 order moved back")).to_be_visible()
    with place.store.read() as tx:
        assert set(queries.statuses(tx, [kept, other]).values()) == {"active"}


def test_a_customer_is_edited(browser: Browser, place: Served) -> None:
    with place.store.read() as tx:
        customer_id = queries.find_orders(tx, ORDERS[0])[0].customer_id or 0
    with at(browser, place, refused=True) as page:
        go(page, "Customers")
        expect(page.get_by_role("heading", name="Customers")).to_be_visible()
        go(page, "Quentin a")
        expect(page.get_by_role("heading", name="Quentin a")).to_be_visible()
        go(page, "Edit")
        expect(page.get_by_role("heading", name="Edit Quentin a")).to_be_visible()
        tab_to(page, "Price list")
        page.keyboard.press("Control+A")
        page.keyboard.type("Trade")
        tab_to(page, "Discount (%)")
        page.keyboard.press("Control+A")
        page.keyboard.type("many")
        go(page, "Save")
        expect(page.get_by_text("Discount_percent must be a number from 0 to 100")).to_be_visible()
        expect(page.get_by_label("Discount (%)")).to_be_focused()
        expect(page.get_by_label("Price list")).to_have_value("Trade")
        page.keyboard.press("Control+A")
        page.keyboard.type("2.5")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Changes saved.")).to_be_visible()
    with place.store.read() as tx:
        record = queries.get_customer(tx, customer_id)
    assert record is not None
    assert (record.price_list, str(record.discount_percent)) == ("Trade", "2.5")


def test_a_backfill_is_estimated_started_and_cancelled(browser: Browser, place: Served) -> None:
    with at(browser, place, locale="en-US") as page:
        go(page, "Backfills")
        expect(page.get_by_role("heading", name="Backfills")).to_be_visible()
        tab_to(page, "Marketplace")
        page.keyboard.type("UK")
        for name, days in (("From", 50), ("To (day after the last)", 30)):
            tab_to(page, name)
            page.keyboard.type(f"{STARTED - timedelta(days=days):%m%d%Y}")
        go(page, "Estimate")
        expect(page.get_by_role("heading", name="Estimate")).to_be_visible()
        go(page, "Start backfill")
        expect(page.get_by_text("planned", exact=True)).to_be_visible()
        go(page, "Cancel")
        expect(page.get_by_text("cancelled", exact=True)).to_be_visible()
