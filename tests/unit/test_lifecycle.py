"""What a long-running process notices by itself, and how often it checks what grows with its accounts."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from config.load import load
from connectors.marketplaces import BY_NAME
from poller.bootstrap import utc_now
from poller.errors import Unusable
from poller.service import heartbeat
from poller.service.chores import alerts_in
from poller.service.heartbeat import Heartbeat, heartbeat_file, is_alive
from poller.service.lifecycle import ClockWatch, FileWatch, reload_in


def test_few_files_are_checked_every_five_seconds_and_many_less_often() -> None:
    assert [reload_in(took) for took in (0.0, 0.001, 0.01)] == [5, 5, 5]
    assert 11 < reload_in(0.04) < 13
    assert reload_in(60) == 15, "also when it took so long because the database was away"


def test_looking_for_alerts_takes_a_hundredth_of_the_time_at_most() -> None:
    assert alerts_in(0.0) == 0
    assert 100 < alerts_in(1.3) < 160
    assert alerts_in(60) == 300


# --- the heartbeat ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "file"),
    [
        ({"ORDER_SYNC_DATABASE_URL": "sqlite:////data/shop.db"}, "/data/shop.db.heartbeat"),
        (
            {
                "ORDER_SYNC_DATABASE_URL": "sqlite:////data/shop.db",
                "ORDER_SYNC_RUNTIME_DIR": "/run/order-sync",
            },
            "/run/order-sync/order-sync.heartbeat",
        ),
        ({"ORDER_SYNC_DATABASE_URL": "postgresql+psycopg://db/shop"}, None),
        (
            {"ORDER_SYNC_DATABASE_URL": "postgresql+psycopg://db/shop", "ORDER_SYNC_RUNTIME_DIR": "/run/a"},
            "/run/a/order-sync.heartbeat",
        ),
    ],
)
def test_a_heartbeat_is_in_its_own_folder_or_beside_the_database(
    environ: dict[str, str], file: str | None
) -> None:
    found = heartbeat_file(load(environ, BY_NAME).settings)
    assert (None if found is None else str(found)) == file


def test_a_heartbeat_is_read_for_a_minute_and_removed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "heart"
    beating = Heartbeat(file)
    assert not is_alive(file)
    beating.beat()
    assert is_alive(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["heart"]
    now = utc_now()
    for later in (timedelta(seconds=61), timedelta(hours=-5)):
        monkeypatch.setattr(heartbeat, "utc_now", lambda later=later: now + later)
        assert not is_alive(file)
        beating.beat()
        assert is_alive(file)
    beating.remove()
    assert os.listdir(tmp_path) == []


def test_a_heartbeat_follows_no_link(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    file = tmp_path / "heart"
    file.symlink_to(theirs)
    assert not is_alive(file)
    Heartbeat(file).beat()
    assert theirs.read_text() == "theirs"
    assert not file.is_symlink()
    assert is_alive(file)


def test_a_heartbeat_that_cannot_be_written_is_one_warning(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.write_text("a file where the folder should be")
    beating = Heartbeat(folder / "heart")
    with structlog.testing.capture_logs() as logs:
        beating.beat()
        beating.beat()
        folder.unlink()
        folder.mkdir()
        beating.beat()
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [("warning", "no heartbeat")]
    assert "ORDER_SYNC_RUNTIME_DIR" in logs[0]["note"]
    assert is_alive(folder / "heart")


# --- what changes under a service -------------------------------------------------------------------


@pytest.mark.parametrize("step", [-5 * 3600.0, 5 * 3600.0, 0.5])
def test_a_clock_that_is_set_is_noticed_once(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = ClockWatch()
    assert watch.step() == 0.0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)
    assert watch.step() == (pytest.approx(step, abs=0.1) if abs(step) > 2 else 0.0)
    assert watch.step() == 0.0


def test_a_database_that_is_replaced_or_removed_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    file.write_text("ours")
    watch = FileWatch(file)
    file.write_text("ours, changed")
    watch.check()
    other = tmp_path / "other.db"
    other.write_text("theirs")
    file.rename(tmp_path / "away.db")
    with pytest.raises(Unusable, match=r"shop\.db was removed while the service ran"):
        watch.check()
    other.rename(file)
    with pytest.raises(Unusable, match=r"shop\.db was replaced while the service ran"):
        watch.check()
    FileWatch(None).check()
