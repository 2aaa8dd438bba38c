"""How long buyer data that came from Amazon may stay, and what is left when it goes (R60, R61, R63).

Pure: which moment an order's days are counted from, what an order or a record looks like without
buyer data, and the sentences that say so. ``poller.privacy.purge`` carries it out. Data that a person
entered or imported is not Amazon's and stays, which the origin of every field tells.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from msgspec import structs

from poller.matching.emails import is_relay
from poller.matching.statuses import Stage, stage
from store.records import (
    CustomerRecord,
    LineRecord,
    MainEmail,
    OrderRecord,
    country_only,
)

UNFINISHED = timedelta(days=90)
"""The days of an order that was never seen finished begin so long after its last update."""

OURS = frozenset({"hand", "import"})
"""Origins of what is not Amazon's."""

PERSONAL = ("name", "company", "amazon_name", "phone", "billing", "delivery")
"""The fields of a customer record that hold buyer data; e-mails and aliases are kept apart from them."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The settings: days after the term (R60), and months that a hash outlives the last order (R61).

    None stands for ``off``.
    """

    days: int | None = 30
    hash_months: int | None = 18

    def over_since(self, now: datetime) -> datetime | None:
        """Orders with a term up to here have had their days; None when nothing is ever erased."""
        return None if self.days is None else now - timedelta(days=self.days)

    def unknown_since(self, now: datetime) -> datetime | None:
        """Whoever ordered last up to here is recognised no more; None when hashes stay."""
        return None if self.hash_months is None else months_before(now, self.hash_months)


KEEP_ALL = Retention(None, None)


def months_before(now: datetime, months: int) -> datetime:
    """The same day and hour so many months ago; the month's last day when it has no such day."""
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    return now.replace(year=year, month=month + 1, day=min(now.day, monthrange(year, month + 1)[1]))


# --- the term of an order -----------------------------------------------------------------------------


class Term(NamedTuple):
    """The moment that an order's days are counted from, and the stage that set it."""

    at: datetime
    stage: Stage


def term(order: OrderRecord) -> Term:
    """R60: seen delivered; else, once shipped, the later of shipping and promised delivery; else cancelled;
    else 90 days after the last update.

    Amazon tells no time of delivery, nor of cancellation: it is the update time of the oldest copy that
    showed it. The same stands in for a shipping time that no package has.
    """
    reached = stage(order.status, order.packages)
    if reached == "open":
        return Term(order.last_updated_at + UNFINISHED, reached)
    if reached == "delivered":
        return Term(order.delivered_at or order.as_of.get("packages", order.last_updated_at), reached)
    seen = order.as_of.get("fulfillment", order.last_updated_at)
    if reached == "cancelled":
        return Term(order.cancelled_at or seen, reached)
    at = order.shipped_at or seen
    if order.packages:
        at = max((p.shipped_at for p in order.packages if p.shipped_at is not None), default=at)
    return Term(at if order.deliver_by is None else max(at, order.deliver_by), reached)


def quarantine_term(last_update: datetime | None, first_seen: datetime) -> datetime:
    """The term of an order that could not be understood: all that may be known of it is its last update."""
    return (first_seen if last_update is None else min(last_update, first_seen)) + UNFINISHED


# --- what is left ---------------------------------------------------------------------------------------


def without_buyer_data(order: OrderRecord) -> OrderRecord:
    """The order as it may be kept after its term: amounts, products, dates, countries.

    A billing address that was copied from one entered by hand or imported is not Amazon's.
    """
    return structs.replace(
        order,
        buyer=None,
        delivery=country_only(order.delivery),
        billing=order.billing if order.billing_origin in OURS else country_only(order.billing),
        delivery_instructions=None,
        tax_numbers=(),
        cancel_reason=None,
        lines=tuple(_silent(line) for line in order.lines),
    )


def _silent(line: LineRecord) -> LineRecord:
    if line.gift_message is None and line.customization_url is None:
        return line
    return structs.replace(line, gift_message=None, customization_url=None)


def without_a_trace(order: OrderRecord) -> OrderRecord:
    """A copy of a forgotten order as it may be looked at: as if Amazon had withheld the buyer (R63)."""
    gone = frozenset({"buyer", "delivery"})
    as_of = {group: time for group, time in order.as_of.items() if group not in gone}
    return structs.replace(without_buyer_data(order), as_of=as_of)


def erased(customer: CustomerRecord) -> CustomerRecord:
    """The record without what came from Amazon; equal to ``customer`` when there is nothing of it.

    Fields lose their origin with their value, so that the next order fills them again (R8). Of an
    address the country stays, of a main e-mail the hash in its slot (R61). Aliases have no origin: Amazon
    gives none but relay addresses, and those go.
    """
    gone = [name for name in PERSONAL if customer.origins.get(name) not in OURS]
    changes: dict[str, Any] = {name: None for name in gone}
    for name in ("billing", "delivery"):
        if name in changes:
            changes[name] = country_only(getattr(customer, name))
    return replace(
        customer,
        **changes,
        emails=tuple(m if m.origin in OURS else replace(m, email=None) for m in customer.emails),
        aliases=tuple(alias for alias in customer.aliases if not is_relay(alias)),
        origins={name: origin for name, origin in customer.origins.items() if name not in gone},
    )


def forgotten(customer: CustomerRecord) -> CustomerRecord:
    """The record of a person who is forgotten: nothing of the person is left, whatever its origin (R62).

    A tombstone stays one, so that whoever asks for it is still sent on.
    """
    nothing: dict[str, Any] = dict.fromkeys(PERSONAL)
    return replace(
        customer,
        status="merged" if customer.status == "merged" else "forgotten",
        external_id=None,
        **nothing,
        emails=(),
        aliases=(),
        labels={},
        origins={name: o for name, o in customer.origins.items() if name not in (*PERSONAL, "labels")},
        idle_since=None,
    )


def hash_only(customer: CustomerRecord) -> tuple[MainEmail, ...]:
    """Main e-mails of which nothing but the hash is left (R61)."""
    return tuple(main for main in customer.emails if main.email is None)


# --- in words ---------------------------------------------------------------------------------------------

_ERASED: Mapping[Stage, str] = {
    "delivered": "it was seen delivered on {day}",
    "shipped": "it was shipped, and its delivery was promised or begun for {day}",
    "cancelled": "it was seen cancelled on {day}",
    "open": "nothing more was heard of it until {day}, 90 days after its last update",
}
"""Why it is erased."""

_STAYS: Mapping[Stage, str] = {
    "delivered": "until {end}, {days} after it was seen delivered ({day})",
    "shipped": "until {end}, {days} after it was shipped or was to be delivered ({day}); once it is seen "
    "delivered, until {days} after that",
    "cancelled": "until {end}, {days} after it was seen cancelled ({day})",
    "open": "until {end} if nothing more is heard of it (90 days after its last update, and {days}); once it "
    "is delivered, until {days} after that",
}
"""Until when it stays."""


def explain(order: OrderRecord, retention: Retention, forgotten_at: datetime | None = None) -> str:
    """When this order's buyer data will be or was erased, and why: one sentence with the rule's number."""
    due = term(order)
    if forgotten_at is not None:
        return (
            f"R63: It was forgotten on {_day(forgotten_at)}: its buyer data is erased and never comes back."
        )
    if order.erased_at is not None:
        why = _ERASED[due.stage].format(day=_day(due.at))
        return f"R60: Its buyer data was erased on {_day(order.erased_at)} and never comes back (R63): {why}."
    if retention.days is None:
        return "R60: Its buyer data stays, since ORDER_SYNC_RETENTION_DAYS is off."
    end = due.at + timedelta(days=retention.days)
    stays = _STAYS[due.stage].format(end=_day(end), days=_days(retention.days), day=_day(due.at))
    return f"R60: Its buyer data stays {stays}."


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"


def _days(number: int) -> str:
    return f"{number} day{'' if number == 1 else 's'}"
