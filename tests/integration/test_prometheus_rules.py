"""Each rule that is shipped for Prometheus fires for the situation that it is about, and for no other.

The situations are made in a database, the product renders its metrics, and Prometheus's own promtool
evaluates the rules over them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from connectors.base import Attempt
from poller.bootstrap import Service
from store import quarantine, runs, tables, verifications, webhooks
from store.change_records import Held, Position
from store.engine import Store
from store.verification_records import Finding, Verification
from tests.integration.service_world import opened_service
from tests.integration.store_world import apply, clock_of, count_buyers
from tests.integration.test_metrics import RULES, figures
from tests.unit.matching_world import an_order

UK = "A1F83G8C2ARO7P"
HOURS = 25
"""How long a situation lasts: longer than any rule waits."""


def attempts(service: Service, ok: int, failed: int) -> None:
    for outcome, number in (("ok", ok), ("ServerFault", failed)):
        for _ in range(number):
            service.tally(Attempt("acme", "searchOrders", outcome, False, 0.1))


def a_healthy_shop(service: Service) -> None:
    """One order, one page a minute ago, a verified month, all requests answered."""
    apply(service.store, an_order("o1", "ann@example.com"))
    with service.store.begin() as tx:
        now, source = tx.now, {"source": "acme:EU", "account": "acme"}
        succeeded = {"failures": 0, "succeeded_at": now, "turns": "{}"}
        tx.conn.execute(sa.insert(tables.sources).values(**source, **succeeded))
        progress = dict.fromkeys(("position", "second_position", "settled_position"), now)
        tx.conn.execute(
            sa.insert(tables.marketplaces).values(
                account="acme",
                marketplace_id=UK,
                source="acme:EU",
                live_from=now - timedelta(days=2),
                **progress,
            )
        )
        read = {"lower": now - timedelta(days=2), "upper": now}
        tx.conn.execute(
            sa.insert(tables.coverage).values(account="acme", marketplace_id=UK, look="first", **read)
        )
    attempts(service, ok=2, failed=0)


def change(service: Service, table: sa.Table, **values: Any) -> None:
    with service.store.begin() as tx:
        tx.conn.execute(sa.update(table).values(**values))


def ago(service: Service, **duration: float) -> Any:
    return clock_of(service.store)() - timedelta(**duration)


def a_gap(service: Service, hours: float, state: str = "open") -> None:
    """A range of an hour has been missing for so long."""
    lower = ago(service, hours=hours)
    upper = lower + timedelta(hours=1)
    place = {"account": "acme", "marketplace_id": UK, "look": "first"}
    change(service, tables.coverage, upper=lower)
    with service.store.begin() as tx:
        tx.conn.execute(sa.insert(tables.coverage).values(**place, lower=upper, upper=tx.now))
        window = {"source": "acme:EU", "account": "acme", "kind": "live", "axis": "updated", "state": state}
        numbers = dict.fromkeys(("pages", "orders", "attempts", "version"), 0)
        tx.conn.execute(
            sa.insert(tables.windows).values(
                **window, **numbers, marketplace_ids=UK, included_data="BUYER", lower=lower, upper=upper,
                created_at=tx.now, retry_at=tx.now,
            )
        )  # fmt: skip


def a_verification(service: Service, **changed: Any) -> None:
    with service.store.begin() as tx:
        made = Verification(
            *("acme", UK, tx.now - timedelta(days=30), tx.now, tx.now, "report", "scheduled"),
            repair=True,
            position=tx.now,
        )
        verifications.save(tx, replace(verifications.begin(tx, made), **changed))


def quarantined(service: Service, number: int) -> None:
    with service.store.begin() as tx:
        for each in range(number):
            quarantine.put(tx, quarantine.Quarantined("acme", f"bad {each}", None, "nonsense", "{}"))


def a_webhook(service: Service, *, gave_up: bool) -> None:
    with service.store.begin() as tx:
        hook = webhooks.add(tx, "https://example.com/", "whsec_AA==")
    apply(service.store, an_order("o2", "eve@example.com"))
    with service.store.begin() as tx:
        (hook,) = webhooks.load(tx, hook.hook_id)
        if gave_up:
            webhooks.hold(tx, hook.hook_id, [Held(Position(1), "dead", 9, tx.now, tx.now)])
        else:
            webhooks.save(tx, replace(hook, failures=3, failing_since=tx.now))
            tx.conn.execute(sa.update(tables.outbox).values(at=tx.now - timedelta(hours=2)))


def refused(service: Service) -> None:
    _, source = service.sources["acme:EU"]
    with service.store.begin() as tx:
        runs.refuse(tx, "account", "acme", source.credential, "invalid_grant")


def buyers_not_shown(service: Service) -> None:
    with service.store.begin() as tx:
        for days, with_email in ((2, 10), (1, 10), (0, 1)):
            count_buyers(tx, "acme:EU", (tx.now - timedelta(days=days)).date(), 10, with_email, 9)


def overdue(service: Service) -> None:
    change(service, tables.orders, term_at=ago(service, days=33))


def of_a_marketplace_without_file(service: Service) -> None:
    apply(service.store, an_order("o3", "eve@example.com", marketplace_id="APJ6JRA9NG5V4"))


def away(service: Service) -> None:
    @contextmanager
    def read(_: Store) -> Iterator[None]:
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("Connection refused"))
        yield

    service.store.__class__ = type("Away", (Store,), {"read": read})


Make = Callable[[Service], object]

SITUATIONS: dict[str, tuple[Make, set[str]]] = {
    "all is well": (lambda service: None, set()),
    "the database is away": (away, {"OrderSyncDatabaseAway"}),
    "a gap of nine hours": (
        lambda service: a_gap(service, 9),
        {"OrderSyncNotReady", "OrderSyncGap", "OrderSyncBehind"},
    ),
    "a window that was set aside": (
        lambda service: a_gap(service, 2, "set_aside"),
        {"OrderSyncWindowsSetAside", "OrderSyncBehind"},
    ),
    "no success for 50 minutes": (
        lambda service: change(service, tables.sources, succeeded_at=ago(service, minutes=50)),
        {"OrderSyncSourceStalled"},
    ),
    "refused credentials": (refused, {"OrderSyncAuthorisationRefused"}),
    "orders that need a person": (lambda service: quarantined(service, 1), {"OrderSyncQuarantineWaits"}),
    "a verification that failed": (
        lambda service: a_verification(service, state="failed", position=ago(service, days=30)),
        {"OrderSyncVerificationFailed"},
    ),
    "a verification that found orders missing": (
        lambda service: a_verification(
            service, state="done", findings=(Finding("o9", "missing", None, None, "not_found"),), listed=7
        ),
        {"OrderSyncOrdersMissing"},
    ),
    "buyers that are not shown any more": (buyers_not_shown, {"OrderSyncBuyersNotShown"}),
    "buyer data three days past its term": (overdue, {"OrderSyncErasingOverdue"}),
    "orders of a marketplace without a file": (
        of_a_marketplace_without_file,
        {"OrderSyncUnknownMarketplace"},
    ),
    "a webhook that accepts nothing": (
        lambda service: a_webhook(service, gave_up=False),
        {"OrderSyncWebhookFails"},
    ),
    "an event that was given up": (
        lambda service: a_webhook(service, gave_up=True),
        {"OrderSyncWebhookGaveUp"},
    ),
}
"""What lasts, and the rules that fire for it."""

CHANGES: dict[str, tuple[Make, set[str]]] = {
    "six orders that come into quarantine": (
        lambda service: quarantined(service, 6),
        {"OrderSyncQuarantineGrows", "OrderSyncQuarantineWaits"},
    ),
    "requests that fail": (lambda service: attempts(service, 1, 3), {"OrderSyncRequestsFail"}),
}
"""What happens within the day, and the rules that fire for it."""

EVERY = 5
"""Minutes between two samples."""


def series(service: Service, make: Make | None = None, *, stalled: bool = False) -> list[dict[str, str]]:
    """Return the product's metrics for a day, as promtool takes them; time zero is now.

    ``make`` happens in the course of it; without, they stay as they are. Success goes on unless ``stalled``.
    """
    start, samples = clock_of(service.store)().timestamp(), HOURS * 60 // EVERY
    first = figures(service)
    if make is not None:
        make(service)
    made = []
    for name, values in figures(service).items():
        for labels, value in values.items():
            begin = first.get(name, {}).get(labels, 0.0)
            step = (value - begin) / samples
            if name.endswith("_timestamp_seconds"):
                begin, step = begin - start, 0.0 if stalled else 60.0 * EVERY
            named = ", ".join(f'{label}="{text}"' for label, text in labels)
            made.append({"series": f"{name}{{{named}}}", "values": f"{begin:f}{step:+f}x{samples}"})
    return made


def fires(rule: str, *, is_firing: bool) -> dict[str, Any]:
    return {
        "expr": f'clamp_max(count(ALERTS{{alertname="{rule}", alertstate="firing"}}), 1)',
        "eval_time": f"{HOURS - 1}h",
        "exp_samples": [{"labels": "{}", "value": 1}] if is_firing else [],
    }


def rules() -> list[str]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"]]


def test_every_rule_is_provoked() -> None:
    provoked = {rule for _, names in (*SITUATIONS.values(), *CHANGES.values()) for rule in names}
    assert provoked | {"OrderSyncDown"} == set(rules())


@pytest.mark.long
def test_each_rule_fires_for_its_situation_and_for_no_other(tmp_path: Path) -> None:
    cases: list[tuple[str, list[dict[str, str]], set[str]]] = [("no service", [], {"OrderSyncDown"})]
    for number, (name, (make, expected)) in enumerate([*SITUATIONS.items(), *CHANGES.items()]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with opened_service(f"sqlite:///{folder / 'order-sync.db'}", folder) as service:
            a_healthy_shop(service)
            if name in SITUATIONS:
                make(service)
            stalled = "OrderSyncSourceStalled" in expected
            cases.append(
                (name, series(service, make if name in CHANGES else None, stalled=stalled), expected)
            )
    tests = [
        {
            "name": name,
            "interval": f"{EVERY}m",
            "input_series": given,
            "promql_expr_test": [fires(rule, is_firing=rule in expected) for rule in rules()],
        }
        for name, given, expected in cases
    ]
    file = tmp_path / "test.yaml"
    file.write_text(
        json.dumps({"rule_files": [str(RULES)], "evaluation_interval": f"{EVERY}m", "tests": tests})
    )
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
