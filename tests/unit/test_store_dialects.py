"""One package asks which database this is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

ASKS = re.compile(r"\bdialect\.|\.dialect\b|sqlalchemy\.dialects|get_backend_name|on_(postgresql|sqlite)\b")


def test_only_the_engine_asks_which_database_it_has() -> None:
    """A released migration stays as it is: the first one makes sequences on PostgreSQL."""
    may_ask = (ROOT / "store/engine", ROOT / "store/migrations/versions")
    rooms = ("config", "connectors", "poller", "store")
    files = [file for room in rooms for file in (ROOT / room).rglob("*.py")]
    asking = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in files
        if not any(folder in file.parents for folder in may_ask)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if ASKS.search(line)
    ]
    assert len(files) > 100
    assert asking == []
