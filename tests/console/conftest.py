"""A browser for the console's tests: Debian's Chromium, which is used as it is and never downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless browser; without one these tests fail, they are not skipped."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found is not None, "no Chromium: install Debian's package chromium"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--no-proxy-server"])
        yield opened
        opened.close()
