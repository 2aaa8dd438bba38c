"""``order-sync health``: report if a service is running on this machine."""

from __future__ import annotations

from poller.cli.failures import Failure
from poller.cli.output import say
from poller.service.lifecycle import heartbeat_file, is_alive


def health() -> None:
    """Exit 0 if a service of this user runs on this machine, else 1."""
    if not is_alive():
        raise Failure(f"no service is running here: {heartbeat_file()} is missing or older than a minute.")
    say("the service is running")
