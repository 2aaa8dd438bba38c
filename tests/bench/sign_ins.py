"""How long answers take while 50 people a second try to sign in and 250 slow connections are held.

Prints figures; judges nothing.

The service runs in a process of its own. Each attempt comes from an address of its own, so that none is
refused before the password is checked.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx

from connectors.simulator.world import Seller, World
from poller.web.console import sessions
from tests.acceptance.command_line import open_shop
from tests.acceptance.test_cli_service import next_event, running, stops
from tests.bench.slow import HELD

A_SECOND = 50
PATHS = ("/orders?limit=1", "/healthz")
SECONDS = 20


def main() -> None:
    token = "x" * 40
    with (
        tempfile.TemporaryDirectory(prefix="order-sync-bench-") as name,
        open_shop(Path(name) / "shop", World(Seller("acme", ("UK",)))) as shop,
        running(shop, ORDER_SYNC_API_TOKEN=token, ORDER_SYNC_TRUSTED_PROXIES="127.0.0.1") as process,
    ):
        url = next_event(process, "listening")["url"]
        drain = threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True)
        drain.start()
        quiet = {path: _answers(url, path, token, threading.Event(), seconds=3) for path in PATHS}
        over, statuses = threading.Event(), Counter[int]()
        signing = threading.Thread(target=_sign_in, args=[url, over, statuses])
        signing.start()
        busy = {path: _answers(url, path, token, over, seconds=SECONDS) for path in PATHS}
        line = [sys.executable, "-m", "tests.bench.slow", *url.removeprefix("http://").split(":")]
        with subprocess.Popen(line, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            worst = {path: _answers(url, path, token, over, seconds=SECONDS) for path in PATHS}
            holder.terminate()
        over.set()
        signing.join()
        memory = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        with suppress(AssertionError):
            stops(process, 15)
    beside = f"beside {A_SECOND} sign-ins a second"
    for kind, measured in (("alone", quiet), (beside, busy), (f"{beside}, {HELD} slow connections", worst)):
        for path, times in measured.items():
            cuts = statistics.quantiles(times, n=100)
            print(
                f"{path:<16} {kind:<52} median {cuts[49] * 1000:6.1f} ms, 95 % {cuts[94] * 1000:6.1f} ms, "
                f"worst {max(times) * 1000:6.1f} ms ({len(times)} answers)"
            )
    print(f"most memory of the service: {int(memory[0]) // 1024} MB")
    print("sign-ins by status:", dict(sorted(statuses.items())))


def _answers(url: str, path: str, token: str, over: threading.Event, seconds: float) -> list[float]:
    """Return how long each request took that was sent within these seconds, one after the other."""
    times, end = [], time.monotonic() + seconds
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        while time.monotonic() < end and not over.is_set():
            began = time.monotonic()
            client.get(path).raise_for_status()
            times.append(time.monotonic() - began)
            time.sleep(0.02)
    return times


def _sign_in(url: str, over: threading.Event, statuses: Counter[int]) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        page = client.get(sessions.SIGN_IN)
        (csrf,) = set(re.findall(r'name="csrf_token" value="(\w+)"', page.text))

        def attempt(number: int) -> None:
            address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            data = {"csrf_token": csrf, "name": f"user{number}", "password": "correct horse battery"}
            with suppress(httpx.HTTPError):
                answer = client.post(sessions.SIGN_IN, data=data, headers={"X-Forwarded-For": address})
                statuses[answer.status_code] += 1

        threads: list[threading.Thread] = []
        began = time.monotonic()
        while not over.is_set():
            threads.append(threading.Thread(target=attempt, args=[len(threads)]))
            threads[-1].start()
            time.sleep(max(0.0, began + len(threads) / A_SECOND - time.monotonic()))
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
