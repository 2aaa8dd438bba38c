"""The Selling Partner API and Login with Amazon as one function from request to answer.

It is as strict as Amazon (usage plans, the two-minute rule, page tokens, roles) and, if ``Faults`` say so, as
rude. It never waits and has no clock of its own, so that a test can run through a week in a second.

Sources: Orders API model 2026-01-01, Sellers API model v1, Reports API model 2021-06-30, SP-API guides on
usage plans, Login with Amazon's token exchange.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from threading import Lock
from urllib.parse import unquote, urlsplit
from uuid import UUID

from connectors.base import Clock, UsagePlan
from connectors.marketplaces import BY_ID, ENDPOINTS
from connectors.simulator.faults import (
    CREATE_REPORT,
    DOWNLOAD,
    GET,
    GET_DOCUMENT,
    GET_REPORT,
    OUTRIGHT,
    PARTICIPATIONS,
    RATES,
    SEARCH,
    TOKEN,
    Faults,
)
from connectors.simulator.messages import Answer, Query, Refusal, Request, forbidden, html, invalid, to_json
from connectors.simulator.orders import Json, Order, Version, amazon_time
from connectors.simulator.reports import (
    ADDRESS_LIFE,
    DOCUMENTS_PATH,
    REPORTS_PATH,
    STORAGE_PATH,
    Reports,
)
from connectors.simulator.search import Search, check_bounds, read_included, read_search
from connectors.simulator.visibility import phone_expired, shown
from connectors.simulator.world import Seller, World

AMAZON_PLANS: Mapping[str, UsagePlan] = {
    SEARCH: UsagePlan(0.0056, 20),
    GET: UsagePlan(0.5, 30),
    PARTICIPATIONS: UsagePlan(0.016, 15),
    CREATE_REPORT: UsagePlan(0.0167, 15),
    GET_REPORT: UsagePlan(2.0, 15),
    GET_DOCUMENT: UsagePlan(0.0167, 15),
}
"""The default usage plans that Amazon publishes with its models."""

ACCESS_TOKEN_LIFE = timedelta(seconds=3600)
PAGE_TOKEN_LIFE = timedelta(hours=24)

_ORDERS_PATH = "/orders/2026-01-01/orders"
_PARTICIPATIONS_PATH = "/sellers/v1/marketplaceParticipations"
_TOKEN_PATH = "/auth/o2/token"
_REGION_OF_HOST = {urlsplit(url).netloc: region for region, url in ENDPOINTS.items()}


@dataclass(frozen=True, slots=True)
class Served:
    """A ``searchOrders`` or ``getOrder`` answer that reached the client whole, even an empty one.

    From then on the client must know its content. ``orders`` are the JSON values as sent; do not change them.
    """

    at: datetime
    seller: str
    operation: str
    query: Query = field(repr=False)
    orders: list[object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attempted:
    """One HTTP attempt. ``status`` is None without a whole answer, ``seller`` if it is unknown."""

    at: datetime
    operation: str
    status: int | None
    seller: str | None


@dataclass(slots=True)
class _Access:
    """An issued access token."""

    seller: str
    client_id: str
    until: datetime
    secret: str


@dataclass(frozen=True, slots=True)
class _Walk:
    """The state behind a page token."""

    caller: tuple[str, str]
    frozen: tuple[tuple[str, tuple[str, ...]], ...]
    before: datetime
    offset: int
    issued: datetime


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: datetime


@dataclass(slots=True)
class _Call:
    """One request being handled, and what is known about it so far."""

    request: Request
    at: datetime
    operation: str
    struck: frozenset[str]
    query: Query
    seller: Seller | None = None
    client_id: str = ""
    orders: list[tuple[Order, Version, object]] = field(default_factory=list)
    """The answer's orders: the order, its version, and the JSON value sent."""

    @property
    def outright(self) -> str | None:
        return next((kind for kind in self.struck if kind in OUTRIGHT), None)


class Simulator:
    """A Selling Partner API for the orders of ``world``.

    ``now`` is the client's clock; Amazon's is ``skew`` ahead of it and decides the world's state, the
    ``Date`` header and every limit. ``plans`` may be replaced while it runs. ``not_enrolled_status`` answers
    a search of a marketplace in which the seller is not enrolled. ``reports`` replaces the default report
    settings. ``served`` and ``requests`` record what happened, oldest first. Thread-safe.
    """

    def __init__(
        self,
        world: World,
        *,
        now: Clock,
        plans: Mapping[str, UsagePlan] = AMAZON_PLANS,
        faults: Faults | None = None,
        skew: timedelta = timedelta(0),
        not_enrolled_status: int = 403,
        page_token_life: timedelta = PAGE_TOKEN_LIFE,
        reports: Reports | None = None,
    ) -> None:
        self.world = world
        self.plans: Mapping[str, UsagePlan] = {**AMAZON_PLANS, **plans}
        self.faults = faults or Faults()
        self.served: list[Served] = []
        self.requests: list[Attempted] = []
        self._now, self._skew = now, skew
        self._not_enrolled_status = not_enrolled_status
        self._page_token_life = page_token_life
        self._reports = reports or Reports(world)
        self._lock = Lock()
        self._buckets: dict[tuple[str, str, str], _Bucket] = {}
        self._access: dict[str, _Access] = {}
        self._walks: dict[str, _Walk] = {}
        self._calls: dict[str, int] = {}
        self._made = 0
        self._newest: dict[tuple[str, str], datetime] = {}
        self._written: dict[tuple[object, ...], tuple[Version, object, bytes]] = {}

    def amazon_now(self) -> datetime:
        """Return Amazon's current time (aware UTC)."""
        return self._now() + self._skew

    def handle(self, request: Request) -> Answer:
        """Answer one request without waiting. Never raises."""
        with self._lock:
            call = self._begin(request)
            answer = self._answer(call)
            whole = answer.disturbance is None
            self.requests.append(
                Attempted(
                    call.at,
                    call.operation,
                    answer.status if whole else None,
                    call.seller.name if call.seller else None,
                )
            )
            return answer

    # --- one call ----------------------------------------------------------------------------------

    def _begin(self, request: Request) -> _Call:
        at, operation = self.amazon_now(), _operation(request)
        number = self._calls[operation] = self._calls.get(operation, 0) + 1
        struck = self.faults.strike(operation, number, at)
        return _Call(request, at, operation, struck, request.parameters)

    def _answer(self, call: _Call) -> Answer:
        try:
            if call.operation == TOKEN:
                return self._fault(call) or self._login(call)
            if call.operation == DOWNLOAD:
                return self._fault(call) or self._download(call)
            seller = self._authorise(call)
            self._spend(call, seller)
            faulty = self._fault(call)
            if faulty is not None:
                return faulty
            body = self._operate(call, seller)
        except Refusal as refusal:
            return self._reply(call, refusal.status, refusal.body)
        status = 202 if call.operation == CREATE_REPORT else 200
        whole = self._reply(call, status, body)
        if call.outright == "truncated_json":
            return self._reply(call, status, body[: len(body) // 2])
        if call.outright == "dropped_halfway":
            return replace(whole, body=body[: len(body) // 2], disturbance="drop")
        if call.operation in {SEARCH, GET}:
            self._record(call, seller)
        return whole

    def _operate(self, call: _Call, seller: Seller) -> bytes:
        if call.operation == SEARCH:
            return self._search(call, seller)
        if call.operation == GET:
            return self._get(call, seller)
        if call.operation == PARTICIPATIONS:
            return _participations(seller)
        if call.operation == CREATE_REPORT:
            return self._reports.create(call.request, seller, call.at, call.struck)
        if call.operation == GET_REPORT:
            return self._reports.get(_last_part(call.request), seller, call.at)
        if call.operation == GET_DOCUMENT:
            return self._reports.document(
                _last_part(call.request), seller, call.request, call.at, call.struck
            )
        raise Refusal(404, "NotFound", "There is no such operation.")

    def _reply(self, call: _Call, status: int, body: bytes, kind: str = "application/json") -> Answer:
        headers = {
            "Date": format_datetime(call.at.replace(microsecond=0), usegmt=True),
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "x-amzn-RequestId": str(UUID(bytes=self._unique()[:16])),
        }
        rate = self._rate_header(call)
        if rate is not None and status in (200, 202, 400, 404):
            headers["x-amzn-RateLimit-Limit"] = rate
        return Answer(status, headers, body)

    def _rate_header(self, call: _Call) -> str | None:
        wrong = next((kind for kind in sorted(call.struck) if kind in RATES), None)
        if wrong is not None:
            return RATES[wrong]
        plan = self.plans.get(call.operation)
        return None if plan is None or call.seller is None else str(plan.rate)

    def _fault(self, call: _Call) -> Answer | None:
        """Return the answer of an outright fault; None if the true one is due."""
        kind = call.outright or ""
        name, _, number = kind.rpartition("_")
        if name in {"html", "empty", "bare_json"}:
            body = {"html": html(int(number)), "empty": b"", "bare_json": to_json({"message": "Oops"})}[name]
            return self._reply(call, int(number), body, "text/html" if name == "html" else "application/json")
        if kind in {"dropped", "hang"}:
            return Answer(0, {}, b"", "drop" if kind == "dropped" else "hang")
        if kind == "throttled_empty":
            return self._reply(call, 429, b"")
        if kind == "throttled_json":
            raise _quota_exceeded()
        if kind == "access_token_lost":
            self._access.pop(call.request.header("x-amz-access-token") or "", None)
            raise forbidden("The access token is no longer valid.")
        if kind == "forbidden":
            raise forbidden()
        if kind == "invalid_grant":
            return self._login_error(call, 400, "invalid_grant")
        if kind in {"page_token_refused", "page_token_expired"} and "paginationToken" in call.query:
            raise invalid(f"paginationToken {'has expired' if kind.endswith('expired') else 'is not valid'}.")
        return None

    def _record(self, call: _Call, seller: Seller) -> None:
        self.served.append(
            Served(call.at, seller.name, call.operation, call.query, [sent for _, _, sent in call.orders])
        )
        for one, version, _ in call.orders:
            key = (seller.name, one.order_id)
            self._newest[key] = max(version.last_updated, self._newest.get(key, version.last_updated))

    def _unique(self) -> bytes:
        self._made += 1
        return hashlib.blake2b(str(self._made).encode(), digest_size=48, key=b"simulator").digest()

    def _token(self) -> str:
        """Return an opaque token with characters that a client must encode in a URL."""
        return base64.b64encode(self._unique()[:47]).decode()

    # --- access ------------------------------------------------------------------------------------

    def _download(self, call: _Call) -> Answer:
        """Answer as the document storage, which has none of the API's headers and errors."""
        at = call.at + ADDRESS_LIFE * 2 if "report_address_expired" in call.struck else call.at
        status, body, kind = self._reports.download(call.query, at)
        headers = {"Content-Type": kind, "Content-Length": str(len(body))}
        if call.outright == "dropped_halfway":
            return Answer(status, headers, body[: len(body) // 2], "drop")
        return Answer(status, headers, body)

    def _login(self, call: _Call) -> Answer:
        form = {name: values[0] for name, values in call.request.form.items()}
        if form.get("grant_type") != "refresh_token":
            return self._login_error(call, 400, "unsupported_grant_type")
        client_id = form.get("client_id", "")
        if form.get("client_secret") not in self.world.applications.get(client_id, set()):
            return self._login_error(call, 401, "invalid_client")
        authorised, name = self.world.authorisations.get(form.get("refresh_token", ""), ("", ""))
        if authorised != client_id:
            return self._login_error(call, 400, "invalid_grant")
        token = f"Atza|{self._token()}"
        self._access[token] = _Access(name, client_id, call.at + ACCESS_TOKEN_LIFE, form["client_secret"])
        return self._reply(
            call,
            200,
            to_json(
                {
                    "access_token": token,
                    "refresh_token": form["refresh_token"],
                    "token_type": "bearer",
                    "expires_in": int(ACCESS_TOKEN_LIFE.total_seconds()),
                }
            ),
        )

    def _login_error(self, call: _Call, status: int, error: str) -> Answer:
        return self._reply(call, status, to_json({"error": error, "error_description": "The login failed."}))

    def _authorise(self, call: _Call) -> Seller:
        access = self._access.get(call.request.header("x-amz-access-token") or "")
        if access is None:
            raise forbidden("The access token is missing or unknown.")
        if call.at >= access.until:
            raise forbidden("The access token has expired.")
        if access.secret in self.world.expired_secrets:
            raise forbidden("The LWA secret token you provided has expired")
        if (access.client_id, access.seller) not in self.world.authorisations.values():
            raise forbidden("The seller has withdrawn the authorisation.")
        seller = self.world.sellers[access.seller]
        host = (call.request.header("host") or "").lower()
        if _REGION_OF_HOST.get(host, seller.region) != seller.region:
            raise forbidden("The seller belongs to another region.")
        call.seller, call.client_id = seller, access.client_id
        return seller

    def _spend(self, call: _Call, seller: Seller) -> None:
        plan = self.plans.get(call.operation)
        if plan is None:
            return
        key = (call.client_id, seller.name, call.operation)
        bucket = self._buckets.setdefault(key, _Bucket(plan.burst, call.at))
        elapsed = max(0.0, (call.at - bucket.at).total_seconds())
        bucket.tokens = min(plan.burst, bucket.tokens + elapsed * plan.rate)
        bucket.at = max(bucket.at, call.at)
        # A client that waits exactly 1/rate seconds must not fail by the last bit of a float.
        if bucket.tokens < 1 - 1e-9:
            raise _quota_exceeded()
        bucket.tokens -= 1

    # --- orders ------------------------------------------------------------------------------------

    def _search(self, call: _Call, seller: Seller) -> bytes:
        search = read_search(call.query)
        marketplace_ids = self._marketplaces(search, seller)
        if search.page_token is None:
            before, offset = check_bounds(search, call.at), 0
        else:
            walk = self._resume(call, search, seller)
            before, offset = walk.before, walk.offset
        listed = self.world.listing(
            seller.name,
            at=call.at,
            axis=search.axis,
            after=search.after,
            before=before,
            marketplace_ids=marketplace_ids,
            statuses=search.statuses,
            fulfilled_by=search.fulfilled_by,
        )
        is_empty = "empty_page" in call.struck
        page = [] if is_empty else listed[offset : offset + search.page_size]
        end = offset + len(page)
        loses_token = "missing_token" in call.struck and len(page) == search.page_size
        tail: Json = {}
        if is_empty or (end < len(listed) and not loses_token):
            following = self._following(call, offset, end)
            tail["pagination"] = {"nextToken": self._next_token(call, search, seller, before, following)}
        echo = amazon_time(before, milliseconds=before.microsecond != 0)
        tail["createdBefore" if search.axis == "created" else "lastUpdatedBefore"] = echo
        written = self._write(call, seller, page, search.included)
        return b'{"orders":[' + b",".join(written) + b"]," + to_json(tail)[1:]

    def _get(self, call: _Call, seller: Seller) -> bytes:
        included = read_included(call.query)
        order_id = unquote(call.request.path.removeprefix(f"{_ORDERS_PATH}/"))
        order_shown = self.world.find(seller.name, order_id, call.at)
        if order_shown is None:
            raise Refusal(404, "NotFound", "There is no order with this ID.")
        return b'{"order":' + self._write(call, seller, [order_shown], included)[0] + b"}"

    def _marketplaces(self, search: Search, seller: Seller) -> frozenset[str]:
        if not search.marketplace_ids <= BY_ID.keys():
            raise invalid("marketplaceIds has an unknown value.")
        if not search.marketplace_ids <= seller.marketplace_ids:
            if self._not_enrolled_status == 403:
                raise forbidden("The seller is not enrolled in one of the marketplaces.")
            raise Refusal(self._not_enrolled_status, "InvalidInput", "A marketplace is not available.")
        return search.marketplace_ids or seller.marketplace_ids

    def _resume(self, call: _Call, search: Search, seller: Seller) -> _Walk:
        walk = self._walks.get(search.page_token or "")
        if walk is None or walk.caller != (call.client_id, seller.name):
            raise invalid("paginationToken is not valid.")
        if call.at - walk.issued > self._page_token_life:
            raise invalid("paginationToken has expired.")
        if walk.frozen != search.frozen:
            raise invalid("Only maxResultsPerPage may differ from the call that gave the paginationToken.")
        return walk

    def _following(self, call: _Call, offset: int, end: int) -> int:
        """Return the offset of the next page: ``end``, unless a fault makes pages overlap."""
        if "same_page" in call.struck:
            return offset
        if "repeated_order" in call.struck:
            return max(offset + 1, end - 1)
        return end

    def _next_token(
        self, call: _Call, search: Search, seller: Seller, before: datetime, following: int
    ) -> str:
        if "same_token" in call.struck and search.page_token is not None:
            return search.page_token
        token = self._token()
        caller = (call.client_id, seller.name)
        self._walks[token] = _Walk(caller, search.frozen, before, following, call.at)
        return token

    def _write(
        self, call: _Call, seller: Seller, page: list[tuple[Order, Version]], included: frozenset[str]
    ) -> list[bytes]:
        """Return the page's orders as JSON, and record in the call what is sent."""
        written: list[bytes] = []
        for one, current in page:
            version = self._stale(seller, one, current) if "stale_copy" in call.struck else current
            gone = phone_expired(version.facts, call.at)
            key = (id(version), included, seller.roles, gone)
            kept = self._written.get(key)
            if kept is None:
                if len(self._written) >= 5_000:
                    self._written.clear()
                sent = shown(version, included, seller.roles, phone_gone=gone)
                # Holding the version prevents the reuse of its id().
                kept = self._written[key] = (version, sent, to_json(sent))
            call.orders.append((one, version, kept[1]))
            written.append(kept[2])
        return written

    def _stale(self, seller: Seller, one: Order, current: Version) -> Version:
        """Return the version before ``current`` if the client has already seen a newer one."""
        index = one.versions.index(current)
        older = one.versions[max(0, index - 1)]
        newest = self._newest.get((seller.name, one.order_id))
        return older if newest is not None and newest > older.last_updated else current


def _operation(request: Request) -> str:
    if request.method == "POST" and request.path == _TOKEN_PATH:
        return TOKEN
    if request.method == "GET" and request.path == _ORDERS_PATH:
        return SEARCH
    if request.method == "GET" and request.path.startswith(f"{_ORDERS_PATH}/"):
        return GET
    if request.method == "GET" and request.path == _PARTICIPATIONS_PATH:
        return PARTICIPATIONS
    if request.method == "POST" and request.path == REPORTS_PATH:
        return CREATE_REPORT
    if request.method == "GET" and request.path.startswith(f"{REPORTS_PATH}/"):
        return GET_REPORT
    if request.method == "GET" and request.path.startswith(f"{DOCUMENTS_PATH}/"):
        return GET_DOCUMENT
    if request.method == "GET" and request.path.startswith(f"{STORAGE_PATH}/"):
        return DOWNLOAD
    return "unknown"


def _last_part(request: Request) -> str:
    return unquote(request.path.rpartition("/")[2])


def _quota_exceeded() -> Refusal:
    return Refusal(429, "QuotaExceeded", "The request quota for this resource is used up.")


def _participations(seller: Seller) -> bytes:
    entries = [
        {
            "marketplace": {
                "id": place.id,
                "name": place.domain.capitalize(),
                "countryCode": "GB" if place.code == "UK" else place.code,
                "defaultCurrencyCode": place.currency,
                "defaultLanguageCode": "en_GB",
                "domainName": f"www.{place.domain}",
            },
            "storeName": "The Imaginary Shop",
            "participation": {"isParticipating": True, "hasSuspendedListings": False},
        }
        for place in sorted((BY_ID[each] for each in seller.marketplace_ids), key=lambda place: place.code)
    ]
    return to_json({"payload": entries})
