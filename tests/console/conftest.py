"""A browser for the console's tests: Debian's Chromium, never a download."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

ARGUMENTS = (
    "--no-sandbox",
    "--no-proxy-server",
    "--host-resolver-rules=MAP *.test 127.0.0.1",  # names of other hosts, all on this machine
)
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless browser; without one these tests fail and are not skipped."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    assert path is not None, "no Chromium: install Debian's package chromium"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()
