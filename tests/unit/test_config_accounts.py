"""Accounts: the same keys from variables and from files, and which of them cannot stand together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from config.accounts import check_accounts, drafts_of_environment, read_account_files
from config.files import Unreadable
from config.problems import Problem
from config.settings import AccountSettings, read_environment

SECRET = "amzn1.oa2-cs.v1.0123456789abcdef0123456789abcdef"
TOKEN = "Atzr|IwEBIexampleexampleexampleexampleexample"
COMPLETE = {"lwa_client_id": "id", "lwa_client_secret": SECRET, "refresh_token": TOKEN}
Accounts = dict[str, AccountSettings]


def from_variables(name: str = "ACME", **changed: str) -> tuple[Accounts, tuple[Problem, ...]]:
    given = COMPLETE | changed
    environ = {f"ORDER_SYNC_ACCOUNTS__{name}__{key.upper()}": value for key, value in given.items()}
    return check_accounts(drafts_of_environment(read_environment(environ)))


def from_files(
    folder: Path, files: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> tuple[Accounts, list[str]]:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    drafts, _ = read_account_files(folder, environ or {})
    accounts, problems = check_accounts(drafts)
    assert all(problem.stops == "account" for problem in problems)
    return accounts, [str(problem) for problem in problems]


def toml(**changed: str) -> str:
    return "".join(f"{key} = '{value}'\n" for key, value in (COMPLETE | changed).items())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "accounts").mkdir()
    return tmp_path / "accounts"


def test_an_account_of_variables_has_a_lower_cased_name_and_is_its_own_business() -> None:
    accounts, problems = from_variables("ACME")
    assert problems == ()
    account = accounts["acme"]
    assert (account.name, account.business, account.lwa_client_id) == ("acme", "acme", "id")
    assert [secret.get_secret_value() for secret in account.lwa_client_secret] == [SECRET]
    assert account.refresh_token.get_secret_value() == TOKEN
    assert (account.endpoint, account.token_url) == (None, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lwa_client_id", "amzn1.application-oa2-client.\u2026"),
        ("lwa_client_id", "amzn1.application-oa2-client.0123456789abcdef"),
        ("lwa_client_secret", "\u2026"),
        ("refresh_token", "Atzr|\u2026"),
        ("refresh_token", "<refresh token>"),
    ],
)
def test_a_value_of_the_documents_is_refused_with_where_to_get_one(
    key: str, value: str, folder: Path
) -> None:
    accounts, problems = from_variables(**{key: value})
    (problem,) = problems
    assert not accounts
    assert str(problem).startswith(
        f"ORDER_SYNC_ACCOUNTS__ACME__{key.upper()} is the example from the documentation"
    )
    assert "Seller Central shows it: Develop Apps" in str(problem)
    assert value not in str(problem)
    _, sentences = from_files(folder, {"acme": toml(**{key: value})})
    assert sentences[0].startswith(f"accounts/acme.toml: {key} is the example from the documentation")


def test_a_file_s_account_has_the_file_s_name(folder: Path) -> None:
    accounts, problems = from_files(
        folder, {"acme": toml(business="Acme Ltd"), "other": toml(refresh_token="b")}
    )
    assert problems == []
    assert sorted(accounts) == ["acme", "other"]
    assert accounts["acme"].business == "Acme Ltd"


def test_two_secrets_are_accepted_while_one_is_being_rotated() -> None:
    accounts, _ = from_variables(lwa_client_secret="new , old")
    assert [s.get_secret_value() for s in accounts["acme"].lwa_client_secret] == ["new", "old"]


def test_three_secrets_are_refused() -> None:
    accounts, (problem,) = from_variables(lwa_client_secret="a,b,c")
    assert accounts == {}
    assert str(problem) == (
        "ORDER_SYNC_ACCOUNTS__ACME__LWA_CLIENT_SECRET must be one secret, or two, separated by a comma"
    )


def test_what_is_missing_is_named_as_its_place_writes_it(folder: Path) -> None:
    _, (problem,) = from_variables(refresh_token="")
    assert str(problem) == "ORDER_SYNC_ACCOUNTS__ACME__REFRESH_TOKEN is missing"
    assert (problem.stops, problem.subject) == ("account", "acme")
    _, problems = from_files(folder, {"acme": "business = 'a'"})
    assert problems == [
        "accounts/acme.toml: lwa_client_id is missing",
        "accounts/acme.toml: lwa_client_secret is missing",
        "accounts/acme.toml: refresh_token is missing",
    ]


def test_a_secret_may_come_from_a_file_beside_or_from_a_variable(folder: Path) -> None:
    (folder / "secret").write_text("from a file\n")
    (folder / "secret").chmod(0o600)
    text = (
        "lwa_client_id = 'id'\nlwa_client_secret_file = 'secret'\nrefresh_token_env = 'ACME_TOKEN'\n"
        "business_env = 'ACME_BUSINESS'"
    )
    environ = {"ACME_TOKEN": "from a variable", "ACME_BUSINESS": "b"}
    accounts, problems = from_files(folder, {"acme": text}, environ)
    assert problems == []
    assert accounts["acme"].lwa_client_secret[0].get_secret_value() == "from a file"
    assert accounts["acme"].refresh_token.get_secret_value() == "from a variable"
    assert read_account_files(folder, environ)[1] == (folder / "secret",)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("refresh_token_env = 'UNSET'", "refresh_token_env names a variable that is not set"),
        ("refresh_token_env = 7", "refresh_token_env must be a text that is not empty"),
        (
            "refresh_token_file = 'nothing'",
            "refresh_token_file names an unusable file: nothing does not exist: run `install -D -m 600 "
            "/dev/stdin FILE`, paste the value and press Ctrl-D; Seller Central shows it: Develop Apps, "
            "Edit app, Authorize app",
        ),
        ("refresh_token = ''", "refresh_token must be a text that is not empty"),
        ("refresh_token = 7", "refresh_token must be a text that is not empty"),
        ("refresh_token = 'a'\nrefresh_token_env = 'B'", "refresh_token is set twice; keep one"),
        ("refresh_token = 'a'\nregion = 'EU'", "region is not a key of this file; known are "),
        (
            "refresh_token = 'a'\nbuisness = 'EU'",
            "buisness is not a key of this file; did you mean business?",
        ),
    ],
)
def test_a_wrong_key_of_a_file_is_named(folder: Path, line: str, problem: str) -> None:
    _, problems = from_files(folder, {"acme": f"lwa_client_id='id'\nlwa_client_secret='s'\n{line}"})
    assert len(problems) == 1
    assert problems[0].startswith(f"accounts/acme.toml: {problem}")


def test_no_problem_repeats_a_secret(folder: Path) -> None:
    texts = {
        "a": f"refresh_token_file = '{TOKEN}'",
        "b": f"refresh_token_env = '{TOKEN}'",
        "c": toml(token_url=f"http://x/{TOKEN}", endpoint=f"https://u:{SECRET}@x"),
        "d": f"refresh_token = {TOKEN}",
        "e": toml(lwa_client_secret=f"{SECRET},{SECRET},{SECRET}"),
    }
    accounts, problems = from_files(folder, texts)
    assert accounts == {}
    assert {problem[:15] for problem in problems} == {f"accounts/{name}.toml" for name in texts}
    assert not any(TOKEN in problem or SECRET in problem for problem in problems)


def test_bad_toml_is_reported_with_its_line(folder: Path) -> None:
    _, problems = from_files(folder, {"acme": "business = 'a'\nrefresh_token =\n"})
    where = "line 2, column 16: texts need quotes, and dates must exist"
    assert problems == [f"accounts/acme.toml is not valid TOML ({where})"]


@pytest.mark.parametrize("name", ["Acme", "acme ltd", "acme__uk", "_acme", "ACME"])
def test_a_file_s_name_must_be_an_account_s_name(folder: Path, name: str) -> None:
    accounts, problems = from_files(folder, {name: toml()})
    assert accounts == {}
    assert len(problems) == 1
    assert problems[0].startswith(f"accounts/{name}.toml must have an account's name; ")


def test_one_account_in_both_places_is_refused_and_both_are_named(folder: Path) -> None:
    (folder / "acme.toml").write_text(toml())
    environment = read_environment({"ORDER_SYNC_ACCOUNTS__ACME__BUSINESS": "a"})
    from_file, _ = read_account_files(folder, {})
    accounts, (problem,) = check_accounts((*drafts_of_environment(environment), *from_file))
    assert accounts == {}
    assert str(problem) == "account acme is defined in the environment and accounts/acme.toml; keep one"


def test_two_accounts_with_one_refresh_token_are_both_refused(folder: Path) -> None:
    accounts, problems = from_files(folder, {"a": toml(), "b": toml(), "c": toml(refresh_token="c")})
    assert list(accounts) == ["c"]
    expected = (
        "accounts a (accounts/a.toml) and b (accounts/b.toml) have the same refresh token and would share "
        "one budget; keep one"
    )
    assert problems == [expected, expected]


@pytest.mark.parametrize(
    "url",
    [
        "https://sellingpartnerapi-eu.amazon.com/",
        "http://127.0.0.1:8090",
        "http://127.8.9.10/base",
        "http://[::1]:8090",
        "http://localhost:8090",
    ],
)
def test_https_anywhere_and_plain_http_to_this_machine_are_accepted(url: str) -> None:
    accounts, problems = from_variables(endpoint=url, token_url=url)
    assert problems == ()
    assert accounts["acme"].endpoint == accounts["acme"].token_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://sellingpartnerapi-eu.amazon.com",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://128.0.0.1",
        "http://0.0.0.0",
        "http://[::2]",
        "http://127.0.0.1@evil.example",
        "http://evil.example#127.0.0.1",
        "http://127.0.0.1\\@evil.example",
        "ftp://127.0.0.1",
        "https://",
        "https://[",
        "https://host:port",
        "localhost:8090",
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    accounts, problems = from_variables(endpoint=url)
    assert accounts == {}
    assert len(problems) == 1
    assert str(problems[0]).startswith("ORDER_SYNC_ACCOUNTS__ACME__ENDPOINT must be an https URL")


def test_hidden_files_and_other_files_are_not_accounts(folder: Path) -> None:
    (folder / ".acme.toml").write_text("broken")
    (folder / "acme.toml.swp").write_text("broken")
    assert read_account_files(folder, {}) == ((), ())


def test_a_folder_that_may_not_be_listed_is_unreadable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(Unreadable, match=r"cannot be listed \(Permission denied\)"):
        read_account_files(folder, {})


def test_secrets_are_in_no_text_about_an_account() -> None:
    accounts, _ = from_variables()
    for text in (repr(accounts), str(accounts["acme"]), accounts["acme"].model_dump_json()):
        assert TOKEN not in text
        assert SECRET not in text
