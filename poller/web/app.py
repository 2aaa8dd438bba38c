"""The application: routes, and what becomes of everything that goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import RedirectResponse
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from connectors.errors import ConnectorError, Deferred
from poller.actions.orders import NotStored
from poller.bootstrap import Service
from poller.errors import Refused, Unknown
from poller.version import program_version
from poller.web import backfills, customers, orders, probes, quarantine, schemas, status, verifications
from poller.web.access import PUBLIC, Caller, Gate
from poller.web.console import forms, sessions
from poller.web.console.app import make_console
from poller.web.dependencies import only_known_parameters
from poller.web.masking import disclosed
from poller.web.middleware import UNREACHED, App, Door, away, fault
from poller.web.problems import MEDIA_TYPE, Problem, ProblemShape
from store.engine import Tombstone, is_conflict, reason_of
from store.ledger import Superseded

ROUTERS = (status, orders, customers, backfills, quarantine, verifications, probes)

DESCRIPTION = (
    "Orders, customers and their upkeep. Errors are problem details (RFC 9457). Lists go on with `cursor`. "
    "Times are UTC, money is a decimal text. Without the scope buyer-data, what a buyer gave is `***`."
)


def make_app(service: Service, now: Callable[[], datetime]) -> App:
    """The whole application for a service, whose database may not be open yet."""
    api = make_api(service)
    token = service.config.settings.api_token
    return Door(api, service, Gate(None if token is None else token.get_secret_value(), now))


def make_api(service: Service) -> FastAPI:
    """The routes alone, without the door: nothing that serves people may use it by itself."""
    api = FastAPI(
        title="amazon-order-sync",
        version=program_version(),
        description=DESCRIPTION,
        docs_url=None,  # both would load what other hosts serve
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.service = service
    api.state.looking = probes.Looking()
    for module in ROUTERS:
        api.include_router(
            module.router, responses={"default": PROBLEM}, dependencies=[Depends(only_known_parameters)]
        )
    list(iter_route_contexts(api.routes))  # built now: the first who asks should not wait for it
    for kind, handler in HANDLERS.items():
        api.add_exception_handler(kind, handler)
    for path in ("/", forms.PREFIX):
        api.add_api_route(path, _to_console, include_in_schema=False)
    api.mount(forms.PREFIX, make_console(service, HANDLERS))
    api.openapi = lambda: _described(api)  # type: ignore[method-assign]
    return api


def _to_console() -> Response:
    return RedirectResponse(sessions.HOME, 303)


PROBLEM: dict[str, Any] = {"description": "An error.", "model": ProblemShape}


def _described(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI description: with the bearer token, and errors under their own media type."""
    if api.openapi_schema is None:
        found = get_openapi(
            title=api.title, version=api.version, description=api.description, routes=api.routes
        )
        found.setdefault("components", {})["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "`order-sync tokens add`; without any token, this machine needs none.",
            }
        }
        found["security"] = [{"token": []}]
        for path, operations in found["paths"].items():
            for operation in operations.values():
                if path in PUBLIC:
                    operation["security"] = []
                # FastAPI's own shape of a wrong request is not what is answered here.
                operation["responses"].pop("422", None)
                content = operation["responses"]["default"]["content"]
                content[MEDIA_TYPE] = content.pop("application/json")
        described = found["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            described.pop(name, None)
        for name, schema in described.items():
            if "examples" in schema and hasattr(schemas, name):
                # FastAPI leaves out what is null, which our answers never do.
                schema["examples"] = getattr(schemas, name).model_config["json_schema_extra"]["examples"]
        api.openapi_schema = found
    return api.openapi_schema


# --- what goes wrong --------------------------------------------------------------------------------


async def _problem(_: Request, error: Any) -> Response:
    answer: Response = error.response()
    return answer


async def _refused(request: Request, error: Any) -> Response:
    caller: Caller = request.state.caller
    named = ""
    if error.named and caller.sees_buyers:
        named = f" {', '.join(error.named)}"
        disclosed(caller, "refusal", [request.url.path])
    if isinstance(error, Unknown):
        return Problem(404, "unknown", f"{error}{named}").response()
    return Problem(422, "refused", f"{error}{named}").response()


async def _http(request: Request, error: Any) -> Response:
    """What the framework finds wrong: no such route, another method, a body that is no JSON."""
    kinds = {404: "no-route", 405: "method"}
    details = {404: "there is nothing at this address.", 405: "this method is not for this address."}
    kind = kinds.get(error.status_code, "request")
    detail = details.get(error.status_code, "this request cannot be understood.")
    return Problem(error.status_code, kind, detail, headers=error.headers).response()


async def _invalid(_: Request, error: Any) -> Response:
    """Places and reasons; never the value, which may be a buyer's."""
    errors = [
        {
            "where": ".".join(map(str, found["loc"])),
            "what": _WHAT.get(found["type"], "is not what is allowed"),
        }
        for found in error.errors()
    ]
    return Problem(
        422, "invalid", "something in this request is not as it must be.", errors=errors
    ).response()


_WHAT = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "json_invalid": "is not JSON",
    "string_too_long": "is too long",
    "string_too_short": "is too short",
    "too_long": "has too many items",
    "literal_error": "is none of the words that are allowed",
    "int_parsing": "is not a whole number",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
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
    return Problem(409, "busy", "another process is at work on it: try again.").response()


async def _busy(_: Request, __: Any) -> Response:
    """Others were faster, time and again."""
    detail = "others are changing the same records: try again."
    return Problem(503, "busy", detail, headers={"Retry-After": "1"}).response()


async def _database(request: Request, error: Any) -> Response:
    if is_conflict(error):
        return await _busy(request, error)
    if isinstance(error, DBAPIError) and reason_of(error) == type(error).__name__:
        raise error
    return away().response()


async def _fault(request: Request, error: Any) -> Response:
    """An error of ours; the framework raises it again when this is answered."""
    return fault(request.scope, error).response()


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
    **dict.fromkeys(UNREACHED, _database),
    Exception: _fault,
}
