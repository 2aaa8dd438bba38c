"""``order-sync`` as a person or a shell runs it: arguments and variables in, status and two streams out."""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog

from connectors.base import UsagePlan
from connectors.simulator.api import Simulator
from connectors.simulator.faults import GET, PARTICIPATIONS, SEARCH
from connectors.simulator.reports import Reports
from connectors.simulator.serve import serve
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, Seller, World
from poller.cli import carry_out
from store.sealing import new_key

ROOT = Path(__file__).parents[2]
GENEROUS = {SEARCH: UsagePlan(50, 50), GET: UsagePlan(50, 50), PARTICIPATIONS: UsagePlan(5, 50)}
STARTED = datetime.now(UTC).replace(microsecond=0)
"""Commands have the real clock, so the worlds of their tests end where it begins."""


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def messages(self) -> list[str]:
        """The lines on standard error."""
        return self.err.splitlines()

    def json(self) -> Any:
        return json.loads(self.out)


def order_sync(*arguments: str, environ: Mapping[str, str] | None = None, status: int | None = 0) -> Result:
    """Run a command in this process; it must end with ``status``, if that is given."""
    out, err = io.StringIO(), io.StringIO()
    clean = {k: v for k, v in os.environ.items() if not k.upper().startswith("ORDER_SYNC_")}
    with (
        _logging_restored(),
        patch.dict(os.environ, {**clean, **(environ or {})}, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        ended = carry_out(arguments)
    result = Result(ended, out.getvalue(), err.getvalue())
    assert "Traceback" not in result.err + result.out, result.err
    assert status is None or result.status == status, result
    return result


@contextmanager
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()


def marketplace_file(code: str, account: str = "acme", days: int = 10, **further: str) -> str:
    """A marketplace file; ``further`` are more lines, the values as TOML."""
    lines = {
        "marketplace": f'"{code}"',
        "account": f'"{account}"',
        "start_date": str((STARTED - timedelta(days=days)).date()),
        "price_list": f'"Amazon {code} retail"',
        **further,
    }
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


@dataclass
class Shop:
    """A folder with a configuration, a simulated Amazon on a socket, and the variables of both."""

    folder: Path
    simulator: Simulator
    environ: dict[str, str]

    @property
    def world(self) -> World:
        return self.simulator.world

    def configure(self, code: str, name: str | None = None, **further: Any) -> Path:
        """Write a marketplace file, or another text into its place."""
        path = self.folder / "marketplaces" / f"{name or code.lower()}.toml"
        path.write_text(marketplace_file(code, **further))
        return path

    def __call__(self, *arguments: str, status: int | None = 0, **environ: str) -> Result:
        return order_sync(*arguments, environ={**self.environ, **environ}, status=status)

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Run a command in a process of its own."""
        return self._start([sys.executable, "-m", "poller.cli", *arguments], environ)

    def start_in_shell(self, words: str, before: str = "true", **environ: str) -> subprocess.Popen[str]:
        """Run a command as a shell runs these words, which may redirect its output, ``before`` first."""
        line = f"{before}; exec {shlex.quote(sys.executable)} -m poller.cli {words}"
        return self._start(["sh", "-c", line], environ)

    def _start(self, command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith("ORDER_SYNC_")}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={
                **inherited,
                **self.environ,
                "PYTHONPATH": str(ROOT),
                "TMPDIR": str(self.folder),
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def account_variables(url: str, seller: Seller, name: str = "acme") -> dict[str, str]:
    """The variables of one account at a simulator."""
    front = f"ORDER_SYNC_ACCOUNTS__{name.upper()}__"
    return {
        f"{front}LWA_CLIENT_ID": CLIENT_ID,
        f"{front}LWA_CLIENT_SECRET": CLIENT_SECRET,
        f"{front}REFRESH_TOKEN": seller.refresh_token,
        f"{front}ENDPOINT": url,
        f"{front}TOKEN_URL": f"{url}/auth/o2/token",
    }


@contextmanager
def open_shop(
    folder: Path,
    world: World,
    *,
    plans: Mapping[str, UsagePlan] = GENEROUS,
    marketplaces: Sequence[str] = ("UK",),
    reports: Reports | None = None,
) -> Iterator[Shop]:
    """A shop of account ``acme``; its database is SQLite, and is not there yet."""
    simulator = Simulator(world, now=lambda: datetime.now(UTC), plans=plans, reports=reports)
    (folder / "marketplaces").mkdir(parents=True)
    with serve(simulator) as (_, url):
        environ = {
            "ORDER_SYNC_CONFIG_DIR": str(folder),
            "ORDER_SYNC_DATABASE_URL": f"sqlite:///{folder / 'order-sync.db'}",
            "ORDER_SYNC_ENCRYPTION_KEY": new_key(),
            "ORDER_SYNC_LOG_FORMAT": "json",
            "ORDER_SYNC_LISTEN": "127.0.0.1:0",
            **account_variables(url, next(iter(world.sellers.values()))),
        }
        shop = Shop(folder, simulator, environ)
        for code in marketplaces:
            shop.configure(code)
        yield shop
