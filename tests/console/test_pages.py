"""Every page of the console, photographed wide and narrow, light and dark, and checked by axe.

The pictures are in build/screenshots; those of the README are among them (`make pictures`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi.routing import APIRoute
from playwright.sync_api import Browser, Page, expect

from connectors.marketplaces import BY_NAME
from connectors.simulator.world import Seller, World
from poller.web.console.app import ROUTERS
from poller.web.passwords import hashed
from store import quarantine, queries, users, verifications
from store.engine import Transaction
from store.verification_records import Finding, Verification
from tests.acceptance.command_line import ROOT, STARTED, open_shop
from tests.acceptance.web_world import Served, serving
from tests.console.test_console import PHOTOS, SCREENS, at

pytestmark = pytest.mark.console

MARKETPLACES = ("UK", "DE", "FR")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PICTURES = ROOT / "docs" / "images"
LARGEST_PICTURE = 150_000
"""Bytes. The README has four."""

WITHOUT_A_PAGE = {"/enter", "/sign-in", "/sign-in/code", "/sign-in/oidc", "/sign-in/oidc/callback"}
"""Addresses that are for those who have not signed in; `test_console` and `test_accounts` look at them."""

NO_PAGES = {"/merge", "/search/suggestions", "/orders.csv"}
"""Addresses that lead to another page, or answer with something else than a page."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A shop of forty days with everything that pages show."""
    world = World.generate(
        seed=7,
        marketplaces=MARKETPLACES,
        orders=1200,
        start=STARTED - timedelta(days=40),
        end=STARTED - timedelta(minutes=30),
        seller=Seller("acme", MARKETPLACES),
        poisoned=0.003,
    )
    folder = tmp_path_factory.mktemp("pages") / "shop"
    with open_shop(folder, world, marketplaces=MARKETPLACES) as shop:
        for code in MARKETPLACES:
            shop.configure(code, days=45)
        shop("sync", "--wait")
        first, last = (STARTED - timedelta(days=days) for days in (44, 41))
        period = ("--from", f"{first:%Y-%m-%d}", "--to", f"{last:%Y-%m-%d}")
        shop("backfill", "start", "--marketplace", "UK", "--by", "search", "--again", *period)
        with serving(shop) as place:
            kept = hashed("correct horse battery")
            place.store.commit(lambda tx: users.add(tx, "ann", kept, ("read", "write", "buyer-data")))
            yield place


def pages(place: Served) -> dict[str, str]:
    """Return an address for each page that a signed-in user can open, by the template of its route."""
    with place.store.read() as tx:
        known_buyers = queries.list_orders(tx, limit=200, match_basis="email_1", status="SHIPPED")
        order = next(each for each in known_buyers if len(each.lines) > 1 and each.packages)
        unreadable = quarantine.entries(tx)[0]
        one, two = [c.customer_id for c in queries.list_customers(tx, limit=2)]
    known: dict[str, str] = {
        "/orders/{account}/{order_id}": f"/orders/{order.account}/{order.order_id}",
        "/customers/{customer_id}": f"/customers/{order.customer_id}",
        "/customers/{customer_id}/edit": f"/customers/{order.customer_id}/edit",
        "/customers/{customer_id}/merge": f"/customers/{two}/merge?other={one}",
        "/quarantine/{account}/{order_id}": f"/quarantine/{unreadable.account}/{unreadable.order_id}",
        "/backfills/{backfill_id}": "/backfills/1",
        "/verifications/{verification_id}": f"/verifications/{verified(place, order.order_id)}",
    }
    routes = [route for module in ROUTERS for route in module.router.routes if isinstance(route, APIRoute)]
    shown = {route.path for route in routes if "GET" in (route.methods or ())} - WITHOUT_A_PAGE - NO_PAGES
    return {path: known.get(path, path) for path in sorted(shown)}


def verified(place: Served, order_id: str) -> int:
    """Store a verification that found an order missing and one outdated. Return its number."""
    upper = STARTED - timedelta(days=1)
    lower, uk = upper - timedelta(days=7), BY_NAME["UK"].id
    asked = Verification("acme", uk, lower, upper, upper, "report", "scheduled", False, upper)
    findings = (
        Finding("111-1111111-1111111", "missing", lower, lower),
        Finding(order_id, "older", lower, lower),
    )

    def stored(tx: Transaction) -> Verification:
        begun = verifications.begin(tx, asked)
        return verifications.save(tx, replace(begun, state="done", listed=209, findings=findings))

    return place.store.commit(stored).verification_id


def name_of(path: str) -> str:
    """Return a file name for a page, by the template of its route."""
    return re.sub(r"\W+", "-", path).strip("-") or "overview"


def serious(page: Page) -> list[str]:
    """Return what axe finds on the page that keeps people from using it."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {node['html'][:120]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("screen", sorted(SCREENS))
def test_every_page_fits_has_contrast_and_is_read_by_assistive_technology(
    browser: Browser, place: Served, screen: str
) -> None:
    """Also a page whose details are open."""
    wrong = []
    PHOTOS.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = SCREENS[screen]
    with at(browser, place, **options) as page:
        for path, address in pages(place).items():
            answer = page.goto(f"/console{address}")
            assert answer is not None
            assert answer.status == 200, address
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=PHOTOS / f"{name_of(path)}-{screen}-{scheme}.png", full_page=True)
                wrong += [f"{address} {screen} {scheme}: {one}" for one in serious(page)]
            page.evaluate("document.querySelectorAll('main details').forEach((each) => { each.open = true })")
            wrong += [f"{address} {screen}, opened: {one}" for one in serious(page)]
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > options["viewport"]["width"]:
                wrong.append(f"{address} is too wide on a {screen}: {wide}")
    assert wrong == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_pictures_of_the_readme_are_small(
    browser: Browser, place: Served, scheme: Literal["light", "dark"]
) -> None:
    """`make pictures` copies them to docs/images."""
    addresses = {"overview": "/", "order": pages(place)["/orders/{account}/{order_id}"]}
    wide: dict[str, Any] = {
        "viewport": {"width": 1200, "height": 720},
        "color_scheme": scheme,
        "timezone_id": "Europe/London",
    }
    with at(browser, place, **wide) as page:
        for name, address in addresses.items():
            page.goto(f"/console{address}")
            for why in page.locator("details.why").all():
                why.evaluate("(element) => { element.open = true }")
            path = PHOTOS / f"readme-{name}-{scheme}.png"
            page.screenshot(path=path)
            assert path.stat().st_size < LARGEST_PICTURE


def test_eighteen_orders_are_on_the_screen(browser: Browser, place: Served) -> None:
    with at(browser, place, viewport={"width": 1280, "height": 800}) as page:
        page.goto("/console/orders")
        row = page.locator("tbody tr").nth(17)
        box = row.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 800
        assert len({round(one["height"]) for one in boxes(page)}) == 1, "one line a row"


def boxes(page: Page) -> list[Any]:
    return [row.bounding_box() for row in page.locator("tbody tr").all()]


def test_a_suggestion_is_chosen_by_keyboard(browser: Browser, place: Served) -> None:
    with place.store.read() as tx:
        order = queries.list_orders(tx, limit=1)[0]
    with at(browser, place) as page:
        page.goto("/console/runs")
        page.keyboard.press("/")
        search = page.get_by_role("combobox", name="Search")
        expect(search).to_be_focused()
        page.keyboard.type(order.order_id[4:])
        option = page.get_by_role("option", name=re.compile(order.order_id))
        expect(option).to_be_visible()
        page.screenshot(path=PHOTOS / "suggestions.png")
        assert serious(page) == []
        page.keyboard.press("Escape")
        expect(option).to_be_hidden()
        expect(search).to_have_value(order.order_id[4:])
        page.keyboard.press("Backspace")
        expect(option).to_be_visible()
        page.keyboard.press("ArrowDown")
        expect(option).to_have_attribute("aria-selected", "true")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=re.compile(f"Order {order.order_id}"))).to_be_visible()
