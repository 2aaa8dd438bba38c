"""Problems of a configuration, as values.

Reading a configuration never raises: a running service keeps the last good one, and a person wants to
see all problems at once. Each problem therefore says what it stops.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

Severity = Literal["error", "warning"]
Stops = Literal["everything", "syncing", "account", "marketplace", "nothing"]
"""``syncing``: nothing can be read from Amazon, but stored data can still be shown."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One sentence about one problem; it never contains a secret.

    ``subject`` is the account's name if an account stops, the file (``marketplaces/uk.toml``) if a
    marketplace stops, otherwise empty; ``place`` is then that file's account, empty if it is unknown, and
    marketplace id, as far as the file can be read.
    """

    message: str
    stops: Stops
    subject: str = ""
    place: tuple[str, str] | None = None

    @property
    def severity(self) -> Severity:
        """``warning`` if it stops nothing."""
        return "warning" if self.stops == "nothing" else "error"

    def __str__(self) -> str:
        return self.message


def each_once(problems: Iterable[Problem]) -> Iterable[Problem]:
    """Return the problems without those that say the same, as both files of a conflict do."""
    return {problem.message: problem for problem in problems}.values()


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the known name that was probably meant, as the end of a sentence; else all known names."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(names)}" if names else "none is known"
