"""The forms in which names, phones and companies of two customers are compared, and the score of a pair.

A likeness is only a suggestion to a person: it never matches an order and never merges (R18, R56).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal

from poller.customers.countries import country_code

Reason = Literal["promoted", "name_and_postcode", "phone", "company", "older_email"]

REASONS: tuple[Reason, ...] = ("promoted", "name_and_postcode", "phone", "company", "older_email")

WEIGHTS: Mapping[Reason, float] = {
    "promoted": 0.95,
    "name_and_postcode": 0.8,
    "phone": 0.7,
    "company": 0.4,
    "older_email": 0.95,
}
"""How likely each makes it that two records are of one person, from 0 to 1."""

WORDS: Mapping[Reason, str] = {
    "promoted": "an order moved from one to the other (R22)",
    "name_and_postcode": "same name and postcode",
    "phone": "same phone",
    "company": "same company",
    "older_email": "an e-mail of one is an older one of the other",
}

MAX_ALL_PAIRS = 6
"""Up to this many records that share a form, every pair is suggested; of more, each with the first."""

MAX_ALIKE = 50
"""What more records share belongs to a switchboard, a forwarder or a chain, not to a person."""

_SHORTEST_PHONE = 6
_SAME_ENDING = 9
_LEGAL_FORMS = frozenset(
    {"ag", "bv", "co", "company", "corp", "gmbh", "inc", "kg", "limited", "llc", "llp", "ltd", "nv", "plc"}
    | {"sa", "sarl", "sas", "spa", "srl", "ug"}
)
_WORD = re.compile(r"\w+")
_EXTENSION = re.compile(r"(?:ext\.?|extension|x)\s*([0-9]+)\s*$", re.IGNORECASE)


def score(reasons: Sequence[Reason]) -> float:
    """Return a score from 0 to 1; several reasons score more than the best of them."""
    doubt = 1.0
    for reason in reasons:
        doubt *= 1 - WEIGHTS[reason]
    return round(1 - doubt, 3)


def _words(text: str) -> list[str]:
    """Return the words of a text, without case and accents."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in text if not unicodedata.combining(c))
    return _WORD.findall(text.casefold())


def name_and_postcode(name: str | None, postal_code: str | None, country: str | None) -> str | None:
    """Return one form for equal names, their words in any order, at the same postcode."""
    if not name or not postal_code:
        return None
    words, code = sorted(_words(name)), "".join(_words(postal_code))
    return f"{' '.join(words)}|{code}|{country_code(country or '')}" if words and code else None


def phone(number: str | None) -> str | None:
    """Return the last digits, which a country code does not change, with the extension.

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
    """Return one form for a company with and without its legal form."""
    words = _words(name) if name else []
    significant = [word for word in words if word not in _LEGAL_FORMS]
    return " ".join(significant or words) or None


def pairs(alike: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the pairs to suggest of records that share a form, by ascending ID; none if too many share it."""
    if len(alike) > MAX_ALIKE:
        return iter(())
    if len(alike) <= MAX_ALL_PAIRS:
        return combinations(alike, 2)
    return ((alike[0], other) for other in alike[1:])
