"""The application: routes, OpenAPI description, and the answers to errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import RedirectResponse
from fastapi.routing import iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from connectors.errors import ConnectorError, Deferred
from poller.actions.orders import NotStored
from poller.bootstrap import Service
from poller.errors import Refused, Unknown
from poller.version import program_version
from poller.web import audit, backfills, customers, orders, probes, quarantine, schemas, status, verifications
from poller.web.access import PUBLIC, Authenticator
from poller.web.console import forms, sessions
from poller.web.console.app import make_console
from poller.web.dependencies import only_known_parameters, viewer_of
from poller.web.examples import EXAMPLES
from poller.web.masking import disclosed
from poller.web.middleware import DATABASE_ERRORS, GuardMiddleware, fault, note_refusal
from poller.web.problems import MEDIA_TYPE, Problem, ProblemShape, database_away, locked_out
from store.audit_records import about
from store.engine import DatabaseError, Tombstone, is_conflict, reason_of
from store.ledger import Superseded
from store.sealing import UnknownKey

ROUTERS = (status, orders, customers, backfills, quarantine, verifications, audit, probes)

DESCRIPTION = (
    "Orders, customers and operation. Errors are problem details (RFC 9457). Lists continue with `cursor`. "
    "Times are UTC, amounts are decimal strings. Without the scope buyer-data, buyer data is `***`."
)


def make_app(service: Service, now: Callable[[], datetime]) -> GuardMiddleware:
    """Return the whole application for a service, whose database may not be open yet."""
    api = make_api(service)
    token = service.config.settings.api_token
    authenticator = Authenticator(None if token is None else token.get_secret_value(), now)
    return GuardMiddleware(api, service, authenticator, now)


def make_api(service: Service) -> FastAPI:
    """Return the routes without the middleware that checks access: never serve this by itself."""
    api = FastAPI(
        title="amazon-order-sync",
        version=program_version(),
        description=DESCRIPTION,
        docs_url=None,  # both would load files from other hosts
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.service = service
    api.state.readiness = probes.ReadinessCache()
    for module in ROUTERS:
        api.include_router(
            module.router, responses={"default": PROBLEM}, dependencies=[Depends(only_known_parameters)]
        )
    list(iter_route_contexts(api.routes))  # built now, so that the first request is not slow
    for kind, handler in HANDLERS.items():
        api.add_exception_handler(kind, handler)
    for path in ("/", forms.PREFIX):
        api.add_api_route(path, _to_console, include_in_schema=False)
    api.mount(forms.PREFIX, make_console(service, HANDLERS))
    api.openapi = lambda: _description(api)  # type: ignore[method-assign]
    return api


def _to_console() -> Response:
    return RedirectResponse(sessions.HOME, 303)


PROBLEM: dict[str, Any] = {"description": "An error.", "model": ProblemShape}


def _description(api: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description, with the bearer token and with errors under their own media type."""
    if api.openapi_schema is None:
        description = get_openapi(
            title=api.title, version=api.version, description=api.description, routes=api.routes
        )
        description.setdefault("components", {})["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "Made by `order-sync tokens add`.",
            }
        }
        description["security"] = [{"token": []}]
        for path, operations in description["paths"].items():
            for operation in operations.values():
                if path in PUBLIC:
                    operation["security"] = []
                # Invalid requests are answered with problem details, not with FastAPI's own schema.
                operation["responses"].pop("422", None)
                content = operation["responses"]["default"]["content"]
                content[MEDIA_TYPE] = content.pop("application/json")
        components, own = description["components"]["schemas"], schemas.by_name()
        for name in ("HTTPValidationError", "ValidationError"):
            components.pop(name, None)
        for name, schema in components.items():
            if name in EXAMPLES:
                schema["examples"] = [EXAMPLES[name]]
            elif "examples" in schema and name in own:
                # FastAPI drops null values from examples; our answers always hold all keys.
                extra: Any = own[name].model_config["json_schema_extra"]
                schema["examples"] = extra["examples"]
        api.openapi_schema = description
    return api.openapi_schema


# --- errors -----------------------------------------------------------------------------------------


async def _problem(request: Request, error: Any) -> Response:
    await note_refusal(request.scope, error)
    response: Response = error.response()
    return response


async def _refused(request: Request, error: Any) -> Response:
    named = ""
    if error.named and (viewer := viewer_of(request)).sees_buyers:
        named = f" {', '.join(error.named)}"
        ids = request.path_params.get("customer_id"), request.path_params.get("other_id")
        customers = tuple(int(customer_id) for customer_id in ids if customer_id is not None)
        await run_in_threadpool(disclosed, viewer, about("customers", customers=customers))
    if isinstance(error, Unknown):
        return Problem(404, "unknown", f"{error}{named}").response()
    return Problem(422, "refused", f"{error}{named}").response()


async def _http(request: Request, error: Any) -> Response:
    """Answer an error of the framework: unknown route, wrong method, body that is not JSON."""
    kinds = {404: "no-route", 405: "method"}

    def see(what: str) -> str:
        return "" if sessions.is_page(request.scope["path"]) else f": /openapi.json {what}"

    allowed = (error.headers or {}).get("Allow", "another one")
    details = {
        404: f"there is nothing at this address{see('lists those there are')}.",
        405: f"this address does not support this method: it takes {allowed}.",
    }
    kind = kinds.get(error.status_code, "request")
    detail = details.get(error.status_code, f"the request is malformed{see('describes each one')}.")
    return Problem(error.status_code, kind, detail, headers=error.headers).response()


async def _invalid(_: Request, error: Any) -> Response:
    """Name the invalid parts and why, never their values, which may be a buyer's."""
    errors, sentences = [], []
    for part in error.errors():
        where, reason = [str(piece) for piece in part["loc"]], _reason(part["type"], part.get("ctx", {}))
        errors.append({"where": ".".join(where), "what": reason})
        # An index or an offset says nothing in a sentence.
        name = ".".join(piece for piece in where[1:] if not piece.isdigit()) or where[0]
        sentences.append(f"{name[:80]} {reason}")
    detail = f"Invalid request: {'; '.join(sentences[:3])}."
    return Problem(422, "invalid", detail, errors=errors).response()


def _reason(kind: str, limits: Mapping[str, Any]) -> str:
    """Return the end of a sentence about an invalid part. ``limits``: those of our own schema."""
    known = _REASONS.get(kind, "is not of the form that /openapi.json describes")
    return known.format_map(limits)


_REASONS = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "json_invalid": "is not JSON",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_pattern_mismatch": "has a character that is not allowed here",
    "too_long": "must have at most {max_length} items",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_type": "must be a text",
    "list_type": "must be a list",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be a JSON object"),
    **dict.fromkeys(("datetime_parsing", "datetime_from_date_parsing"), "must look like 2026-01-31"),
}


async def _deferred(_: Request, error: Any) -> Response:
    headers = {"Retry-After": "60"}
    detail = f"{error}; until {error.until:%Y-%m-%dT%H:%M:%SZ}."
    return Problem(503, "deferred", detail, headers=headers).response()


async def _amazon(_: Request, error: Any) -> Response:
    return Problem(502, "amazon", f"{str(error).removesuffix('.')}.").response()


async def _not_stored(_: Request, error: Any) -> Response:
    return Problem(409, "not-stored", str(error)).response()


async def _superseded(_: Request, error: Any) -> Response:
    return Problem(409, "busy", "another process is working on it: try again.").response()


async def _busy(_: Request, __: Any) -> Response:
    """Answer a change that lost to concurrent ones more often than it is retried."""
    detail = "other requests are changing the same records: try again."
    return Problem(503, "busy", detail, headers={"Retry-After": "1"}).response()


async def _database(request: Request, error: Any) -> Response:
    if is_conflict(error):
        return await _busy(request, error)
    if isinstance(error, DatabaseError) and reason_of(error) == type(error).__name__:
        raise error
    return database_away().response()


async def _fault(request: Request, error: Any) -> Response:
    """Answer an unexpected error; the framework raises it again afterwards."""
    return fault(request.scope, error).response()


async def _unknown_key(request: Request, error: Any) -> Response:
    """Answer a request for a value that the keys of this process do not open."""
    fault(request.scope, error)
    return locked_out().response()


HANDLERS: dict[type[Exception], Any] = {
    Problem: _problem,
    Refused: _refused,
    HTTPException: _http,
    RequestValidationError: _invalid,
    Deferred: _deferred,
    ConnectorError: _amazon,
    NotStored: _not_stored,
    Superseded: _superseded,
    Tombstone: _busy,
    UnknownKey: _unknown_key,
    **dict.fromkeys(DATABASE_ERRORS, _database),
    Exception: _fault,
}
