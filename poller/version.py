"""Which version of the program this is."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version


@lru_cache(maxsize=1)
def program_version() -> str:
    """As the installed package says."""
    try:
        return version("amazon-order-sync")
    except PackageNotFoundError:  # run from a source tree
        return "unreleased"
