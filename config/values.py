"""From what was written to what is meant: one small function a kind of value.

Each takes anything and returns the value, or raises ValueError with the end of a sentence ("must be
..."). They carry all words about values that a user can read, because pydantic's own speak of Python
types and quote the input, which may be a secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

KEY_BYTES = 32
MOST_SECRETS = 2


def text(value: object) -> str:
    """A text that is not blank, stripped."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


def lowered(value: object) -> object:
    """A text in lower case; of words whose case says nothing."""
    return value.strip().lower() if isinstance(value, str) else value


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false, without quotes")
    return value


def day(value: object) -> date:
    """A day (UTC), which TOML writes without quotes."""
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError("must be a date without a time and without quotes, like 2026-01-01")
    return value


def percent(value: object) -> Decimal:
    """An exact percentage."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number between 0 and 100, without quotes")
    exact = Decimal(value)
    if not exact.is_finite() or not 0 <= exact <= 100:
        raise ValueError("must be between 0 and 100")
    return exact


def table(value: object) -> dict[str, Any]:
    """A TOML table."""
    if not isinstance(value, dict):
        raise ValueError("must be a table of key = value lines")
    return value


def one_of(*words: str) -> Callable[[object], str]:
    """One of the given words, exactly."""

    def check(value: object) -> str:
        if value not in words:
            raise ValueError(f"must be {one_of_words(words)}")
        return str(value)

    return check


def one_of_words(words: tuple[str, ...]) -> str:
    """``a, b or c``."""
    return " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]


def seconds(value: object) -> int:
    """A whole number of seconds, a day at most."""
    digits = str(value).strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 1 <= int(digits) <= 86_400):
        raise ValueError("must be a whole number of seconds between 1 and 86400")
    return int(digits)


def many(value: object) -> int:
    """A whole number of things that one process has at once."""
    digits = str(value).strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 3 and 1 <= int(digits) <= 100):
        raise ValueError("must be a whole number between 1 and 100")
    return int(digits)


def number_or_off(most: int, unit: str) -> Callable[[object], int | None]:
    """A whole number of ``unit`` from 1 to ``most``, or the word off (None)."""

    def check(value: object) -> int | None:
        digits = str(value).strip().lower()
        if value is None or digits == "off":
            return None
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 1 <= int(digits) <= most):
            raise ValueError(f"must be a whole number of {unit} between 1 and {most}, or off")
        return int(digits)

    return check


def words(value: object) -> tuple[str, ...]:
    """A comma-separated list; blank entries do not count."""
    if isinstance(value, tuple):
        return value
    return tuple(word.strip() for word in text(value).split(",") if word.strip())


def emails(value: object) -> tuple[str, ...]:
    """A comma-separated list of addresses."""
    addresses = words(value)
    for position, address in enumerate(addresses, start=1):
        if "@" not in address or any(character.isspace() for character in address):
            raise ValueError(f"must be e-mail addresses with commas between; number {position} is none")
    return addresses


def secrets(value: object) -> tuple[str, ...]:
    """One secret, or two with a comma between while one is being rotated."""
    found = words(value)
    if not 1 <= len(found) <= MOST_SECRETS:
        raise ValueError("must be one secret, or two with a comma between")
    return found


def keys(value: object) -> tuple[bytes, ...]:
    """Base64 keys with commas between, decoded."""
    found = words(value)
    if not found:
        raise ValueError("must be at least one key")
    return tuple(_key(encoded, position) for position, encoded in enumerate(found, start=1))


def _key(encoded: str, position: int) -> bytes:
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(
            f"must be keys of {KEY_BYTES} bytes in base64, with commas between; number {position} is none "
            "(`order-sync keys new` makes one)"
        ) from None
    if len(decoded) != KEY_BYTES:
        raise ValueError(
            f"must be keys of {KEY_BYTES} bytes in base64; number {position} has {len(decoded)} bytes "
            "(`order-sync keys new` makes one)"
        )
    return decoded


def service_url(value: object) -> str:
    """An https URL; plain http only to this machine, because tokens travel in every request."""
    url = text(value)
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        odd = parts.port == 0 or parts.username is not None or any(c in url for c in "\\?#@ \t")
    except ValueError:
        raise ValueError("must be an https URL") from None
    if odd or not host or parts.scheme not in ("https", "http"):
        raise ValueError("must be an https URL without a user, a query or a fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("must be an https URL; plain http only to 127.0.0.1, ::1 or localhost")
    return url.rstrip("/")


def alert_urls(value: object) -> tuple[str, ...]:
    """Apprise's URLs with white space between, or commas; a comma within one of them stays."""
    if isinstance(value, tuple):
        return value
    urls = tuple(url for url in _BETWEEN_URLS.split(text(value)) if url)
    for position, url in enumerate(urls, start=1):
        if not _SCHEME.match(url):
            raise ValueError(
                f"must be URLs as apprise has them, with white space between; number {position} is none"
            )
    return urls


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.")
_BETWEEN_URLS = re.compile(r"\s+|,+(?=\s|$|[A-Za-z][A-Za-z0-9+.-]*://)")


def listen(value: object) -> tuple[str, int] | None:
    """A host and a port to listen on, or the word off (None). Port 0 is any that is free."""
    if value is None or isinstance(value, tuple):
        return value
    written = text(value)
    if written.lower() == "off":
        return None
    host, colon, port = written.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("must have an IPv6 address in brackets, like [::1]:8000")
    if not (colon and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
        raise ValueError("must be a host and a port, like 127.0.0.1:8000, or off")
    if any(c.isspace() or c in "/@[]" for c in host):
        raise ValueError("must be a host and a port, like 127.0.0.1:8000, or off")
    return host, int(port)


SHORTEST_TOKEN = 32
"""Characters; what `order-sync tokens add` makes has more."""


def api_token(value: object) -> str | None:
    """A token that nobody can guess."""
    if value is None:
        return None
    token = text(value)
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"must be at least {SHORTEST_TOKEN} printable ASCII characters without blanks; "
            "`openssl rand -hex 32` makes one"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def database_url(value: object) -> str:
    """A SQLAlchemy URL of one of the two databases that the service runs on."""
    url = text(value)
    if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValueError("must start with sqlite:/// or postgresql+psycopg://")
    if url.partition("?")[0] in ("sqlite:///", "sqlite:///:memory:") or "mode=memory" in url:
        raise ValueError("must name a file, like sqlite:///order-sync.db: one in memory is gone at the end")
    return url


def shown(value: object) -> str:
    """A value that is no secret as it would be written in TOML; long ones are cut."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and abs(value) > 10**60:  # Python refuses to write out much longer ones
        return "a very long number"
    written = str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False, default=str)
    return written if len(written) <= 60 else f"{written[:57]}..."


def complaints(error: ValidationError) -> Iterator[tuple[tuple[str, ...], str]]:
    """What pydantic found, as pairs of the steps to a key and the end of a sentence. Holds no input.

    The end is ``is missing``, ``is unknown``, or one of this module's own.
    """
    for found in error.errors(include_url=False, include_input=False):
        steps = tuple(str(step) for step in found["loc"])
        match found["type"]:
            case "missing":
                yield steps, "is missing"
            case "extra_forbidden":
                yield steps, "is unknown"
            case "value_error":
                yield steps, str(found["ctx"]["error"])
            case "default_factory_not_called":  # follows from another one
                continue
            case _:
                yield steps, "is not of the right kind"
