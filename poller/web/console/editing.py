"""Creating and editing a customer: the form, what is wrong with each of its fields, and saving it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from poller.bootstrap import Service
from poller.customers import edits
from poller.customers.fields import BUYERS, EMAILS, FIELDS, PERSONAL, SELLERS, FieldRefused, examined, text_of
from poller.customers.merge_rules import check_living
from poller.errors import NoCustomer, Refused, Unknown
from poller.matching.customer_records import shown_name
from poller.web.console.forms import Fields, fields_of
from poller.web.console.rendering import page, redirect_to
from poller.web.customers import check_version, etag_of
from poller.web.dependencies import CallerDep, Id, ServiceDep
from poller.web.masking import Viewer, customers_for, require_buyer_data
from poller.web.problems import LacksScope, Problem
from store import customers, idempotency, queries
from store.engine import Transaction
from store.origins import part_names
from store.records import CustomerRecord

router = APIRouter()
T = TypeVar("T")

SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Person", ("name", "company", "phone")),
    ("Main e-mails, which match orders", EMAILS),
    ("Delivery address", part_names("delivery")),
    ("Billing address", part_names("billing")),
    ("Terms", ("external_id", *SELLERS)),
)

TITLES = {
    "external_id": "Your ID",
    "discount_percent": "Discount (%)",
    "currency": "Currency (three letters)",
    **{f"{kind}_line{number}": f"Line {number}" for kind in ("billing", "delivery") for number in (1, 2, 3)},
    **{f"{kind}_country": "Country (two letters)" for kind in ("billing", "delivery")},
    **{name: f"E-mail {slot}" for slot, name in enumerate(EMAILS, 1)},
}


class Wrong(Exception):
    """What is wrong with a form: by field, and with it as a whole. ``holders``: who has a value already."""

    def __init__(
        self,
        fields: Mapping[str, str] | None = None,
        whole: str | None = None,
        holders: Mapping[str, int] | None = None,
        status: int = 422,
    ) -> None:
        super().__init__()
        self.fields = fields or {}
        self.whole = whole
        self.holders = holders or {}
        self.status = status


@dataclass(frozen=True, slots=True)
class Input:
    """One field of the form. ``now``: what is stored, if the record has changed since the form was opened."""

    name: str
    title: str
    value: str = field(repr=False)
    hint: str = field(default="", repr=False)
    now: str | None = field(default=None, repr=False)
    problem: str | None = None
    holder: int | None = None
    is_erased: bool = False


def _require_write(caller: Viewer) -> None:
    if "write" not in caller.scopes:
        raise LacksScope(caller.who, "write", "changing customers")


def _typed(caller: Viewer, form: Fields) -> dict[str, str]:
    """Return the fields that were sent. Raises Problem for a buyer's if the caller may not set those."""
    typed = {name: form.one(name) for name in FIELDS if form.has(name)}
    for name in BUYERS:
        if name in typed:
            require_buyer_data(caller, f"setting {name}")
    return typed


def _allowed(caller: Viewer, record: CustomerRecord | None) -> frozenset[str]:
    """Return the fields that the caller may set on a record; a marketplace's own has nothing personal."""
    hidden = set() if caller.sees_buyers else set(BUYERS)
    if record is not None and record.special is not None:
        hidden |= set(PERSONAL)
    return frozenset(FIELDS) - hidden


def labels_of(record: CustomerRecord) -> str:
    """Return the labels as they are typed: one a line."""
    return "\n".join(f"{key}={value}" for key, value in sorted(record.labels.items()))


def changed_labels(before: str, after: str) -> list[str]:
    """Return the texts that turn some labels, one a line, into others, as the command line takes them."""
    was, typed = set(before.splitlines()), [line.strip() for line in after.splitlines() if line.strip()]
    keys = {line.partition("=")[0].strip() for line in typed}
    gone = sorted(key for line in was if (key := line.partition("=")[0]) not in keys)
    return [*(line for line in typed if line not in was), *(f"{key}=" for key in gone)]


def _in_form(text: str) -> str:
    """Return a text as a browser sends it back from a field of one line."""
    return text.replace("\r", "").replace("\n", "").strip()


def changed_fields(
    record: CustomerRecord, typed: Mapping[str, str], dropped: Iterable[str]
) -> dict[str, str]:
    """Return the fields whose text differs from what is stored. ``dropped``: erased e-mails to remove."""
    differing = {name: text for name, text in typed.items() if text != _in_form(text_of(record, name))}
    return differing | {name: "" for name in dropped if name in _erased(record) and not typed.get(name)}


def _erased(record: CustomerRecord) -> set[str]:
    return {f"email_{main.slot}" for main in record.emails if main.email is None}


def _carried_out(work: Callable[[], T]) -> T:
    """Return what a change returns. Raises Wrong in place of a refusal."""
    try:
        return work()
    except FieldRefused as refused:
        raise Wrong({refused.field: str(refused)}, None, {refused.field: refused.holder}) from None
    except Unknown:
        raise
    except Refused as refused:
        raise Wrong(whole=str(refused)) from None


# --- create -----------------------------------------------------------------------------------------


@router.get("/customers/new")
def show_new(request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Show the empty form of a new customer."""
    _require_write(caller)
    return _form_page(request, service, caller, None, {}, "", Wrong(status=200))


@router.post("/customers/new")
def create_customer(request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Create a customer by hand; a form that is sent twice creates one."""
    form = fields_of(request)
    typed, labels = _typed(caller, form), form.one("labels")
    business = form.one("business")
    key = service.store.lookup.fingerprint(request.state.body.decode("latin-1"))

    def work(tx: Transaction) -> int:
        if form.one("once") and (known := idempotency.find(tx, caller.who, key)) is not None:
            return int(known.answer)
        given = {name: text for name, text in typed.items() if text}
        changes, wrong = examined(given, changed_labels("", labels), service.shared_emails)
        if wrong:
            raise Wrong(wrong)
        idempotency.take(tx, caller.who, key, "")
        created = edits.create(
            tx, edits.settle_business(service.businesses(), business or None), changes, caller.who
        )
        idempotency.answer(tx, caller.who, key, str(created.customer_id))
        return created.customer_id

    try:
        customer_id = _carried_out(lambda: service.store.commit(work))
    except Wrong as wrong:
        return _form_page(request, service, caller, None, typed, labels, wrong, business=business)
    return redirect_to(f"/customers/{customer_id}?done=created")


# --- edit -------------------------------------------------------------------------------------------


@router.get("/customers/{customer_id}/edit")
def show_edit(request: Request, service: ServiceDep, caller: CallerDep, customer_id: Id) -> Response:
    """Show the form with what is stored."""
    _require_write(caller)
    with service.store.read() as tx:
        record, etag = _read(tx, customer_id)
    return _form_page(request, service, caller, record, {}, labels_of(record), Wrong(status=200), etag=etag)


def _read(tx: Transaction, customer_id: int) -> tuple[CustomerRecord, str]:
    record = queries.get_customer(tx, customer_id)
    if record is None:
        raise NoCustomer(customer_id)
    check_living(record)
    return record, etag_of(tx, customer_id)


@router.post("/customers/{customer_id}/edit")
def save_edit(request: Request, service: ServiceDep, caller: CallerDep, customer_id: Id) -> Response:
    """Change what differs from what is stored, if that is still what the form was opened with."""
    form = fields_of(request)
    typed, labels = _typed(caller, form), form.one("labels")
    dropped = form.all("drop")
    if dropped:
        require_buyer_data(caller, "removing e-mails")

    def work(tx: Transaction) -> int:
        check_version(tx, [form.one("etag")], customer_id)
        record = customers.load(tx, [customer_id])[customer_id]
        given = changed_fields(record, typed, dropped)
        texts = changed_labels(labels_of(record), labels) if form.has("labels") else []
        changes, wrong = examined(given, texts, service.shared_emails)
        if wrong:
            raise Wrong(wrong)
        return edits.edit_and_count(tx, customer_id, changes, caller.who)

    try:
        lost = _carried_out(lambda: service.store.commit(work))
    except Wrong as error:
        wrong = error
    except Problem as problem:
        if problem.status != 412:
            raise
        sentence = (
            "The customer has changed since you opened this form. What is stored now stands beside the "
            "fields that differ: save again to write yours."
        )
        wrong = Wrong(whole=sentence, status=412)
    else:
        return redirect_to(f"/customers/{customer_id}?done=edited&lost={lost}")
    with service.store.read() as tx:
        record, etag = _read(tx, customer_id)
    # A form that was refused stays of the version that it was opened with.
    etag = etag if wrong.status == 412 else form.one("etag")
    return _form_page(request, service, caller, record, typed, labels, wrong, etag=etag)


# --- the form ---------------------------------------------------------------------------------------


def _form_page(
    request: Request,
    service: Service,
    caller: Viewer,
    record: CustomerRecord | None,
    typed: Mapping[str, str],
    labels: str,
    wrong: Wrong,
    *,
    etag: str = "",
    business: str = "",
) -> Response:
    allowed, erased = _allowed(caller, record), set() if record is None else _erased(record)
    name = None if record is None or not caller.sees_buyers else shown_name(record)

    def input_of(key: str) -> Input:
        stored = "" if record is None else text_of(record, key)
        value = typed.get(key, stored)
        return Input(
            key,
            TITLES.get(key, _title(key)),
            value,
            name or "" if key == "name" else "",
            stored if wrong.status == 412 and value != _in_form(stored) else None,
            wrong.fields.get(key),
            wrong.holders.get(key),
            key in erased,
        )

    sections = [(title, [input_of(key) for key in keys if key in allowed]) for title, keys in SECTIONS]
    now = "" if record is None else labels_of(record)
    return page(
        request,
        "edit.html",
        wrong.status,
        customer=None if record is None else customers_for(caller, [record])[0],
        sections=[(title, inputs) for title, inputs in sections if inputs],
        labels=labels,
        labels_now=now if wrong.status == 412 and changed_labels(now, labels) else None,
        wrong=wrong,
        etag=etag,
        business=business,
        businesses=sorted({*service.businesses().values()}),
        once=secrets.token_urlsafe(12),
    )


def _title(name: str) -> str:
    for kind in ("billing_", "delivery_"):
        name = name.removeprefix(kind)
    return name.replace("_", " ").capitalize()
