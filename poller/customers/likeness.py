"""What makes two customers look like one: the forms in which names, phones and companies are compared.

A likeness is a suggestion to a person, nothing more: it never matches an order, and never merges (R18, R56).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal

Reason = Literal["promoted", "name_and_postcode", "phone", "company"]

REASONS: tuple[Reason, ...] = ("promoted", "name_and_postcode", "phone", "company")

WEIGHTS: Mapping[Reason, float] = {
    "promoted": 0.95,
    "name_and_postcode": 0.8,
    "phone": 0.7,
    "company": 0.4,
}
"""How much each speaks for one and the same person, from 0 to 1."""

FEW = 6
"""Up to this number of records with a shared value every pair is suggested; of more, each with the first."""

COMMON = 50
"""What more records share is a switchboard's, a forwarder's or a chain's, and says nothing about a person."""

_SHORTEST_PHONE = 6
_SAME_ENDING = 9
_LEGAL_FORMS = frozenset(
    {"ag", "bv", "co", "company", "corp", "gmbh", "inc", "kg", "limited", "llc", "llp", "ltd", "nv", "plc"}
    | {"sa", "sarl", "sas", "spa", "srl", "ug"}
)
_WORD = re.compile(r"\w+")
_EXTENSION = re.compile(r"(?:ext\.?|extension|x)\s*([0-9]+)\s*$", re.IGNORECASE)


def score(reasons: Sequence[Reason]) -> float:
    """From 0 to 1; several reasons speak louder than the loudest of them."""
    doubt = 1.0
    for reason in reasons:
        doubt *= 1 - WEIGHTS[reason]
    return round(1 - doubt, 3)


def _words(text: str) -> list[str]:
    """The words of a text, without case and accents."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in text if not unicodedata.combining(c))
    return _WORD.findall(text.casefold())


def name_and_postcode(name: str | None, postal_code: str | None, country: str | None) -> str | None:
    """Return a key that equal names, their words in any order, at equal postcodes share."""
    if not name or not postal_code:
        return None
    words, code = sorted(_words(name)), "".join(_words(postal_code))
    return f"{' '.join(words)}|{code}|{(country or '').casefold()}" if words and code else None


def phone(number: str | None) -> str | None:
    """The last digits, which are the same with and without a country code; an extension is part of it.

    Amazon gives many buyers one number with different extensions.
    """
    if not number:
        return None
    extension = _EXTENSION.search(number)
    main = number[: extension.start()] if extension else number
    digits = "".join(c for c in main if c.isdecimal())
    if len(digits) < _SHORTEST_PHONE:
        return None
    return f"{digits.lstrip('0')[-_SAME_ENDING:]}|{extension[1] if extension else ''}"


def company(name: str | None) -> str | None:
    """The same for a company with and without its legal form."""
    words = _words(name) if name else []
    telling = [word for word in words if word not in _LEGAL_FORMS]
    return " ".join(telling or words) or None


def pairs(alike: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Which of the records that share something are suggested, by ascending id; none when too many do."""
    if len(alike) > COMMON:
        return iter(())
    if len(alike) <= FEW:
        return combinations(alike, 2)
    return ((alike[0], other) for other in alike[1:])
