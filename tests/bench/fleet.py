"""A scheduler, workers, many accounts, PostgreSQL and a tiny Amazon, as processes whose cost is measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from store.sealing import new_key
from tests.bench.server import Server

TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Fleet:
    """Processes on one database, with one configuration."""

    folder: Path
    database_url: str
    environ: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, *arguments: str) -> None:
        subprocess.run(self._line(arguments), env=self._environ(), check=True, stderr=subprocess.DEVNULL)

    def start(self, *arguments: str) -> None:
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(self._line(arguments), env=self._environ(), stdout=log, stderr=log)
            )

    def _line(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "poller.cli", *arguments]

    def _environ(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ORDER_SYNC_")}
        return {**inherited, **self.environ, "TMPDIR": str(self.folder)}

    def cpu(self) -> list[float]:
        """Seconds of CPU that each process has used so far."""
        used = []
        for process in self.processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            used.append((int(fields[11]) + int(fields[12])) / TICK)
        return used

    @staticmethod
    def machine() -> tuple[float, float]:
        """Seconds of CPU that the whole machine has used so far, and that it spent waiting for its disks."""
        line = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        user, nice, system, _, waiting, *rest = (int(each) / TICK for each in line)
        return user + nice + system + sum(rest[:2]), waiting

    def memory(self) -> list[float]:
        """Megabytes that each process holds, without what it shares with others counted twice (PSS)."""
        found = []
        for process in self.processes:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            line = next(line for line in text.splitlines() if line.startswith("Pss:"))
            found.append(int(line.split()[1]) / 1024)
        return found

    def ask(self, query: str) -> int:
        """Return the number that a query finds. Raises RuntimeError if a process has ended by itself."""
        for number, process in enumerate(self.processes):
            if process.poll() is not None:
                log = (self.folder / f"{number}.log").read_text()
                raise RuntimeError(f"process {number} ended with {process.returncode}: {log}")
        with psycopg.connect(self.database_url.replace("+psycopg", "")) as connection:
            row = connection.execute(query).fetchone()
            return int(row[0] or 0) if row else 0

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@contextmanager
def fleet(
    folder: Path, server: Server, accounts: int, pages: Path | None = None, **settings: str
) -> Iterator[Fleet]:
    """Accounts with one marketplace each, on a new database; nothing runs yet but the tiny Amazon."""
    tiny = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.replaying", str(pages or "")], stdout=subprocess.PIPE
    )
    assert tiny.stdout is not None
    url = f"http://127.0.0.1:{int(tiny.stdout.readline())}"
    for name in ("accounts", "marketplaces"):
        (folder / name).mkdir(parents=True)
    start = (datetime.now(UTC) + timedelta(days=2)).date()
    for number in range(accounts):
        account = f"shop-{number:04}"
        (folder / "accounts" / f"{account}.toml").write_text(
            f'lwa_client_id = "amzn1.application-oa2-client.bench"\nlwa_client_secret = "secret"\n'
            f'refresh_token = "{account}"\nendpoint = "{url}"\ntoken_url = "{url}/auth/o2/token"\n'
        )
        (folder / "marketplaces" / f"{account}.toml").write_text(
            f'marketplace = "UK"\naccount = "{account}"\nstart_date = {start}\nprice_list = "retail"\n'
        )
    made = Fleet(
        folder,
        database_url := server.database(),
        {
            "ORDER_SYNC_CONFIG_DIR": str(folder),
            "ORDER_SYNC_DATABASE_URL": database_url,
            "ORDER_SYNC_ENCRYPTION_KEY": new_key(),
            "ORDER_SYNC_EXECUTOR": "procrastinate",
            "ORDER_SYNC_LISTEN": "127.0.0.1:0",
            "ORDER_SYNC_LOG_FORMAT": "json",
            **settings,
        },
    )
    try:
        made.command("db", "upgrade")
        yield made
    finally:
        made.kill()
        tiny.kill()
        tiny.wait()
