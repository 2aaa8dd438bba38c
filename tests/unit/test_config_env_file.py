"""The file ``.env``: where it is found, what goes before it, where its paths lead, who may read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from config.env_file import completed
from config.load import Config, fingerprint, load
from connectors.marketplaces import BY_NAME
from store.sealing import new_key

CREDENTIALS = """\
ORDER_SYNC_ACCOUNTS__ACME__LWA_CLIENT_ID=amzn1.application-oa2-client.0123
ORDER_SYNC_ACCOUNTS__ACME__LWA_CLIENT_SECRET=secret
ORDER_SYNC_ACCOUNTS__ACME__REFRESH_TOKEN=Atzr|x$y
"""
UK = 'marketplace = "UK"\naccount = "acme"\nstart_date = 2026-01-01\nprice_list = "UK retail"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a seller, which is the current one."""
    (tmp_path / "marketplaces").mkdir()
    (tmp_path / "marketplaces/uk.toml").write_text(UK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(environ: Mapping[str, str] | None = None) -> Config:
    return load(environ or {}, BY_NAME)


def sentences(config: Config) -> list[str]:
    return [str(problem) for problem in config.problems]


def test_a_folder_with_its_own_file_needs_no_variable(home: Path) -> None:
    (home / ".env").write_text(f"# ours\n\nexport ORDER_SYNC_CONFIG_DIR='.'\n{CREDENTIALS}")
    config = read()
    assert sentences(config) == []
    assert [m.code for m in config.marketplaces] == ["UK"]
    assert config.settings.accounts["acme"].refresh_token.get_secret_value() == "Atzr|x$y"


@pytest.mark.parametrize("place", ["shop/conf/.env", "shop/.env"])
def test_it_lies_in_the_configuration_folder_or_beside_it(home: Path, place: str) -> None:
    (home / "shop/conf").mkdir(parents=True)
    (home / place).write_text("ORDER_SYNC_POLL_SECONDS=240\n")
    for folder in ("shop/conf", str(home / "shop/conf")):
        assert read({"order_sync_config_dir": folder}).settings.poll_seconds == 240
    assert completed({}).file is None


def test_it_lies_beside_the_default_folder_too(home: Path) -> None:
    (home / "config").mkdir()
    (home / "marketplaces").rename(home / "config/marketplaces")
    (home / ".env").write_text(CREDENTIALS)
    assert [m.code for m in read().marketplaces] == ["UK"]


def test_a_variable_of_the_process_goes_before_it_whichever_of_the_two_ways(home: Path) -> None:
    (home / "url").write_text("sqlite:///of-the-process.db")
    (home / "url").chmod(0o600)
    (home / ".env").write_text(
        "ORDER_SYNC_DATABASE_URL=sqlite:///of-the-file.db\n"
        "ORDER_SYNC_POLL_SECONDS=240\nORDER_SYNC_LOG_LEVEL=debug\n"
    )
    config = read({"ORDER_SYNC_DATABASE_URL_FILE": "url", "order_sync_poll_seconds": "200"})
    assert config.settings.database_url.get_secret_value() == "sqlite:///of-the-process.db"
    assert config.settings.poll_seconds == 200
    assert config.settings.log_level == "debug"
    assert read({"ORDER_SYNC_POLL_SECONDS": " "}).settings.poll_seconds == 240, "an empty one counts as unset"


def test_its_paths_count_from_its_own_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    (home / "secrets").mkdir(mode=0o700)
    (home / "secrets/key").write_text(key)
    (home / ".env").write_text(
        "ORDER_SYNC_CONFIG_DIR=.\nORDER_SYNC_ENCRYPTION_KEY_FILE=secrets/key\nORDER_SYNC_RUNTIME_DIR=run\n"
        f"ORDER_SYNC_DATABASE_URL=sqlite:///here.db\n{CREDENTIALS}"
    )
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    config = read({"ORDER_SYNC_CONFIG_DIR": str(home)})
    assert sentences(config) == []
    assert config.settings.encryption_key is not None
    assert config.settings.database_url.get_secret_value() == f"sqlite:///{home}/here.db"
    assert config.settings.runtime_dir == home / "run"


def test_absolute_paths_and_databases_without_a_file_stay(home: Path) -> None:
    (home / "shop").mkdir()
    for url in ("sqlite:////srv/orders.db", "postgresql+psycopg://db/orders?sslmode=disable"):
        (home / "shop/.env").write_text(f"ORDER_SYNC_DATABASE_URL={url}\n")
        settings = read({"ORDER_SYNC_CONFIG_DIR": "shop"}).settings
        assert settings.database_url.get_secret_value() == url


def test_a_file_of_an_account_may_name_its_variables(home: Path) -> None:
    (home / "accounts").mkdir()
    (home / "accounts/acme.toml").write_text(
        'lwa_client_id = "id"\nlwa_client_secret_env = "SECRET"\nrefresh_token_env = "TOKEN"\n'
    )
    (home / ".env").write_text("ORDER_SYNC_CONFIG_DIR=.\nSECRET=s\nTOKEN=t\n")
    assert list(read().settings.accounts) == ["acme"]


def test_a_changed_file_changes_the_fingerprint(home: Path) -> None:
    (home / ".env").write_text(f"ORDER_SYNC_CONFIG_DIR=.\n{CREDENTIALS}")
    config = read()
    before = fingerprint(config.settings.config_dir, config.secret_files)
    (home / ".env").write_text(f"ORDER_SYNC_CONFIG_DIR=.\n{CREDENTIALS}# more\n")
    assert fingerprint(config.settings.config_dir, config.secret_files) != before


@pytest.mark.parametrize("line", ["ORDER_SYNC_POLL_SECONDS", "what is this", "A='unclosed"])
def test_a_line_that_is_no_setting_stops_everything_and_is_not_quoted(home: Path, line: str) -> None:
    (home / ".env").write_text(f"ORDER_SYNC_CONFIG_DIR=.\n{line}\n{CREDENTIALS}")
    config = read()
    assert config.unusable
    assert ".env: line 2 must be NAME=value or begin with #" in sentences(config)
    assert line not in str(sentences(config))


@pytest.mark.parametrize(("content", "fault"), [(b"\xff\n", "is not UTF-8 text"), (None, "is a folder")])
def test_a_file_that_cannot_be_read_stops_everything(home: Path, content: bytes | None, fault: str) -> None:
    if content is None:
        (home / ".env").mkdir()
    else:
        (home / ".env").write_bytes(content)
    config = read()
    assert config.unusable
    assert any(sentence.startswith(f".env {fault}") for sentence in sentences(config))


@pytest.mark.parametrize(
    ("mode", "text", "fault"),
    [
        (0o666, "ORDER_SYNC_POLL_SECONDS=240", "may be written"),
        (0o644, CREDENTIALS, "has ORDER_SYNC_ACCOUNTS__ACME__LWA_CLIENT_SECRET and may be read"),
        (0o644, "ORDER_SYNC_POLL_SECONDS=240\nORDER_SYNC_ENCRYPTION_KEY_FILE=/nowhere", None),
        (0o640, CREDENTIALS, None),
        (0o600, CREDENTIALS, None),
    ],
)
def test_it_is_refused_if_others_may_write_it_or_read_secrets_in_it(
    open_folder: Path, mode: int, text: str, fault: str | None
) -> None:
    file = open_folder / ".env"
    file.write_text(text)
    file.chmod(mode)
    result = completed({"ORDER_SYNC_CONFIG_DIR": str(open_folder)})
    said = [problem.message for problem in result.problems]
    expected = f"{file} {fault} by every user of this machine: run chmod 600 on it"
    assert said == ([] if fault is None else [expected])
