"""Options and arguments that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

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
