"""The API does what its description says, for any request that schemathesis makes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from pydantic import TypeAdapter
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from poller import export
from poller.bootstrap import Service
from poller.web import schemas
from poller.web.access import PUBLIC
from poller.web.app import make_api
from poller.web.problems import MEDIA_TYPE
from poller.web.tokens import SCOPES
from tests.acceptance.command_line import ROOT
from tests.acceptance.web_world import BUYERS, ORDERS, Served, logged, served
from tests.databases import long_on

EXAMPLES = 6
"""Valid and invalid requests each, per operation and database."""

CHECKS: Any = [not_a_server_error, content_type_conformance, response_schema_conformance]
METHODS = {"get", "post", "put", "patch", "delete"}


def examples_of(strategy: Any, carry_out: Any, examples: int, number: int) -> None:
    """Draw some examples, for the same number the same ones each time."""
    chosen = settings(
        max_examples=examples,
        derandomize=not number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    drawn = given(case=strategy)(carry_out)
    chosen(seed(number)(drawn) if number else drawn)()


@pytest.mark.long
@long_on("postgresql")
def test_no_request_finds_an_error_of_the_server(tmp_path: Path, database_url: str) -> None:
    with served(tmp_path, database_url) as place, logged() as events:
        seen = try_all(place, "read", "write", "buyer-data")
        broken = [event for event in events if event["event"] == "request broke"]
    assert broken == []
    assert len(seen) > 25
    succeeded = [label for label, statuses in seen.items() if min(statuses) < 300]
    assert len(succeeded) > 20, seen
    assert set[int]().union(*seen.values()) >= {200, 201, 404, 422}


@pytest.mark.long
@pytest.mark.parametrize("scope", SCOPES)
def test_no_request_with_one_scope_alone_finds_an_error_or_a_buyer(tmp_path: Path, scope: str) -> None:
    with served(tmp_path) as place, logged() as events:
        seen = try_all(place, scope)
        broken = [event for event in events if event["event"] == "request broke"]
    assert broken == []
    assert 403 in set[int]().union(*seen.values())


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scope", SCOPES)
def test_ten_minutes_of_requests_with_one_scope_find_no_error(tmp_path: Path, scope: str) -> None:
    ends_at = time.monotonic() + 600
    with served(tmp_path) as place, logged() as events:
        number = 0
        while time.monotonic() < ends_at:
            number += 1
            try_all(place, scope, examples=40, number=number)
        broken = [event for event in events if event["event"] == "request broke"]
    assert broken == []


def try_all(place: Served, *scopes: str, examples: int = EXAMPLES, number: int = 0) -> dict[str, set[int]]:
    """Send valid and invalid requests to every operation, with a token of these scopes.

    Return the statuses of the answers by operation. Without the scope no answer may hold a piece of a buyer.
    """
    name = f"{'-'.join(scopes)}-{number}"
    headers = {"Authorization": f"Bearer {place.token(name, *scopes)}"}
    reading = {"Authorization": f"Bearer {place.token(f'{name}-describe', 'read')}"}
    schema = schemathesis.openapi.from_url(f"{place.url}/openapi.json", headers=reading)
    seen: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        seen[operation.label] = statuses = set[int]()

        def carry_out(case: Any) -> None:
            answer = case.call(headers=headers)
            case.validate_response(answer, checks=CHECKS)
            statuses.add(answer.status_code)  # noqa: B023
            if "buyer-data" not in scopes or "read" not in scopes:
                assert not [piece for piece in BUYERS if piece in answer.text], operation.label  # noqa: B023

        # Requests that name existing records reach further.
        known = real_parameters(operation.path)
        positive = operation.as_strategy(GenerationMode.POSITIVE, path_parameters=known)
        examples_of(positive, carry_out, examples, number)
        if operation.body or list(operation.query):
            examples_of(operation.as_strategy(GenerationMode.NEGATIVE), carry_out, examples, number)
        # What is drawn depends on all code that is imported; the documented example always succeeds.
        if operation.label == "POST /customers":
            (example,) = schema.raw_schema["components"]["schemas"]["NewCustomer"]["examples"][:1]
            carry_out(operation.Case(body=example, media_type="application/json"))
    return seen


def real_parameters(path: str) -> dict[str, Any] | None:
    known: dict[str, Any] = {"account": "acme", "order_id": ORDERS[0], "source": "acme:EU", "customer_id": 1}
    named = {name: value for name, value in known.items() if f"{{{name}}}" in path}
    return named or None


# --- the description itself -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    with Service({}) as service:
        return make_api(service).openapi()


@pytest.mark.long
def test_every_operation_has_a_description_and_its_errors_are_problems(description: dict[str, Any]) -> None:
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            assert method in METHODS
            assert operation["description"], path
            assert set(operation["responses"]["default"]["content"]) == {MEDIA_TYPE}
            assert operation.get("security", description["security"]) == (
                [] if path in PUBLIC else [{"token": []}]
            )


def test_the_page_about_the_api_has_every_route(description: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    for path in description["paths"]:
        assert f"{path}`" in page or f"`/{path.rpartition('/')[2]}`" in page, path


def test_every_request_body_has_a_valid_example(description: dict[str, Any]) -> None:
    sent = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for operations in description["paths"].values()
        for operation in operations.values()
        if "requestBody" in operation
    }
    assert len(sent) > 8
    for name in sent:
        assert description["components"]["schemas"][name]["examples"], name
    for name, schema in description["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            shape: Any = schemas.by_name().get(name) or getattr(export, name, None)
            if isinstance(shape, type):
                TypeAdapter(shape).validate_python(example)
