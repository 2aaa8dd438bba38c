"""Pages of realistic orders as Amazon's JSON, written to files, so that making them is not measured."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from connectors.base import UsagePlan
from connectors.simulator.api import Simulator
from connectors.simulator.messages import Request
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, World
from tests.harness import DATASETS, NOON, SimulatedClock

MARKETPLACES = ("UK", "DE", "FR")


SPAN = timedelta(days=3)


def write_pages(folder: Path, seed: int, orders: int) -> None:
    """Ask a simulated Amazon for every order of a world and keep the answers, a file a page.

    Each seed has three days of its own, one after the other, as orders come in life.
    """
    start = NOON + SPAN * (seed % 1000)
    world = World.generate(seed=seed, marketplaces=MARKETPLACES, orders=orders, start=start, end=start + SPAN)
    clock = SimulatedClock(start + SPAN + timedelta(hours=1))
    simulator = Simulator(world, now=clock, plans={"searchOrders": UsagePlan(1e6, 1_000_000)})
    seller = next(iter(world.sellers.values()))
    login = (
        f"grant_type=refresh_token&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}"
        f"&refresh_token={seller.refresh_token}"
    )
    answer = simulator.handle(Request("POST", "/auth/o2/token", body=login.encode()))
    token = json.loads(answer.body)["access_token"]
    folder.mkdir(parents=True, exist_ok=True)
    after = (start - timedelta(days=9)).strftime("%Y-%m-%dT%H:%M:%SZ")
    query = f"createdAfter={after}&includedData={','.join(DATASETS)}"
    page_token, number = "", 0
    while True:
        question = query + (f"&paginationToken={quote(page_token, safe='')}" if page_token else "")
        request = Request("GET", "/orders/2026-01-01/orders", question, headers={"x-amz-access-token": token})
        body = simulator.handle(request).body
        if "orders" not in json.loads(body):
            raise RuntimeError("the simulator refused a page")
        (folder / f"{number:05}.json").write_bytes(body)
        number += 1
        page_token = json.loads(body).get("pagination", {}).get("nextToken", "")
        if not page_token:
            return


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
