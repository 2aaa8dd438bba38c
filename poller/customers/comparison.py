"""Two customers side by side with what a merge makes of them, as every door shows it. Standard library only.

The words of a row and the sentences below it come from the same two lists, so they cannot contradict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from msgspec import structs

from poller.matching.customer_records import shown_name
from poller.text import address_lines, counted
from store.records import Address, CustomerRecord, normal_email

Value = tuple[str, ...]
"""A field's texts: one, or each of several e-mails, labels, lines of an address; empty without any."""

Effect = Literal["lost", "gained", "kept", "equal", "differs"]
"""What a merge does to a field: *lost* if anything of either customer goes, *differs* without a merge."""

EFFECTS: tuple[Effect, ...] = ("lost", "gained", "kept", "differs", "equal")

BUYERS = ("name", "company", "amazon_name", "emails", "aliases", "phone", "delivery", "billing")
"""Rows that quote a buyer."""

ERASED = "erased, still matches"


@dataclass(frozen=True, slots=True)
class Row:
    """One field of both customers, and what it is afterwards; None if they cannot be merged.

    ``gained``: what the kept customer gets. ``lost``: what neither has afterwards.
    """

    name: str
    title: str
    kept: Value = field(repr=False)
    other: Value = field(repr=False)
    after: Value | None = field(repr=False)
    gained: Value = field(default=(), repr=False)
    lost: Value = field(default=(), repr=False)

    @property
    def effect(self) -> Effect:
        if self.after is None:
            return "equal" if self.kept == self.other else "differs"
        if self.lost:
            return "lost"
        if self.gained or self.after != self.kept:
            return "gained"
        return "equal" if self.kept == self.other else "kept"

    @property
    def words(self) -> str:
        """Say in a few words what happens to the field."""
        gained, lost = ", ".join(self.gained), ", ".join(self.lost)
        if self.effect in ("equal", "differs"):
            return "same" if self.effect == "equal" else "differs"
        if self.name == "status":
            return f"becomes {gained}" if gained else "stays"
        verb = "no longer matches orders" if self.name == "emails" else "drops"
        parts = (f"adds {gained}" if gained else "", f"{verb}: {lost}" if lost else "")
        return "; ".join(filter(None, parts)) or (
            "stays" if self.effect == "kept" else "becomes a main e-mail"
        )

    def masked(self, mask: str) -> Row:
        """Return the row with a mask in place of each text of a buyer."""
        if self.name not in BUYERS:
            return self
        is_address = self.name in ("delivery", "billing")

        def hidden(value: Value) -> Value:
            return (mask,) * (min(1, len(value)) if is_address else len(value))

        return replace(
            self,
            kept=hidden(self.kept),
            other=hidden(self.other),
            after=None if self.after is None else hidden(self.after),
            gained=hidden(self.gained),
            lost=hidden(self.lost),
        )


def compared(
    kept: CustomerRecord, other: CustomerRecord, after: CustomerRecord | None, orders: Mapping[int, int]
) -> tuple[Row, ...]:
    """Return the rows. ``after``: the kept customer as a merge leaves it. ``orders``: how many each has."""
    counts = (orders[kept.customer_id], orders[other.customer_id])
    rows = [_orders(*counts, is_planned=after is not None)]
    for name, (title, values_of, known_as) in _FIELDS.items():
        sides = (values_of(kept), values_of(other))
        result = None if after is None else values_of(after)
        row = Row(name, title, *sides, result)
        if result is not None:
            # Of an e-mail that is erased only the number is known: two customers never have the same one.
            both = (
                (*sides[0], *sides[1])
                if name == "emails"
                else (*sides[0], *_beyond(sides[1], sides[0], known_as))
            )
            stays = (*result, *_emails(after)) if name == "aliases" and after is not None else result
            row = replace(
                row, gained=_beyond(result, sides[0], known_as), lost=_beyond(both, stays, known_as)
            )
        rows.append(replace(row, lost=()) if name == "status" else row)
    return tuple(rows)


def sentences(kept_id: int, other_id: int, rows: Sequence[Row]) -> list[tuple[Effect, str]]:
    """Say what a merge does, each sentence with its effect. It is silent about what stays."""
    by_name = {row.name: row for row in rows}
    said: list[tuple[Effect, str]] = []
    moving = by_name["orders"].gained
    verb = "moves" if moving == ("1 order",) else "move"
    said.append(
        (
            "gained",
            f"{moving[0] if moving else 'No order'} of customer {other_id} {verb} to customer {kept_id}.",
        )
    )
    gained = [row for row in rows if row.gained and row.name not in ("orders", "status")]
    taken = "; ".join(f"{_in_text(row)} {', '.join(row.gained)}" for row in gained)
    said.append(
        ("gained", f"Customer {kept_id} gains {taken}." if gained else f"Customer {kept_id} gains no fields.")
    )
    lost = [row for row in rows if row.lost and row.name != "emails"]
    if lost:
        said.append(
            ("lost", "Dropped: " + "; ".join(f"{_in_text(r)} {', '.join(r.lost)}" for r in lost) + ".")
        )
    if stopping := by_name["emails"].lost:
        said.append(("lost", f"No longer matching new orders: {', '.join(stopping)}."))
    return said


def label(customer: CustomerRecord) -> str:
    """Return the number, name and status of a customer."""
    return f"{customer.customer_id} ({shown_name(customer) or 'no name'}, {customer.status})"


def _in_text(row: Row) -> str:
    return row.title[:1].lower() + row.title[1:]


def _orders(kept: int, other: int, *, is_planned: bool) -> Row:
    after = (f"{kept + other:,}",) if is_planned else None
    gained = (counted(other, "order"),) if is_planned and other else ()
    return Row("orders", "Orders", (f"{kept:,}",), (f"{other:,}",), after, gained)


def _beyond(values: Value, there: Value, known_as: Callable[[str], str] = str) -> Value:
    """Return the values that are not ``there``, each as often as it is missing."""
    left = Counter(map(known_as, there))
    found = []
    for value in values:
        if left[known_as(value)] > 0:
            left[known_as(value)] -= 1
        else:
            found.append(value)
    return tuple(found)


# --- the fields -------------------------------------------------------------------------------------

Values = Callable[[CustomerRecord], Value]


def _text(name: str) -> Values:
    def value(customer: CustomerRecord) -> Value:
        found = getattr(customer, name)
        return () if found in (None, "") else (str(found),)

    return value


def _address(name: str) -> Values:
    def value(customer: CustomerRecord) -> Value:
        address: Address | None = getattr(customer, name)
        return () if address is None else tuple(address_lines(structs.asdict(address)))

    return value


def _emails(customer: CustomerRecord) -> Value:
    return tuple(main.email or ERASED for main in sorted(customer.emails, key=lambda main: main.slot))


def _aliases(customer: CustomerRecord) -> Value:
    return customer.aliases


def _labels(customer: CustomerRecord) -> Value:
    return tuple(f"{key}={value}" for key, value in sorted(customer.labels.items()))


_FIELDS: Mapping[str, tuple[str, Values, Callable[[str], str]]] = {
    "name": ("Name", _text("name"), str),
    "company": ("Company", _text("company"), str),
    "amazon_name": ("Name at Amazon", _text("amazon_name"), str),
    "emails": ("E-mails", _emails, normal_email),
    "aliases": ("Older e-mails", _aliases, normal_email),
    "phone": ("Phone", _text("phone"), str),
    "delivery": ("Delivery address", _address("delivery"), str),
    "billing": ("Billing address", _address("billing"), str),
    "price_list": ("Price list", _text("price_list"), str),
    "currency": ("Currency", _text("currency"), str),
    "tax_code": ("Tax code", _text("tax_code"), str),
    "discount_percent": ("Discount (%)", _text("discount_percent"), str),
    "external_id": ("Your ID", _text("external_id"), str),
    "labels": ("Labels", _labels, str),
    "business": ("Business", _text("business"), str),
    "status": ("Status", _text("status"), str),
}
