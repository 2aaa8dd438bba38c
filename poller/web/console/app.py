"""The console: an application of its own, mounted at ``/console``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.routing import iter_route_contexts
from starlette.staticfiles import StaticFiles

from poller.bootstrap import Service
from poller.web.console import (
    account,
    audit,
    backfills,
    customers,
    duplicates,
    editing,
    forms,
    merging,
    orders,
    overview,
    quarantine,
    rendering,
    runs,
    search,
    sign_in,
    verifications,
)

if TYPE_CHECKING:
    from poller.web.oidc import OidcProvider

ROUTERS = (
    sign_in,
    account,
    overview,
    orders,
    editing,
    customers,
    merging,
    duplicates,
    backfills,
    quarantine,
    verifications,
    runs,
    search,
    audit,
)

Handler = Callable[[Request, Any], Awaitable[Response]]


async def _check_form(request: Request) -> None:
    forms.check_form(request)


def make_console(service: Service, handlers: Mapping[type[Exception], Handler]) -> FastAPI:
    """Return the console. ``handlers``: the API's error handlers, whose answers are shown as pages."""
    console = FastAPI(openapi_url=None, redirect_slashes=False, dependencies=[Depends(_check_form)])
    console.state.service = service
    console.state.oidc = _provider_of(service)
    console.state.snapshots = overview.Snapshots()
    console.state.duplicates = duplicates.DuplicateSearch(service.stop)
    for module in ROUTERS:
        console.include_router(module.router)
    console.mount("/static", StaticFiles(directory=rendering.HERE / "static"), name="static")
    list(iter_route_contexts(console.routes))  # built now, so that the first request is not slow
    for kind, handler in handlers.items():
        console.add_exception_handler(kind, _as_page(handler))
    return console


def _provider_of(service: Service) -> OidcProvider | None:
    settings = service.config.settings
    if settings.oidc_issuer is None or settings.oidc_client_secret is None:
        return None
    from poller.web.oidc import OidcProvider, OidcSettings  # needs the extra

    wanted = OidcSettings(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id or "",
        client_secret=settings.oidc_client_secret.get_secret_value(),
        user_claim=settings.oidc_user_claim,
        redirect_url=f"{settings.public_url}{sign_in.CALLBACK}",
    )
    return OidcProvider(wanted)


def _as_page(handler: Handler) -> Handler:
    async def shown(request: Request, error: Any) -> Response:
        response = await handler(request, error)
        detail = json.loads(bytes(response.body))["detail"]
        if response.status_code == 405:
            detail = "this page can't be opened directly."
        headers = {name: value for name, value in response.headers.items() if name == "retry-after"}
        return rendering.problem_page(request, response.status_code, detail, headers)

    return shown
