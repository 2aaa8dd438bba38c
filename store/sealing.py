"""Sealing of buyer data at rest, and the keyed hashes that find it.

A sealed value is ``version byte · key id (4) · nonce (12) · AES-256-GCM ciphertext``. Its place (table, row,
column) is its associated data, so a value moved to another row does not open. The key id lets old keys open
old values during a rotation.

E-mails and the words of names are found by HMAC-SHA-256 under a lookup key, which is made once and stored
sealed. A rotation does not change it: with another key no customer would match again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from store.records import normal_email

_VERSION = b"\x01"
_KEY_ID = slice(1, 5)
_NONCE = slice(5, 17)

T = TypeVar("T")


class SealError(Exception):
    """A sealed value does not open: its key is not configured, or it was damaged or moved."""


class UnknownKey(SealError):
    """The value was sealed with a key that is not configured."""


def new_key() -> str:
    """Return a new random key in the form of the setting."""
    return base64.b64encode(os.urandom(32)).decode()


def key_id(key: bytes) -> bytes:
    """Return four bytes that name a key and reveal nothing about it."""
    return hashlib.sha256(b"key id" + key).digest()[:4]


def key_id_of(sealed: bytes) -> bytes:
    """Return the id of the key that a value was sealed with."""
    return sealed[_KEY_ID]


class Sealer:
    """Seals with the first key, opens with any. Thread-safe; its ``repr`` shows no key."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("no encryption key is configured")
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self.current = key_id(keys[0])
        """The id of the key that seals."""
        self._prefix = _VERSION + self.current
        self._cipher = self._ciphers[self.current]

    def seal(self, plain: bytes, place: str) -> bytes:
        """Seal a value for its place."""
        nonce = os.urandom(12)
        return self._prefix + nonce + self._cipher.encrypt(nonce, plain, place.encode())

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """Return the ids of all keys in their configured order."""
        return tuple(self._ciphers)

    def is_old(self, sealed: bytes) -> bool:
        """Return True if a value was sealed with another key than the first."""
        return sealed[_KEY_ID] != self.current

    def holds_key_of(self, sealed: bytes) -> bool:
        """Return True if a value was sealed with one of the configured keys."""
        return sealed[_KEY_ID] in self._ciphers

    def open(self, sealed: bytes, place: str) -> bytes:
        """Open a value at its place. Raises SealError."""
        cipher = self._ciphers.get(sealed[_KEY_ID])
        if cipher is None or sealed[:1] != _VERSION:
            raise UnknownKey(f"{place}: sealed with a key that is not in ORDER_SYNC_ENCRYPTION_KEY")
        try:
            return cipher.decrypt(sealed[_NONCE], sealed[17:], place.encode())
        except (InvalidTag, ValueError):  # ValueError if even the nonce is cut short
            raise SealError(f"{place}: the sealed value is damaged, or was moved from another row") from None

    def try_open(self, sealed: bytes, place: str) -> bytes | None:
        """Open a value at its place; None if it does not open."""
        try:
            return self.open(sealed, place)
        except SealError:
            return None

    def seal_json(self, value: Any, place: str) -> bytes:
        """Seal a group of values as one value."""
        return self.seal(msgspec.json.encode(value), place)

    def open_as(self, kind: type[T], sealed: bytes, place: str) -> T:
        """Open a group sealed by ``seal_json`` as this type, ignoring unknown members. Raises SealError."""
        return msgspec.json.decode(self.open(sealed, place), type=kind)

    def open_json(self, sealed: bytes, place: str) -> Any:
        """Open a group sealed by ``seal_json``. Raises SealError."""
        return msgspec.json.decode(self.open(sealed, place))


_WORD = re.compile(r"\w+", re.UNICODE)


class Lookup:
    """Keyed hashes that find sealed values. Each includes the business, so none matches across businesses."""

    def __init__(self, key: bytes) -> None:
        self._mac = hmac.new(key, digestmod="sha256")

    def _digest(self, kind: str, business: str, value: str) -> bytes:
        mac = self._mac.copy()
        mac.update(f"{kind}\0{business}\0{value}".encode())
        return mac.digest()

    def email(self, business: str, email: str) -> bytes:
        """Return 16 bytes that stand for an e-mail of a business, normalised as R15 says."""
        return self._digest("email", business, normal_email(email))[:16]

    def folded_email(self, business: str, email: str) -> bytes:
        """Return what stood for an e-mail while ß counted as ss; of most it is the same."""
        return self._digest("email", business, normal_email(email).casefold())[:16]

    def words(self, business: str, text: str) -> set[int]:
        """Return a 63-bit number for each word of a name, ignoring accents and case."""
        plain = text.casefold()
        if not plain.isascii():
            plain = unicodedata.normalize("NFKD", plain)
            plain = "".join(c for c in plain if not unicodedata.combining(c))
        return {
            int.from_bytes(self._digest("word", business, word)[:8], "big") >> 1
            for word in _WORD.findall(plain)
        }

    def fingerprint(self, value: str) -> str:
        """Return a short stand-in for a credential that shows if it changes."""
        return self._digest("credential", "", value)[:12].hex()
