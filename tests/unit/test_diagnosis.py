"""What a person reads when the database cannot be used."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from store import revisions
from store.diagnosis import is_lasting, sentence_of
from store.engine import connections, create_engine, name_of, try_writing

URL = "postgresql+psycopg://somebody:hidden@db.example:6432/orders"


def fault(words: str, url: str) -> sa.exc.DBAPIError:
    error = sa.exc.OperationalError("SELECT 1", None, sqlite3.OperationalError(words))
    vars(error)[connections.WHOSE] = sa.make_url(url)
    return error


@pytest.mark.parametrize("words", connections.SAFE_REASONS)
def test_all_that_a_database_says_comes_with_what_to_do(words: str) -> None:
    sentence = sentence_of(fault(f"FATAL: {words}, hidden", URL))
    assert sentence is not None
    assert sentence.startswith(f"the database orders at db.example:6432 cannot be used ({words}): ")
    assert not sentence.endswith("): see ORDER_SYNC_DATABASE_URL.")
    assert "hidden" not in sentence


def test_other_words_of_a_database_are_not_repeated() -> None:
    sentence = sentence_of(fault("row (hidden)", URL))
    assert sentence is not None
    assert sentence.endswith("cannot be used (OperationalError): see ORDER_SYNC_DATABASE_URL.")
    error = sa.exc.IntegrityError("INSERT", None, sqlite3.IntegrityError("UNIQUE hidden"))
    assert sentence_of(error) is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///orders.db", "orders.db"),
        ("sqlite:////srv/orders.db", "/srv/orders.db"),
        ("sqlite:///file:/srv/orders.db?mode=ro&uri=true", "/srv/orders.db"),
        ("postgresql+psycopg://u:p@db/x", "x at db:5432"),
        ("postgresql+psycopg:///x", "x at this machine:5432"),
    ],
)
def test_a_database_is_named_without_user_and_password(url: str, name: str) -> None:
    assert name_of(url) == name


def test_an_error_knows_its_database(tmp_path: Path) -> None:
    file = tmp_path / "orders.db"
    made = create_engine(f"sqlite:///{file}")
    revisions.upgrade(made)
    made.dispose()
    unwritable = create_engine(f"sqlite:///file:{file}?mode=ro&uri=true")
    revisions.upgrade(unwritable)
    with pytest.raises(sa.exc.OperationalError) as raised:
        try_writing(unwritable)
    unwritable.dispose()
    assert is_lasting(raised.value)
    assert f"its folder {tmp_path}, where SQLite keeps its log" in str(sentence_of(raised.value))
    assert not is_lasting(fault("database is locked", f"sqlite:///{file}"))
