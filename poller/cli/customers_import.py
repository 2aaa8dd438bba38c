"""``order-sync customers import``: customers of other channels, from a CSV file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from poller.cli.failures import BAD_INPUT, FAULT, Failure
from poller.cli.options import DryRun, Yes
from poller.cli.output import put, say
from poller.cli.progress import progress
from poller.cli.session import actor, audited, confirm, opened, operator
from poller.customers.import_rules import ImportedLine, LineOutcome
from poller.customers.imports import COLUMNS, count_lines, import_lines, read_lines
from poller.errors import Refused
from poller.text import counted, plain
from store.audit_records import AuditEntry, Records

SUMMARY: dict[LineOutcome, str] = {
    "new": "new",
    "changed": "changed",
    "unchanged": "unchanged",
    "merged": "skipped, merged into others",
    "refused": "refused",
}


FILE = f"UTF-8, with a header line. Columns: {', '.join(COLUMNS)}."


def import_customers(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help=FILE)],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Import customers of other channels from CSV, so that their e-mails match.

    A line belongs to an existing customer by external_id, else by e-mail; with customer_id it edits that one.
    Invalid lines are reported and skipped; the exit status is then 1. Importing a file again changes nothing.
    """
    try:
        total = count_lines(file)
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}.", status=BAD_INPUT) from None
    except Refused as refused:
        raise Failure(f"{file}: {refused}", status=BAD_INPUT) from None
    with opened(create=True) as service:
        ignored: list[str] = []
        lines = read_lines(file, service.businesses(), service.shared_emails, ignored.extend)
        counts: Counter[LineOutcome] = Counter()
        if not dry_run:
            confirm(f"import {counted(total, 'line')} of {file}?", yes=yes)
        tried = Records("customers", count=total, selection={"dry_run": "yes"} if dry_run else {})
        audited(service.store, AuditEntry(actor(), "imported", records=tried))
        try:
            with progress("importing" if not dry_run else "checking", total, 10_000) as report:
                for outcome in import_lines(service.store, lines, operator(), dry_run=dry_run, tell=report):
                    counts[outcome.kind] += 1
                    _print(outcome, dry_run)
        except Refused as refused:
            raise Failure(f"{file}: {refused}", status=BAD_INPUT) from None
    if ignored:
        say(f"left out, as an import does not set them: {', '.join(ignored)}")
    say(f"{'would be: ' if dry_run else ''}{_summary(counts)}")
    if counts["refused"]:
        raise typer.Exit(FAULT)


def _summary(counts: Counter[LineOutcome]) -> str:
    parts = [f"{counts[kind]:,} {words}" for kind, words in SUMMARY.items() if counts[kind]]
    return ", ".join(parts) or "the file has no line below its header"


def _print(outcome: ImportedLine, dry_run: bool) -> None:
    """Print every line of a dry run on standard output; otherwise only refused lines, on standard error."""
    if not dry_run:
        if outcome.kind == "refused":
            say(plain(f"{outcome.place}: refused: {outcome.text}"))
        return
    customer = f" customer {outcome.customer_id}" if outcome.customer_id > 0 else ""
    text = f": {outcome.text}" if outcome.text else ""
    put(plain(f"{outcome.place}: {outcome.kind}{customer}{text}"))
