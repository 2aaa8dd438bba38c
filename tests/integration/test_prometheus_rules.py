"""Each rule that is shipped for Prometheus fires for the situation that it is about, and for no other.

The situations are made in a database, the product renders its metrics, and Prometheus's own promtool
evaluates the rules over them.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from poller.bootstrap import Service
from tests.integration.situations import SITUATIONS, Make, attempts, quarantined, situation
from tests.integration.store_world import clock_of
from tests.integration.test_metrics import RULES, figures

HOURS = 25
"""How long a situation lasts: longer than any rule waits."""


LASTING: dict[str, set[str]] = {
    "the database does not answer": {"OrderSyncDatabaseAway"},
    "no source can be polled": {"OrderSyncNotReady"},
    "a source that has failed for 20 minutes": {"OrderSyncSourceStalled"},
    "a source that has failed for two hours": {"OrderSyncNotReady", "OrderSyncSourceStalled"},
    "a source that Login with Amazon has just refused": {"OrderSyncAuthorisationRefused"},
    "a source that Login with Amazon has refused for an hour": {
        "OrderSyncAuthorisationRefused",
        "OrderSyncNotReady",
    },
    "a source with the credentials of another seller": {
        "OrderSyncAuthorisationRefused",
        "OrderSyncNotReady",
    },
    "a source that is seven hours behind": {"OrderSyncBehind", "OrderSyncNotReady"},
    "a range that has been set aside for two hours": {"OrderSyncWindowsSetAside", "OrderSyncBehind"},
    "a range that has been missing for nine hours": {"OrderSyncNotReady", "OrderSyncGap", "OrderSyncBehind"},
    "a marketplace that the seller is not enrolled in": {"OrderSyncNotReady"},
    "a run that is dated in the future": {"OrderSyncNotReady"},
    "a service that has not been seen for four minutes": {"OrderSyncNotReady"},
    "a process without a key that another seals with": {"OrderSyncNotReady"},
    "a host whose clock is three minutes ahead": {"OrderSyncNotReady"},
    "an order in quarantine": {"OrderSyncQuarantineWaits"},
    "six orders that came into quarantine within a day": {"OrderSyncQuarantineWaits"},
    "an order of a marketplace without a file": {"OrderSyncUnknownMarketplace"},
    "a verification that failed": {"OrderSyncVerificationFailed"},
    "a verification that found an order missing": {"OrderSyncOrdersMissing"},
    "buyers that are not shown any more": {"OrderSyncBuyersNotShown"},
    "buyer data that is three days past its term": {"OrderSyncErasingOverdue"},
    "a webhook that has accepted nothing for two hours": {"OrderSyncWebhookFails"},
    "a webhook's event that was given up": {"OrderSyncWebhookGaveUp"},
}
"""The rules that fire while a situation lasts; for the others none does."""

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
    provoked = set().union(*LASTING.values(), *(names for _, names in CHANGES.values()))
    assert provoked | {"OrderSyncDown"} == set(rules())
    assert LASTING.keys() <= SITUATIONS.keys()


@pytest.mark.long
def test_each_rule_fires_for_its_situations_and_for_no_other(tmp_path: Path) -> None:
    cases: list[tuple[str, list[dict[str, str]], set[str]]] = [("no service", [], {"OrderSyncDown"})]
    for number, name in enumerate([*SITUATIONS, *CHANGES]):
        folder = tmp_path / str(number)
        folder.mkdir()
        make, expected = CHANGES.get(name, (None, LASTING.get(name, set())))
        with situation(folder, name if make is None else "all is well") as service:
            stalled = "OrderSyncSourceStalled" in expected
            cases.append((name, series(service, make, stalled=stalled), expected))
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
