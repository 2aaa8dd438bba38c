"""The console as an application of its own, below ``/console``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.routing import iter_route_contexts
from starlette.staticfiles import StaticFiles

from poller.bootstrap import Service
from poller.web.console import (
    backfills,
    customers,
    forms,
    orders,
    overview,
    quarantine,
    rendering,
    runs,
    search,
    sign_in,
)

ROUTERS = (sign_in, overview, orders, customers, backfills, quarantine, runs, search)

Handler = Callable[[Request, Any], Awaitable[Response]]


async def _checked(request: Request) -> None:
    forms.check_form(request)


def make_console(service: Service, handlers: Mapping[type[Exception], Handler]) -> FastAPI:
    """The pages. ``handlers``: what the API makes of errors, here shown as a page."""
    console = FastAPI(openapi_url=None, redirect_slashes=False, dependencies=[Depends(_checked)])
    console.state.service = service
    console.state.snapshots = overview.Snapshots(service)
    console.state.finder = customers.Finder(service)
    for module in ROUTERS:
        console.include_router(module.router)
    console.mount("/static", StaticFiles(directory=rendering.HERE / "static"), name="static")
    list(iter_route_contexts(console.routes))  # built now: the first who asks should not wait for it
    for kind, handler in handlers.items():
        console.add_exception_handler(kind, _as_page(handler))
    return console


def _as_page(handler: Handler) -> Handler:
    async def shown(request: Request, error: Any) -> Response:
        answer = await handler(request, error)
        told = json.loads(bytes(answer.body))
        detail = "; ".join([told["detail"], *(f"{e['where']} {e['what']}" for e in told.get("errors", ()))])
        kept = {name: value for name, value in answer.headers.items() if name == "retry-after"}
        return rendering.problem_page(request, answer.status_code, detail, kept)

    return shown
