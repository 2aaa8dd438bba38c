"""How long buyer data that came from Amazon may stay, and what is left of an order and a record without it.

Pure; ``poller.privacy.purge`` carries it out (R60, R61, R63). What a person entered or imported is not
Amazon's and stays: the origin of each field, and of each part of an address, says which is which.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from msgspec import structs

from poller.matching.emails import is_relay
from poller.matching.statuses import Stage, stage
from store.origins import ADDRESS_PARTS, ADDRESSES, OURS, of_field, of_parts
from store.records import (
    Address,
    CustomerRecord,
    LineRecord,
    MainEmail,
    OrderRecord,
    country_only,
)

UNFINISHED = timedelta(days=90)
"""From the last update of an order that was never seen finished to its term."""

PERSONAL = ("name", "company", "amazon_name", "phone", "billing", "delivery")
"""Fields of a customer record that hold buyer data, apart from e-mails and aliases."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The settings: days after the term (R60), months that a hash outlives the last order (R61), and months
    after which an order itself is erased (R64).

    None is ``off``.
    """

    days: int | None = 30
    hash_months: int | None = 18
    order_months: int | None = None

    def over_since(self, now: datetime) -> datetime | None:
        """Return the latest term whose days are over; None if nothing is ever erased."""
        return None if self.days is None else now - timedelta(days=self.days)

    def unknown_since(self, now: datetime) -> datetime | None:
        """Return the time of a last order up to which hashes are deleted; None if they stay."""
        return None if self.hash_months is None else months_before(now, self.hash_months)

    def orders_since(self, now: datetime) -> datetime | None:
        """Return the day (UTC) since which orders without their buyer are kept; None if all are (R64).

        An order keeps no longer than its buyer data, so all are kept if that is.
        """
        if self.days is None or self.order_months is None:
            return None
        return months_before(now, self.order_months).replace(hour=0, minute=0, second=0, microsecond=0)


KEEP_ALL = Retention(None, None)


def later(time: datetime, wait: timedelta) -> datetime:
    """Return a time after a wait, at most the last one there is, because Amazon may give that one itself.

    All that adds to a date of Amazon's goes this way; differences between two dates never overflow.
    """
    return time + min(wait, datetime.max.replace(tzinfo=time.tzinfo) - time)


def months_before(now: datetime, months: int) -> datetime:
    """Return the same day and hour some months ago; the month's last day if it has no such day."""
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    return now.replace(year=year, month=month + 1, day=min(now.day, monthrange(year, month + 1)[1]))


# --- the term of an order -----------------------------------------------------------------------------


class Term(NamedTuple):
    """The time that an order's days are counted from, and the stage that set it."""

    at: datetime
    stage: Stage


def term(order: OrderRecord) -> Term:
    """Return an order's term (R60).

    It is delivery; else, once shipped, the later of shipping and promised delivery; else cancellation; else
    90 days after the last update. Amazon gives no time of delivery or cancellation, so the update time of the
    oldest copy that showed it counts; also for shipping, if no package has a time that can be true.
    """
    reached = stage(order.status, order.packages)
    if reached == "open":
        return Term(later(order.last_updated_at, UNFINISHED), reached)
    if reached == "delivered":
        return Term(order.delivered_at or order.as_of.get("packages", order.last_updated_at), reached)
    seen = order.as_of.get("fulfillment", order.last_updated_at)
    if reached == "cancelled":
        return Term(order.cancelled_at or seen, reached)
    # Removal orders are shipped in 1995 (frappe/ecommerce_integrations pull request 344).
    sent = [
        p.shipped_at for p in order.packages if p.shipped_at is not None and p.shipped_at >= order.created_at
    ]
    at = max(sent, default=order.shipped_at or seen)
    return Term(at if order.deliver_by is None else max(at, order.deliver_by), reached)


def quarantine_term(last_update: datetime | None, first_seen: datetime) -> datetime:
    """Return the term of an order that could not be read: at most its last update is known."""
    return later(first_seen if last_update is None else min(last_update, first_seen), UNFINISHED)


# --- what is left ---------------------------------------------------------------------------------------


def without_buyer_data(order: OrderRecord) -> OrderRecord:
    """Return the order as it may be kept after its term: amounts, products, dates, countries.

    A billing address that was copied from one entered by hand or imported is not Amazon's and stays.
    """
    return structs.replace(
        order,
        buyer=None,
        delivery=country_only(order.delivery),
        billing=order.billing if order.billing_origin in OURS else country_only(order.billing),
        delivery_instructions=None,
        tax_numbers=(),
        cancel_reason=None,
        lines=tuple(_line_without_buyer_data(line) for line in order.lines),
    )


def _line_without_buyer_data(line: LineRecord) -> LineRecord:
    if line.gift_message is None and line.customization_url is None:
        return line
    return structs.replace(line, gift_message=None, customization_url=None)


def as_if_withheld(order: OrderRecord) -> OrderRecord:
    """Return a copy of a forgotten order as if Amazon had withheld its buyer, not even to match by (R63)."""
    as_of = {group: time for group, time in order.as_of.items() if group not in ("buyer", "delivery")}
    return structs.replace(without_buyer_data(order), as_of=as_of)


def erased(customer: CustomerRecord) -> CustomerRecord:
    """Return the record without what came from Amazon; equal to ``customer`` if nothing did.

    Fields lose their origin with their value, so that the next order fills them again (R8). The country of an
    address stays, with the parts that a person entered or imported, and the hash of a main e-mail in its slot
    (R61). Aliases have no origin: those from Amazon are relay addresses, and those go.
    """
    erased_fields = [name for name in PERSONAL if customer.origins.get(name) not in OURS]
    changes: dict[str, Any] = dict.fromkeys(erased_fields)
    changes |= {kind: _entered(customer, kind) for kind in ADDRESSES if kind in changes}
    return replace(
        customer,
        **changes,
        emails=tuple(m if m.origin in OURS else replace(m, email=None) for m in customer.emails),
        aliases=tuple(alias for alias in customer.aliases if not is_relay(alias)),
        origins={name: origin for name, origin in customer.origins.items() if name not in erased_fields},
    )


def _entered(customer: CustomerRecord, kind: str) -> Address | None:
    """Return what is left of an address: its country, and the parts that a person entered or imported."""
    address, origins = getattr(customer, kind) or Address(), of_parts(customer, kind)
    kept = {part: getattr(address, part) for part in ADDRESS_PARTS if origins.get(part) in OURS}
    left = Address(**{"country": address.country, **kept})
    return None if left == Address() else left


def forgotten(customer: CustomerRecord) -> CustomerRecord:
    """Return the record of a forgotten person: nothing of the person is left, whatever its origin (R62).

    A tombstone stays one and goes on pointing to the kept record.
    """
    emptied: dict[str, Any] = dict.fromkeys(PERSONAL)
    about = {*PERSONAL, "labels", *(name for kind in ADDRESSES for name in of_field(customer, kind))}
    return replace(
        customer,
        status="merged" if customer.status == "merged" else "forgotten",
        external_id=None,
        **emptied,
        emails=(),
        aliases=(),
        labels={},
        origins={name: o for name, o in customer.origins.items() if name not in about},
        idle_since=None,
    )


def hash_only(customer: CustomerRecord) -> tuple[MainEmail, ...]:
    """Return the main e-mails of which only the hash is left (R61)."""
    return tuple(main for main in customer.emails if main.email is None)


# --- in words ---------------------------------------------------------------------------------------------


def explain(order: OrderRecord, retention: Retention, forgotten_at: datetime | None = None) -> str:
    """Return when this order's buyer data will be or was erased, and why, with the rule's number."""
    if forgotten_at is not None:
        return f"R63: Forgotten on {_day(forgotten_at)}: its buyer data is erased and never stored again."
    due = term(order)
    event = _event(order, due)
    if order.erased_at is not None:
        return (
            f"R60: Buyer data was erased on {_day(order.erased_at)} and is never stored again (R63): {event}."
        )
    if retention.days is None:
        return "R60: Buyer data is kept: ORDER_SYNC_RETENTION_DAYS is off."
    days = f"{retention.days} day{'' if retention.days == 1 else 's'}"
    end = _day(later(due.at, timedelta(days=retention.days)))
    kept = f"R60: Buyer data is kept until {end} ({days} after {event})"
    if due.stage in ("delivered", "cancelled"):
        return f"{kept}."
    return f"{kept}, or {days} after delivery is confirmed."


def _event(order: OrderRecord, due: Term) -> str:
    """Return what set the term."""
    what = {
        "delivered": "delivery, seen on",
        "shipped": "the promised delivery on" if order.deliver_by == due.at else "shipping on",
        "cancelled": "cancellation, seen on",
        "open": "90 days without an update, on",
    }
    return f"{what[due.stage]} {_day(due.at)}"


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"
