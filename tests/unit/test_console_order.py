"""An order's page: its bill, its timeline, and where its packages are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.web.console.bill import bill_of
from poller.web.console.timeline import timeline_of
from poller.web.console.tracking import tracking_url
from store.records import Amount, LineRecord, OrderRecord, PackageRecord

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def order(**changes: Any) -> OrderRecord:
    values: dict[str, Any] = {
        "account": "acme",
        "order_id": "o1",
        "channel": "AMAZON",
        "created_at": NOON,
        "last_updated_at": NOON + HOUR,
        "as_of": {},
        **changes,
    }
    return OrderRecord(**values)


def gbp(amount: str | Decimal) -> Amount:
    return Amount(Decimal(amount), "GBP")


def line(number: int = 1, **amounts: Any) -> LineRecord:
    return LineRecord(order_item_id=f"i{number}", quantity=1, **amounts)


# --- the bill ---------------------------------------------------------------------------------------


def test_a_bill_names_what_the_total_is_made_of() -> None:
    lines = (
        line(1, item_total=gbp("20"), shipping=gbp("3.50"), tax=gbp("4"), discount=gbp("2")),
        line(
            2,
            item_total=gbp("10"),
            gift_wrap=gbp("1"),
            tax=gbp("0"),
            other_amounts=(("COD_FEE", gbp("1.25")),),
        ),
    )
    bill = bill_of(order(lines=lines, total=gbp("42.75"), own_amounts=(("DELIVERY_TIP", gbp("5")),)))
    assert [(row.name, str(row.amount.amount)) for row in bill.rows] == [
        ("Items", "30"),
        ("Shipping", "3.50"),
        ("Gift wrap", "1"),
        ("Discount", "-2"),
        ("Tax", "4"),
        ("Cod fee", "1.25"),
        ("Delivery tip", "5"),
    ]
    assert bill.unexplained is None
    assert bill.foreign == ()


def test_what_no_amount_explains_has_a_row_of_its_own() -> None:
    bill = bill_of(order(lines=(line(item_total=gbp("20")),), total=gbp("25")))
    assert bill.unexplained == gbp("5")


def test_an_amount_in_another_currency_is_in_no_sum() -> None:
    lines = (line(item_total=gbp("20"), tax=Amount(Decimal(2), "EUR")),)
    bill = bill_of(order(lines=lines, total=gbp("20")))
    assert [row.name for row in bill.rows] == ["Items"]
    assert [(row.name, row.amount.currency) for row in bill.foreign] == [("Tax", "EUR")]
    assert bill.unexplained is None


def test_without_a_total_nothing_is_unexplained() -> None:
    bill = bill_of(order(lines=(line(item_total=gbp("20")),)))
    assert (bill.total, bill.unexplained) == (None, None)
    assert [row.name for row in bill.rows] == ["Items"]


AMOUNTS = st.builds(
    Amount,
    st.decimals(min_value=-10_000, max_value=10_000, places=2, allow_nan=False),
    st.sampled_from(["GBP", "GBP", "EUR"]),
)
FIELDS = ("item_total", "shipping", "gift_wrap", "discount", "tax")
KINDS = st.sampled_from(["COD_FEE", "DISCOUNT", "TAX", "DELIVERY_TIP"])
OTHERS = st.lists(st.tuples(KINDS, AMOUNTS), max_size=3).map(tuple)


@given(
    st.lists(
        st.tuples(st.fixed_dictionaries(dict.fromkeys(FIELDS, st.none() | AMOUNTS)), OTHERS), max_size=4
    ),
    OTHERS,
    AMOUNTS,
)
def test_every_bill_adds_up(drawn: list[tuple[dict[str, Any], Any]], own: Any, total: Amount) -> None:
    lines = tuple(line(n, **amounts, other_amounts=others) for n, (amounts, others) in enumerate(drawn))
    bill = bill_of(order(lines=lines, own_amounts=own, total=total))
    rest = Decimal() if bill.unexplained is None else bill.unexplained.amount
    assert sum((row.amount.amount for row in bill.rows), rest) == total.amount


# --- the timeline -----------------------------------------------------------------------------------


def test_a_timeline_is_in_the_order_of_time() -> None:
    events = timeline_of(
        order(
            first_seen_at=NOON + 2 * HOUR,
            changed_at=NOON + 5 * HOUR,
            match_basis="created",
            packages=(
                PackageRecord("a", shipped_at=NOON + 4 * HOUR),
                PackageRecord("b", shipped_at=NOON + 3 * HOUR),
                PackageRecord("c", shipped_at=NOON + 3 * HOUR),
            ),
            shipped_at=NOON + 6 * HOUR,
            delivered_at=NOON + 7 * HOUR,
            erased_at=NOON + 8 * HOUR,
        )
    )
    assert [(event.at - NOON) // HOUR for event in events] == [0, 1, 2, 3, 4, 5, 7, 8]
    assert [event.text.partition(":")[0].partition(";")[0] for event in events] == [
        "placed at Amazon",
        "last changed at Amazon",
        "stored here",
        "shipped",
        "a further package shipped",
        "last changed here",
        "seen as delivered",
        "buyer data erased",
    ]


def test_an_order_that_never_changed_says_so_once() -> None:
    seen = NOON + 2 * HOUR
    events = timeline_of(order(first_seen_at=seen, changed_at=seen, shipped_at=seen, cancelled_at=seen))
    assert [event.text for event in events][2:] == [
        "stored here: no customer",
        "seen as shipped",
        "seen as cancelled",
    ]


# --- packages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("carrier", "number", "begins"),
    [
        ("UPS", "1Z999AA10123456784", "https://www.ups.com/"),
        ("Royal Mail", "AB 1234 5678 9GB", "https://www.royalmail.com/"),
        ("DHL Express", "1234567890", "https://www.dhl.com/"),
    ],
)
def test_well_known_carriers_show_their_packages(carrier: str, number: str, begins: str) -> None:
    url = tracking_url(carrier, number)
    assert url is not None
    assert url.startswith(begins)
    assert url.endswith(number.replace(" ", ""))


@pytest.mark.parametrize(
    ("carrier", "number"),
    [
        (None, "1234567890"),
        ("UPS", None),
        ("Own van", "1234567890"),
        ("UPS", "../../x?y=z"),
        ("UPS", "javascript:alert(1)"),
        ("UPS", "12"),
        ("UPS", "\u0661\u0662\u0663\u0664\u0665\u0666\u0667"),
    ],
)
def test_nothing_else_is_a_link(carrier: str | None, number: str | None) -> None:
    assert tracking_url(carrier, number) is None
