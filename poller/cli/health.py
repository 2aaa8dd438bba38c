"""``order-sync health``: report if a service is running on this machine."""

from __future__ import annotations

import os

from config.load import load
from connectors.marketplaces import BY_NAME
from poller.cli.failures import Failure
from poller.cli.output import say
from poller.service.heartbeat import heartbeat_file, is_alive


def health() -> None:
    """Exit 0 if a service with these settings runs on this machine, else 1."""
    file = heartbeat_file(load(os.environ, BY_NAME).settings)
    if file is None:
        raise Failure(
            "with PostgreSQL a service writes its heartbeat into ORDER_SYNC_RUNTIME_DIR: set it for both."
        )
    if not is_alive(file):
        raise Failure(f"no service is running here: {file} is missing or older than a minute.")
    say("the service is running")
