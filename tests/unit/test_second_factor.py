"""One-time codes by RFC 6238, recovery codes, and the QR code that apps read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pyotp

from poller.web import second_factor
from tests.harness import NOON

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
"""That of RFC 6238, appendix B, in base 32."""


def test_codes_are_those_of_the_standard() -> None:
    at = datetime.fromtimestamp(59, UTC)
    assert second_factor.step_of(SECRET, "287082", at) == 1
    assert second_factor.step_of(SECRET, "287 082", at) == 1
    assert second_factor.step_of(SECRET, "287083", at) is None


def test_a_clock_may_be_off_by_a_step() -> None:
    code = pyotp.TOTP(SECRET).at(NOON)
    steps = [second_factor.step_of(SECRET, code, NOON + timedelta(seconds=s)) for s in (-60, -30, 0, 30, 60)]
    assert steps == [None, *[int(NOON.timestamp()) // 30] * 3, None]


def test_what_is_no_code_is_none() -> None:
    for text in ("", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "12345\n6"):
        assert second_factor.step_of(SECRET, text, NOON) is None


def test_recovery_codes_are_ten_and_may_be_typed_freely() -> None:
    codes = second_factor.new_recovery_codes()
    assert len(set(codes)) == second_factor.RECOVERY_CODES
    assert all(re.fullmatch(r"(\w{4}-){2}\w{4}", code) for code in codes)
    digest = second_factor.recovery_digest(codes[0])
    assert second_factor.recovery_digest(f" {codes[0].upper().replace('-', ' ')}") == digest
    assert second_factor.recovery_digest(codes[1]) != digest


def test_the_picture_has_neither_styles_nor_scripts() -> None:
    uri = second_factor.uri_of(SECRET, "ann")
    assert uri.startswith("otpauth://totp/Amazon%20order%20sync:ann?secret=")
    picture = second_factor.picture_of(uri)
    assert picture.startswith("<svg ")
    assert "viewBox" in picture, "it is shown whole at every size"
    assert "style" not in picture
    assert "script" not in picture
