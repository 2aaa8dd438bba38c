"""What the demo shows and how it judges itself; that it ends well is tested with the installed wheel."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from connectors.simulator.api import Simulator
from poller.cli.demo import LIVE_WITHIN, POISONS, stage
from poller.cli.demo_checks import Stored, Truth, differences, truth_of
from poller.cli.options import marketplace_codes
from poller.cli.simulator import invented
from tests.acceptance.command_line import order_sync

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


def test_the_demos_shop_has_all_that_it_shows() -> None:
    world = stage(NOON, orders=500)
    before, after = (
        {order.order_id: order.current(at) for order in world.orders()} for at in (NOON, NOON + LIVE_WITHIN)
    )

    assert {v.facts.poison for v in after.values() if v} - {None} == set(POISONS)
    changed = [name for name in after if before[name] is not None and before[name] != after[name]]
    assert len(changed) >= 8
    assert sum(1 for v in after.values() if v and v.facts.status == "PENDING") >= 1


def test_what_is_too_young_to_be_listed_is_not_expected_in_the_database() -> None:
    world = stage(NOON, orders=20)
    amazon = Simulator(world, now=lambda: NOON)
    young = truth_of(amazon, NOON - timedelta(minutes=2))
    later = truth_of(amazon, NOON + timedelta(hours=1))

    assert young.too_young > later.too_young == frozenset()
    wanted = [order for order in world.orders() if not order.is_of_other_shop]
    assert len(later.orders) + len(later.spoilt) == len(wanted)


TRUTH = Truth({"1": NOON, "2": NOON}, frozenset({"3"}), frozenset({"a@x", "b@x"}), frozenset())
STORED = Stored([("1", NOON), ("2", NOON)], ["3"], ["a@x", "b@x"])


def test_the_check_passes_what_is_right() -> None:
    assert differences(TRUTH, STORED) == []


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (replace(STORED, orders=[("1", NOON)]), "order 2 is missing"),
        (replace(STORED, quarantined=[]), "order 3 is missing"),
        (replace(STORED, orders=[*STORED.orders, ("1", NOON)]), "order 1 is stored twice"),
        (replace(STORED, quarantined=["3", "3"]), "order 3 is stored twice"),
        (
            replace(STORED, orders=[("1", NOON), ("2", NOON - timedelta(seconds=1))]),
            "order 2 is stored in an old version",
        ),
        (replace(STORED, orders=[("1", NOON)], quarantined=["2", "3"]), "order 2 should be an order"),
        (
            replace(STORED, orders=[*STORED.orders, ("3", NOON)], quarantined=[]),
            "order 3 should be in quarantine",
        ),
        (replace(STORED, orders=[*STORED.orders, ("4", NOON)]), "order 4 does not exist"),
        (replace(STORED, emails=["a@x"]), "1 buyers have no customer record"),
        (replace(STORED, emails=["a@x", "b@x", "b@x"]), "1 buyers have several customer records"),
        (replace(STORED, emails=["a@x", "b@x", "c@x"]), "1 customers have an e-mail that Amazon never sent"),
    ],
)
def test_the_check_reports(stored: Stored, said: str) -> None:
    assert any(problem.startswith(said) for problem in differences(TRUTH, stored))


@pytest.mark.long
@pytest.mark.parametrize("write", [False, pytest.param(True, marks=pytest.mark.long)])
def test_what_the_simulator_prints_can_be_pasted_and_leads_to_orders(tmp_path: Path, write: bool) -> None:
    program = tmp_path / "bin" / "order-sync"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m poller.cli "$@"\n')
    program.chmod(0o755)
    environ = {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TMPDIR": str(tmp_path),
    }
    command = [str(program), "simulator", "--port", "0", "--orders", "60", "--marketplaces", "UK,DE"]
    command += ["--write-config", "simulated"] if write else []
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout is not None
        lines: list[str] = []
        while not lines or "TOKEN_URL" not in lines[-1]:
            lines.append(simulator.stdout.readline())
            assert lines[-1], "the simulator ended too early"
        pasted = "".join(lines) + "order-sync sync && order-sync export orders"
        done = subprocess.run(
            ["sh", "-euc", pasted],
            cwd=tmp_path,
            env=environ | {"PATH": "/usr/bin:/bin"},  # what is printed says where the program is
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        simulator.send_signal(signal.SIGTERM if write else signal.SIGINT)
        rest = simulator.stdout.read()

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 40
    assert (tmp_path / "simulated" / "encryption_key").stat().st_mode & 0o077 == 0
    assert rest == ""
    assert simulator.returncode == 0


def test_a_port_that_is_taken_is_reported_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = order_sync("simulator", "--port", str(port), "--orders", "0", status=1)
    assert result.messages == [
        f"error: cannot serve on port {port}: Address already in use; "
        "choose another --port, or 0 for a free one."
    ]


@pytest.mark.parametrize("wrong", ["", "UK,Mars", "UK,US"])
def test_the_simulator_refuses_marketplaces_that_no_account_can_have(wrong: str) -> None:
    with pytest.raises(typer.BadParameter, match="--marketplaces"):
        marketplace_codes(wrong)


def test_a_simulated_shop_has_unreadable_orders_only_with_faults() -> None:
    spoilt = [
        sum(
            order.versions[-1].facts.poison is not None
            for order in invented(1, ("UK", "DE"), 1000, NOON, faults=faults).orders()
        )
        for faults in (False, True)
    ]
    assert spoilt[0] == 0
    assert 3 <= spoilt[1] <= 25
