"""Log lines: two shapes, one formatter, and nothing in them that belongs to a buyer or opens a door."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
import structlog

from config.logging import REDACTED, configure_logging, redact


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


Captured = pytest.CaptureFixture[str]


def lines(capsys: Captured) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_our_lines_and_the_standard_library_s_have_one_shape(capsys: Captured) -> None:
    configure_logging("json", "info")
    structlog.get_logger("ours").info("page stored", account="acme", orders=100)
    logging.getLogger("theirs").warning("page %s", 7, extra={"account": "acme"})
    ours, theirs = lines(capsys)
    for line in (ours, theirs):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert ours == {
        "event": "page stored",
        "account": "acme",
        "orders": 100,
        "level": "info",
        "logger": "ours",
    }
    assert theirs == {"event": "page 7", "account": "acme", "level": "warning", "logger": "theirs"}


def test_the_console_s_lines_are_for_people(capsys: Captured) -> None:
    configure_logging("console", "info")
    structlog.get_logger("ours").info("page stored", account="acme", buyer_email="a@b.example")
    (line,) = capsys.readouterr().err.splitlines()
    assert "page stored" in line
    assert "account=acme" in line
    assert "a@b.example" not in line


@pytest.mark.parametrize(("terminal", "is_json"), [(True, False), (False, True)])
def test_without_a_format_a_terminal_decides(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, terminal: bool, is_json: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    configure_logging(None, "info")
    structlog.get_logger().info("hello")
    assert capsys.readouterr().err.startswith("{") is is_json


def test_what_is_below_the_level_is_left_out(capsys: Captured) -> None:
    configure_logging("json", "warning")
    structlog.get_logger("ours").info("quiet")
    logging.getLogger("theirs").info("quiet")
    structlog.get_logger("ours").warning("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


@pytest.mark.parametrize(
    "name",
    [
        "httpx",
        "httpcore.http11",
        "urllib3.connectionpool",
        "apprise",
        "sp_api.base.client",
        "apscheduler.scheduler",
    ],
)
def test_libraries_chatter_is_left_out_even_when_a_library_sets_its_own_level(
    capsys: Captured, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logging("json", "debug")
    monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)
    logging.getLogger(name).info("GET https://host/path?token=x")
    logging.getLogger(name).warning("trouble")
    assert [line["event"] for line in lines(capsys)] == ["trouble"]


def test_configuring_again_replaces_and_does_not_double(capsys: Captured) -> None:
    configure_logging("console", "info")
    configure_logging("json", "info")
    logging.getLogger("theirs").warning("once")
    assert len(lines(capsys)) == 1


def test_lines_go_to_what_is_standard_error_at_that_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, later = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    configure_logging("json", "info")
    logging.getLogger("theirs").warning("there")
    first.close()
    monkeypatch.setattr(sys, "stderr", later)
    logging.getLogger("theirs").warning("here")
    assert json.loads(later.getvalue())["event"] == "here"


@pytest.mark.parametrize("format", ["json", "console"])
def test_an_exception_is_logged_with_its_place_and_class_and_nothing_of_what_it_says(
    capsys: Captured, format: Literal["json", "console"]
) -> None:
    configure_logging(format, "info")
    local = " ".join(("jane", "doe"))
    try:
        try:
            raise KeyError(local)
        except KeyError as error:
            raise RuntimeError(f"no such name: {local}") from error
    except RuntimeError:
        structlog.get_logger("ours").exception("failed")
        logging.getLogger("theirs").exception("failed")
    text = capsys.readouterr().err
    assert text.count("builtins.RuntimeError") == text.count("builtins.KeyError") == 2
    assert text.index("builtins.KeyError") < text.index("builtins.RuntimeError")
    assert "test_an_exception_is_logged" in text
    assert local not in text


@pytest.mark.parametrize(
    "key",
    [
        "access_token",
        "refresh_token",
        "page_token",
        "paginationToken",
        "lwa_client_secret",
        "password",
        "Authorization",
        "encryption_key",
        "database_url",
        "headers",
        "payload",
        "name",
        "buyer_name",
        "email",
        "email_1",
        "buyer_email",
        "emails",
        "e_mail",
        "phone",
        "delivery_phone",
        "address",
        "delivery_address",
        "line1",
        "postal_code",
        "gift_message",
        "company",
        "delivery_instructions",
    ],
)
def test_the_value_of_a_suspicious_key_is_redacted(key: str) -> None:
    assert redact(None, "info", {"event": "x", key: "value"}) == {"event": "x", key: REDACTED}
    assert redact(None, "info", {"event": "x", "a": [{"b": {key: "value"}}]}) == {
        "event": "x",
        "a": [{"b": {key: REDACTED}}],
    }


def test_what_an_operator_needs_stays() -> None:
    line = {
        "event": "window done",
        "account": "acme",
        "marketplace": "UK",
        "operation": "searchOrders",
        "order_id": "026-1234567-1234567",
        "tokens": 19.5,
        "token_expired": True,
        "page_token": None,
        "logger": "poller.sync.run",
        "file": "marketplaces/uk.toml",
        "until": datetime(2026, 1, 1, tzinfo=UTC),
    }
    assert redact(None, "info", dict(line)) == line | {"until": "2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    "secret",
    [
        "Atza|IwEBIN3x-_.~",
        "Atzr|IwEBIN3x",
        "amzn1.oa2-cs.v1.0a1b2c",
        "k2j3h4@marketplace.amazon.co.uk",
        "user:hunter2",
    ],
)
def test_a_secret_inside_a_text_is_redacted(secret: str) -> None:
    text = f"got postgresql://{secret}@db/x now" if ":" in secret else f"got {secret} now"
    for value in (text, RuntimeError(text), [text]):
        cleaned = redact(None, "info", {"event": "x", "detail": value})["detail"]
        assert secret not in str(cleaned)
        assert REDACTED in str(cleaned)
        assert "now" in str(cleaned)
