"""From written text to values: one small function for each kind of value.

Each takes anything and returns the value, or raises ValueError with the end of a sentence ("must be
..."). They word all messages about values, because pydantic's name Python types and quote the input,
which may be a secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from config.addresses import parse_host, plain_host, reach_of

KEY_BYTES = 32
MAX_SECRETS = 2


def text(value: object) -> str:
    """Return a text that is not blank, stripped."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


_EXAMPLE = re.compile(
    r"\u2026|^\.\.\.$|^<[^<>]*>$|^amzn1\.application-oa2-client\.(0123456789abcdef|\.\.\.)$"
)
"""What the documents show in place of a value."""


def not_an_example(value: object) -> object:
    """Return a value; refuse one that was copied from the documents."""
    if isinstance(value, str) and _EXAMPLE.search(value):
        raise ValueError("is the example from the documentation, not your own value")
    return value


def lowered(value: object) -> object:
    """Return a text in lower case, for words whose case does not matter."""
    return value.strip().lower() if isinstance(value, str) else value


def flag(value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false, without quotes")
    return value


def day(value: object) -> date:
    """Return a day (UTC), which TOML writes without quotes."""
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError("must be a date without a time and without quotes, like 2026-01-01")
    return value


def percent(value: object) -> Decimal:
    """Return an exact percentage."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number between 0 and 100, without quotes")
    exact = Decimal(value)
    if not exact.is_finite() or not 0 <= exact <= 100:
        raise ValueError("must be between 0 and 100")
    return exact


def table(value: object) -> dict[str, Any]:
    """Return a TOML table."""
    if not isinstance(value, dict):
        raise ValueError("must be a table of key = value lines")
    return value


def one_of(*words: str) -> Callable[[object], str]:
    """Return a check for one of these words, exactly."""

    def check(value: object) -> str:
        if value not in words:
            raise ValueError(f"must be {one_of_words(words)}")
        return str(value)

    return check


def one_of_words(words: tuple[str, ...]) -> str:
    """Return ``a, b or c``."""
    return " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]


def seconds(value: object) -> int:
    """Return a whole number of seconds, at most a day."""
    digits = str(value).strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 1 <= int(digits) <= 86_400):
        raise ValueError("must be a whole number of seconds between 1 and 86400")
    return int(digits)


def count(value: object) -> int:
    """Return a count from 1 to 100."""
    digits = str(value).strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 3 and 1 <= int(digits) <= 100):
        raise ValueError("must be a whole number between 1 and 100")
    return int(digits)


def number_or_off(most: int, unit: str) -> Callable[[object], int | None]:
    """Return a check for a whole number of ``unit`` from 1 to ``most``, or the word off (None)."""

    def check(value: object) -> int | None:
        digits = str(value).strip().lower()
        if value is None or digits == "off":
            return None
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 1 <= int(digits) <= most):
            raise ValueError(f"must be a whole number of {unit} between 1 and {most}, or off")
        return int(digits)

    return check


def switch(value: object) -> bool:
    """Return True for on, False for off."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in ("on", "off"):
        raise ValueError("must be on or off")
    return word == "on"


def words(value: object) -> tuple[str, ...]:
    """Split a comma-separated list; blank entries do not count."""
    if isinstance(value, tuple):
        return value
    return tuple(word.strip() for word in text(value).split(",") if word.strip())


def emails(value: object) -> tuple[str, ...]:
    """Split a comma-separated list of e-mail addresses."""
    addresses = words(value)
    for position, address in enumerate(addresses, start=1):
        if "@" not in address or any(character.isspace() for character in address):
            raise ValueError(f"must be e-mail addresses, separated by commas; number {position} is not one")
    return addresses


def secrets(value: object) -> tuple[str, ...]:
    """Return one secret, or two, separated by a comma, while one is being rotated."""
    given = words(value)
    if not 1 <= len(given) <= MAX_SECRETS:
        raise ValueError("must be one secret, or two, separated by a comma")
    return given


def keys(value: object) -> tuple[bytes, ...]:
    """Decode base64 keys, separated by commas."""
    encoded = words(value)
    if not encoded:
        raise ValueError("must be at least one key")
    return tuple(_key(key, position) for position, key in enumerate(encoded, start=1))


def _key(encoded: str, position: int) -> bytes:
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) != KEY_BYTES:
        has = f"; it has {len(decoded)} bytes" if decoded else ""
        raise ValueError(
            f"cannot be used: key {position} is not a valid base64-encoded {KEY_BYTES}-byte key{has} "
            "(`order-sync keys new` makes one)"
        )
    return decoded


def service_url(value: object) -> str:
    """Return an https URL; plain http only to this machine, because every request carries tokens."""
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


def webhook_url(value: str) -> str:
    """Return an address that may receive changes. Raises ValueError with the end of a sentence."""
    url = value.strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("must be an https URL") from None
    odd = any(not c.isprintable() or c in '\\ "<>' for c in url) or "%" in host
    if parts.scheme not in ("http", "https") or not host or port == 0 or odd:
        raise ValueError("must be an https URL")
    if parts.username is not None or parts.fragment:
        raise ValueError("must be an https URL without a user, a password or a fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("must be an https URL; plain http only to 127.0.0.1, ::1 or localhost")
    address = parse_host(host)
    if address is None:
        if re.search(r"(^|\.)(\d+|0x[\da-f]*)\.?$", plain_host(host), re.ASCII | re.IGNORECASE):
            raise ValueError("must write a number as four decimal ones")
    elif reach_of(address) == "forbidden":
        raise ValueError("must not name a link-local, multicast, unspecified or metadata address")
    return url


def host_names(value: object) -> frozenset[str]:
    """Split names of hosts at commas, in lower case."""
    if isinstance(value, frozenset):
        return value
    names = frozenset(name.strip().lower() for name in text(value).split(",") if name.strip())
    for name in sorted(names):
        if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", name, re.ASCII):
            raise ValueError(f"must be names of hosts, separated by commas; {name!r} is not one")
    return names


def alert_urls(value: object) -> tuple[str, ...]:
    """Split apprise URLs at white space or commas; a comma within one of them stays."""
    if isinstance(value, tuple):
        return value
    urls = tuple(url for url in _BETWEEN_URLS.split(text(value)) if url)
    for position, url in enumerate(urls, start=1):
        if not _SCHEME.match(url):
            raise ValueError(
                f"must be apprise URLs, like mailtos://user:password@mail.example.com?to=ann@example.com, "
                f"separated by white space; number {position} is not one"
            )
    return urls


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.")
_BETWEEN_URLS = re.compile(r"\s+|,+(?=\s|$|[A-Za-z][A-Za-z0-9+.-]*://)")


def listen(value: object) -> tuple[str, int] | None:
    """Return a host and a port to listen on, or None for the word off. Port 0: any free one."""
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


MIN_TOKEN_LENGTH = 32
"""Characters; `order-sync tokens add` makes longer ones."""


def api_token(value: object) -> str | None:
    """Return a token that cannot be guessed."""
    if value is None:
        return None
    token = text(value)
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"must be at least {MIN_TOKEN_LENGTH} printable ASCII characters without blanks; "
            "`openssl rand -hex 32` makes one"
        )
    return token


def public_url(value: object) -> str | None:
    """Return the address that people open: scheme and host alone, as browsers name an origin."""
    if value is None:
        return None
    url = text(value).rstrip("/")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("must be an address like https://orders.example") from None
    default = {"https": 443, "http": 80}.get(parts.scheme)
    name = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{name}" + ("" if port in (None, default) else f":{port}")
    if default is None or not host or origin != url.lower() or not url.isascii():
        raise ValueError("must be an address like https://orders.example, without a path")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("must begin with https://; plain http only for 127.0.0.1, ::1 or localhost")
    return origin


Network = IPv4Network | IPv6Network


def networks(value: object) -> tuple[Network, ...]:
    """Split addresses and networks at commas or white space."""
    if isinstance(value, tuple):
        return value
    try:
        return tuple(ip_network(part) for part in re.split(r"[\s,]+", text(value)) if part)
    except ValueError:
        raise ValueError("must be addresses or networks, like 10.0.0.7 or 10.0.0.0/24") from None


def is_loopback(host: str) -> bool:
    """Return True if a name or an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def database_url(value: object) -> str:
    """Return a SQLAlchemy URL of a database that the service supports."""
    url = text(value)
    if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValueError("must start with sqlite:/// or postgresql+psycopg://")
    if url.partition("?")[0] in ("sqlite:///", "sqlite:///:memory:") or "mode=memory" in url:
        raise ValueError("must name a file, like sqlite:///order-sync.db: one in memory is lost at the end")
    if url.startswith("postgresql") and not _POSTGRESQL_URL.fullmatch(url):
        raise ValueError(
            "must be like postgresql+psycopg://user:password@host:5432/orders; in user and password write "
            "%40 for @, %3A for :, %2F for /, %3F for ?, %23 for # and %25 for %"
        )
    return url


_POSTGRESQL_URL = re.compile(
    r"postgresql\+psycopg://([^@]*@)?(\[[^]@]*\]|[^][/:?@]*)(:[0-9]+)?(/[^?@]*)?(\?.*)?"
)


def shown(value: object) -> str:
    """Return a value that is no secret as TOML writes it; long ones are cut."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and abs(value) > 10**60:  # Python refuses to print much longer ones
        return "a very long number"
    written = str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False, default=str)
    return written if len(written) <= 60 else f"{written[:57]}..."


def complaints(error: ValidationError) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield pydantic's errors as the steps to a key and the end of a sentence. Contains no input.

    The end is ``is missing``, ``is unknown``, or one of this module's.
    """
    for each in error.errors(include_url=False, include_input=False):
        steps = tuple(str(step) for step in each["loc"])
        match each["type"]:
            case "missing":
                yield steps, "is missing"
            case "extra_forbidden":
                yield steps, "is unknown"
            case "value_error":
                yield steps, str(each["ctx"]["error"])
            case "default_factory_not_called":  # follows from another one
                continue
            case _:
                yield steps, "is not of the right kind"
