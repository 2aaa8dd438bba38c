"""What nearly every test of the store begins with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from store.engine import Store
from tests.integration.store_world import open_store


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on an empty database, once for each of the two."""
    with closing(open_store(database_url)) as opened:
        yield opened
