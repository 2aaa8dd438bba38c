"""The command line ``order-sync``: the table of its commands, and the one place that handles every error.

Only the module of the requested command is imported, so ``order-sync --help`` answers at once. Data goes
to standard output, everything else to standard error. An error prints one sentence, never a traceback.
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
    (
        "demo",
        "poller.cli.demo",
        "demo",
        "Run the whole journey against a simulator, on a throw-away database.",
    ),
    ("run", "poller.cli.run", "run", "Run the service: keep orders and customers up to date until stopped."),
    ("worker", "poller.cli.worker", "worker", "Carry out the jobs that `run` queues, with PostgreSQL."),
    ("sync", "poller.cli.sync", "sync", "Sync everything that is due, once."),
    (
        "status",
        "poller.cli.status",
        "status",
        "Show how fresh the data is, what is missing, what comes next.",
    ),
    ("backfill", "poller.cli.backfill", "app", "Read a range of history: plan, start, pause, resume."),
    (
        "verify",
        "poller.cli.verify",
        "verify",
        "Check that no order is missing: compare with Amazon's own list.",
    ),
    ("orders", "poller.cli.orders", "app", "List, show and explain orders; refetch one."),
    ("customers", "poller.cli.customers", "app", "List, show, create, edit, merge and import customers."),
    (
        "export",
        "poller.cli.export",
        "app",
        "Export orders or customers as JSON Lines or CSV: all, or only changes.",
    ),
    ("quarantine", "poller.cli.quarantine", "app", "List, show and retry orders that could not be read."),
    (
        "privacy",
        "poller.cli.privacy",
        "app",
        "Erase buyer data: what is due, or one person's; show all data of a person.",
    ),
    ("webhooks", "poller.cli.webhooks", "app", "Notify other programs of changes by signed requests."),
    ("alerts", "poller.cli.alerts", "app", "Send a test alert."),
    ("config", "poller.cli.config", "app", "Check the configuration, also against Amazon."),
    ("db", "poller.cli.db", "app", "Create, upgrade, check and copy the database."),
    ("keys", "poller.cli.keys", "app", "Make encryption keys; reseal stored data with a new one."),
    ("tokens", "poller.cli.tokens", "app", "Manage the tokens of the HTTP API."),
    ("users", "poller.cli.users", "app", "Manage the users of the console."),
    (
        "simulator",
        "poller.cli.simulator",
        "simulator",
        "Serve a simulated Amazon on this machine, to try things out.",
    ),
    ("health", "poller.cli.health", "health", "Exit 0 if a service runs on this machine, else 1."),
)
"""Name, module, attribute (a function for a command, a Typer for a group), one line of help."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its status. ``arguments`` default to those of the process."""
    sys.exit(carry_out(sys.argv[1:] if arguments is None else arguments))


def carry_out(arguments: Sequence[str]) -> int:
    """Run one command; print its errors and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # output is UTF-8 under any locale
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        words = list(arguments) or ["--help"]
        status = _application(words)(words, prog_name="order-sync", standalone_mode=False)
        sys.stdout.flush()
        return int(status or 0)
    except Failure as failure:
        for sentence in failure.sentences:
            say(f"error: {sentence}")
        return failure.status
    except typer.TyperException as error:
        say(f"error: {_in_one_line(error)}")
        return error.exit_code
    except BrokenPipeError:  # the reader of our output closed it
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


_PLAIN_WORDS = (
    ("Value error, ", ""),
    ("Input should be a valid integer, unable to parse string as an integer", "it must be a whole number"),
    ("Input should be greater than or equal to", "it must be at least"),
    ("Input should be less than or equal to", "it must be at most"),
    ("Input should be", "it must be"),
)
"""The option parser's words, and ours for them."""


def _in_one_line(error: typer.TyperException) -> str:
    sentence = " ".join(error.format_message().split())
    for theirs, ours in _PLAIN_WORDS:
        sentence = sentence.replace(theirs, ours)
    context = getattr(error, "ctx", None)
    return sentence if context is None else f"{sentence} (see `{context.command_path} --help`)"


def _application(arguments: Sequence[str]) -> typer.Typer:
    """Build the command line; only the requested command is imported, the others are names with help."""
    requested = next((word for word in arguments if not word.startswith("-")), None)
    application = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        help="Keeps an Amazon seller's orders and customers in the seller's own database.",
        epilog="Settings are environment variables named ORDER_SYNC_…; `config check` checks them.",
    )
    application.callback()(_root)
    for name, module, attribute, help_line in COMMANDS:
        if name != requested:
            application.command(name, help=help_line)(_placeholder)
            continue
        command: Any = getattr(import_module(module), attribute)
        if isinstance(command, typer.Typer):
            for subcommand in command.registered_commands:
                subcommand.help = _in_paragraphs(subcommand.callback)
            application.add_typer(command, name=name, help=help_line)
        else:
            application.command(name, help=_in_paragraphs(command))(command)
    return application


def _in_paragraphs(function: Any) -> str:
    """Return a command's docstring with each paragraph on one line, for the terminal to wrap."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _placeholder() -> None:
    """Stand in for a command that was not requested."""


def _show_version(requested: bool) -> None:
    if requested:
        print(f"order-sync {program_version()}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


__all__ = ["COMMANDS", "carry_out", "main"]
