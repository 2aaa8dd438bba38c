"""The commands of ``order-sync``: each is the file of its name in this folder."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

COMMANDS: Mapping[str, str] = {
    "demo": "Run the whole journey against a simulator, on a throw-away database.",
    "init": "Write the configuration of an account, with a fresh key.",
    "run": "Run the service: keep orders and customers up to date until stopped.",
    "worker": "Carry out the jobs that `run` queues, with PostgreSQL.",
    "sync": "Sync everything that is due, once.",
    "status": "Show how fresh the data is, what is missing, what comes next.",
    "backfill": "Read a range of history: plan, start, pause, resume.",
    "verify": "Check that no order is missing: compare with Amazon's own list.",
    "orders": "List, show and explain orders; refetch one.",
    "customers": "List, show, create, edit, merge and import customers.",
    "export": "Export orders or customers as JSON Lines or CSV: all, or only changes.",
    "quarantine": "List, show and retry orders that could not be read.",
    "privacy": "Erase buyer data: what is due, or one person's; show all data of a person.",
    "webhooks": "Notify other programs of changes by signed requests.",
    "alerts": "Send a test alert.",
    "config": "Check the configuration, also against Amazon.",
    "accounts": "Carry an account over to another name; confirm a new seller.",
    "db": "Create, upgrade, check and copy the database.",
    "keys": "Make encryption keys; reseal stored data with a new one.",
    "audit": "List and export who did and saw what.",
    "tokens": "Manage the tokens of the HTTP API.",
    "users": "Manage the users of the console.",
    "access": "Review who has access, and what about it is overdue.",
    "policy": "Print evidence for Amazon's data protection policy.",
    "simulator": "Serve a simulated Amazon on this machine, to try things out.",
    "health": "Exit 0 if a service runs on this machine, else 1.",
}
"""Name, and one line of help."""


def load_command(name: str) -> Any:
    """Import a command and return it: a Typer named ``app`` for a group, else a function of its name."""
    module = import_module(f"poller.cli.{name}")
    return getattr(module, "app", None) or getattr(module, name)
