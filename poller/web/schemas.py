"""Request and response schemas of the HTTP API.

The keys are those of ``poller/export.py`` and of the command line's ``--json``; a test compares them.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from poller.customers.fields import ADDRESS_PARTS
from poller.monitoring.readiness import Why
from poller.web.dependencies import LARGEST_ID, Word
from store.changes import EventKind
from store.findings import By, FetchOutcome, FindingKind, VerificationState
from store.progress import BackfillState, Way
from store.records import Basis

T = TypeVar("T")

Text = Annotated[str, StringConstraints(max_length=1000)]
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^=\x00-\x1f]+$")]
CustomerId = Annotated[int, Field(ge=1, le=LARGEST_ID)]


def example(**values: Any) -> ConfigDict:
    """Return the configuration of a schema that has this example and refuses unknown keys."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [values]})


class Page(BaseModel, Generic[T]):
    """One page of a list. ``next``: the cursor of the next page, null on the last one."""

    items: list[T]
    next: str | None


# --- orders -----------------------------------------------------------------------------------------


class Explanation(BaseModel):
    """Why an order has its customer, or none; with the numbers of the customer rules."""

    model_config = example(
        order_id="203-1234567-1234567",
        account="acme",
        customer_id=1041,
        match_basis="created",
        headline="Order 203-1234567-1234567 (acme, UK, UNSHIPPED) belongs to customer 1041: new customer.",
        reasons=["R6: no customer had its e-mail, so a new one was created."],
        buyer_data="Buyer data is kept until 2026-07-06.",
    )

    order_id: str
    account: str
    customer_id: int | None
    match_basis: Basis | None
    headline: str
    reasons: list[str]
    buyer_data: str = Field(description="How long the order's buyer data is kept, and why.")


class FetchRequest(BaseModel):
    model_config = example(account="acme")
    account: Word


class Fetched(BaseModel):
    model_config = example(order_id="203-1234567-1234567", account="acme", message="…: changed, stored")
    order_id: str
    account: str
    message: str


# --- customers --------------------------------------------------------------------------------------


class AddressEdit(BaseModel):
    """Parts of an address; null or an empty text removes one."""

    model_config = example(line1="1 High Street", city="Leeds", postal_code="LS1 1AA", country="GB")
    name: Text | None = None
    company: Text | None = None
    line1: Text | None = None
    line2: Text | None = None
    line3: Text | None = None
    city: Text | None = None
    county: Text | None = None
    state: Text | None = None
    postal_code: Text | None = None
    country: Text | None = None
    phone: Text | None = None


class CustomerEdit(BaseModel):
    """Fields to set; null or an empty text removes one, fields left out stay as they are."""

    model_config = example(price_list="Trade", discount_percent="2.5", labels={"segment": "B2B"})
    external_id: Text | None = None
    name: Text | None = None
    company: Text | None = None
    email_1: Text | None = None
    email_2: Text | None = None
    email_3: Text | None = None
    phone: Text | None = None
    billing: AddressEdit | None = None
    delivery: AddressEdit | None = None
    price_list: Text | None = None
    currency: Text | None = None
    tax_code: Text | None = None
    discount_percent: Text | None = Field(default=None, description="A decimal string, 0 to 100.")
    labels: dict[LabelKey, Text | None] = Field(default_factory=dict, max_length=100)

    def field_values(self) -> dict[str, str]:
        """Map the fields that were sent, as ``poller.customers.fields`` names them; empty texts remove."""
        values: dict[str, str] = {}
        for name in self.model_fields_set - {"labels", "business"}:
            value = getattr(self, name)
            if name not in ("billing", "delivery"):
                values[name] = value or ""
            elif value is None:
                values.update((f"{name}_{part}", "") for part in ADDRESS_PARTS)
            else:
                values.update(
                    (f"{name}_{part}", getattr(value, part) or "") for part in value.model_fields_set
                )
        return values

    def label_texts(self) -> list[str]:
        """Return the labels as ``key=value``, as on the command line."""
        return [f"{key}={value or ''}" for key, value in self.labels.items()]


class NewCustomer(CustomerEdit):
    """A new customer; at least one field."""

    model_config = example(
        business="acme", name="Bob Example", email_1="bob@example.com", delivery={"country": "GB"}
    )
    business: Word | None = Field(default=None, description="Required if there are several.")


class Changed(BaseModel):
    """The result of a change, without buyer data. The ETag is that of the changed record."""

    model_config = example(customer_id=1041, changed=["price_list"], stops_recognising=0)
    customer_id: int
    changed: list[str]
    stops_recognising: int = Field(
        description="Erased e-mails that were dropped: a buyer who orders with one again is a new customer."
    )


class SearchRequest(BaseModel):
    model_config = example(email="bob@example.com")
    email: Annotated[str, StringConstraints(min_length=3, max_length=254, pattern=r"^[^\x00-\x1f]+$")]


class MergeRequest(BaseModel):
    """The customer to merge into the one in the address."""

    model_config = example(other_id=1042, keep_emails=["bob@example.com"])
    other_id: CustomerId
    keep_emails: list[Text] | None = Field(
        default=None,
        max_length=3,
        description="Main e-mails to keep; by default as many as there is room for.",
    )


class MergePreview(BaseModel):
    """What a merge would do. Send its ETag as If-Match to merge exactly as previewed."""

    model_config = example(
        customer_id=1041,
        other_id=1042,
        moved=3,
        emails=["x1y2z3@marketplace.amazon.co.uk", "bob@example.com"],
        stopping=[],
        filled=["phone"],
        labels=[],
    )
    customer_id: int
    other_id: int
    moved: int = Field(description="Number of orders that move.")
    emails: list[str | None] = Field(description="Main e-mails after the merge.")
    stopping: list[str | None] = Field(description="Main e-mails that will no longer match.")
    filled: list[str] = Field(description="Fields taken from the other customer.")
    labels: list[str] = Field(description="Labels taken from the other customer.")


class Merged(BaseModel):
    model_config = example(customer_id=1041, other_id=1042, moved=3)
    customer_id: int
    other_id: int
    moved: int


class UnmergeRequest(BaseModel):
    model_config = example(leave=[])
    leave: list[Text] = Field(
        default_factory=list,
        max_length=3,
        description="E-mails that may stay with the other customers who have them now.",
    )


class Unmerged(BaseModel):
    model_config = example(customer_id=1042, kept_id=1041, moved=3, arrived=1, stayed=0, entered=0)
    customer_id: int
    kept_id: int
    moved: int
    arrived: int = Field(description="Those of them that arrived after the merge.")
    stayed: int = Field(description="Orders that arrived after the merge and stay with the kept customer.")
    entered: int = Field(
        description="E-mails that stay with the kept customer, as they were entered there after the merge."
    )


class Pair(BaseModel):
    model_config = example(customer_id=1041, other_id=1042, score=0.9, reasons=["name_and_postcode"])
    customer_id: int
    other_id: int
    score: float
    reasons: list[str]


class Duplicates(BaseModel):
    items: list[Pair]
    total: int


# --- backfills --------------------------------------------------------------------------------------


class BackfillRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"marketplace": "UK", "from": "2026-01-01", "to": "2026-06-30", "by": "auto"}]
        },
    )
    marketplace: Word
    lower: Word = Field(alias="from", description="First day or time (UTC), for example 2026-01-31.")
    upper: Word = Field(alias="to", description="Day after the last one, or a time (UTC).")
    by: Way = "auto"
    account: Word | None = None


class Cost(BaseModel):
    """Cost of a backfill. ``seconds`` is null if live polling needs the whole budget."""

    windows: int
    requests: int
    searches: int
    gets: int
    reports: int
    seconds: float | None


class BackfillPlan(BaseModel):
    """Cost estimate of a backfill. Without ``expected`` (orders), costs are those of each 1,000 orders."""

    account: str
    marketplace: str
    lower: str = Field(alias="from")
    upper: str = Field(alias="to")
    notes: list[str]
    expected: int | None
    read_already_seconds: float
    search: Cost
    report: Cost


class Backfill(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "id": 3,
                    "marketplace": "UK",
                    "from": "2026-01-01T00:00:00Z",
                    "to": "2026-06-30T00:00:00Z",
                    "by": "auto",
                    "state": "running",
                    "windows_done": 4,
                    "windows_total": 30,
                    "orders": 1200,
                    "requests": 64,
                    "eta": "2026-06-30T14:00:00Z",
                }
            ]
        },
    )
    id: int
    marketplace: str
    lower: str = Field(alias="from")
    upper: str = Field(alias="to")
    by: Way
    state: BackfillState
    windows_done: int
    windows_total: int
    orders: int
    requests: int
    eta: str | None


class BackfillChanged(BaseModel):
    model_config = example(id=3, state="paused", notes=[])
    id: int
    state: BackfillState
    notes: list[str]


# --- quarantine, verifications, runs ----------------------------------------------------------------


class Quarantined(BaseModel):
    model_config = example(
        order_id="203-1234567-1234567",
        account="acme",
        marketplace="UK",
        reason="orderItems: is missing",
        attempts=2,
        next_attempt_at="2026-06-01T10:40:00Z",
        first_seen_at="2026-06-01T09:40:00Z",
    )
    order_id: str
    account: str
    marketplace: str | None
    reason: str
    attempts: int
    next_attempt_at: str | None
    first_seen_at: str | None


class QuarantinedWhole(Quarantined):
    model_config = example(
        order_id="203-1234567-1234567",
        account="acme",
        marketplace="UK",
        reason="orderItems: is missing",
        attempts=2,
        next_attempt_at=None,
        first_seen_at="2026-06-01T09:40:00Z",
        payload='{"orderId": "203-1234567-1234567"}',
    )
    payload: str | None = Field(
        description="What Amazon sent, as JSON text; *** without the scope buyer-data; null once erased."
    )


class RetryRequest(BaseModel):
    model_config = example(refetch=True)
    refetch: bool = Field(
        default=False, description="Refetch the order from Amazon instead of applying the stored payload."
    )


class Retried(BaseModel):
    model_config = example(order_id="203-1234567-1234567", account="acme", stored=True, message=None)
    order_id: str
    account: str
    stored: bool
    message: str | None = Field(description="Why it stays in quarantine.")


class Finding(BaseModel):
    order_id: str
    what: FindingKind
    created_at: str | None
    last_updated_at: str | None
    outcome: FetchOutcome | None


class VerificationRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"marketplace": "UK", "from": "2026-05-01", "to": "2026-06-01", "repair": True}]
        },
    )
    marketplace: Word
    lower: Word = Field(alias="from", description="First day or time (UTC), for example 2026-01-31.")
    upper: Word = Field(alias="to", description="Day after the last one, or a time (UTC).")
    by: By = "report"
    repair: bool = False
    account: Word | None = None


class Verification(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: int
    account: str
    marketplace: str
    lower: str = Field(alias="from")
    upper: str = Field(alias="to")
    asked_to: str
    compared_to: str
    by: By
    state: VerificationState
    listed: int
    before_start: int
    missing: int
    older: int
    quarantined: int
    unknown: int
    still_missing: int
    orders: list[Finding]
    started_at: str | None
    finished_at: str | None
    message: str | None


class VerificationBegun(BaseModel):
    model_config = example(id=7, state="reading")
    id: int
    state: VerificationState


class Run(BaseModel):
    """One run of a source. ``outcome`` is null while it runs, or if its process died."""

    model_config = example(
        run=812,
        source="acme:EU",
        started_at="2026-06-01T09:40:00Z",
        finished_at="2026-06-01T09:40:02Z",
        outcome="complete",
        pages=1,
        orders=7,
        requests=1,
        message=None,
        identifiable=7,
        with_email=5,
        with_name=6,
        retries=0,
    )
    run: int
    source: str
    started_at: str
    finished_at: str | None
    outcome: Literal["complete", "deferred", "failed", "superseded"] | None
    pages: int
    orders: int
    requests: int
    message: str | None
    identifiable: int
    with_email: int
    with_name: int
    retries: int


class NotReady(BaseModel):
    why: Why
    subject: str = Field(description="The source, or account and marketplace of a gap.")
    sentence: str


class Ready(BaseModel):
    """``reasons``: limits that are exceeded, for callers with the scope read; null for all others."""

    model_config = example(
        status="not ready",
        reasons=[
            {"why": "success", "subject": "acme:EU", "sentence": "the newest success of acme:EU is 2 h old."}
        ],
    )
    status: Literal["ready", "not ready"]
    reasons: list[NotReady] | None


class OrderEvent(BaseModel):
    model_config = ConfigDict(extra="forbid")
    account: str
    order_id: str
    marketplace: str | None
    customer_id: int | None
    version: int
    position: str


class CustomerEvent(BaseModel):
    model_config = ConfigDict(extra="forbid")
    business: str
    customer_id: int
    merged_into: int | None
    version: int
    position: str


class Event(BaseModel):
    """One change of a record; ``version`` grows with each change of it."""

    model_config = ConfigDict(extra="forbid")
    type: EventKind
    timestamp: str
    data: OrderEvent | CustomerEvent


class Changes(BaseModel):
    """Events, oldest first. ``position``: continue from here; ``more``: further events exist."""

    model_config = example(
        events=[
            {
                "type": "order.changed",
                "timestamp": "2026-06-01T09:40:00Z",
                "data": {
                    "account": "acme",
                    "order_id": "026-1234567-1234567",
                    "marketplace": "UK",
                    "customer_id": 17,
                    "version": 4711,
                    "position": "4711.2.99",
                },
            }
        ],
        position="4711",
        more=False,
    )
    events: list[Event]
    position: str
    more: bool


class Health(BaseModel):
    model_config = example(status="ok")
    status: Literal["ok"]
