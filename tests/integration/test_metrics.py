"""Prometheus metrics: true values, bounded labels, and rules and a dashboard that use no other names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml
from prometheus_client.parser import text_string_to_metric_families

from connectors.base import Attempt
from poller.bootstrap import Service
from poller.monitoring.metrics import render_metrics
from store import budgets, quarantine, runs, tables, verifications, webhooks
from store.engine import Store
from store.verification_records import Finding, Verification
from tests.integration.service_world import opened_service
from tests.integration.store_world import apply, clock_of, count_buyers
from tests.unit.matching_world import an_order

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs/ops/alerts.yaml"
DASHBOARD = ROOT / "docs/ops/dashboard.json"

Labels = tuple[tuple[str, str], ...]


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with opened_service(database_url, tmp_path) as opened:
        yield opened


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Service]:
    """Open a service for what does not depend on the database."""
    with opened_service(f"sqlite:///{tmp_path / 'order-sync.db'}", tmp_path) as opened:
        yield opened


def figures(service: Service) -> dict[str, dict[Labels, float]]:
    """Return every sample by name and labels."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(
        render_metrics(service.store, service.setup, service.tally.counts()).decode()
    ):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def a_busy_shop(service: Service) -> None:
    """Store something for every metric."""
    store = service.store
    apply(store, an_order("o1", "ann@example.com"), an_order("o2", None))
    apply(store, an_order("o3", "ann@example.com", marketplace_id="A1UNKNOWN"))
    apply(store, an_order("o4", "ann@example.com", marketplace_id="APJ6JRA9NG5V4"))
    for operation, outcome, retried in (
        ("searchOrders", "ok", False),
        ("searchOrders", "ServerFault", True),
        ("getOrder", "ok", False),
    ):
        service.tally(Attempt("acme", operation, outcome, retried, 0.1))
    with store.begin() as tx:
        quarantine.put(tx, quarantine.Quarantined("acme", "bad", None, "nonsense", "{}"))
        webhooks.add(tx, "https://example.com/", "whsec_AA==")
        now = tx.now
        key = "acme:EU"
        budgets.take(tx, budgets.BudgetKey("app", "acme", "searchOrders"), 0.0056, 20)
        run = runs.start(tx, key)
        runs.add_page(tx, key, run, 100)
        runs.finish(tx, run, "failed", 3, "no answer")
        old = {"source": key, "day": now.date(), "runs": 4, "failed": 1, "pages": 7, "orders": 600}
        tx.conn.execute(sa.insert(tables.run_days).values(**old, requests=9))
        tx.conn.execute(
            sa.insert(tables.sources).values(
                source=key, account="acme", turns="{}", failures=2, succeeded_at=now - timedelta(minutes=5)
            )
        )
        marketplace = {"account": "acme", "marketplace_id": "A1F83G8C2ARO7P", "source": key}
        tx.conn.execute(
            sa.insert(tables.marketplaces).values(
                **marketplace,
                live_from=now - timedelta(hours=9),
                position=now,
                second_position=now,
                settled_position=now,
            )
        )
        place = {"account": "acme", "marketplace_id": "A1F83G8C2ARO7P", "look": "first"}
        for first, last in ((9 * 60, 8 * 60), (7 * 60, 4)):
            ends = {"lower": now - timedelta(minutes=first), "upper": now - timedelta(minutes=last)}
            tx.conn.execute(sa.insert(tables.coverage).values(**place, **ends))
        day = {"source": key, "outcome": "complete", "requests": 1, "pages": 1, "orders": 10}
        for ago, many in ((2, 10), (1, 10), (0, 1)):
            at = now - timedelta(days=ago)
            tx.conn.execute(sa.insert(tables.runs).values(**day, started_at=at, finished_at=at))
            count_buyers(tx, key, at.date(), 10, many, 9)
        proof = Verification(
            *("acme", "A1F83G8C2ARO7P", now - timedelta(days=30), now, now, "report", "scheduled"),
            repair=True,
            position=now,
        )
        missing = Finding("o9", "missing", None, None, "not_found")
        verifications.save(
            tx, replace(verifications.begin(tx, proof), state="done", findings=(missing,), listed=7)
        )
        half = {"lower": now - timedelta(days=2), "upper": now, "position": now, "state": "running"}
        tx.conn.execute(
            sa.insert(tables.backfills).values(
                account="acme",
                marketplace_id="A1F83G8C2ARO7P",
                reason="start_date",
                **half,
                orders=0,
                requests=0,
                created_at=now,
            )
        )
        tx.conn.execute(
            sa.insert(tables.windows).values(
                source=key,
                account="acme",
                kind="sweep",
                axis="updated",
                marketplace_ids="A1F83G8C2ARO7P",
                included_data="BUYER",
                lower=now - timedelta(hours=9),
                upper=now - timedelta(hours=8),
                state="set_aside",
                pages=0,
                orders=0,
                attempts=5,
                version=0,
                created_at=now,
                retry_at=now,
            )
        )


def test_the_figures_are_those_of_the_database_and_of_the_process(service: Service) -> None:
    a_busy_shop(service)
    found = figures(service)

    def value(name: str, **labels: str) -> float:
        return found[f"order_sync_{name}"][tuple(sorted(labels.items()))]

    assert value("database_up") == 1
    assert value("ready") == 0  # the gap is older than six hours
    assert value("source_failures", source="acme:EU") == 2
    assert value("source_refused", source="acme:EU") == 0
    now = clock_of(service.store)()
    assert value("source_succeeded_timestamp_seconds", source="acme:EU") == now.timestamp() - 300
    assert value("marketplace_behind_seconds", account="acme", marketplace="UK") == 8 * 3600
    assert value("marketplace_oldest_gap_seconds", account="acme", marketplace="UK") == 8 * 3600
    assert value("windows", source="acme:EU", kind="sweep") == 1
    assert value("windows_set_aside", source="acme:EU", kind="sweep") == 1
    assert value("backfills", account="acme", marketplace="UK") == 1
    assert value("backfill_done_ratio", account="acme", marketplace="UK") == 0
    assert value("budget_burst", account="acme", operation="searchOrders") == 20
    assert value("budget_taken_total", account="acme", operation="searchOrders") == 1
    assert value("requests_total", operation="searchOrders", outcome="ServerFault") == 1
    assert value("retries_total", outcome="ServerFault") == 1
    assert value("runs_total", source="acme:EU") == 8
    assert value("failed_runs_total", source="acme:EU") == 2
    assert value("pages_total", source="acme:EU") == 11
    assert value("orders_total", source="acme:EU") == 730
    assert value("run_requests_total", source="acme:EU") == 15
    assert value("stored_orders", basis="created") == 1
    assert value("stored_orders", basis="unidentified") == 1
    assert value("stored_orders", basis="none") == 2
    assert value("stored_orders", basis="email_1") == 0
    assert value("customers") == 2
    assert value("unknown_marketplace_orders") == 2
    assert value("without_file_orders") == 1, "a shop that is not Amazon's can have no file"
    assert value("quarantined_orders") == 1
    assert value("webhook_dead_events", hook="1") == 0
    assert value("webhook_failures", hook="1") == 0
    assert value("quarantine_waiting_orders") == 1
    assert value("identity_share", source="acme:EU", field="email") == 0.1
    assert value("identity_share", source="acme:EU", field="name") == 0.9
    assert value("identity_dropped", source="acme:EU", field="email") == 1
    assert value("identity_dropped", source="acme:EU", field="name") == 0
    assert value("verification_missing_orders", account="acme", marketplace="UK") == 1
    assert value("verification_failed", account="acme", marketplace="UK") == 0
    stamp = value("verification_finished_timestamp_seconds", account="acme", marketplace="UK")
    assert stamp == now.timestamp()
    assert value("erasing_overdue_seconds") == 0


def test_no_label_says_anything_of_an_order_or_a_buyer(on_sqlite: Service) -> None:
    a_busy_shop(on_sqlite)
    text = render_metrics(on_sqlite.store, on_sqlite.setup, on_sqlite.tally.counts()).decode()
    assert not re.search(r"ann|@|\bo[123]\b|example", text)
    allowed = {"source", "account", "marketplace", "kind", "operation", "outcome", "basis", "hook", "field"}
    found = figures(on_sqlite)
    ours = {name: samples for name, samples in found.items() if name.startswith("order_sync_")}
    assert {label for samples in ours.values() for labels in samples for label, _ in labels} <= allowed
    before = sum(len(samples) for samples in ours.values())
    apply(on_sqlite.store, *(an_order(f"x{i}", f"{i}@example.com") for i in range(20)))
    after = figures(on_sqlite)
    assert sum(len(s) for name, s in after.items() if name.startswith("order_sync_")) == before


def test_a_fresh_service_has_figures_already(service: Service) -> None:
    found = figures(service)
    assert found["order_sync_ready"][()] == 0
    assert found["order_sync_customers"][()] == 0
    assert "order_sync_source_succeeded_timestamp_seconds" not in found


def test_a_database_that_is_away_is_a_figure(on_sqlite: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    on_sqlite.tally(Attempt("acme", "getOrder", "ok", False, 0.1))

    @contextmanager
    def away(_: Store) -> Iterator[None]:
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("Connection refused"))
        yield

    monkeypatch.setattr(Store, "read", away)
    found = figures(on_sqlite)
    assert found["order_sync_database_up"][()] == found["order_sync_ready"][()] == 0
    assert found["order_sync_requests_total"][(("operation", "getOrder"), ("outcome", "ok"))] == 1


# --- rules and dashboard ------------------------------------------------------------------------------

_FUNCTIONS = ("absent", "avg", "count", "delta", "increase", "max", "min", "rate", "sum", "time")
_WORDS = {*_FUNCTIONS, "and", "by", "ignoring", "on", "or", "unless", "without"}
_TOKEN = re.compile(
    r'"[^"]*"|\[[0-9]+[smhd]\]|[a-zA-Z_:][a-zA-Z0-9_:]*|[0-9.]+|[<>=!]=|=~|!~|[-+*/<>=(){},]|\s+'
)


def names_of(expression: str) -> tuple[set[str], dict[str, set[str]]]:
    """Return the metrics of an expression, and the labels that each, or a grouping of it, must have.

    Fails on what is no PromQL: an unknown word, a stray character, brackets that do not match.
    """
    tokens = []
    at = 0
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        assert found, f"not understood: {expression[at:]}"
        tokens.append(found[0].strip())
        at = found.end()
    tokens = [token for token in tokens if token]
    metrics: set[str] = set()
    labels: set[str] = set()
    closing = {"(": ")", "{": "}"}
    open_: list[str] = []
    before = ""
    for i, token in enumerate(tokens):
        if token in closing:
            open_.append("by" if before in ("by", "on", "without", "ignoring") else token)
        elif token in closing.values():
            opened = open_.pop()
            assert opened == "by" or closing[opened] == token, expression
        elif re.match(r"[a-zA-Z_]", token):
            if open_ and open_[-1] in ("by", "{"):
                labels.add(token)
            elif token not in _WORDS:
                assert tokens[i + 1 : i + 2] != ["("], f"unknown function {token}"
                metrics.add(token)
        before = token
    assert not open_, expression
    return metrics, {metric: labels for metric in metrics}


def expressions() -> Iterator[tuple[str, str, set[str]]]:
    """Yield every expression of the rules and the dashboard, with the labels that its texts quote."""
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            texts = " ".join(rule["annotations"].values())
            yield f"rule {rule['alert']}", rule["expr"], set(re.findall(r"\$labels\.(\w+)", texts))
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            yield f"panel {panel['title']}", target["expr"], legend


def test_rules_and_dashboard_use_metrics_and_labels_that_exist(on_sqlite: Service) -> None:
    a_busy_shop(on_sqlite)
    found = figures(on_sqlite)
    known = {name: {label for labels in samples for label, _ in labels} for name, samples in found.items()}
    used: set[str] = set()
    for where, expression, quoted in expressions():
        metrics, labels = names_of(expression)
        assert metrics, where
        for metric in metrics:
            assert metric in known, f"{where}: {metric}"
            assert labels[metric] <= known[metric], f"{where}: labels of {metric}"
            if "sum(" not in expression:
                assert quoted <= known[metric], f"{where}: quoted labels of {metric}"
        used |= metrics
    ours = {name for name in known if name.startswith("order_sync_")}
    not_drawn = {
        "order_sync_source_behind_seconds",
        "order_sync_marketplace_alone",
        "order_sync_marketplace_gaps",
    }
    not_drawn |= {f"order_sync_{name}_total" for name in ("runs", "failed_runs", "run_requests")}
    not_drawn |= {"order_sync_source_failures", "order_sync_backfills"}
    assert ours - used == not_drawn


@pytest.mark.parametrize(
    "wrong", ["foo(order_sync_ready)", "order_sync_ready{source='x'}", "sum(order_sync_ready", "ready)"]
)
def test_the_reader_of_expressions_notices_what_is_wrong(wrong: str) -> None:
    with pytest.raises((AssertionError, IndexError)):
        names_of(wrong)


def test_every_rule_says_what_is_wrong_and_what_to_do() -> None:
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        names = [rule["alert"] for rule in group["rules"]]
        assert len(names) == len(set(names))
        for rule in group["rules"]:
            assert {"summary", "description"} == set(rule["annotations"])
            assert rule["labels"]["severity"] in ("info", "warning", "critical")


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
