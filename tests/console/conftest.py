"""A browser for the console's tests: Debian's Chromium, never a download."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless browser; without one these tests fail and are not skipped."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    assert path is not None, "no Chromium: install Debian's package chromium"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--no-proxy-server"])
        yield opened
        opened.close()
