"""Two customers side by side, and what a merge makes of each field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from poller.customers import merge_rules
from poller.customers.comparison import BUYERS, Row, compared, sentences
from store.records import Address, CustomerRecord, MainEmail
from tests.unit.matching_world import T0

SHARED: frozenset[str] = frozenset()
HOME = Address(name="Ann", line1="1 High Street", city="Leeds", postal_code="LS1", country="GB")


def customer(customer_id: int, *emails: str, **fields: Any) -> CustomerRecord:
    mains = tuple(MainEmail(slot, email, "hand") for slot, email in enumerate(emails, 1))
    return replace(CustomerRecord("acme", None, None, T0), customer_id=customer_id, emails=mains, **fields)


def rows_of(kept: CustomerRecord, other: CustomerRecord, keep: list[str] | None = None) -> dict[str, Row]:
    planned = merge_rules.merge(kept, other, SHARED, keep)
    return {row.name: row for row in compared(kept, other, planned.kept, {1: 3, 2: 2})}


def said(rows: dict[str, Row]) -> str:
    return "\n".join(sentence for _, sentence in sentences(1, 2, list(rows.values())))


def test_an_e_mail_that_is_added_is_gained_and_said() -> None:
    rows = rows_of(customer(1, "a@example.com", name="Ann"), customer(2, "b@example.com", name="Ann"))
    assert rows["emails"].effect == "gained"
    assert rows["emails"].words == "adds b@example.com"
    assert rows["emails"].after == ("a@example.com", "b@example.com")
    assert rows["name"].effect == "equal"
    assert said(rows) == "2 orders of customer 2 move to customer 1.\nCustomer 1 gains e-mails b@example.com."


def test_a_price_list_that_goes_is_lost_and_said() -> None:
    rows = rows_of(customer(1, price_list="Retail", name="Ann"), customer(2, price_list="Trade"))
    assert (rows["price_list"].effect, rows["price_list"].words) == ("lost", "drops: Trade")
    assert (rows["name"].effect, rows["name"].words) == ("kept", "stays")
    assert "Dropped: price list Trade." in said(rows)
    assert "Customer 1 gains no fields." in said(rows)


def test_e_mails_beyond_three_stop_matching_and_become_older_ones() -> None:
    kept = customer(1, "1@example.com", "2@example.com", "3@example.com")
    rows = rows_of(kept, customer(2, "4@example.com"))
    assert rows["emails"].words == "no longer matches orders: 4@example.com"
    assert (rows["aliases"].effect, rows["aliases"].gained) == ("gained", ("4@example.com",))
    assert "No longer matching new orders: 4@example.com." in said(rows)


def test_of_a_choice_of_e_mails_what_comes_and_what_goes_is_said() -> None:
    rows = rows_of(customer(1, "1@example.com"), customer(2, "2@example.com"), ["2@example.com"])
    assert rows["emails"].words == "adds 2@example.com; no longer matches orders: 1@example.com"
    assert rows["emails"].effect == "lost"


def test_an_older_e_mail_that_becomes_a_main_one_is_not_lost() -> None:
    rows = rows_of(customer(1, aliases=("old@example.com",)), customer(2, "Old@example.com"))
    assert (rows["aliases"].effect, rows["aliases"].words) == ("gained", "becomes a main e-mail")
    assert rows["aliases"].lost == ()


def test_erased_e_mails_are_told_apart_by_their_number() -> None:
    erased = (MainEmail(1, None, "amazon"),)
    rows = rows_of(replace(customer(1), emails=erased), replace(customer(2), emails=erased))
    assert rows["emails"].gained == ("erased, still matches",)
    assert rows["emails"].lost == ()


def test_an_address_is_taken_whole_and_one_that_goes_is_lost() -> None:
    other = Address(name="Ann", line1="2 Low Street", city="York", country="GB")
    rows = rows_of(customer(1, delivery=HOME), customer(2, delivery=other, billing=other))
    assert rows["delivery"].lost == ("2 Low Street", "York")
    assert rows["billing"].gained == ("Ann", "2 Low Street", "York", "GB")


def test_a_buyer_is_masked_in_rows_and_sentences_and_the_effect_stays() -> None:
    rows = rows_of(
        customer(1, "a@example.com"), customer(2, "b@example.com", delivery=HOME, price_list="Trade")
    )
    hidden = {name: row.masked("***") for name, row in rows.items()}
    assert [row.effect for row in hidden.values()] == [row.effect for row in rows.values()]
    assert hidden["delivery"].other == ("***",)
    assert hidden["price_list"].other == ("Trade",)
    text = said(hidden) + "".join(row.words for row in hidden.values())
    assert "example.com" not in text
    assert "Leeds" not in text
    assert "price list Trade" in text


def test_two_that_cannot_be_merged_are_compared_all_the_same() -> None:
    rows = {r.name: r for r in compared(customer(1, name="Ann"), customer(2, name="Bob"), None, {1: 3, 2: 2})}
    assert rows["name"].effect == "differs"
    assert rows["business"].effect == "equal"
    assert {row.after for row in rows.values()} == {None}


# --- any two customers ------------------------------------------------------------------------------

TEXTS = st.none() | st.sampled_from(["one", "two"])
ADDRESSES = st.none() | st.builds(
    Address,
    name=st.none() | st.sampled_from(["Ann", "Bob"]),
    line1=st.none() | st.sampled_from(["1 High Street", "2 Low Street"]),
    country=st.sampled_from(["GB", "DE"]),
)
EMAILS = st.lists(st.sampled_from([f"{n}@example.com" for n in range(9)]), max_size=6, unique=True)
FIELDS = st.fixed_dictionaries(
    {
        **dict.fromkeys(
            ("name", "company", "amazon_name", "phone", "price_list", "tax_code", "currency"), TEXTS
        ),
        "delivery": ADDRESSES,
        "billing": ADDRESSES,
        "aliases": st.lists(st.sampled_from(["x@example.com", "0@example.com"]), unique=True).map(tuple),
        "labels": st.dictionaries(st.sampled_from(["tier", "from"]), st.sampled_from(["1", "2"])),
        "status": st.sampled_from(["active", "unidentified"]),
    }
)


@given(FIELDS, FIELDS, EMAILS)
def test_every_row_that_differs_is_marked_and_every_loss_is_said(
    first: dict[str, Any], second: dict[str, Any], emails: list[str]
) -> None:
    half = len(emails) // 2
    kept, other = customer(1, *emails[:half], **first), customer(2, *emails[half:], **second)
    assume(not {*kept.aliases, *other.aliases} & {*emails})
    planned = merge_rules.merge(kept, other, SHARED)
    rows = compared(kept, other, planned.kept, {1: 3, 2: 2})
    text = "\n".join(sentence for _, sentence in sentences(1, 2, rows))
    for row in rows:
        is_equal = row.kept == row.other == row.after
        assert (row.effect == "equal") == is_equal, row.name
        gone = {*row.kept, *row.other} - {*(row.after or ())}
        if row.name not in ("orders", "status"):
            assert (row.effect == "lost") == bool(gone), row.name
            assert all(value in text for value in gone), row.name
            assert {*row.gained} == {*(row.after or ())} - {*row.kept}, row.name
    by_name = {row.name: row for row in rows}
    assert by_name["emails"].lost == tuple(main.email for main in planned.stopping)
    assert {row.name for row in rows} >= {*merge_rules.FILLED, *BUYERS, "labels", "status", "orders"}
