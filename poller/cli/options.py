"""Options and arguments that several commands take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from connectors.marketplaces import BY_NAME, MARKETPLACES, NON_AMAZON
from poller.cli.failures import BAD_INPUT, Failure
from store.change_records import BadPosition, Position, read_position

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would happen.")]
Limit = Annotated[int, typer.Option(min=1, help="Print at most this many.")]

OfAccount = Annotated[
    str | None, typer.Option("--account", metavar="NAME", help="Needed only if several accounts match.")
]
Marketplace = Annotated[
    str, typer.Option("--marketplace", metavar="CODE", help="Country code (UK, DE, …) or marketplace id.")
]
From = Annotated[
    str, typer.Option("--from", metavar="DATE", help="First day or time (UTC), for example 2026-01-31.")
]
To = Annotated[str, typer.Option("--to", metavar="DATE", help="The day after the last one, or a time (UTC).")]

OrderId = Annotated[str, typer.Argument(metavar="ORDER_ID", help="Amazon's order id.")]
CustomerId = Annotated[int, typer.Argument(metavar="ID", help="The customer's id.")]


def marketplace_codes(text: str) -> tuple[str, ...]:
    """Return the marketplaces of a comma-separated list. Raises typer.BadParameter."""
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if BY_NAME.get(name, NON_AMAZON) is NON_AMAZON]
    if unknown or not names:
        known = ", ".join(sorted(place.code for place in MARKETPLACES))
        raise typer.BadParameter(f"--marketplaces takes country codes: {known}")
    codes = tuple(dict.fromkeys(BY_NAME[name].code for name in names))
    if len({BY_NAME[code].region for code in codes}) > 1:
        raise typer.BadParameter("--marketplaces must be of one region: a seller account has one")
    return codes


def position_of(text: str) -> Position:
    """Return the position that ``--since`` names."""
    with bad_position_refused():
        return read_position(text)


@contextmanager
def bad_position_refused() -> Iterator[None]:
    """Report a position from which nothing can continue as bad input."""
    try:
        yield
    except BadPosition as error:
        raise Failure(f"--since: {error}.", status=BAD_INPUT) from None
