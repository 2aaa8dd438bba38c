"""The command line ``order-sync``: builds it from the table in ``commands``, and handles every error.

Only the module of the requested command is imported, so ``order-sync --help`` answers at once. Data goes
to standard output, everything else to standard error. An error prints one sentence, never a traceback.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperArgument

from poller.cli.commands import COMMANDS, load_command
from poller.cli.failures import (
    FAULT,
    INTERRUPTED,
    Failure,
    drop_output,
    is_of_output,
    replace_closed_streams,
    sentences_of,
    show_traceback,
)
from poller.cli.output import say
from poller.version import program_version


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its status. ``arguments`` default to those of the process."""
    replace_closed_streams()
    status = carry_out(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.stderr.flush()
    except OSError:  # its device is full or its reader gone: the status is still the command's
        drop_output(sys.stderr)
    sys.exit(status)


def carry_out(arguments: Sequence[str]) -> int:
    """Run one command; print its errors and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # output is UTF-8 under any locale
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        words = list(arguments) or ["--help"]
        status = command_of(words)(words, prog_name="order-sync", standalone_mode=False)
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
        drop_output(sys.stdout)
        return FAULT
    except (KeyboardInterrupt, typer.Abort):
        say("stopped")
        return INTERRUPTED
    except Exception as error:
        if is_of_output(error):
            drop_output(sys.stdout)
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


def command_of(arguments: Sequence[str]) -> Any:
    """Build the command line; only the requested command is imported, the others are names with help."""
    command = typer.main.get_command(_application(arguments))
    _name_values(command)
    return command


def _name_values(command: Any) -> None:
    """Let help name values by their option or argument, not by Python's types."""
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            setattr(parameter, "display_type_rich", lambda ctx: "")  # noqa: B010 - a method of its class
        elif parameter.metavar is None and not parameter.type_descriptor.is_choice:
            parameter.metavar = parameter.name.upper()
    for subcommand in getattr(command, "commands", {}).values():
        _name_values(subcommand)


def _application(arguments: Sequence[str]) -> typer.Typer:
    """Return all commands, with the requested one imported."""
    requested = next((word for word in _typed(arguments) if not word.startswith("-")), None)
    application = typer.Typer(
        rich_markup_mode=None,
        context_settings={"max_content_width": 1000},
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        help="Keeps an Amazon seller's orders and customers in the seller's own database.",
        epilog="Settings are environment variables named ORDER_SYNC_…; `config check` checks them.",
    )
    application.callback()(_root)
    for name, help_line in COMMANDS.items():
        if name != requested:
            application.command(name, help=help_line, short_help=help_line)(_placeholder)
            continue
        command = load_command(name)
        if isinstance(command, typer.Typer):
            for subcommand in command.registered_commands:
                subcommand.help = _in_paragraphs(subcommand.callback)
                subcommand.short_help = subcommand.help.partition("\n\n")[0]
            application.add_typer(command, name=name, help=help_line, short_help=help_line)
        else:
            application.command(name, help=_in_paragraphs(command), short_help=help_line)(command)
    return application


def _typed(arguments: Sequence[str]) -> Sequence[str]:
    """Return the words after ``order-sync``; while a shell completes them, they are in its variables."""
    if COMPLETING not in os.environ:
        return arguments
    return (os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")).split()[1:]


COMPLETING = "_ORDER_SYNC_COMPLETE"
"""Set by the shell's script of ``--show-completion``."""


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
