"""One order as Amazon knows it, and its rendering as Amazon's JSON.

An order is a history of versions. A version holds facts in flat, short fields and is rendered to full JSON
only on request, so that a world of many thousand orders is cheap and a test can state an order in a line.
The JSON here is complete; ``visibility`` decides what a seller sees of it.

Source of the JSON: Amazon's Orders API model 2026-01-01, read independently of the connector, with which the
simulator shares no code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from connectors.marketplaces import BY_NAME, Marketplace

Json = dict[str, Any]

PENDING_STATUSES = frozenset({"PENDING", "PENDING_AVAILABILITY"})
SHIPPABLE_STATUSES = frozenset({"UNSHIPPED", "PARTIALLY_SHIPPED", "SHIPPED"})
"""The only statuses in which Amazon shows the buyer (SP-API guide, access to orders' PII)."""

WITHOUT_CENTS = frozenset({"JPY"})
_WHOLE, _CENTS, _NOTHING = Decimal(1), Decimal("0.01"), Decimal(0)


def amazon_time(time: datetime, *, milliseconds: bool = False) -> str:
    """Format ``time`` (aware UTC) as Amazon does, which writes both with and without milliseconds."""
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds" if milliseconds else "seconds") + "Z"


def money(amount: Decimal | str | int, currency: str) -> Json:
    """Return Amazon's Money: a decimal string, without decimals in a currency that has none."""
    step = _WHOLE if currency in WITHOUT_CENTS else _CENTS
    return {"amount": str(Decimal(amount).quantize(step, ROUND_HALF_UP)), "currencyCode": currency}


@dataclass(frozen=True, slots=True)
class Address:
    """A delivery address. ``extended`` holds Brazil's additional fields under Amazon's names."""

    name: str | None = None
    company: str | None = None
    line1: str | None = None
    line2: str | None = None
    line3: str | None = None
    city: str | None = None
    county: str | None = None
    state: str | None = None
    municipality: str | None = None
    postal_code: str | None = None
    country: str | None = None
    phone: str | None = None
    kind: str | None = "RESIDENTIAL"
    extended: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TaxNumber:
    """One tax registration."""

    kind: str
    number: str
    legal_name: str
    entity: str = "BUYER"
    office: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One order item. Amounts are for the whole line (except ``unit_price``) in the order's currency.

    ``discount`` is written unchanged: Amazon documents no sign, so the world has both.
    """

    item_id: str
    unit_price: Decimal = Decimal("10.00")
    quantity: int = 1
    shipped: int = 0
    sku: str | None = "INVENTED-SKU"
    asin: str | None = "B000INVENT"
    title: str | None = "An invented thing"
    tax: Decimal | None = None
    shipping: Decimal | None = None
    discount: Decimal | None = None
    gift_wrap: Decimal | None = None
    facilitator: bool = False
    """The marketplace collects the tax itself."""
    scheme: str | None = None
    """IOSS or UOSS: the scheme under which the tax is reported."""
    fees: tuple[tuple[str, Decimal], ...] = ()
    """Further amounts by Amazon's type, such as COD_FEE."""
    tax_currency: str | None = None
    """The tax is in this currency instead of the order's, and not part of its total."""
    promotion_ids: tuple[str, ...] = ()
    gift_message: str | None = None
    customized_url: str | None = None
    serial_numbers: tuple[str, ...] = ()
    points: int | None = None
    cancel_requested: str | None = None
    """The buyer's reason."""
    cancelled_by: str | None = None
    cancel_reason: str | None = None

    @property
    def total(self) -> Decimal:
        return sum((-abs(a) if kind == "DISCOUNT" else a for kind, a in self.amounts), _NOTHING)

    @property
    def amounts(self) -> list[tuple[str, Decimal]]:
        """Return the amounts in the order's currency, by Amazon's type."""
        amounts = (
            ("ITEM", self.unit_price * self.quantity),
            ("TAX", self.tax if self.tax_currency is None else None),
            ("SHIPPING", self.shipping),
            ("GIFT_WRAP", self.gift_wrap),
            ("DISCOUNT", self.discount),
            *self.fees,
        )
        return [(kind, amount) for kind, amount in amounts if amount is not None]


@dataclass(frozen=True, slots=True)
class Package:
    reference: str
    status: str = "IN_TRANSIT"
    detailed_status: str | None = None
    carrier: str | None = "Invented Carrier"
    service: str | None = "Ground"
    tracking_number: str | None = None
    shipped_at: datetime | None = None
    items: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything about an order at one time. ``None`` and empty mean: not in Amazon's JSON."""

    order_id: str
    created: datetime
    currency: str
    marketplace_id: str | None
    marketplace_name: str | None = None
    channel: str = "AMAZON"
    status: str = "UNSHIPPED"
    fulfilled_by: str = "MERCHANT"
    service_level: str = "STANDARD"
    programs: tuple[str, ...] = ()
    seller_order_id: str | None = None
    replaces: str | None = None
    name: str | None = None
    email: str | None = None
    company: str | None = None
    purchase_order_number: str | None = None
    delivery: Address | None = None
    drop_off: str | None = None
    instruction: str | None = None
    tax_numbers: tuple[TaxNumber, ...] = ()
    lines: tuple[Line, ...] = ()
    packages: tuple[Package, ...] = ()
    tip: Decimal | None = None
    ship_by: datetime | None = None
    deliver_by: datetime | None = None
    payment_method: str | None = None
    fulfilment_order_id: str | None = None
    priced_while_pending: bool = False
    withheld: bool = False
    """Amazon withholds the buyer and the recipient in this version, whatever the seller's roles."""
    milliseconds: bool = False
    empty_strings: bool = False
    """Absent texts are written as "" instead of omitted."""
    news: bool = False
    """The JSON has fields that no published model has yet."""
    poison: str | None = None
    """Name of one of ``POISONS``: an unreadable order."""
    amend: Callable[[Json], object] | None = field(default=None, compare=False)
    """Changes the JSON, for what no other field can express; returns what is sent instead."""

    @property
    def shippable(self) -> bool:
        return self.status in SHIPPABLE_STATUSES

    @property
    def total(self) -> Decimal:
        return sum((line.total for line in self.lines), self.tip or _NOTHING)


@dataclass(frozen=True, slots=True)
class Version:
    """The order between two updates. Amazon's API shows it from ``visible_at`` on."""

    last_updated: datetime
    visible_at: datetime
    facts: Facts

    @property
    def payload(self) -> object:
        """Return Amazon's JSON with every dataset, nothing withheld for a missing role."""
        return render(self.facts, self.last_updated)


@dataclass(frozen=True, slots=True)
class Order:
    """An order with its history, oldest version first.

    ``listed_under`` is the marketplace whose searches list the order; it outlives a missing or
    foreign ``marketplaceId`` in the JSON (orders of other channels).
    """

    order_id: str
    created: datetime
    listed_under: str
    versions: tuple[Version, ...]
    unlisted: bool = False
    """No search lists it, but getOrder returns it and reports list it."""

    @property
    def is_of_other_shop(self) -> bool:
        """Return True for an order that Amazon ships for another shop: only reports list it."""
        return self.unlisted and self.versions[-1].facts.channel == "NON_AMAZON"

    def current(self, at: datetime) -> Version | None:
        """Return the newest version that Amazon shows at ``at``; None before the first one."""
        return next((v for v in reversed(self.versions) if v.visible_at <= at), None)

    def then(self, at: datetime, *, late: timedelta = timedelta(0), **changes: Any) -> Order:
        """Return the order, updated at ``at``.

        ``changes`` are fields of ``Facts``, or ``phone``, ``street``, ``city``, ``postal_code``, ``amount``
        and ``quantity`` as in ``order``.
        """
        before = self.versions[-1]
        facts = _apply(before.facts, changes)
        visible_at = max(at + late, before.visible_at)
        return replace(self, versions=(*self.versions, Version(at, visible_at, facts)))


def order(
    order_id: str,
    *,
    created: datetime,
    marketplace: str = "UK",
    updated: datetime | None = None,
    late: timedelta = timedelta(0),
    unlisted: bool = False,
    **facts: Any,
) -> Order:
    """Return an order with one version.

    ``facts`` are fields of ``Facts``; in addition, ``amount`` and ``quantity`` set the only line, and
    ``recipient``, ``street``, ``city``, ``postal_code`` and ``phone`` the delivery address. Without ``email``
    the buyer has a relay address made of the order ID; ``email=None`` means none. ``updated`` defaults to
    ``created``; ``late`` delays what the API shows; ``unlisted``: no search lists it.
    """
    place = BY_NAME[marketplace]
    first = updated or created
    plain = Facts(
        order_id=order_id,
        created=created,
        currency=place.currency,
        marketplace_id=place.id,
        marketplace_name=place.domain.capitalize(),
        name="Testa Invented",
        email=relay_address(order_id, place),
        delivery=Address(
            name="Testa Invented",
            line1="1 Invented Street",
            city="Sampleton",
            postal_code="ZZ1 1ZZ",
            country="GB" if place.code == "UK" else place.code,
            phone="+44 1632 960001",
        ),
        lines=(Line(f"{order_id}-1"),),
        ship_by=created + timedelta(days=2),
        deliver_by=created + timedelta(days=6),
    )
    versions = (Version(first, first + late, _apply(plain, facts)),)
    return Order(order_id, created, place.id, versions, unlisted)


def relay_address(key: str, place: Marketplace) -> str:
    """Return an anonymised address in Amazon's form for a readable ``key``."""
    local = "".join(c for c in key.lower() if c.isascii() and c.isalnum())
    return f"{local}@{place.relay_domain}"


_ADDRESS_SHORTHAND = {
    "recipient": "name",
    "street": "line1",
    "city": "city",
    "postal_code": "postal_code",
    "phone": "phone",
}
_FACTS = frozenset(f.name for f in fields(Facts))


def _apply(facts: Facts, changes: Mapping[str, Any]) -> Facts:
    own = {name: value for name, value in changes.items() if name in _FACTS}
    address = {_ADDRESS_SHORTHAND[n]: v for n, v in changes.items() if n in _ADDRESS_SHORTHAND}
    unknown = changes.keys() - own.keys() - _ADDRESS_SHORTHAND.keys() - {"amount", "quantity"}
    if unknown:
        raise TypeError(f"an order has no {', '.join(sorted(unknown))}")
    if "name" in own and "delivery" not in own and "name" not in address and facts.delivery is not None:
        address["name"] = own["name"]
    facts = replace(facts, **own)
    if address:
        facts = replace(facts, delivery=replace(facts.delivery or Address(), **address))
    if "amount" in changes or "quantity" in changes:
        line = facts.lines[0]
        price = Decimal(str(changes.get("amount", line.unit_price)))
        line = replace(line, unit_price=price, quantity=changes.get("quantity", line.quantity))
        facts = replace(facts, lines=(line, *facts.lines[1:]))
    return facts


# --- rendering -------------------------------------------------------------------------------------


def render(facts: Facts, last_updated: datetime) -> object:
    """Return Amazon's JSON of one version; any value if the version is poisoned or amended."""
    body: Json = {
        "orderId": facts.order_id,
        "createdTime": amazon_time(facts.created, milliseconds=facts.milliseconds),
        "lastUpdatedTime": amazon_time(last_updated, milliseconds=facts.milliseconds),
        "programs": list(facts.programs),
        "associatedOrders": _associated(facts),
        "salesChannel": _present(
            channelName=facts.channel,
            marketplaceId=facts.marketplace_id,
            marketplaceName=facts.marketplace_name,
        ),
        "fulfillment": _fulfilment(facts),
        "orderItems": [_item(facts, line) for line in facts.lines],
    }
    if facts.seller_order_id:
        body["orderAliases"] = [{"aliasId": facts.seller_order_id, "aliasType": "SELLER_ORDER_ID"}]
    if not facts.withheld:
        body |= _people(facts)
    if _priced(facts):
        body["proceeds"] = _proceeds(facts)
        if facts.payment_method:
            body["payment"] = {
                "paymentExecutions": [
                    {
                        "paymentMethod": facts.payment_method,
                        "paymentAmount": money(facts.total, facts.currency),
                    }
                ]
            }
    if facts.packages:
        body["packages"] = [_package(facts, package) for package in facts.packages]
    if facts.fulfilment_order_id:
        body["fulfillmentOrders"] = [{"fulfillmentOrderId": facts.fulfilment_order_id}]
    if facts.news:
        body["carbonLabel"] = {"grams": 120, "method": "ESTIMATED"}
        body["fulfillment"]["promiseConfidence"] = "HIGH"
    sent: object = body
    if facts.poison is not None:
        sent = POISONS[facts.poison](body)
    if facts.amend is not None and isinstance(sent, dict):
        sent = facts.amend(sent)
    return sent


def _present(**members: object) -> Json:
    return {name: value for name, value in members.items() if value is not None}


def _texts(facts: Facts, **members: str | None) -> Json:
    if facts.empty_strings:
        return {name: value or "" for name, value in members.items()}
    return {name: value for name, value in members.items() if value}


def _priced(facts: Facts) -> bool:
    return facts.status not in PENDING_STATUSES or facts.priced_while_pending


def _associated(facts: Facts) -> list[Json]:
    if facts.replaces is None:
        return []
    return [{"orderId": facts.replaces, "associationType": "REPLACEMENT_ORIGINAL_ID"}]


def _people(facts: Facts) -> Json:
    people: Json = {}
    buyer = _present(
        buyerName=facts.name,
        buyerEmail=facts.email,
        buyerCompanyName=facts.company,
        buyerPurchaseOrderNumber=facts.purchase_order_number,
    )
    if buyer:
        people["buyer"] = buyer
    recipient: Json = {}
    if facts.delivery is not None:
        recipient["deliveryAddress"] = _address(facts, facts.delivery)
    preference = _present(dropOffLocation=facts.drop_off, addressInstruction=facts.instruction)
    if preference:
        recipient["deliveryPreference"] = preference
    if recipient:
        people["recipient"] = recipient
    if facts.tax_numbers:
        people["tax"] = {"taxRegistrations": [_tax_number(number) for number in facts.tax_numbers]}
    return people


def _address(facts: Facts, address: Address) -> Json:
    written = _texts(
        facts,
        name=address.name,
        companyName=address.company,
        addressLine1=address.line1,
        addressLine2=address.line2,
        addressLine3=address.line3,
        city=address.city,
        districtOrCounty=address.county,
        stateOrRegion=address.state,
        municipality=address.municipality,
        postalCode=address.postal_code,
        countryCode=address.country,
        phone=address.phone,
    )
    if address.extended:
        written["extendedFields"] = dict(address.extended)
    if address.kind:
        written["addressType"] = address.kind
    return written


def _tax_number(number: TaxNumber) -> Json:
    written: Json = {
        "entityType": number.entity,
        "legalName": number.legal_name,
        "taxRegistrationType": number.kind,
        "taxRegistrationNumber": number.number,
    }
    if number.office:
        written["taxRegistrationAttributes"] = [{"key": "TAX_OFFICE", "value": number.office}]
    return written


def _window(facts: Facts, latest: datetime, length: timedelta) -> Json:
    return {
        "earliestDateTime": amazon_time(latest - length, milliseconds=facts.milliseconds),
        "latestDateTime": amazon_time(latest, milliseconds=facts.milliseconds),
    }


def _fulfilment(facts: Facts) -> Json:
    written: Json = {
        "fulfillmentStatus": facts.status,
        "fulfilledBy": facts.fulfilled_by,
        "fulfillmentServiceLevel": facts.service_level,
    }
    if facts.ship_by:
        written["shipByWindow"] = _window(facts, facts.ship_by, timedelta(days=1))
    if facts.deliver_by:
        written["deliverByWindow"] = _window(facts, facts.deliver_by, timedelta(days=2))
    return written


def _proceeds(facts: Facts) -> Json:
    written: Json = {"grandTotal": money(facts.total, facts.currency)}
    if facts.tip is not None:
        sums: dict[str, Decimal] = {}
        for kind, amount in (each for line in facts.lines for each in line.amounts):
            sums[kind] = sums.get(kind, _NOTHING) + amount
        written["breakdowns"] = [
            *({"type": kind, "subtotal": money(amount, facts.currency)} for kind, amount in sums.items()),
            {"type": "DELIVERY_TIP", "status": "FINALIZED", "subtotal": money(facts.tip, facts.currency)},
        ]
    return written


def _item(facts: Facts, line: Line) -> Json:
    product = _texts(facts, asin=line.asin, title=line.title, sellerSku=line.sku)
    product["condition"] = {"conditionType": "NEW", "conditionSubtype": "NEW"}
    if facts.empty_strings:
        product["condition"]["conditionNote"] = ""
    if line.serial_numbers:
        product["serialNumbers"] = list(line.serial_numbers)
    if line.customized_url:
        product["customization"] = {"customizedUrl": line.customized_url}
    item: Json = {"orderItemId": line.item_id, "quantityOrdered": line.quantity, "product": product}
    if _priced(facts):
        product["price"] = {"unitPrice": money(line.unit_price, facts.currency)}
        item["proceeds"] = _line_proceeds(facts, line)
        if line.points is not None:
            points = {
                "pointsNumber": line.points,
                "pointsMonetaryValue": money(line.points, facts.currency),
            }
            item["expense"] = {"pointsCost": {"pointsGranted": points}}
        if line.promotion_ids:
            item["promotion"] = {"breakdowns": [{"promotionId": each} for each in line.promotion_ids]}
        tax: Json = {}
        if line.scheme is not None:
            tax["taxCalculationBreakdowns"] = [{"reportingScheme": line.scheme}]
        if line.facilitator:
            tax["taxCollections"] = [{"model": "MARKETPLACE_FACILITATOR", "responsibleParty": "Amazon"}]
        if tax:
            item["tax"] = tax
    fulfilment: Json = {
        "quantityFulfilled": line.shipped,
        "quantityUnfulfilled": max(0, line.quantity - line.shipped),
    }
    if line.gift_message is not None or line.gift_wrap is not None:
        gift = _texts(
            facts, giftMessage=line.gift_message, giftWrapLevel="STANDARD" if line.gift_wrap else None
        )
        fulfilment["packing"] = {"giftOption": gift}
    item["fulfillment"] = fulfilment
    cancellation: Json = {}
    if line.cancel_requested is not None:
        cancellation["cancellationRequest"] = {"requester": "BUYER", "cancelReason": line.cancel_requested}
    if line.cancelled_by is not None:
        cancellation["cancellationExecution"] = _present(
            cancelledBy=line.cancelled_by, cancelReason=line.cancel_reason
        )
    if cancellation:
        item["cancellation"] = cancellation
    return item


def _line_proceeds(facts: Facts, line: Line) -> Json:
    breakdowns = [{"type": kind, "subtotal": money(amount, facts.currency)} for kind, amount in line.amounts]
    if line.tax_currency is not None and line.tax is not None:
        breakdowns.append({"type": "TAX", "subtotal": money(line.tax, line.tax_currency)})
    return {"proceedsTotal": money(line.total, facts.currency), "breakdowns": breakdowns}


def _package(facts: Facts, package: Package) -> Json:
    written: Json = {
        "packageReferenceId": package.reference,
        "packageStatus": _present(status=package.status, detailedStatus=package.detailed_status),
        **_texts(
            facts,
            carrier=package.carrier,
            shippingService=package.service,
            trackingNumber=package.tracking_number,
        ),
        "packageItems": [{"orderItemId": item, "quantity": count} for item, count in package.items],
    }
    if package.shipped_at is not None:
        written["shipTime"] = amazon_time(package.shipped_at, milliseconds=facts.milliseconds)
    return written


# --- unreadable orders -----------------------------------------------------------------------------


def _without(name: str) -> Callable[[Json], object]:
    return lambda body: {key: value for key, value in body.items() if key != name}


def _with(name: str, value: object) -> Callable[[Json], object]:
    return lambda body: body | {name: value}


def _first_item(**changes: object) -> Callable[[Json], object]:
    def spoil(body: Json) -> object:
        first, *others = body["orderItems"]
        return body | {"orderItems": [first | changes, *others]}

    return spoil


def _total(amount: object) -> Callable[[Json], object]:
    return _with("proceeds", {"grandTotal": {"amount": amount, "currencyCode": "EUR"}})


POISONS: Mapping[str, Callable[[Json], object]] = {
    "order_null": lambda body: None,
    "order_a_string": lambda body: "an order",
    "order_a_list": lambda body: [],
    "order_id_missing": _without("orderId"),
    "created_time_missing": _without("createdTime"),
    "created_time_not_a_time": _with("createdTime", "the day before yesterday"),
    "updated_time_missing": _without("lastUpdatedTime"),
    "items_not_a_list": _with("orderItems", {"orderItemId": "1"}),
    "items_missing": _without("orderItems"),
    "item_a_string": _with("orderItems", ["an item"]),
    "item_id_missing": lambda body: body | {"orderItems": [{"quantityOrdered": 1, "product": {}}]},
    "quantity_a_word": _first_item(quantityOrdered="two"),
    "channel_missing": _without("salesChannel"),
    "channel_a_string": _with("salesChannel", "AMAZON"),
    "amount_with_comma": _total("12,3"),
    "amount_nan": _total("NaN"),
    "amount_infinite": _total("Infinity"),
    "buyer_a_list": _with("buyer", ["a buyer"]),
}
"""Functions by name, each of which breaks Amazon's model in the sound JSON of an order."""
