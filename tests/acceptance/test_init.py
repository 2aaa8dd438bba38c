"""``order-sync init``: from a client identifier, a secret and a token to a configuration that works."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import stat
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
import yaml

from config.load import Config, load
from connectors.marketplaces import BY_NAME
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, Seller
from poller.cli.init import IMAGE_USER
from tests.acceptance.command_line import ROOT, Result, Shop, open_shop, order_sync
from tests.acceptance.test_cli_actions import small_world

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "orders"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder with the files that options name."""
    (tmp_path / "secret").write_text(f"{CLIENT_SECRET}\n")
    (tmp_path / "token").write_text(f"{Seller().refresh_token}\n")
    return tmp_path


def options(given: Path, **changed: str | None) -> list[str]:
    """All options of a usual account; None leaves one out."""
    values: dict[str, str | None] = {
        "account": "acme",
        "marketplaces": "uk,DE",
        "client_id": CLIENT_ID,
        "client_secret_file": str(given / "secret"),
        "refresh_token_file": str(given / "token"),
        **changed,
    }
    return [
        word
        for name, value in values.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", value)
    ]


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def loaded(folder: Path) -> Config:
    return load({"ORDER_SYNC_CONFIG_DIR": str(folder)}, BY_NAME)


def test_it_writes_a_configuration_without_a_problem(folder: Path, given: Path) -> None:
    written = order_sync("init", str(folder), *options(given, start_date="2026-01-31"))
    assert set(contents(folder)) == {
        ".env",
        "marketplaces/de.toml",
        "marketplaces/uk.toml",
        "secrets/acme_lwa_client_secret",
        "secrets/acme_refresh_token",
        "secrets/encryption_key",
    }
    assert mode(folder / "secrets") == 0o700
    assert {mode(path) for path in (folder / "secrets").iterdir()} == {0o600}
    assert mode(folder / ".env") == 0o600
    config = loaded(folder)
    assert config.problems == ()
    assert {m.code: str(m.start_date) for m in config.marketplaces} == {
        "UK": "2026-01-31",
        "DE": "2026-01-31",
    }
    assert [m.price_list for m in config.marketplaces] == ["Amazon DE retail", "Amazon UK retail"]
    assert config.settings.accounts["acme"].lwa_client_id == CLIENT_ID
    assert written.out == ""
    assert all(name in written.err for name in contents(folder))
    assert "keep a copy apart from the database" in written.err
    steps = [line.split("#")[0].strip() for line in written.err.partition("next:\n")[2].splitlines()]
    assert steps == [f"cd {folder}", "order-sync config check --online", "order-sync sync", "order-sync run"]
    assert CLIENT_SECRET not in written.err


def test_history_begins_ninety_days_ago_unless_said(folder: Path, given: Path) -> None:
    before = datetime.now(UTC).date()
    order_sync("init", str(folder), *options(given))
    assert loaded(folder).marketplaces[0].start_date in {
        day - timedelta(days=90) for day in (before, datetime.now(UTC).date())
    }


def test_a_second_time_it_finds_nothing_missing(folder: Path, given: Path) -> None:
    order_sync("init", str(folder), *options(given))
    before = contents(folder)
    again = order_sync("init", str(folder), "--account", "acme", "--marketplaces", "UK,DE")
    assert again.messages[0] == f"nothing was missing in {folder}"
    assert contents(folder) == before


def test_a_further_marketplace_and_a_further_account_are_added(folder: Path, given: Path) -> None:
    order_sync("init", str(folder), *options(given))
    (folder / ".env").write_text((folder / ".env").read_text() + "ORDER_SYNC_LOG_LEVEL=debug")  # no line end
    (folder / "marketplaces/uk.toml").rename(folder / "marketplaces/britain.toml")
    before = contents(folder)
    order_sync("init", str(folder), "--account", "acme", "--marketplaces", "UK,FR")
    (given / "token").write_text("Atzr|of-beta")
    order_sync("init", str(folder), *options(given, account="beta", marketplaces="DE"))
    after = contents(folder)
    assert set(after) - set(before) == {
        "marketplaces/fr.toml",
        "marketplaces/de-beta.toml",
        "secrets/beta_lwa_client_secret",
        "secrets/beta_refresh_token",
    }
    assert {name for name in before if before[name] != after[name]} == {".env"}
    assert after[".env"].startswith(before[".env"] + "\n# account beta\n")
    config = loaded(folder)
    assert config.problems == ()
    assert {(m.account, m.code) for m in config.marketplaces} == {
        ("acme", "UK"),
        ("acme", "DE"),
        ("acme", "FR"),
        ("beta", "DE"),
    }
    assert config.settings.log_level == "debug"


def test_what_differs_is_kept_and_named(folder: Path, given: Path) -> None:
    order_sync("init", str(folder), *options(given))
    before = contents(folder)
    (given / "token").write_text("Atzr|another")
    result = order_sync("init", str(folder), *options(given, client_id="another"), status=1)
    assert contents(folder) == before
    assert "warning: kept as it was, and differs: secrets/acme_refresh_token" in result.messages
    (of_env,) = [line for line in result.messages if ".env" in line]
    assert of_env.endswith(".env: ORDER_SYNC_ACCOUNTS__ACME__LWA_CLIENT_ID")


def test_a_key_that_is_set_otherwise_is_not_joined_by_another(folder: Path, given: Path) -> None:
    folder.mkdir()
    (folder / ".env").write_text("ORDER_SYNC_ENCRYPTION_KEY_FILE=/elsewhere/key\n")
    result = order_sync("init", str(folder), *options(given), status=1)
    assert not (folder / "secrets/encryption_key").exists()
    assert "/elsewhere/key" in (folder / ".env").read_text()
    assert any("/elsewhere/key does not exist" in line for line in result.messages)


def test_without_a_terminal_each_missing_option_is_named(folder: Path) -> None:
    result = order_sync("init", str(folder), status=2)
    assert result.messages == [
        "error: there is no terminal to ask at: give --account, --marketplaces, --client-id, "
        "--client-secret-file, --refresh-token-file; nothing was written."
    ]
    assert not folder.exists()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"account": "Acme Ltd"}, "--account cannot be used: an account's name is made of a-z"),
        ({"marketplaces": "UK,US"}, "--marketplaces must be of one region"),
        ({"marketplaces": "XX"}, "--marketplaces takes country codes: AE, AU"),
        ({"start_date": "yesterday"}, "--start-date must be a date like 2026-01-31"),
        (
            {"client_id": "amzn1.application-oa2-client.…"},
            "--client-id is the example from the documentation",
        ),
        ({"client_id": "two words"}, "--client-id must be one word, as Amazon shows it"),
        ({"endpoint": "http://example.com"}, "--endpoint must be an https URL"),
        ({"token_url": "example"}, "--token-url must be an https URL"),
        ({"refresh_token_file": "/nowhere"}, "/nowhere does not exist"),
        ({"refresh_token_file": os.devnull}, f"{os.devnull} must be a text that is not empty"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_written(
    changed: dict[str, str], sentence: str, folder: Path, given: Path
) -> None:
    result = order_sync("init", str(folder), *options(given, **changed), status=2)
    assert result.messages[0].startswith(f"error: {sentence}")
    assert result.messages[0].endswith("; nothing was written.")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (".env", "ORDER_SYNC_LISTEN", "line 1 must be NAME=value"),
        ("marketplaces/uk.toml", "marketplace = UK", "is not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named_and_left(
    name: str, text: str, sentence: str, folder: Path, given: Path
) -> None:
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text(text)
    result = order_sync("init", str(folder), *options(given), status=2)
    assert name in result.messages[0]
    assert sentence in result.messages[0]
    assert contents(folder) == {name: text}


@pytest.mark.parametrize("call", ["link", "replace", "fsync"])
@pytest.mark.parametrize("at", range(6))
def test_a_disk_that_fills_up_leaves_whole_files_and_the_next_time_completes_them(
    call: str, at: int, folder: Path, given: Path
) -> None:
    real, calls = getattr(os, call), iter(range(100))

    def failing(*arguments: Any) -> Any:
        if next(calls) == at:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    with patch.object(os, call, failing):
        first = order_sync("init", str(folder), *options(given), status=None)
    kept = contents(folder)
    assert not [name for name in kept if name.endswith(".new")]
    if first.status:
        assert "cannot be written: No space left on device" in first.messages[0]
        assert "run this again" in first.messages[0]
    order_sync("init", str(folder), *options(given))
    assert loaded(folder).problems == ()
    assert {name: contents(folder)[name] for name in kept} == kept


def test_compose_gets_a_password_and_the_user_who_may_read_it(folder: Path, given: Path) -> None:
    with patch.object(os, "geteuid", return_value=1234), patch.object(os, "getuid", return_value=1234):
        result = order_sync("init", str(folder), *options(given), "--compose")
    assert f"CONTAINER_USER=1234:{os.getgid()}\n" in (folder / ".env").read_text()
    password = (folder / "secrets/database_password").read_text().strip()
    assert f":{password}@database/" in (folder / "secrets/database_url").read_text()
    assert len(password) >= 32
    assert password not in result.err
    before = contents(folder)
    order_sync("init", str(folder), *options(given), "--compose")
    assert contents(folder)["secrets/database_url"] == before["secrets/database_url"]
    for service in ("scheduler", "worker", "upgrade"):
        assert COMPOSE["services"][service]["user"] == "${CONTAINER_USER:-10001:10001}"
    assert COMPOSE["secrets"]["database_password"]["file"] == "./secrets/database_password"


def test_what_root_writes_for_compose_belongs_to_the_user_of_the_image(folder: Path, given: Path) -> None:
    owners: dict[str, int] = {}

    def chown(path: Path, user: int, group: int) -> None:
        assert user == group
        owners[str(path.relative_to(folder))] = user

    order_sync("init", str(folder), *options(given))
    with patch.object(os, "geteuid", return_value=0), patch.object(os, "chown", chown):
        order_sync("init", str(folder), *options(given), "--compose")
    private = {name for name in contents(folder) if name.startswith("secrets/")}
    if (folder / "secrets").stat().st_uid == 0:
        assert owners == dict.fromkeys({*private, "secrets", ".env"}, IMAGE_USER)
    assert "CONTAINER_USER" not in (folder / ".env").read_text()


# --- at a terminal -------------------------------------------------------------------------------------


class Terminal:
    """A program whose terminal the test sits at."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._master, slave = pty.openpty()

        def control() -> None:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "poller.cli", *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "200"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=control,
        )
        os.close(slave)
        self.shown = ""

    def answer(self, question: str, text: str) -> None:
        """Wait for a question after what was answered last, and answer it."""
        start = len(self.shown)
        while question not in self.shown[start:] or not self.shown.endswith(": "):
            self.shown += os.read(self._master, 4096).decode()
        os.write(self._master, f"{text}\n".encode())

    def end(self) -> int:
        """Read the rest, and return the exit status."""
        try:
            while piece := os.read(self._master, 4096):
                self.shown += piece.decode()
        except OSError:  # the other end is closed
            pass
        os.close(self._master)
        return self.process.wait(30)


def test_at_a_terminal_it_asks_again_until_an_answer_is_right(tmp_path: Path, folder: Path) -> None:
    terminal = Terminal(tmp_path, "init", "orders")
    terminal.answer("Your name for the seller account", "Acme Ltd")
    terminal.answer("an account's name is made of a-z", "acme")
    terminal.answer("Marketplaces, of one region:", "uk us")
    terminal.answer("takes country codes", "uk, de")
    terminal.answer("History from", "")
    terminal.answer("Client identifier (Seller Central shows it", CLIENT_ID)
    terminal.answer("Client secret", CLIENT_SECRET)
    terminal.answer("Refresh token", "Atzr|…")
    terminal.answer("is the example from the documentation", Seller().refresh_token)
    assert terminal.end() == 0
    assert loaded(folder).problems == ()
    assert CLIENT_SECRET not in terminal.shown
    assert Seller().refresh_token not in terminal.shown
    assert "Traceback" not in terminal.shown


def test_ctrl_c_at_a_question_writes_nothing(tmp_path: Path, folder: Path) -> None:
    terminal = Terminal(tmp_path, "init", "orders", "--account", "acme")
    terminal.answer("separated by commas", "\x03")
    assert terminal.end() == 130
    assert "stopped" in terminal.shown
    assert not folder.exists()


# --- what it is for ------------------------------------------------------------------------------------


@pytest.fixture
def amazon(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path / "amazon", small_world()) as shop:
        yield shop


def at(amazon: Shop) -> list[str]:
    """The options that lead to a simulated Amazon."""
    front = "ORDER_SYNC_ACCOUNTS__ACME__"
    return [
        "--endpoint",
        amazon.environ[f"{front}ENDPOINT"],
        "--token-url",
        amazon.environ[f"{front}TOKEN_URL"],
    ]


def in_folder(folder: Path, *arguments: str, environ: Mapping[str, str] = {}) -> subprocess.Popen[str]:
    """A command as a person gives it in this folder, whose shell has no settings."""
    return subprocess.Popen(
        [sys.executable, "-m", "poller.cli", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> Result:
    out, err = process.communicate(timeout=60)
    return Result(process.returncode, out, err)


def test_the_next_commands_bring_the_first_orders(amazon: Shop, folder: Path, given: Path) -> None:
    order_sync("init", str(folder), *options(given, marketplaces="UK", start_date=None), *at(amazon))
    checked = ended(in_folder(folder, "config", "check", "--online"))
    assert checked.status == 0, checked
    synced = ended(in_folder(folder, "sync"))
    assert synced.status == 0, synced
    listed = ended(in_folder(folder, "orders", "list", "--json"))
    assert len(listed.json()) == ORDERS
    assert (folder / "order-sync.db").exists()


ORDERS = 1
"""Orders of the small world that can be read."""


@contextmanager
def killed_at_the_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.long
@pytest.mark.timeout(120)
def test_compose_works_from_what_it_writes(
    amazon: Shop, folder: Path, given: Path, postgres_url: str
) -> None:
    """Without a container engine: the mounts are this folder, and the database is another server."""
    order_sync("init", str(folder), *options(given, marketplaces="UK"), *at(amazon), "--compose")
    url = folder / "secrets/database_url"
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        password = (folder / "secrets/database_password").read_text().strip()
        connection.execute(f"CREATE ROLE order_sync LOGIN PASSWORD '{password}'")
        connection.execute("CREATE DATABASE order_sync OWNER order_sync")
    server = re.search(r"@(.*)/postgres\?host=(.*)$", postgres_url)
    assert server is not None, postgres_url
    written = url.read_text()
    assert re.search(r"@database/order_sync\?sslmode=disable$", written.strip())
    url.write_text(re.sub(r"@database/order_sync\?.*", f"@/order_sync?host={server[2]}", written))

    def environ(service: str) -> dict[str, str]:
        said = COMPOSE["services"][service]
        assert said["volumes"] == [".:/config:ro"]
        variables = {
            name: value.replace("/config/", f"{folder}/") for name, value in said["environment"].items()
        }
        return {
            "ORDER_SYNC_CONFIG_DIR": str(folder),
            "ORDER_SYNC_RUNTIME_DIR": str(given / service),
            **variables,
        }

    def start(service: str) -> subprocess.Popen[str]:
        (given / service).mkdir()
        words = COMPOSE["services"][service].get("command", ["order-sync", "run"])[1:]
        adapted = {"ORDER_SYNC_LISTEN": "127.0.0.1:0", "ORDER_SYNC_LOG_FORMAT": "json"}
        return in_folder(given / service, *words, environ={**environ(service), **adapted})

    upgraded = ended(start("upgrade"))
    assert upgraded.status == 0, upgraded
    with ExitStack() as stack:
        scheduler = stack.enter_context(killed_at_the_end(start("scheduler")))
        stack.enter_context(killed_at_the_end(start("worker")))
        assert scheduler.stderr is not None
        first = scheduler.stderr.readline()
        assert re.search(r'"sign_in": ?"http://[^"]+/console/enter\?key=', first), first
        while True:
            listed = ended(in_folder(given, "orders", "list", "--json", environ=environ("scheduler")))
            if listed.status == 0 and len(listed.json()) == ORDERS:
                break
