"""Exit statuses, sentences for errors, tracebacks for debugging."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress
from typing import TextIO

from poller.cli.output import say
from poller.text import plain

BAD_INPUT = 2
FAULT = 1
MISSING = 3
"""Orders that Amazon lists are missing from the database."""
DEFERRED = 75
"""Amazon's request budget is used up for now."""
INTERRUPTED = 130
"""Ctrl-C, as shells report it."""


class Failure(Exception):
    """An error that ends the command: sentences for standard error, and the exit status."""

    def __init__(self, *sentences: str, status: int = FAULT) -> None:
        super().__init__(" ".join(sentences))
        self.sentences = sentences
        self.status = status


def sentences_of(error: Exception) -> tuple[int, str]:
    """Return (exit status, sentence) for an error. Repeats only our own texts: others may quote data."""
    from connectors.errors import ConnectorError
    from poller.errors import Refused, Unusable
    from store import diagnosis
    from store.engine import DatabaseError
    from store.revisions import NewerDatabase, UpgradeFailed
    from store.sealing import SealError, UnknownKey

    name = type(error).__name__
    if isinstance(error, DatabaseError) and (sentence := diagnosis.sentence_of(error)) is not None:
        return FAULT, sentence
    if isinstance(error, ModuleNotFoundError) and error.name == "psycopg":
        remedy = "install amazon-order-sync with its extra `postgres`"
        return BAD_INPUT, f"PostgreSQL needs a driver that is not installed: {remedy}."
    if isinstance(error, ModuleNotFoundError) and error.name == "procrastinate":
        remedy = "install amazon-order-sync with its extra `distributed`"
        return (
            BAD_INPUT,
            f"ORDER_SYNC_EXECUTOR=procrastinate needs a package that is not installed: {remedy}.",
        )
    if isinstance(error, ModuleNotFoundError) and error.name in ("authlib", "joserfc"):
        remedy = "install amazon-order-sync with its extra `oidc`"
        return BAD_INPUT, f"ORDER_SYNC_OIDC_ISSUER needs a package that is not installed: {remedy}."
    if isinstance(error, OSError) and is_of_output(error):
        return FAULT, f"the output cannot be written: {error.strerror}."
    if isinstance(error, UnknownKey):
        return BAD_INPUT, f"{error}."
    if isinstance(error, Refused):
        return BAD_INPUT, plain(f"{error} {', '.join(error.named)}".strip())
    if isinstance(error, ConnectorError | Unusable | NewerDatabase | UpgradeFailed | SealError):
        return FAULT, f"{str(error).removesuffix('.')}."
    return FAULT, f"unexpected error ({name}); set ORDER_SYNC_LOG_LEVEL=debug to see where."


def show_traceback(error: BaseException) -> None:
    """At log level debug, print where an error happened: frames and class, as texts may quote data."""
    from config.env_file import completed

    if completed(os.environ).environ.get("ORDER_SYNC_LOG_LEVEL", "").strip().lower() != "debug":
        return
    for line in traceback.format_tb(error.__traceback__):
        say(line.rstrip())
    say(type(error).__name__)


def is_of_output(error: Exception) -> bool:
    """Return True if an output cannot be written: its device is full or broken, or it is closed."""
    return (
        isinstance(error, OSError)
        and error.filename is None
        and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF)
    )


def drop_output(stream: TextIO) -> None:
    """Redirect an output that cannot be written to nowhere: the interpreter flushes it at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def replace_closed_streams() -> None:
    """Give a process that was started with a closed output one that leads to nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - it stays open as the stream does
