"""Reading everything at once: what stops what, the examples, and noticing changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load import Config, fingerprint, load
from config.settings import ACCOUNT_KEYS, SCALARS
from connectors.marketplaces import BY_NAME

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "config"
ACCOUNT = "lwa_client_id = 'id'\nlwa_client_secret = 'secret'\nrefresh_token = '{}'\n"
MARKETPLACE = "marketplace = '{}'\naccount = '{}'\nstart_date = 2026-01-01\nprice_list = 'list'\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Accounts a and b, with the UK and Germany."""
    for name in ("accounts", "marketplaces"):
        (tmp_path / name).mkdir()
    for account, code in (("a", "UK"), ("b", "DE")):
        (tmp_path / "accounts" / f"{account}.toml").write_text(ACCOUNT.format(account))
        (tmp_path / "marketplaces" / f"{code.lower()}.toml").write_text(MARKETPLACE.format(code, account))
    return tmp_path


def read(folder: Path, **environ: str) -> Config:
    return load({"ORDER_SYNC_CONFIG_DIR": str(folder), **environ}, BY_NAME)


def test_the_examples_are_free_of_problems_but_for_values_that_are_not_theirs(tmp_path: Path) -> None:
    environ = {"ACME_LWA_CLIENT_SECRET": "a, b", "ACME_REFRESH_TOKEN": "c"}
    (problem,) = read(EXAMPLES, **environ).problems
    assert problem.message.startswith(
        "accounts/acme.toml: lwa_client_id is the example from the documentation"
    )
    copy = shutil.copytree(EXAMPLES, tmp_path / "config")
    file = copy / "accounts" / "acme.toml"
    file.write_text(file.read_text().replace("0123456789abcdef", "real"))
    config = read(copy, **environ)
    assert config.problems == ()
    assert list(config.settings.accounts) == ["acme"]
    assert [m.code for m in config.marketplaces] == ["DE", "UK"]


def test_a_good_configuration_is_complete(folder: Path) -> None:
    config = read(folder)
    assert (config.problems, config.stopped) == ((), False)
    assert sorted(config.settings.accounts) == ["a", "b"]
    assert [(m.code, m.account) for m in config.marketplaces] == [("DE", "b"), ("UK", "a")]


def test_a_wrong_account_stops_itself_and_its_marketplaces(folder: Path) -> None:
    (folder / "accounts" / "a.toml").write_text("lwa_client_id = 'id'\nlwa_client_secret = 's'")
    config = read(folder)
    assert [(p.stops, p.subject) for p in config.problems] == [("account", "a")]
    assert [m.code for m in config.marketplaces] == ["DE"]
    assert not config.stopped


def test_an_account_whose_secret_file_is_unreadable_has_one_problem(folder: Path) -> None:
    (folder / "marketplaces" / "fr.toml").write_text(MARKETPLACE.format("FR", "c"))
    config = read(folder, ORDER_SYNC_ACCOUNTS__C__REFRESH_TOKEN_FILE=str(folder / "none"))
    assert [(p.stops, p.subject) for p in config.problems] == [("account", "c")]
    assert sorted(config.settings.accounts) == ["a", "b"]
    assert [m.code for m in config.marketplaces] == ["DE", "UK"]


def test_a_wrong_setting_stops_everything_and_the_rest_is_still_checked(folder: Path) -> None:
    (folder / "marketplaces" / "uk.toml").write_text("nonsense")
    config = read(folder, ORDER_SYNC_EXECUTOR="procrastinate", ORDER_SYNC_LISTN="0.0.0.0:80")
    assert [(p.severity, p.stops) for p in config.problems] == [
        ("warning", "nothing"),
        ("error", "everything"),
        ("error", "marketplace"),
    ]
    assert config.stopped


def test_without_anything_there_is_one_problem(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert len(config.problems) == 1
    assert str(config.problems[0]).startswith("no marketplace is configured")
    assert config.stopped
    assert not config.unusable


def test_a_problem_never_holds_a_secret(folder: Path) -> None:
    secret = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t"
    names = ("DATABASE_URL", "ENCRYPTION_KEY", "POLL_SECONDS", "SHARED_EMAILS", "LOG_LEVEL", "EXECUTOR", "X")
    account = ("LWA_CLIENT_SECRET_FILE", "REFRESH_TOKEN_FILE", "ENDPOINT", "TOKEN_URL")
    environ = {f"ORDER_SYNC_{name}": secret for name in names}
    environ |= {f"ORDER_SYNC_ACCOUNTS__ACME__{key}": secret for key in account}
    config = read(folder, **environ)
    assert len(config.problems) >= len(names) + 2
    assert secret not in repr(config)


ANY_VARIABLE = st.sampled_from(
    [f"ORDER_SYNC_{name}{ending}" for name in SCALARS if name != "CONFIG_DIR" for ending in ("", "_FILE")]
    + [f"ORDER_SYNC_ACCOUNTS__{name}__{key.upper()}" for name in ("A", "b") for key in ACCOUNT_KEYS]
)


@given(st.dictionaries(ANY_VARIABLE | st.text().map("ORDER_SYNC_{}".format), st.text()))
def test_no_variable_makes_reading_fail(environ: dict[str, str]) -> None:
    assert isinstance(load({**environ, "ORDER_SYNC_CONFIG_DIR": str(EXAMPLES)}, BY_NAME), Config)


def test_a_folder_with_an_impossible_name_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"a\0b")
    config = load({"ORDER_SYNC_CONFIG_DIR_FILE": str(tmp_path / "name")}, BY_NAME)
    assert [problem.stops for problem in config.problems] == ["everything", "everything"]


def test_a_change_of_any_file_changes_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    secret = folder / "accounts" / "secret"
    secret.write_text("one")
    seen = {fingerprint(folder, [secret])}
    assert fingerprint(folder, [secret]) in seen

    def is_new() -> bool:
        before = len(seen)
        seen.add(fingerprint(folder, [secret]))
        return len(seen) > before

    (folder / "marketplaces" / "uk.toml").write_text("longer" * 100)
    assert is_new()
    os.utime(folder / "accounts" / "a.toml", ns=(1, 1))
    assert is_new()
    secret.write_text("three")
    assert is_new()
    (folder / "marketplaces" / "fr.toml").write_text("new")
    assert is_new()
    (folder / "accounts" / "b.toml").unlink()
    assert is_new()
    secret.unlink()
    assert is_new()
    assert not is_new()


def test_the_secret_files_to_watch_are_named(folder: Path) -> None:
    for name in ("key", "token"):
        (folder / name).write_text(name)
        (folder / name).chmod(0o600)
    (folder / "accounts" / "a.toml").write_text(
        "lwa_client_id = 'id'\nlwa_client_secret = 's'\nrefresh_token_file = '../token'"
    )
    config = read(folder, ORDER_SYNC_ENCRYPTION_KEY_FILE=str(folder / "key"))
    assert {path.resolve() for path in config.secret_files} == {folder / "key", folder / "token"}
    assert fingerprint(folder, config.secret_files) != fingerprint(folder)


def test_a_fingerprint_of_nothing_is_a_fingerprint(tmp_path: Path) -> None:
    assert fingerprint(tmp_path / "none") == fingerprint(tmp_path / "none")


def test_a_misnamed_file_is_named_where_none_is_configured(folder: Path) -> None:
    for file in (folder / "marketplaces").iterdir():
        file.rename(file.with_suffix(".tml"))
    messages = [p.message for p in read(folder).problems]
    assert any(
        "no marketplace" in m and m.endswith("de.tml, uk.tml there must end in .toml to be read")
        for m in messages
    )


@pytest.mark.parametrize("name", ["fr.toml.txt", "fr.TOML", "fr.toml~", "fr.tml", "fr.yaml"])
def test_a_file_that_is_not_read_because_of_its_name_is_reported(name: str, folder: Path) -> None:
    (folder / "marketplaces" / name).write_text(MARKETPLACE.format("FR", "a"))
    config = read(folder)
    said = f"marketplaces/{name} is not read: the names of configuration files end in .toml"
    assert [(p.message, p.severity) for p in config.problems] == [(said, "warning")]
    assert [m.code for m in config.marketplaces] == ["DE", "UK"]


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("postgresql+psycopg://u:p@db.example/orders", True),
        ("postgresql+psycopg://u:p@10.0.0.7:5433/orders?sslmode=prefer", True),
        ("postgresql+psycopg:///orders?host=db.example", True),
        ("postgresql+psycopg://u:p@db.example/orders?sslmode=require", False),
        ("postgresql+psycopg://u:p@db.example/orders?sslmode=verify-full", False),
        ("postgresql+psycopg://u:p@db.example/orders?sslmode=disable", False),
        ("postgresql+psycopg://u:p@127.0.0.1/orders", False),
        ("postgresql+psycopg://u:p@[::1]/orders", False),
        ("postgresql+psycopg://u@localhost/orders", False),
        ("postgresql+psycopg:///orders", False),
        ("postgresql+psycopg:///orders?host=/run/postgresql", False),
        ("sqlite:///orders.db", False),
    ],
)
def test_postgresql_on_another_machine_without_tls_is_a_warning(url: str, warned: bool, folder: Path) -> None:
    problems = read(folder, ORDER_SYNC_DATABASE_URL=url).problems
    assert [p.severity for p in problems if "TLS" in p.message] == (["warning"] if warned else [])


def test_libpq_s_own_variable_may_require_tls(folder: Path) -> None:
    url = "postgresql+psycopg://u:p@db.example/orders"
    assert not read(folder, ORDER_SYNC_DATABASE_URL=url, PGSSLMODE="verify-full").problems
