"""Says, naively and independently, what the database must hold after Amazon has answered.

Decision: what is *true* in a test is worked out a second time, here, from the customer rules alone. Reason:
a product that is compared with its own code agrees with itself even when both are wrong. So this file imports
nothing of the product, is slow on purpose, and keeps every copy of every order that was served; after each
copy it works the order out again from all of them.

It knows neither edits by hand, merges, retention nor several accounts: a test that uses those compares before
it does. Rule numbers (R1, R2, …) are those of the customer rules; field names of the payloads are those of
Amazon's Orders API model 2026-01-01.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

PENDING = ("PENDING", "PENDING_AVAILABILITY")

# Amazon's datasets, and which of our groups of data each brings (R25 judges absence by group).
GROUP_OF = {
    "BUYER": "buyer",
    "RECIPIENT": "delivery",
    "PROCEEDS": "proceeds",
    "PROMOTION": "promotion",
    "FULFILLMENT": "fulfillment",
    "CANCELLATION": "cancellation",
    "PACKAGES": "packages",
    "TAX": "tax",
}
BREAKDOWN_OF = {
    "item_total": "ITEM",
    "tax": "TAX",
    "shipping": "SHIPPING",
    "discount": "DISCOUNT",
    "gift_wrap": "GIFT_WRAP",
}
# Which group a field of a line comes from; its other fields come from the newest copy.
GROUP_OF_LINE_FIELD = {
    "unit_price": "price",
    **dict.fromkeys((*BREAKDOWN_OF, "other_amounts"), "proceeds"),
    "quantity_shipped": "fulfillment",
    "gift_message": "fulfillment",
    "promotion_ids": "promotion",
}
MONEY_FIELDS = {"total", "withheld_tax", "unexplained", "unit_price", *BREAKDOWN_OF}
TIME_FIELDS = {"created_at", "last_updated_at", "ship_by", "deliver_by", "shipped_at"}


# ------------------------------------------------------------------------------ reading one copy of an order


def text(value: Any) -> str | None:
    """The text, or None: an empty string means absent."""
    if value is not None and not isinstance(value, str):
        raise TypeError("not a text")
    return value if value and value.strip() else None


def instant(value: Any) -> datetime | None:
    if text(value) is None:
        return None
    when = datetime.fromisoformat(value)
    if when.tzinfo is None:
        raise ValueError("a time without a zone")
    return when.astimezone(UTC)


def iso(value: Any) -> str | None:
    when = instant(value)
    return None if when is None else when.isoformat().replace("+00:00", "Z")


def amount(money: Any) -> str | None:
    if not money:
        return None
    value = Decimal(str(money["amount"]))
    if not value.is_finite():
        raise ValueError("not an amount")
    return format(value, "f")


def total_of(amounts: Iterable[str | None]) -> str | None:
    known = [Decimal(value) for value in amounts if value is not None]
    return format(sum(known, Decimal(0)), "f") if known else None


def read(payload: dict[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """One copy of an order: fields of no group, and the groups (None where absent or not wanted).

    Raises KeyError, TypeError, ValueError, AttributeError or InvalidOperation when it cannot be understood.
    """
    aliases, others = payload.get("orderAliases") or [], payload.get("associatedOrders") or []
    copy: dict[str, Any] = {
        "order_id": payload["orderId"],
        "created": instant(payload["createdTime"]),
        "updated": instant(payload["lastUpdatedTime"]),
        "channel": payload["salesChannel"]["channelName"],
        "marketplace_id": text(payload["salesChannel"].get("marketplaceId")),
        "programs": list(payload.get("programs") or []),
        "seller_order_id": first(a["aliasId"] for a in aliases if a["aliasType"] == "SELLER_ORDER_ID"),
        "replaces": first(
            other.get("orderId")
            for other in others
            if other.get("associationType") == "REPLACEMENT_ORIGINAL_ID"
        ),
        "lines": [
            {
                "order_item_id": item["orderItemId"],
                "sku": text((item.get("product") or {}).get("sellerSku")),
                "asin": text((item.get("product") or {}).get("asin")),
                "title": text((item.get("product") or {}).get("title")),
                "quantity": int(item["quantityOrdered"]),
            }
            for item in payload["orderItems"]
        ],
    }
    if text(copy["order_id"]) is None or copy["created"] is None or copy["updated"] is None:
        raise ValueError("an order without id or times")
    copy["groups"] = read_groups(payload, {item["orderItemId"]: item for item in payload["orderItems"]})
    for dataset, group in GROUP_OF.items():
        if dataset not in wanted:
            copy["groups"][group] = None
    return copy


def first(values: Iterable[Any]) -> str | None:
    return next((value for value in values if text(value) is not None), None)


def read_groups(payload: dict[str, Any], items: dict[str, Any]) -> dict[str, Any]:
    """The groups of data; "lines" in a group are what it says of the lines, by order item id."""
    groups: dict[str, Any] = {}

    buyer = payload.get("buyer") or {}
    groups["buyer"] = {
        "name": text(buyer.get("buyerName")),
        "email": text(buyer.get("buyerEmail")),
        "company": text(buyer.get("buyerCompanyName")),
        "purchase_order_number": text(buyer.get("buyerPurchaseOrderNumber")),
    }
    if not any(groups["buyer"].values()):
        groups["buyer"] = None

    groups["delivery"] = read_address((payload.get("recipient") or {}).get("deliveryAddress") or {})

    order = payload.get("fulfillment") or {}
    of_item = {i: item.get("fulfillment") or {} for i, item in items.items()}
    gift = {i: (part.get("packing") or {}).get("giftOption") or {} for i, part in of_item.items()}
    groups["fulfillment"] = {
        "status": text(order.get("fulfillmentStatus")),
        "fulfilled_by": text(order.get("fulfilledBy")),
        "service_level": text(order.get("fulfillmentServiceLevel")),
        "ship_by": iso((order.get("shipByWindow") or {}).get("latestDateTime")),
        "deliver_by": iso((order.get("deliverByWindow") or {}).get("latestDateTime")),
        "lines": {
            i: {
                "quantity_shipped": of_item[i].get("quantityFulfilled"),
                "gift_message": text(gift[i].get("giftMessage")),
            }
            for i in items
        },
    }
    if groups["fulfillment"]["status"] is None:
        groups["fulfillment"] = None

    # Unit prices come with the product, whatever datasets were requested: a group of their own.
    prices = {
        i: ((item.get("product") or {}).get("price") or {}).get("unitPrice") for i, item in items.items()
    }
    priced = {i: {"unit_price": amount(p), "currency": p["currencyCode"]} for i, p in prices.items() if p}
    groups["price"] = {"lines": priced} if priced else None

    order = payload.get("proceeds") or {}
    of_item = {i: item["proceeds"] for i, item in items.items() if item.get("proceeds")}
    grand_total = order.get("grandTotal") or {}
    groups["proceeds"] = {
        "total": amount(grand_total),
        "currency": grand_total.get("currencyCode"),
        "lines": {i: read_sums(part) for i, part in of_item.items()},
    }
    sums = read_sums({"breakdowns": order.get("breakdowns") or []}, grand_total.get("currencyCode"))
    own = sums["other_amounts"].items()
    groups["proceeds"]["own"] = {key: value for key, value in own if key.split()[0] == "DELIVERY_TIP"}
    if not (grand_total or order.get("breakdowns") or of_item):
        groups["proceeds"] = None

    given = {i: (item.get("promotion") or {}).get("breakdowns") or [] for i, item in items.items()}
    ids = {i: [b["promotionId"] for b in part if text(b.get("promotionId"))] for i, part in given.items()}
    promoted = {i: {"promotion_ids": part} for i, part in ids.items() if part}
    groups["promotion"] = {"lines": promoted} if promoted else None

    cancellations = [item["cancellation"] for item in items.values() if item.get("cancellation")]
    executions = [part.get("cancellationExecution") or {} for part in cancellations]
    groups["cancellation"] = {
        "requested": any(part.get("cancellationRequest") for part in cancellations),
        "cancelled_by": first(part.get("cancelledBy") for part in executions),
    }
    if not cancellations:
        groups["cancellation"] = None

    groups["packages"] = [
        {
            "reference": text(package.get("packageReferenceId")),
            "status": text((package.get("packageStatus") or {}).get("status")),
            "detailed_status": text((package.get("packageStatus") or {}).get("detailedStatus")),
            "carrier": text(package.get("carrier")),
            "service": text(package.get("shippingService")),
            "tracking_number": text(package.get("trackingNumber")),
            "shipped_at": iso(package.get("shipTime")),
        }
        for package in payload.get("packages") or []
    ] or None

    collections = {i: (item.get("tax") or {}).get("taxCollections") or [] for i, item in items.items()}
    models = {i: [one.get("model") for one in part] for i, part in collections.items()}
    groups["tax"] = {"facilitated": [i for i in items if "MARKETPLACE_FACILITATOR" in models[i]]}
    if not (payload.get("tax") or {}).get("taxRegistrations") and not any(collections.values()):
        groups["tax"] = None
    return groups


def read_sums(proceeds: dict[str, Any], currency: str | None = None) -> dict[str, Any]:
    """The sums of an item's breakdowns by our names, what is left by Amazon's, and their currency."""
    breakdowns = [b for b in proceeds.get("breakdowns") or [] if b.get("subtotal")]
    codes = [(b["type"], b["subtotal"]["currencyCode"]) for b in breakdowns]
    items_first = [code for kind, code in codes if kind == "ITEM"] + [code for _, code in codes]
    currency = first([currency, *items_first])
    by_key: dict[str, str | None] = {}
    for kind, code in codes:
        same = (
            amount(b["subtotal"]) for b, pair in zip(breakdowns, codes, strict=True) if pair == (kind, code)
        )
        key = kind if code == currency else f"{kind} {code}"
        by_key[key] = total_of(same)
    for key in by_key:
        if key.split()[0] == "DISCOUNT":
            by_key[key] = (by_key[key] or "").removeprefix("-")  # always positive, it lowers the price
    sums: dict[str, Any] = {field: by_key.pop(kind, None) for field, kind in BREAKDOWN_OF.items()}
    return sums | {"other_amounts": by_key, "currency": currency}


def left_over(total: str | None, currency: str | None, own: dict[str, str], lines: list[Any]) -> str | None:
    """The total less every amount in its currency."""
    if total is None:
        return None
    known = [Decimal(value) for key, value in own.items() if " " not in key]
    for line in lines:
        here = line["currency"] == currency
        for field, kind in BREAKDOWN_OF.items():
            if here and line[field] is not None:
                known.append(-Decimal(line[field]) if kind == "DISCOUNT" else Decimal(line[field]))
        for key, value in (line["other_amounts"] or {}).items():
            kind, _, code = key.partition(" ")
            if (code or line["currency"]) == currency:
                known.append(-Decimal(value) if kind == "DISCOUNT" else Decimal(value))
    return format(Decimal(total) - sum(known, Decimal(0)), "f")


def read_address(address: dict[str, Any]) -> dict[str, Any] | None:
    """A delivery address; one with neither a name nor a street counts as withheld (R25)."""
    more = address.get("extendedFields") or {}  # Brazil's way to write a street
    street = [text(address.get(f"addressLine{number}")) for number in (1, 2, 3)]
    if not (text(address.get("name")) or any(street) or text(more.get("streetName"))):
        return None
    name_and_number = [text(more.get("streetName")), text(more.get("streetNumber"))]
    return {
        "name": text(address.get("name")),
        "company": text(address.get("companyName")),
        "line1": street[0] or " ".join(part for part in name_and_number if part) or None,
        "line2": street[1] or text(more.get("complement")),
        "line3": street[2] or text(more.get("neighborhood")),
        "city": text(address.get("city")),
        "county": joined(text(address.get("districtOrCounty")), text(address.get("municipality"))),
        "state": text(address.get("stateOrRegion")),
        "postal_code": text(address.get("postalCode")),
        "country": text(address.get("countryCode")),
        "phone": text(address.get("phone")),
        "type": text(address.get("addressType")),
    }


def joined(district: str | None, municipality: str | None) -> str | None:
    """Both names, once if they are the same."""
    if district and municipality and district != municipality:
        return f"{district}, {municipality}"
    return district or municipality


def merged(copies: list[dict[str, Any]]) -> dict[str, Any]:
    """What is known of an order after these copies, given in the order of serving (R25)."""
    newest = copies[0]
    for copy in copies:
        if copy["updated"] >= newest["updated"]:
            newest = copy
    order = dict(newest)
    order["groups"] = {}
    for group in newest["groups"]:
        holder = None
        for copy in copies:
            present = copy["groups"][group] is not None
            if present and (holder is None or copy["updated"] >= holder["updated"]):
                holder = copy
        order["groups"][group] = holder["groups"][group] if holder else None
    by_age = sorted(copies, key=lambda copy: copy["updated"])
    for key in ("programs", "lines"):  # none at all is absence
        order[key] = next((copy[key] for copy in reversed(by_age) if copy[key]), [])
    order["status"] = (order["groups"]["fulfillment"] or {}).get("status")
    return order


# --------------------------------------------------------------------------------- who the customer of it is


def normal(email: str) -> str:
    """How e-mails are compared (R15)."""
    return email.strip().lower()


def bare(address: dict[str, Any] | None) -> dict[str, Any] | None:
    """An address as it is exported: without Amazon's type of it."""
    return None if address is None else {key: address[key] for key in address if key != "type"}


class Oracle:
    """Digests what Amazon served to one account and tells what must have come of it.

    ``marketplaces`` maps a marketplace id to the seller's rules for it: ``code``, ``currency``,
    ``price_list``, ``tax_code``, ``pending``, ``without_email``, ``labels``, ``order_status``,
    ``included_data``; all but the first three may be left out. ``poison`` are the ids of orders that must be
    ignored; orders that cannot be read are ignored anyhow, and their payloads kept in ``unreadable``.
    """

    def __init__(
        self,
        account: str,
        business: str,
        marketplaces: Mapping[str, Mapping[str, Any]],
        shared_emails: Iterable[str] = (),
        poison: Iterable[str] = (),
    ) -> None:
        self.account = account
        self.business = business
        self.marketplaces = marketplaces
        self.shared_emails = {normal(email) for email in shared_emails}
        self.poison = set(poison)
        self.unreadable: list[Any] = []
        self.copies: dict[str, list[dict[str, Any]]] = {}
        self.links: dict[str, dict[str, Any]] = {}  # order id -> basis, record, billing
        self.records: list[dict[str, Any]] = []

    def page(self, payloads: Iterable[Any]) -> None:
        """Digests one answer, its orders by created time and order id, however Amazon sorted them (R20)."""
        readable = []
        for payload in payloads:
            try:
                place = self.marketplaces.get(payload["salesChannel"].get("marketplaceId"), {})
                copy = read(payload, place.get("included_data", GROUP_OF))
            except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation):
                self.unreadable.append(payload)
                continue
            if copy["order_id"] not in self.poison:
                readable.append(copy)
        for copy in sorted(readable, key=lambda copy: (copy["created"], copy["order_id"])):
            self.copies.setdefault(copy["order_id"], []).append(copy)
            self.decide(merged(self.copies[copy["order_id"]]))

    def decide(self, order: dict[str, Any]) -> None:
        """Gives the order its customer when it can be known, once and for all but for R22 and R31 (R19)."""
        link = self.links.setdefault(order["order_id"], {"basis": None, "record": None, "billing": None})
        place = self.marketplaces.get(order["marketplace_id"])
        was, never_ready = link["basis"], link["basis"] in (None, "placeholder")
        # Seen ready in any copy, also one that came after a newer one: it was not cancelled before (R33).
        statuses = [
            (copy["groups"]["fulfillment"] or {}).get("status") for copy in self.copies[order["order_id"]]
        ]
        never_seen_ready = all(status in (None, "CANCELLED", *PENDING) for status in statuses)
        email = self.usable_email(order)
        if place is None or was in ("created", "email_1", "promoted", "replacement"):
            pass  # R26; R19
        elif order["status"] in PENDING and never_ready and never_seen_ready:
            if was is None and place.get("pending") == "placeholder":
                self.attach(link, order, "placeholder", self.common_record("placeholder", order))  # R31
        elif order["status"] == "CANCELLED" and never_ready and never_seen_ready:
            pass  # R33, or R31: it stays on the placeholder
        elif email is not None:
            record = self.record_with(email)
            basis = "email_1" if record else "created"  # R6, R2
            if record is None:
                record = self.new_record("email", order)
                record["emails"].add(normal(email))
            self.attach(link, order, basis if never_ready else "promoted", record)  # R22
        elif never_ready or was in ("held", "unidentified", "shared"):
            # "While that one is unknown" (R23): once it is known, the replacement goes there as well.
            record = self.links.get(order["replaces"] or "", {}).get("record")
            if record is not None and record["kind"] in ("email", "unidentified"):
                if record is not link["record"]:
                    basis = "replacement" if never_ready else "promoted"  # R23, R26
                    self.attach(link, order, basis, record)
            elif never_ready:
                self.without_email(link, order, place.get("without_email", "per_order"))
        if link["record"] is not None:
            self.give(link["record"], order)

    def without_email(self, link: dict[str, Any], order: dict[str, Any], choice: str) -> None:
        """R21."""
        if choice == "hold":
            link.update(basis="held", record=None, billing=None)
        elif choice == "shared":
            self.attach(link, order, "shared", self.common_record("shared", order))
        else:
            self.attach(link, order, "unidentified", self.new_record("unidentified", order))

    def attach(self, link: dict[str, Any], order: dict[str, Any], basis: str, record: dict[str, Any]) -> None:
        """The order's billing address is the record's (R10), after the order has filled an empty one (R8)."""
        self.give(record, order)
        billing = record["address"][0][1] if record["address"] else None
        link.update(basis=basis, record=record, billing=billing)

    def usable_email(self, order: dict[str, Any]) -> str | None:
        """The buyer's e-mail, unless it identifies no one (R17) or the order has no Amazon buyer (R24)."""
        if order["channel"] == "NON_AMAZON" or self.identifies_nobody(order):
            return None
        email: str = (order["groups"]["buyer"] or {}).get("email") or ""
        local, _, domain = email.partition("@")
        return email if local and "." in domain.strip(".") else None  # R15, R21

    def identifies_nobody(self, order: dict[str, Any]) -> bool:
        email = normal((order["groups"]["buyer"] or {}).get("email") or "")
        shared = email in self.shared_emails or email.startswith("no-reply-amazon-iba-buyer@")
        return "INVOICE_BY_AMAZON" in order["programs"] or shared

    def record_with(self, email: str) -> dict[str, Any] | None:
        for record in self.records:
            if normal(email) in record["emails"]:
                return record
        return None

    def common_record(self, kind: str, order: dict[str, Any]) -> dict[str, Any]:
        """A marketplace's one record for pending orders (R31), or for all without an e-mail (R21, shared)."""
        for record in self.records:
            if record["kind"] == kind and record["marketplace_id"] == order["marketplace_id"]:
                return record
        return self.new_record(kind, order)

    def new_record(self, kind: str, order: dict[str, Any]) -> dict[str, Any]:
        record: dict[str, Any] = {
            "kind": kind,  # email, unidentified, shared, placeholder
            "marketplace_id": order["marketplace_id"],  # R4: decides price list, tax code, currency
            "created_from_order": order["order_id"],
            "emails": set(),  # as compared
            "received": set(),  # as received
            "buyer_name": [],  # this and what follows: (order id, value), as given, oldest first
            "recipient_name": [],
            "company": [],
            "phone": [],
            "address": [],
        }
        self.records.append(record)
        return record

    def give(self, record: dict[str, Any], order: dict[str, Any]) -> None:
        """Notes what this order has to give to its record (R3, R5, R17, R18)."""
        if record["kind"] in ("shared", "placeholder"):
            return  # stands for many buyers
        buyer, address = order["groups"]["buyer"] or {}, order["groups"]["delivery"]
        given: dict[str, Any] = {}
        if not self.identifies_nobody(order):
            given |= {"buyer_name": buyer.get("name"), "company": buyer.get("company")}
            record["received"].add(buyer.get("email"))
        pick_up = "IN_STORE_PICK_UP" in order["programs"] or (address or {}).get("type") == "PICKUP_POINT"
        if address is not None and not pick_up:
            given |= {"recipient_name": address["name"], "phone": address["phone"], "address": bare(address)}
        for field, value in given.items():
            if value is not None and (order["order_id"], value) not in record[field]:
                record[field].append((order["order_id"], value))

    # ------------------------------------------------------------------------------ what must have come of it

    def exported(self) -> list[str]:
        """The ids of the orders that are shown: all but pending ones without a placeholder (R30)."""
        shown = []
        for order_id, copies in self.copies.items():
            if merged(copies)["status"] not in PENDING or self.links[order_id]["basis"] is not None:
                shown.append(order_id)
        return shown

    def orders(self) -> dict[str, dict[str, Any]]:
        """The exported orders by id, in the exported shape, with the keys that can be known from here."""
        return {order_id: self.as_exported(order_id) for order_id in self.exported()}

    def as_exported(self, order_id: str) -> dict[str, Any]:
        order, link = merged(self.copies[order_id]), self.links[order_id]
        groups = {name: group or {} for name, group in order["groups"].items()}
        place = self.marketplaces.get(order["marketplace_id"], {})
        giver = self.marketplaces[link["record"]["marketplace_id"]] if link["record"] else place  # R44
        if link["basis"] == "placeholder" and order["status"] in PENDING:
            groups |= {"proceeds": {}, "price": {}}  # R31: shown without prices
        lines, withheld, currencies = [], [], [groups["proceeds"].get("currency")]
        for base in order["lines"]:
            item_id = base["order_item_id"]
            parts = {
                name: groups[name].get("lines", {}).get(item_id, {})
                for name in set(GROUP_OF_LINE_FIELD.values())
            }
            line = base | {key: parts[group].get(key) for key, group in GROUP_OF_LINE_FIELD.items()}
            line["currency"] = first([parts["proceeds"].get("currency"), parts["price"].get("currency")])
            if parts["price"].get("currency") != line["currency"]:
                line["unit_price"] = None  # a line has one currency
            lines.append(line)
            currencies += [parts["price"].get("currency"), parts["proceeds"].get("currency")]
            if item_id in groups["tax"].get("facilitated", []):
                withheld.append(parts["proceeds"].get("tax"))  # R42
        result = {
            "order_id": order_id,
            "account": self.account,
            "marketplace_id": order["marketplace_id"],
            "seller_status": seller_status(place.get("order_status", {}), order),
            "programs": order["programs"],
            "created_at": iso(order["created"].isoformat()),
            "last_updated_at": iso(order["updated"].isoformat()),
            "seller_order_id": order["seller_order_id"],
            "replaces": order["replaces"],
            "purchase_order_number": groups["buyer"].get("purchase_order_number"),
            "buyer_name": groups["buyer"].get("name"),
            "buyer_email": groups["buyer"].get("email"),
            "currency": first(currencies),
            "total": groups["proceeds"].get("total"),
            "match_basis": link["basis"],
            "delivery": bare(order["groups"]["delivery"]),
            "billing": link["billing"],
            "price_list": giver.get("price_list"),
            "tax_code": giver.get("tax_code"),
            "labels": dict(place.get("labels", {})),
            "lines": lines,
            "packages": groups["packages"] or [],
            "cancel_requested": groups["cancellation"].get("requested", False),
            "cancelled_by": groups["cancellation"].get("cancelled_by"),
            "withheld_tax": total_of(withheld),
            "other_amounts": groups["proceeds"].get("own"),
            "unexplained": left_over(
                groups["proceeds"].get("total"),
                first(currencies),
                groups["proceeds"].get("own") or {},
                lines,
            ),
        }
        for key in ("status", "fulfilled_by", "service_level", "ship_by", "deliver_by"):
            result[key] = groups["fulfillment"].get(key)
        if place:  # of an unknown marketplace the country is not known here
            result["marketplace"] = place["code"]
        return result

    def groups(self) -> set[frozenset[str]]:
        """The exported orders, grouped by customer; orders without a customer are in no group."""
        return set(self.customers())

    def customers(self) -> dict[frozenset[str], dict[str, Any]]:
        """By group of orders, what its record may say. A list: one of these, or null when it is empty."""
        result = {}
        shown = [i for i in self.exported() if self.links[i]["record"] is not None]
        for record in self.records:
            orders = frozenset(i for i in shown if self.links[i]["record"] is record)
            if not orders:
                continue
            place = self.marketplaces[record["marketplace_id"]]
            result[orders] = {
                "kind": record["kind"],
                "created_from_order": record["created_from_order"],
                "marketplace": place["code"],
                "price_list": place["price_list"],
                "tax_code": place.get("tax_code"),
                "currency": place["currency"],
                "emails": frozenset(record["emails"]),
                "received_emails": frozenset(record["received"]),
                "amazon_name": values(record, "buyer_name"),
                "name": values(record, "buyer_name") or values(record, "recipient_name"),  # R18
                "company": values(record, "company"),
                "phone": values(record, "phone"),
                "address": values(record, "address"),
            }
        return result


def values(record: dict[str, Any], field: str) -> list[Any]:
    """What a record may hold in this field: what was given first, or by any copy of the order that made it.

    A later order never changes what is there (R8, R9).
    """
    given = record[field]
    return [v for n, (order_id, v) in enumerate(given) if n == 0 or order_id == record["created_from_order"]]


def seller_status(words: Mapping[str, str], order: dict[str, Any]) -> str | None:
    """R40: Prime, then FBA, then new, each only if configured."""
    if "PRIME" in order["programs"] and words.get("prime"):
        return words["prime"]
    if (order["groups"]["fulfillment"] or {}).get("fulfilled_by") == "AMAZON" and words.get("fba"):
        return words["fba"]
    return words.get("new") or None


# ------------------------------------------------------------------------------------------- the comparison


def same_value(key: str, expected: Any, found: Any) -> bool:
    if key == "cancel_requested":
        return bool(expected) == bool(found)
    if expected in (None, [], {}) or found in (None, [], {}):  # an empty list says the same as null
        return expected in (None, [], {}) and found in (None, [], {})
    if key in MONEY_FIELDS:
        try:
            return isinstance(found, str) and Decimal(found) == Decimal(expected)
        except InvalidOperation:
            return False
    if key in TIME_FIELDS:
        try:
            return found.endswith("Z") and instant(found) == instant(expected)
        except (AttributeError, TypeError, ValueError):
            return False
    if key in ("programs", "promotion_ids"):
        return sorted(expected) == sorted(found)
    return bool(type(expected) is type(found) and expected == found)


def differing(expected: Any, found: Any, path: str = "") -> Iterator[str]:
    """The names of the fields that differ, never what is in them. Lines, packages are found by their id."""
    key = path.rpartition(".")[2]
    identity = {"lines": "order_item_id", "packages": "reference"}.get(key)
    if identity is not None and expected and isinstance(found, list):
        by_id = {entry.get(identity): entry for entry in found}
        if len(found) != len(expected):
            yield f"{path} (expected {len(expected)}, found {len(found)})"
        for entry in expected:
            yield from differing(entry, by_id.get(entry[identity]), f"{path}[{entry[identity]}]")
    elif isinstance(expected, dict) and isinstance(found, dict) and key != "labels":
        for name in expected:
            inner = f"{path}.{name}" if path else name
            if name in found:
                yield from differing(expected[name], found[name], inner)
            else:
                yield f"{inner} (the key is absent)"
    elif not same_value(key, expected, found):
        yield path


def compare(
    oracle: Oracle, exported_orders: list[dict[str, Any]], exported_customers: list[dict[str, Any]]
) -> list[str]:
    """What is wrong with an export, in sentences without buyer data; empty when all is right."""
    expected = oracle.orders()
    orders = {order["order_id"]: order for order in exported_orders}
    customers = {customer["customer_id"]: customer for customer in exported_customers}
    wrong = []
    if len(orders) != len(exported_orders) or len(customers) != len(exported_customers):
        wrong.append("some orders or customers are exported more than once")
    wrong += [f"order {i} is missing" for i in sorted(expected.keys() - orders.keys())]
    wrong += [f"order {i} should not be there" for i in sorted(orders.keys() - expected.keys())]
    for i in sorted(expected.keys() & orders.keys()):
        billing = orders[i].get("billing")
        record = customers.get(orders[i].get("customer_id"), {})
        for field in differing(expected[i], orders[i]):
            # Whether an order gets the address that its record got after the match, the rules leave open.
            if field == "billing" and expected[i]["billing"] is None and billing == record.get("billing"):
                continue
            wrong.append(f"order {i} differs in {field}")
    wrong += compare_grouping(oracle, orders, customers)
    wrong += compare_records(oracle, orders, customers)
    return wrong


def compare_grouping(
    oracle: Oracle, orders: dict[str, dict[str, Any]], customers: dict[Any, dict[str, Any]]
) -> Iterator[str]:
    with_customer: set[str] = set()
    taken: dict[Any, str] = {}  # customer id -> an order of the group that it stands for
    for group in sorted(sorted(group) for group in oracle.groups()):
        with_customer |= set(group)
        found = {i: orders[i].get("customer_id") for i in group if i in orders}
        for i, customer_id in found.items():
            if customer_id is None:
                yield f"order {i} has no customer"
            elif customer_id not in customers:
                yield f"order {i} refers to customer {customer_id}, who does not exist"
            elif customers[customer_id].get("status") == "merged":
                yield f"order {i} refers to customer {customer_id}, who is a tombstone"
        ids = sorted(set(found.values()) - {None}, key=str)
        if len(ids) > 1:
            yield f"orders {', '.join(found)} are one customer's, but on {len(ids)} records"
        for customer_id in ids:
            other = taken.setdefault(customer_id, group[0])
            if other != group[0]:
                yield f"customer {customer_id} has orders of different customers: {other}, {group[0]}"
    for i in sorted(set(oracle.exported()) - with_customer):
        if orders.get(i, {}).get("customer_id") is not None:
            yield f"order {i} should have no customer"


def compare_records(
    oracle: Oracle, orders: dict[str, dict[str, Any]], customers: dict[Any, dict[str, Any]]
) -> Iterator[str]:
    holder: dict[str, Any] = {}
    for customer_id, customer in customers.items():
        for email in filter(None, customer.get("emails") or []):
            other = holder.setdefault(normal(email), customer_id)
            if other != customer_id:
                yield f"customers {other} and {customer_id} have the same e-mail"
        if customer.get("status") == "merged" and customer.get("merged_into") not in customers:
            yield f"customer {customer_id} is a tombstone that points nowhere"

    # A marketplace's record for pending orders, or for all orders without an e-mail, may stand empty.
    expected, places = oracle.customers(), oracle.marketplaces.values()
    may_stand_empty = sum(place.get("pending") == "placeholder" for place in places)
    may_stand_empty += sum(place.get("without_email") == "shared" for place in places)
    may_stand_empty -= sum(e["kind"] in ("placeholder", "shared") for e in expected.values())
    referred = {order.get("customer_id") for order in orders.values()}
    for customer_id, customer in customers.items():
        if customer_id not in referred and customer.get("status") != "merged":
            if may_stand_empty > 0 and not customer.get("emails"):
                may_stand_empty -= 1
            else:
                yield f"nobody refers to customer {customer_id}"

    for group, allowed in expected.items():
        ids = {orders[i].get("customer_id") for i in group if i in orders}
        if len(ids) == 1 and (customer_id := ids.pop()) in customers:
            for field in differing_in_record(oracle, allowed, customers[customer_id]):
                yield f"customer {customer_id} differs in {field}"


def differing_in_record(oracle: Oracle, allowed: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    if found.get("business") != oracle.business:
        yield "business"
    for key in ("marketplace", "price_list", "tax_code", "currency"):
        if found.get(key) != allowed[key]:
            yield key
    emails = found.get("emails") or []
    if sorted(normal(email or "") for email in emails) != sorted(allowed["emails"]):
        yield "emails"
    elif not set(emails) <= allowed["received_emails"]:
        yield "emails (not as received)"
    if found.get("contactable") or found.get("contact_email"):
        yield "contactable"  # R14: Amazon gives nothing that may be written to
    if allowed["kind"] in ("shared", "placeholder"):
        return  # stands for many buyers; the rules leave open what it is called
    if found.get("status") != {"email": "active", "unidentified": "unidentified"}[allowed["kind"]]:
        yield "status"
    if found.get("created_from_order") != allowed["created_from_order"]:
        yield "created_from_order"
    for key in ("name", "amazon_name", "company", "phone"):
        if found.get(key) not in (allowed[key] or [None]):
            yield key
    for key in ("billing", "delivery"):
        if found.get(key) not in (allowed["address"] or [None]):
            yield key
