"""Variables: what they mean, where they may come from, and what is never said about them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.files import exposure_of
from config.problems import Problem
from config.settings import Settings, check_settings, read_environment

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()
SECRET = "Atzr|IwEBIexampleexampleexampleexampleexample"


def settings_of(environ: Mapping[str, str]) -> tuple[Settings, list[Problem]]:
    environment = read_environment(environ)
    settings, problems = check_settings(environment.scalars)
    return settings, [*environment.problems, *problems]


def only_problem(environ: Mapping[str, str]) -> Problem:
    _, problems = settings_of(environ)
    assert len(problems) == 1, problems
    return problems[0]


def test_without_variables_every_setting_has_the_default_of_the_contract() -> None:
    settings, problems = settings_of({"PATH": "/bin", "HOME": "/root"})
    assert problems == []
    assert settings.config_dir == Path("config")
    assert settings.database_url.get_secret_value() == "sqlite:///order-sync.db"
    assert settings.encryption_key is None
    assert settings.accounts == {}
    assert (settings.executor, settings.poll_seconds, settings.poll_seconds_busy) == ("threads", 180, 900)
    assert settings.shared_emails == ()
    assert (settings.log_format, settings.log_level) == (None, "info")


def test_alert_urls_have_white_space_or_commas_between_and_commas_within() -> None:
    text = "mailto://u:p@h?to=a,b\n json://h/x, slack://t/a/b,https://h"
    settings, problems = settings_of({"ORDER_SYNC_ALERT_URLS": text})
    assert problems == []
    urls = [url.get_secret_value() for url in settings.alert_urls]
    assert urls == ["mailto://u:p@h?to=a,b", "json://h/x", "slack://t/a/b", "https://h"]
    assert "u:p" not in repr(settings)


def test_a_wrong_alert_url_is_named_by_its_number_alone() -> None:
    problem = only_problem({"ORDER_SYNC_ALERT_URLS": "json://h very-secret"})
    assert "number 2 is not one" in problem.message
    assert "very-secret" not in problem.message


@pytest.mark.parametrize(
    ("variable", "value", "where"),
    [
        ("ENCRYPTION_KEY", "\u2026", "`order-sync keys new` makes one"),
        (
            "DATABASE_URL",
            "postgresql+psycopg://\u2026",
            "postgresql+psycopg://user:password@host:5432/orders",
        ),
        ("API_TOKEN", "<token>", "`openssl rand -hex 32` makes one"),
        ("OIDC_CLIENT_SECRET", "...", "your OpenID provider shows it"),
    ],
)
def test_a_value_of_the_documents_is_refused_with_where_to_get_one(
    variable: str, value: str, where: str
) -> None:
    problem = only_problem({f"ORDER_SYNC_{variable}": value})
    assert problem.message.startswith(f"ORDER_SYNC_{variable} is the example from the documentation")
    assert where in problem.message


def test_limits_of_being_ready_are_seconds() -> None:
    settings, _ = settings_of({"ORDER_SYNC_READY_GAP_SECONDS": "60"})
    assert (settings.ready_success_seconds, settings.ready_gap_seconds) == (3600, 60)
    assert settings.ready_refusal_seconds == 900
    assert only_problem({"ORDER_SYNC_READY_SUCCESS_SECONDS": "0"}).stops == "everything"


def test_every_setting_is_read_from_its_variable() -> None:
    settings, problems = settings_of(
        {
            "ORDER_SYNC_CONFIG_DIR": "/etc/order-sync",
            "ORDER_SYNC_DATABASE_URL": "postgresql+psycopg://u:p@db/orders",
            "ORDER_SYNC_ENCRYPTION_KEY": f"{KEY}, {OTHER_KEY}",
            "ORDER_SYNC_EXECUTOR": "threads",
            "ORDER_SYNC_POLL_SECONDS": "200",
            "ORDER_SYNC_POLL_SECONDS_BUSY": "200",
            "ORDER_SYNC_SHARED_EMAILS": "front@desk.example, back@desk.example,",
            "ORDER_SYNC_LOG_FORMAT": "JSON",
            "ORDER_SYNC_LOG_LEVEL": "Debug",
        }
    )
    assert problems == []
    assert settings.config_dir == Path("/etc/order-sync")
    assert settings.database_url.get_secret_value() == "postgresql+psycopg://u:p@db/orders"
    assert settings.encryption_key is not None
    assert [key.get_secret_value() for key in settings.encryption_key] == [
        bytes(range(32)),
        bytes(range(1, 33)),
    ]
    assert (settings.poll_seconds, settings.poll_seconds_busy) == (200, 200)
    assert settings.shared_emails == ("front@desk.example", "back@desk.example")
    assert (settings.log_format, settings.log_level) == ("json", "debug")


@pytest.mark.parametrize(
    ("place", "is_url"),
    [
        ("u:p@db/orders", True),
        ("u:p%40ss@db:5432/orders", True),
        ("u:p/s?s#@[::1]:5432/orders?sslmode=require", True),
        ("/orders?host=/var/run/postgresql", True),
        ("u:p@ss@db/orders", False),
        ("u:p@db:5432s/orders", False),
        ("u:p@s:s@db:5432/orders", False),
    ],
)
def test_what_a_password_must_not_hold_as_it_is_has_a_sentence(place: str, is_url: bool) -> None:
    _, problems = settings_of({"ORDER_SYNC_DATABASE_URL": f"postgresql+psycopg://{place}"})
    assert bool(problems) is not is_url
    for problem in problems:
        assert "in user and password write %40 for @" in problem.message
        assert "ss@" not in problem.message


def test_a_constructor_does_not_look_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDER_SYNC_POLL_SECONDS", "1000")
    assert Settings().poll_seconds == 180


def test_a_variable_may_name_a_file_whose_content_is_stripped(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text(f"\ufeff  {KEY}\n\n")
    secret.chmod(0o600)
    settings, problems = settings_of({"ORDER_SYNC_ENCRYPTION_KEY_FILE": str(secret)})
    assert problems == []
    assert settings.encryption_key is not None
    assert settings.encryption_key[0].get_secret_value() == bytes(range(32))


def test_an_account_s_variable_may_name_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token\n")
    (tmp_path / "token").chmod(0o400)
    variable = "ORDER_SYNC_ACCOUNTS__ACME__REFRESH_TOKEN_FILE"
    environment = read_environment({variable: str(tmp_path / "token")})
    assert environment.accounts == {"acme": {"refresh_token": "token"}}
    assert environment.secret_files == (tmp_path / "token",)


def test_a_variable_and_its_file_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    problem = only_problem(
        {"ORDER_SYNC_ENCRYPTION_KEY": KEY, "ORDER_SYNC_ENCRYPTION_KEY_FILE": str(tmp_path / "key")}
    )
    assert str(problem) == (
        "ORDER_SYNC_ENCRYPTION_KEY and ORDER_SYNC_ENCRYPTION_KEY_FILE are both set; keep one"
    )
    assert (problem.severity, problem.stops) == ("error", "everything")


def test_two_spellings_of_one_variable_are_refused() -> None:
    problem = only_problem({"ORDER_SYNC_LOG_LEVEL": "info", "order_sync_log_level": "debug"})
    assert "ORDER_SYNC_LOG_LEVEL and order_sync_log_level are both set" in str(problem)


def test_an_empty_variable_counts_as_not_given(tmp_path: Path) -> None:
    (tmp_path / "level").write_text("error")
    settings, problems = settings_of(
        {
            "ORDER_SYNC_LOG_LEVEL": "",
            "ORDER_SYNC_LOG_LEVEL_FILE": str(tmp_path / "level"),
            "ORDER_SYNC_ENCRYPTION_KEY": " ",
        }
    )
    assert problems == []
    assert (settings.log_level, settings.encryption_key) == ("error", None)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    problem = only_problem({"ORDER_SYNC_ENCRYPTION_KEY_FILE": str(missing)})
    assert str(problem) == (
        f"ORDER_SYNC_ENCRYPTION_KEY_FILE: {missing} does not exist: run `install -D -m 600 /dev/stdin FILE`, "
        "paste the value and press Ctrl-D; `order-sync keys new` makes one"
    )
    assert problem.stops == "everything"


def test_an_account_s_unreadable_file_stops_that_account(tmp_path: Path) -> None:
    variable = "ORDER_SYNC_ACCOUNTS__ACME__REFRESH_TOKEN_FILE"
    problem = only_problem({variable: str(tmp_path)})
    assert str(tmp_path) in str(problem)
    assert (problem.stops, problem.subject) == ("account", "acme")


@pytest.mark.parametrize(
    ("content", "end"),
    [(b" \n", "is empty: write the value into it"), (b"\xff\xfe\x00", "is not UTF-8 text")],
)
def test_a_secret_file_without_a_secret_is_refused(tmp_path: Path, content: bytes, end: str) -> None:
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(0o600)
    assert str(only_problem({"ORDER_SYNC_ENCRYPTION_KEY_FILE": str(tmp_path / "key")})).endswith(end)


@pytest.mark.parametrize(
    ("mode", "folder", "end"),
    [
        (0o666, 0o755, "may be written by every user of this machine: run chmod 600 on it"),
        (0o602, 0o755, "may be written by every user of this machine: run chmod 600 on it"),
        (0o600, 0o777, "may be written by every user of this machine: run chmod 600 on it"),
        (0o644, 0o755, "may be read by every user of this machine: run chmod 600 on it"),
        (0o644, 0o700, None),
        (0o640, 0o755, None),
        (0o440, 0o1777, None),
    ],
)
def test_a_secret_that_every_user_may_read_or_write_is_refused(
    open_folder: Path, mode: int, folder: int, end: str | None
) -> None:
    key = open_folder / "key"
    key.write_text(KEY)
    key.chmod(mode)
    open_folder.chmod(folder)
    settings, problems = settings_of({"ORDER_SYNC_ENCRYPTION_KEY_FILE": str(key)})
    if end is None:
        assert problems == []
        assert settings.encryption_key is not None
    else:
        assert [str(p) for p in problems] == [f"ORDER_SYNC_ENCRYPTION_KEY_FILE: {key} {end}"]
        assert settings.encryption_key is None


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("ORDER_SYNC_SHARED_EMAILS", False),
        ("ORDER_SYNC_ACCOUNTS__ACME__LWA_CLIENT_ID", False),
        ("ORDER_SYNC_ACCOUNTS__ACME__LWA_CLIENT_SECRET", True),
        ("ORDER_SYNC_DATABASE_URL", True),
        ("ORDER_SYNC_API_TOKEN", True),
    ],
)
def test_a_file_that_holds_no_secret_may_be_read_by_all(open_folder: Path, name: str, refused: bool) -> None:
    (open_folder / "file").write_text("a@example.com")
    (open_folder / "file").chmod(0o644)
    problems = read_environment({f"{name}_FILE": str(open_folder / "file")}).problems
    assert bool(problems) is refused


@pytest.mark.parametrize(
    ("mode", "exposed"), [(0o444, "shared"), (0o644, "shared"), (0o440, None), (0o400, None)]
)
def test_secrets_that_docker_and_kubernetes_mount_are_accepted(mode: int, exposed: str | None) -> None:
    assert exposure_of([mode, 0o1777, 0o755], is_mounted=True) == exposed


def test_a_secret_put_where_its_file_belongs_is_not_repeated() -> None:
    for mistake in (SECRET, KEY, f"/{KEY}", "x\0y" + SECRET):
        problem = only_problem({"ORDER_SYNC_ENCRYPTION_KEY_FILE": mistake})
        assert mistake not in str(problem)
        assert "ORDER_SYNC_ENCRYPTION_KEY_FILE: the file that it names" in str(problem)


@pytest.mark.parametrize(
    ("variable", "value", "end"),
    [
        (
            "ENCRYPTION_KEY",
            "no base64!",
            "cannot be used: key 1 is not a valid base64-encoded 32-byte key "
            "(`order-sync keys new` makes one)",
        ),
        (
            "ENCRYPTION_KEY",
            f"{KEY},c2hvcnQ=",
            "cannot be used: key 2 is not a valid base64-encoded 32-byte key; it has 5 bytes "
            "(`order-sync keys new` makes one)",
        ),
        ("ENCRYPTION_KEY", ",", "must be at least one key"),
        (
            "ENCRYPTION_KEY",
            "schlüssel",
            "cannot be used: key 1 is not a valid base64-encoded 32-byte key "
            "(`order-sync keys new` makes one)",
        ),
        (
            "DATABASE_URL",
            "postgresql://u:hunter2@db/x",
            "must start with sqlite:/// or postgresql+psycopg://",
        ),
        (
            "EXECUTOR",
            "procrastinate",
            "must be threads with SQLite: workers need PostgreSQL in ORDER_SYNC_DATABASE_URL "
            "(`order-sync db copy` moves a database there)",
        ),
        ("EXECUTOR", "celery", "must be threads or procrastinate"),
        ("DATABASE_CONNECTIONS", "0", "must be a whole number between 1 and 100"),
        ("WORKER_CONCURRENCY", "many", "must be a whole number between 1 and 100"),
        ("POLL_SECONDS", "3 minutes", "must be a whole number of seconds between 1 and 86400"),
        ("POLL_SECONDS", "0", "must be a whole number of seconds between 1 and 86400"),
        ("POLL_SECONDS", "-5", "must be a whole number of seconds between 1 and 86400"),
        ("POLL_SECONDS", "86401", "must be a whole number of seconds between 1 and 86400"),
        ("POLL_SECONDS_BUSY", "179", "must be at least ORDER_SYNC_POLL_SECONDS, which is 180"),
        (
            "SHARED_EMAILS",
            "a@b.example,nobody",
            "must be e-mail addresses, separated by commas; number 2 is not one",
        ),
        ("LOG_FORMAT", "xml", "must be console or json"),
        ("LOG_LEVEL", "verbose", "must be debug, info, warning or error"),
    ],
)
def test_a_wrong_value_is_reported_without_repeating_it(variable: str, value: str, end: str) -> None:
    problem = only_problem({f"ORDER_SYNC_{variable}": value})
    assert str(problem) == f"ORDER_SYNC_{variable} {end}"
    assert problem.stops == "everything"


def test_the_busy_pace_follows_a_slower_pace_when_it_is_not_given() -> None:
    settings, problems = settings_of({"ORDER_SYNC_POLL_SECONDS": "1200"})
    assert (settings.poll_seconds_busy, problems) == (1200, [])


def test_a_default_in_a_wrong_one_s_place_is_compared_with_the_rest() -> None:
    settings, problems = settings_of(
        {"ORDER_SYNC_POLL_SECONDS": "often", "ORDER_SYNC_POLL_SECONDS_BUSY": "100"}
    )
    assert (settings.poll_seconds, settings.poll_seconds_busy) == (180, 900)
    assert [str(problem).split()[0] for problem in problems] == [
        "ORDER_SYNC_POLL_SECONDS",
        "ORDER_SYNC_POLL_SECONDS_BUSY",
    ]


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("RETENTION_DAYS", "7", 7),
        ("RETENTION_DAYS", "off", None),
        ("RETENTION_DAYS", " OFF ", None),
        ("HASH_RETENTION_MONTHS", "240", 240),
        ("HASH_RETENTION_MONTHS", "off", None),
        ("ORDER_RETENTION_MONTHS", "18", 18),
        ("ORDER_RETENTION_MONTHS", "off", None),
    ],
)
def test_r60_r61_terms_are_whole_numbers_or_off(name: str, value: str, meant: int | None) -> None:
    settings, problems = settings_of({f"ORDER_SYNC_{name}": value})
    assert (getattr(settings, name.lower()), problems) == (meant, [])


def test_r60_r61_terms_have_defaults() -> None:
    settings, _ = settings_of({})
    assert (settings.retention_days, settings.hash_retention_months) == (30, 18)
    assert settings.order_retention_months is None


def test_r64_orders_are_not_erased_before_their_buyers() -> None:
    problem = only_problem({"ORDER_SYNC_RETENTION_DAYS": "off", "ORDER_SYNC_ORDER_RETENTION_MONTHS": "18"})
    assert "must be off while ORDER_SYNC_RETENTION_DAYS is" in str(problem)


@pytest.mark.parametrize(
    ("name", "most", "unit"), [("RETENTION_DAYS", 3650, "days"), ("HASH_RETENTION_MONTHS", 240, "months")]
)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "never", "99999", "\uff11"])
def test_r60_r61_another_term_is_refused(name: str, most: int, unit: str, value: str) -> None:
    problem = only_problem({f"ORDER_SYNC_{name}": value})
    assert str(problem) == f"ORDER_SYNC_{name} must be a whole number of {unit} between 1 and {most}, or off"
    assert problem.stops == "everything"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:8000", ("::1", 8000)),
        ("off", None),
    ],
)
def test_an_address_to_listen_on_is_a_host_and_a_port(written: str, meant: object) -> None:
    settings, problems = settings_of({"ORDER_SYNC_LISTEN": written})
    assert settings.listen == meant
    assert not problems


@pytest.mark.parametrize(
    "value", ["8000", ":8000", "host", "host:", "::1:8000", "host:65536", "http://host:80"]
)
def test_another_address_to_listen_on_is_refused(value: str) -> None:
    assert str(only_problem({"ORDER_SYNC_LISTEN": value})).startswith("ORDER_SYNC_LISTEN must ")


@pytest.mark.parametrize("value", ["secret", "x" * 31, "x" * 16 + " " + "x" * 16, "\u00fc" * 40])
def test_a_token_that_could_be_guessed_is_refused_and_not_quoted(value: str) -> None:
    problem = only_problem({"ORDER_SYNC_API_TOKEN": value})
    assert str(problem).startswith("ORDER_SYNC_API_TOKEN must be at least 32 printable ASCII characters")
    assert value not in str(problem)


def test_a_token_is_hidden_in_the_settings() -> None:
    settings, problems = settings_of({"ORDER_SYNC_API_TOKEN": "x" * 40})
    assert not problems
    assert "x" * 40 not in repr(settings)


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("ORDER_SYNC_POLL_SECOND", "ORDER_SYNC_POLL_SECONDS"),
        ("ORDER_SYNC_DATABSE_URL_FILE", "ORDER_SYNC_DATABASE_URL_FILE"),
        ("ORDER_SYNC_RETENTION_DAY", "ORDER_SYNC_RETENTION_DAYS"),
        ("ORDER_SYNC_ACCOUNTS__ACME__REFRESHTOKEN", "ORDER_SYNC_ACCOUNTS__ACME__REFRESH_TOKEN"),
    ],
)
def test_an_unknown_variable_is_a_warning_with_the_nearest_known_name(unknown: str, meant: str) -> None:
    problem = only_problem({unknown: SECRET})
    assert str(problem) == f"{unknown} is not a setting; did you mean {meant}?"
    assert problem.severity == "warning"


def test_an_impossible_account_name_is_a_warning_with_the_rule() -> None:
    problem = only_problem({"ORDER_SYNC_ACCOUNTS__A__B__REFRESH_TOKEN": SECRET})
    assert "an account's name is made of a-z, 0-9, - and single _" in str(problem)


def test_accounts_are_taken_apart_by_name_and_key_and_never_decoded() -> None:
    environment = read_environment(
        {
            "ORDER_SYNC_ACCOUNTS__ACME_UK-2__LWA_CLIENT_SECRET": "123",
            "ORDER_SYNC_ACCOUNTS__ACME_UK-2__REFRESH_TOKEN": '{"a": 1}',
            "ORDER_SYNC_ACCOUNTS__OTHER__BUSINESS": "true",
        }
    )
    assert environment.accounts == {
        "acme_uk-2": {"lwa_client_secret": "123", "refresh_token": '{"a": 1}'},
        "other": {"business": "true"},
    }


def test_secrets_are_in_no_text_about_the_settings() -> None:
    settings, _ = settings_of(
        {"ORDER_SYNC_ENCRYPTION_KEY": KEY, "ORDER_SYNC_DATABASE_URL": "postgresql+psycopg://u:hunter2@db/x"}
    )
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "hunter2" not in text
        assert KEY not in text
        assert repr(bytes(range(32)))[2:-1] not in text


def test_a_direct_validation_error_does_not_show_the_input() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"encryption_key": SECRET})
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_single_underscores_around_an_accounts_name_are_reported() -> None:
    problem = only_problem({"ORDER_SYNC_ACCOUNTS_ACME_REFRESH_TOKEN": SECRET})
    assert str(problem).endswith("ORDER_SYNC_ACCOUNTS__<NAME>__<KEY>, with two underscores before and after")


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "sqlite:///", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    assert "must name a file" in str(only_problem({"ORDER_SYNC_DATABASE_URL": url}))
