"""A user's own account in a browser: failed attempts, sessions, password, one-time codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from poller.web.passwords import hashed
from poller.web.sign_in import Client, by_password
from store import users
from tests.acceptance.web_world import Served, served
from tests.console.test_console import PASSWORD, at, photograph

pytestmark = pytest.mark.console

PHONE = Client("198.51.100.9", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Safari/604.1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("accounts")) as place:
        kept = hashed(PASSWORD)
        for name in ("ann-light", "ann-dark", "bob-light", "bob-dark"):
            place.store.commit(lambda tx, n=name: users.add(tx, n, kept, ("read",)))  # type: ignore[misc]
        yield place


def weak_texts(page: Page) -> list[str]:
    """Return the texts of the page whose contrast is too low."""
    page.wait_for_load_state("load")  # with its style sheet
    found: list[str] = page.evaluate((Path(__file__).parent / "contrast.js").read_text())
    return found


LIGHTS = pytest.mark.parametrize("light", ["light", "dark"])


@LIGHTS
def test_failed_attempts_and_other_sessions_are_seen_and_ended(
    browser: Browser, place: Served, light: str
) -> None:
    name = f"ann-{light}"
    by_password(place.store, PHONE, name, PASSWORD)
    by_password(place.store, PHONE, name, "wrong")
    with at(browser, place, name, color_scheme=light) as page:
        expect(page.get_by_role("heading", name="Your account")).to_be_visible()
        expect(page.get_by_text(f"1 failed attempt to sign in as {name}")).to_be_visible()
        assert weak_texts(page) == []
        if light == "light":  # it takes both, and leaves the page light
            photograph(page, "account")
        page.get_by_role("button", name="End the session of Safari on iPhone from 198.51.100.9").click()
        expect(page.get_by_text("The session has ended.")).to_be_visible()
        page.get_by_role("link", name="Change password").click()
        assert weak_texts(page) == []
        page.get_by_label("Present password").fill(PASSWORD)
        page.get_by_label("New password", exact=True).fill("violet hammer meadow")
        page.get_by_label("New password again").fill("violet hammer meadow")
        if light == "light":
            photograph(page, "password")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("Your password is changed")).to_be_visible()


@LIGHTS
def test_one_time_codes_are_set_up_and_asked_at_the_next_sign_in(
    browser: Browser, place: Served, light: str
) -> None:
    name = f"bob-{light}"
    with at(browser, place, name, color_scheme=light) as page:
        page.get_by_role("link", name=name).click()
        page.get_by_role("link", name="Set up one-time codes").click()
        picture = page.get_by_role("img", name="QR code").locator("svg")
        box, path = picture.bounding_box(), picture.locator("path").last.bounding_box()
        assert box is not None
        assert path is not None
        assert path["x"] + path["width"] <= box["x"] + box["width"], "the code is shown whole"
        assert weak_texts(page) == []
        if light == "light":
            photograph(page, "one-time-codes")
        secret = page.locator("code.long").inner_text().replace(" ", "")
        page.get_by_label("Code", exact=True).fill(pyotp.TOTP(secret).now())
        page.get_by_role("button", name="Set up").click()
        code = page.locator(".codes code").first.inner_text()
        assert weak_texts(page) == []
        if light == "light":
            photograph(page, "recovery-codes")
        page.get_by_role("button", name="Sign out").click()
    with at(browser, place, name, color_scheme=light) as page:
        expect(page.get_by_role("heading", name="One-time code")).to_be_visible()
        assert weak_texts(page) == []
        if light == "light":
            photograph(page, "sign-in-code")
        page.goto("/console/orders")
        expect(page.get_by_role("heading", name="One-time code")).to_be_visible()
        page.keyboard.type(code)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
