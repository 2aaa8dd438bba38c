"""Records as they are stored and exported, page by page, for reading: starlette-admin's views on our queries.

The store's columns are sealed and its lists go by indexes, so these views neither sort nor search, and end
after the newest ten thousand. How they look is ours (``templates/records``), so that the same strict policy
holds for them as for all other pages.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jinja2
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette_admin import BaseAdmin, StringField
from starlette_admin.views import BaseModelView

from poller.actions.backfill_progress import standing_of
from poller.actions.backfills import backfill_object
from poller.actions.quarantine import quarantine_object
from poller.bootstrap import Service
from poller.cli.export import KEYS
from poller.export import customer_object, order_object
from poller.monitoring.status import as_object
from poller.web.access import Caller
from poller.web.console import rendering, sessions
from poller.web.masking import customers_for, orders_for
from poller.web.middleware import App, Message, Receive, Scope, Send
from store import ledger, quarantine, queries, runs, tables
from store.engine import Transaction
from store.orders import order_currency

MOST = 10_000

# It logs at length what is asked for.
logging.getLogger("starlette_admin").setLevel(logging.ERROR)

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of records. ``listed`` gives some of the newest, ``found`` one by its id."""

    key: str
    name: str
    pk: str
    columns: tuple[str, ...]
    """Keys of the list; a record's own page has all."""
    keys: tuple[str, ...]
    table: sa.Table
    listed: Callable[[Transaction, Service, int, int], list[Object]]
    found: Callable[[Transaction, Service, str], Object | None]
    for_caller: Callable[[Caller, list[Object]], list[Object]] = lambda _, objects: objects


def _order(order: Any) -> Object:
    return {"id": f"{order.account}/{order.order_id}", **order_object(order, order_currency(order))}


def _found_order(tx: Transaction, _: Service, pk: str) -> Object | None:
    account, _slash, order_id = pk.partition("/")
    return next((_order(o) for o in queries.find_orders(tx, order_id, account)), None)


def _found_customer(tx: Transaction, _: Service, pk: str) -> Object | None:
    number = _number(pk)
    customer = None if number is None else queries.get_customer(tx, number)
    return None if customer is None else customer_object(customer)


def _number(pk: str) -> int | None:
    """An id that a database can have."""
    return int(pk) if pk.isascii() and pk.isdigit() and len(pk) < 19 else None


def _quarantined(tx: Transaction, _: Service, skip: int, limit: int) -> list[Object]:
    entries = [quarantine_object(entry) for entry in quarantine.entries(tx)]
    return [{"id": f"{e['account']}/{e['order_id']}", **e} for e in entries][skip : skip + limit]


def _found_quarantined(tx: Transaction, service: Service, pk: str) -> Object | None:
    return next((e for e in _quarantined(tx, service, 0, MOST) if e["id"] == pk), None)


def _backfills(tx: Transaction, service: Service, skip: int, limit: int) -> list[Object]:
    some = list(reversed(ledger.load_backfills(tx)))[skip : skip + limit]
    return [backfill_object(standing_of(tx, service, backfill)) for backfill in some]


def _found_backfill(tx: Transaction, service: Service, pk: str) -> Object | None:
    return next((b for b in _backfills(tx, service, 0, MOST) if str(b["id"]) == pk), None)


def _found_run(tx: Transaction, _: Service, pk: str) -> Object | None:
    number = _number(pk)
    found = [] if number is None else runs.listed(tx, limit=1, before=number + 1)
    return as_object(found[0]) if found and found[0].run == number else None


_QUARANTINE = (
    *("order_id", "account", "marketplace", "reason", "attempts"),
    *("next_attempt_at", "first_seen_at"),
)
_BACKFILLS = (
    *("id", "marketplace", "from", "to", "by", "state"),
    *("windows_done", "windows_total", "orders", "requests", "eta"),
)
_RUNS = tuple(column.name for column in tables.runs.c)

KINDS = (
    Kind(
        "orders",
        "Orders",
        "id",
        ("order_id", "account", "marketplace", "status", "created_at", "buyer_name", "customer_id", "total"),
        tuple(KEYS["orders"]),
        tables.orders,
        lambda tx, _, skip, limit: [_order(o) for o in queries.list_orders(tx, limit=limit, skip=skip)],
        _found_order,
        orders_for,
    ),
    Kind(
        "customers",
        "Customers",
        "customer_id",
        ("customer_id", "business", "status", "name", "company", "emails", "price_list", "created_at"),
        tuple(KEYS["customers"]),
        tables.customers,
        lambda tx, _, skip, limit: sorted(
            (customer_object(c) for c in queries.list_customers(tx, limit=limit, skip=skip)),
            key=lambda customer: -customer["customer_id"],
        ),
        _found_customer,
        customers_for,
    ),
    Kind(
        "quarantine",
        "Quarantine",
        "id",
        _QUARANTINE,
        _QUARANTINE,
        tables.quarantine,
        _quarantined,
        _found_quarantined,
    ),
    Kind(
        "backfills", "Backfills", "id", _BACKFILLS, _BACKFILLS, tables.backfills, _backfills, _found_backfill
    ),
    Kind(
        "runs",
        "Runs",
        "run",
        ("run", "source", "started_at", "outcome", "pages", "orders", "requests", "retries"),
        _RUNS,
        tables.runs,
        lambda tx, _, skip, limit: [as_object(r) for r in runs.listed(tx, limit=limit, skip=skip)],
        _found_run,
    ),
)


class Records(BaseModelView):
    """Records of one kind, which can be looked at and nothing else."""

    page_size = 25
    page_size_options = (25, 50, 100)
    searchable_fields: Sequence[str] = ()
    sortable_fields: Sequence[str] = ()
    exporters = ()
    importers = ()
    actions = ()
    row_actions = ()

    def __init__(self, kind: Kind, service: Service) -> None:
        self.key = kind.key
        self.display_name = self.menu_label = kind.name
        self.pk_attr = kind.pk
        self.fields = [
            StringField(key, exclude_from_list=key not in kind.columns)
            for key in dict.fromkeys((kind.pk, *kind.keys))
        ]
        self.kind = kind
        self._service = service
        super().__init__()

    def can_create(self, request: Request) -> bool:
        return False

    can_edit = can_delete = can_export = can_import = can_create

    async def find_all(
        self,
        request: Request,
        skip: int = 0,
        limit: int = 100,
        q: str | None = None,
        sorts: Any = None,
        filters: Any = None,
    ) -> Sequence[Any]:
        skip = min(skip, MOST)
        return await run_in_threadpool(
            self._read,
            request,
            lambda tx: self.kind.listed(tx, self._service, skip, min(limit, MOST - skip)),
        )

    async def count(self, request: Request, q: str | None = None, filters: Any = None) -> int:
        def counted() -> int:
            with self._service.store.read() as tx:
                return queries.count_upto(tx, self.kind.table, MOST)

        return await run_in_threadpool(counted)

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        def found(tx: Transaction) -> list[Object]:
            one = self.kind.found(tx, self._service, str(pk))
            return [] if one is None else [one]

        return next(iter(await run_in_threadpool(self._read, request, found)), None)

    async def find_by_pks(self, request: Request, pks: list[Any]) -> Sequence[Any]:
        return [found for pk in pks if (found := await self.find_by_pk(request, pk)) is not None]

    def _read(self, request: Request, read: Callable[[Transaction], list[Object]]) -> list[SimpleNamespace]:
        with self._service.store.read() as tx:
            found = read(tx)
        shown = self.kind.for_caller(request.state.caller, found)
        return [SimpleNamespace(**{key: _text(value) for key, value in one.items()}) for one in shown]

    async def _refused(self, *_: Any, **__: Any) -> Any:
        """starlette-admin wants the three of every view, and calls none that ``can_create`` or so denies."""
        raise HTTPException(403)

    create = edit = delete = _refused


def _text(value: Any) -> str | None:
    """A value as it is exported."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


class Policy:
    """Gives every page of this part the headers of the console's own pages."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(n, v) for n, v in message["headers"] if n.lower() != b"set-cookie"]
                policy = (b"content-security-policy", rendering.POLICY.encode())
                message["headers"] = [*headers, policy, (b"vary", b"Cookie")]
            await send(message)

        if sessions.seed_of(Request(scope)) is None:
            await RedirectResponse(sessions.HOME, 303)(scope, receive, send)
        else:
            await self._app(scope, receive, with_policy)


def _form(request: Request) -> str:
    return sessions.proof(sessions.seed_of(request) or "")


def mount(console: FastAPI, service: Service) -> None:
    """The records below ``/console/records``."""
    admin = BaseAdmin(
        title="Records",
        base_url="/records",
        route_name="records",
        templates_dir=str(rendering.HERE / "templates" / "records"),
        additional_loaders=[jinja2.FileSystemLoader(rendering.HERE / "templates")],
        secret_key=secrets.token_hex(32),
        timezone_config=None,
        middlewares=[Middleware(Policy)],
    )
    admin.templates.env.globals |= {**rendering.ENVIRONMENT.globals, "KINDS": KINDS, "form_of": _form}
    admin.templates.env.filters |= rendering.FILTERS
    for kind in KINDS:
        admin.add_view(Records(kind, service))
    admin.mount_to(console)

    def to_records() -> RedirectResponse:
        return RedirectResponse(f"{sessions.RECORDS}/{KINDS[0].key}/list", 303)

    console.add_api_route("/records", to_records)
