"""The command line ``order-sync``: the table of its commands, and what becomes of everything that goes wrong.

Only the module of the command that was asked for is imported; the others lend their names and one
sentence each, so that ``order-sync --help`` answers at once. Data goes to standard output, everything
else to standard error. Whatever happens, a person reads one sentence and never a traceback: 2 is bad
input, 1 a fault, 75 means that Amazon's request budget is used up for now.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from poller.cli.failures import FAULT, INTERRUPTED, Failure, drop_output, sentences_of, show_traceback
from poller.cli.output import say
from poller.version import program_version

COMMANDS: tuple[tuple[str, str, str, str], ...] = (
    ("demo", "poller.cli.demo", "demo", "The whole journey against the simulator, on a throw-away database."),
    ("run", "poller.cli.run", "run", "The service: keeps orders and customers up to date until stopped."),
    ("worker", "poller.cli.worker", "worker", "Carries out what schedulers have queued, on PostgreSQL."),
    ("sync", "poller.cli.sync", "sync", "One pass now, over everything that is due."),
    ("status", "poller.cli.status", "status", "How fresh the data is, what is missing, what comes next."),
    ("backfill", "poller.cli.backfill", "app", "History of a given stretch: plan, start, pause, resume."),
    ("verify", "poller.cli.verify", "verify", "Is anything missing? Amazon's own list against the database."),
    ("orders", "poller.cli.orders", "app", "List, show and explain orders; fetch one again."),
    ("customers", "poller.cli.customers", "app", "List, show, create, edit, merge and import customers."),
    (
        "export",
        "poller.cli.export",
        "app",
        "Orders or customers as JSON Lines or CSV, whole or what changed.",
    ),
    ("quarantine", "poller.cli.quarantine", "app", "Orders that could not be understood."),
    ("privacy", "poller.cli.privacy", "app", "Erase buyer data that is due, or a person; show all of one."),
    ("webhooks", "poller.cli.webhooks", "app", "Tell other programs of changes, by signed requests."),
    ("alerts", "poller.cli.alerts", "app", "Try whether alerts arrive."),
    ("config", "poller.cli.config", "app", "Check the configuration, also against Amazon."),
    ("db", "poller.cli.db", "app", "Create, upgrade, check and move the database."),
    ("keys", "poller.cli.keys", "app", "Make encryption keys; seal everything with the first one."),
    ("tokens", "poller.cli.tokens", "app", "Who may use the HTTP API, and for what."),
    ("users", "poller.cli.users", "app", "Who may sign in to the console, and for what."),
    (
        "simulator",
        "poller.cli.simulator",
        "simulator",
        "A Selling Partner API on this machine, to try things on.",
    ),
    ("health", "poller.cli.health", "health", "Exit 0 while a service runs on this machine, else 1."),
)
"""Name, module, what there is the command (a function) or the group (a Typer), and what it does."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Carry out one command and exit with its status. ``arguments`` default to the process's."""
    sys.exit(carry_out(sys.argv[1:] if arguments is None else arguments))


def carry_out(arguments: Sequence[str]) -> int:
    """One command, from its arguments to its exit status; says what went wrong."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file must be readable elsewhere, whatever the locale here
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        given = list(arguments) or ["--help"]
        status = _application(given)(given, prog_name="order-sync", standalone_mode=False)
        sys.stdout.flush()
        return int(status or 0)
    except Failure as failure:
        for sentence in failure.sentences:
            say(f"error: {sentence}")
        return failure.status
    except typer.TyperException as error:
        say(f"error: {_in_one_line(error)}")
        return error.exit_code
    except BrokenPipeError:  # whoever read our output has had enough
        drop_output()
        return FAULT
    except (KeyboardInterrupt, typer.Abort):
        say("stopped")
        return INTERRUPTED
    except Exception as error:
        show_traceback(error)
        status, *sentences = sentences_of(error)
        for sentence in sentences:
            say(f"error: {sentence}")
        return status


_PLAINER = (
    ("Value error, ", ""),
    ("Input should be a valid integer, unable to parse string as an integer", "it must be a whole number"),
    ("Input should be greater than or equal to", "it must be at least"),
    ("Input should be less than or equal to", "it must be at most"),
    ("Input should be", "it must be"),
)
"""Words of the library that takes options apart, and ours for them."""


def _in_one_line(error: typer.TyperException) -> str:
    sentence = " ".join(error.format_message().split())
    for theirs, ours in _PLAINER:
        sentence = sentence.replace(theirs, ours)
    context = getattr(error, "ctx", None)
    return sentence if context is None else f"{sentence} (see `{context.command_path} --help`)"


def _application(arguments: Sequence[str]) -> typer.Typer:
    """The command line with one command that works: the one that is named first."""
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    application = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        help="Keeps an Amazon seller's orders and customers in the seller's own database.",
        epilog="Settings are environment variables named ORDER_SYNC_…; `config check` judges them.",
    )
    application.callback()(_root)
    for name, module, attribute, does in COMMANDS:
        if name != wanted:
            application.command(name, help=does)(_elsewhere)
            continue
        found: Any = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            for command in found.registered_commands:
                command.help = _in_paragraphs(command.callback)
            application.add_typer(found, name=name, help=does)
        else:
            application.command(name, help=_in_paragraphs(found))(found)
    return application


def _in_paragraphs(function: Any) -> str:
    """What a command's docstring says, each paragraph on one line: the terminal's width breaks it."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _elsewhere() -> None:
    """Stands for a command that this call is not about."""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"order-sync {program_version()}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Takes the options that come before a command."""


__all__ = ["COMMANDS", "carry_out", "main"]
