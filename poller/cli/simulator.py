"""``order-sync simulator``: a simulated Amazon on a local port, and the settings that point to it.

It prints shell code to paste as it is; unless ``--write-config`` has written the marketplace files, the code
writes them. The demo configures its seller with the same functions.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from shlex import quote
from threading import Event
from types import FrameType
from typing import Annotated

import typer

from config.scaffold import KEY_FILE
from connectors.base import UsagePlan
from connectors.simulator.api import AMAZON_PLANS, Simulator
from connectors.simulator.faults import CREATE_REPORT, GET, GET_DOCUMENT, PARTICIPATIONS, SEARCH, Faults
from connectors.simulator.serve import serve
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, Seller, World
from poller.cli.failures import Failure
from poller.cli.options import marketplace_codes
from store.sealing import new_key

ACCOUNT = "acme"
HISTORY = timedelta(days=40)
FUTURE = timedelta(days=2)
"""How long generated orders continue after the simulator's start."""

POISONED = 0.01
"""Share of unreadable orders in a shop with faults."""

FAST_PLANS: Mapping[str, UsagePlan] = {
    SEARCH: UsagePlan(20.0, 20),
    GET: UsagePlan(20.0, 30),
    PARTICIPATIONS: UsagePlan(1.0, 15),
    CREATE_REPORT: UsagePlan(1.0, 15),
    GET_DOCUMENT: UsagePlan(1.0, 15),
}
"""Sent in the rate header, as Amazon does for clients with higher limits."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def simulator(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 picks a free one.")
    ] = 8090,
    seed: Annotated[int, typer.Option(help="The same seed generates the same shop.")] = 1,
    orders: Annotated[int, typer.Option(min=0, help="Orders to generate over the past 40 days.")] = 1000,
    marketplaces: Annotated[
        str, typer.Option(metavar="CODES", help="Country codes of one region, comma-separated.")
    ] = "UK,DE,FR",
    fast: Annotated[
        bool,
        typer.Option("--fast/--real-limits", help="20 searches a second, or Amazon's 0.0056."),
    ] = True,
    faults: Annotated[
        bool,
        typer.Option(
            "--faults/--no-faults", help="Spoil one answer in five, and one order in a hundred permanently."
        ),
    ] = False,
    write_config: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the marketplace files and a key into this folder."),
    ] = None,
) -> None:
    """Serve a simulated Amazon on this machine, and print the settings that point the service at it."""
    codes = marketplace_codes(marketplaces)
    now = utc_now()
    world = invented(seed, codes, orders, now, faults=faults)
    amazon = Simulator(
        world,
        now=utc_now,
        plans=FAST_PLANS if fast else AMAZON_PLANS,
        faults=Faults.everything(seed, 0.2) if faults else None,
    )
    start_date = (now - HISTORY).date()
    with _until_stopped() as stop:
        try:
            with serve(amazon, port) as (_, url):
                folder = (write_config or Path("simulated")).absolute()
                if write_config is not None:
                    write_files(folder, codes, start_date)
                typer.echo(shell_lines(folder, url, codes, start_date, written=write_config is not None))
                typer.echo(f"serving a simulated Amazon at {url}; Ctrl-C ends it", err=True)
                stop.wait()
        except OSError as error:
            raise Failure(
                f"cannot serve on port {port}: {error.strerror}; choose another --port, or 0 for a free one."
            ) from None


def invented(seed: int, codes: Sequence[str], orders: int, now: datetime, *, faults: bool) -> World:
    """Generate the shop that is served; with ``faults`` some of its orders are unreadable."""
    return World.generate(
        seed=seed,
        marketplaces=codes,
        orders=orders,
        start=now - HISTORY,
        end=now + FUTURE,
        seller=Seller(ACCOUNT, tuple(codes)),
        poisoned=POISONED if faults else 0.0,
    )


def marketplace_file(code: str, start_date: date) -> str:
    """Return the text of one marketplace's file, as a seller would write it."""
    return f"""\
marketplace = "{code}"
account = "{ACCOUNT}"
start_date = {start_date}
price_list = "Amazon {code} retail"
tax_code = "T20"

[order_status]
new = "New web order"
fba = "FBA order"
prime = "Prime order"

[labels]
channel = "Amazon {code}"
"""


def environment(folder: Path, url: str) -> dict[str, str]:
    """Return the variables for a simulator at ``url`` and a configuration in ``folder``."""
    account = f"ORDER_SYNC_ACCOUNTS__{ACCOUNT.upper()}__"
    return {
        "ORDER_SYNC_CONFIG_DIR": str(folder),
        "ORDER_SYNC_DATABASE_URL": f"sqlite:///{folder / 'order-sync.db'}",
        "ORDER_SYNC_ENCRYPTION_KEY_FILE": str(folder / KEY_FILE),
        f"{account}LWA_CLIENT_ID": CLIENT_ID,
        f"{account}LWA_CLIENT_SECRET": CLIENT_SECRET,
        f"{account}REFRESH_TOKEN": Seller().refresh_token,
        f"{account}ENDPOINT": url,
        f"{account}TOKEN_URL": f"{url}/auth/o2/token",
    }


def write_files(folder: Path, codes: Sequence[str], start_date: date) -> None:
    """Write the marketplace files, and a key unless the folder has one: its database needs that key."""
    (folder / "marketplaces").mkdir(parents=True, exist_ok=True)
    for code in codes:
        path = folder / "marketplaces" / f"{code.lower()}.toml"
        path.write_text(marketplace_file(code, start_date), encoding="utf-8")
    key = folder / KEY_FILE
    if not key.exists():
        with open(key, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(new_key() + "\n")


def shell_lines(folder: Path, url: str, codes: Sequence[str], start_date: date, *, written: bool) -> str:
    """Return the shell code to paste; with the marketplace files unless they are ``written``."""
    lines = ["# Paste this into another terminal, then: order-sync sync"]
    lines.append(f'export PATH={quote(str(Path(sys.executable).parent))}:"$PATH"')
    if not written:
        lines.append(f"mkdir -p {quote(str(folder / 'marketplaces'))}")
        for code in codes:
            path = folder / "marketplaces" / f"{code.lower()}.toml"
            lines.append(f"cat > {quote(str(path))} <<'END'\n{marketplace_file(code, start_date)}END")
        key = quote(str(folder / KEY_FILE))
        lines.append(f"[ -s {key} ] || (umask 077 && order-sync keys new > {key})")
    lines += [f"export {name}={quote(value)}" for name, value in environment(folder, url).items()]
    return "\n".join(lines)


@contextmanager
def _until_stopped() -> Iterator[Event]:
    """Yield an event that SIGINT and SIGTERM set."""
    stop = Event()

    def set_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, set_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
