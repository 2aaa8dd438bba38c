"""What the unit tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user reaches; no one else reaches those of pytest."""
    with TemporaryDirectory(prefix="order-sync-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
