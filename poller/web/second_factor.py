"""One-time codes of an authenticator app (TOTP, RFC 6238), and recovery codes for a lost device."""

from __future__ import annotations

import hmac
import io
import re
import secrets
from collections.abc import Iterator
from datetime import datetime

import pyotp
import segno

from poller.web.tokens import digest

ISSUER = "Amazon order sync"
"""What authenticator apps show beside the user's name."""

STEP_SECONDS = 30
STEPS_ASTRAY = 1
"""How many steps the clock of a device may be off, in either direction."""

RECOVERY_CODES = 10

_CODE = re.compile(r"[0-9]{6}")
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without characters that look alike."""


def new_secret() -> str:
    """Return a new secret with 160 random bits, as apps take it."""
    return pyotp.random_base32()


def uri_of(secret: str, name: str) -> str:
    """Return the secret as the address that authenticator apps read."""
    return pyotp.TOTP(secret, interval=STEP_SECONDS).provisioning_uri(name=name, issuer_name=ISSUER)


def picture_of(uri: str) -> str:
    """Return the address as a QR code in SVG, without styles or scripts."""
    stream = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(
        stream, kind="svg", xmldecl=False, omitsize=True, border=4, light="#fff", svgclass="", lineclass=""
    )
    return stream.getvalue().decode().strip()


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step whose code this is; None if it is none near ``now``."""
    typed = code.replace(" ", "")
    if not _CODE.fullmatch(typed):
        return None
    totp, found = pyotp.TOTP(secret, interval=STEP_SECONDS), None
    for step in _steps(now):
        if hmac.compare_digest(totp.generate_otp(step), typed):
            found = step
    return found


def _steps(now: datetime) -> Iterator[int]:
    step = int(now.timestamp()) // STEP_SECONDS
    yield from range(step - STEPS_ASTRAY, step + STEPS_ASTRAY + 1)


def new_recovery_codes() -> list[str]:
    """Return ten new recovery codes with 59 random bits each: ``abcd-efgh-jkmn``."""
    return [
        "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(3)) for _ in range(10)
    ]


def recovery_digest(code: str) -> bytes:
    """Return what the database keeps of a recovery code, however it is typed."""
    return digest(re.sub(r"[^a-z0-9]", "", code.lower()))
