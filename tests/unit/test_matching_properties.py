"""What must hold for any pages in any order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from connectors.orders import GROUPS, AmazonBuyer, AmazonOrder
from poller.matching.translation import translate
from store.records import OrderRecord, normal_email
from tests.unit.matching_world import UK, World, a_pending_order, after, an_order, gbp, line, rules_of

EMAILS = [None, "a@x.example", "A@x.example", "b@x.example", "c@x.example"]
STATUSES = ["PENDING", "UNSHIPPED", "SHIPPED", "CANCELLED", "SOMETHING_NEW"]


@st.composite
def copies_of_one_order(draw: Any) -> list[AmazonOrder]:
    """Copies at distinct times, every group's content telling its time."""
    times = draw(st.lists(st.integers(0, 50), min_size=1, max_size=5, unique=True))
    copies = []
    for time in times:
        present = draw(st.frozensets(st.sampled_from(sorted(GROUPS))))
        copies.append(
            an_order(
                updated=time,
                seller_order_id=f"core {time}",
                status=draw(st.sampled_from(STATUSES)),
                buyer=AmazonBuyer(f"name {time}", draw(st.sampled_from(EMAILS[:2]))),
                delivery_instructions=f"instructions {time}",
                total=gbp(str(time)),
                lines=(
                    line(
                        title=f"core {time}",
                        item_total=gbp(str(time)),
                        promotion_ids=(f"promotion {time}",),
                        withheld_tax=None,
                        quantity_shipped=time,
                        cancel_requested=True,
                        cancelled_by=f"cancelled by {time}",
                    ),
                ),
                present=present,
            )
        )
    return copies


def stored_facts(world: World) -> OrderRecord:
    """The order without the decision, which may rightly be called promoted or created."""
    order = world.orders["o1"]
    return replace(
        order,
        customer_id=None,
        match_basis=None,
        match_rules=(),
        billing=None,
        price_list=None,
        tax_code=None,
        shown=order.ready,
    )


@pytest.mark.long
@given(data=st.data(), copies=copies_of_one_order(), pending=st.sampled_from(["hold", "placeholder"]))
@settings(max_examples=150, deadline=None)
def test_r25_the_order_of_copies_in_and_across_pages_does_not_change_what_is_stored(
    data: Any, copies: Any, pending: Any
) -> None:
    rules = rules_of(pending=pending)
    expected = World(rules)
    for copy in sorted(copies, key=lambda c: c.last_updated_at):
        expected.sync(copy)

    world = World(rules)
    rest = data.draw(st.permutations(copies))
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        world.sync(*rest[:size])
        rest = rest[size:]

    assert stored_facts(world) == stored_facts(expected)


@given(copies=copies_of_one_order())
@settings(max_examples=100, deadline=None)
def test_r25_each_group_is_that_of_its_newest_copy(copies: Any) -> None:
    world = World()
    for copy in copies:
        world.sync(copy)
    order = world.orders["o1"]
    for group in GROUPS:
        times = [c.last_updated_at for c in copies if group in c.present]
        assert order.as_of.get(group) == (max(times) if times else None)
    if "buyer" in order.as_of:
        newest = max((c for c in copies if "buyer" in c.present), key=lambda c: c.last_updated_at)
        assert order.buyer is not None
        assert newest.buyer is not None
        assert order.buyer.name == newest.buyer.name
    newest = max(copies, key=lambda c: c.last_updated_at)
    assert order.seller_order_id == newest.seller_order_id
    assert order.lines[0].title == newest.lines[0].title


some_orders = st.lists(
    st.builds(
        lambda number, email, time, status, replaces, configured: (
            a_pending_order(f"o{number}", updated=time, created_at=after(number))
            if status == "PENDING"
            else an_order(
                f"o{number}",
                email,
                name=None if email is None else "Ann",
                updated=time,
                status=status,
                created_at=after(number),
                replaces=f"o{replaces}" if replaces else None,
                marketplace_id=UK if configured else None,
            )
        ),
        number=st.integers(1, 5),
        email=st.sampled_from(EMAILS),
        time=st.integers(0, 9),
        status=st.sampled_from(STATUSES),
        replaces=st.integers(0, 5),
        configured=st.sampled_from([True, True, True, False]),
    ),
    min_size=1,
    max_size=4,
)


@given(
    pages=st.lists(some_orders, min_size=1, max_size=4),
    pending=st.sampled_from(["hold", "placeholder"]),
    without_email=st.sampled_from(["per_order", "shared"]),
)
@settings(max_examples=200, deadline=None)
def test_r1_every_ready_order_has_one_living_customer_and_r16_no_email_is_on_two(
    pages: Any, pending: Any, without_email: Any
) -> None:
    world = World(rules_of(pending=pending, without_email=without_email))
    for page in pages:
        world.sync(*page)

    for order in world.orders.values():
        if order.ready and order.marketplace_id == UK:
            assert order.customer_id is not None
            assert order.match_basis not in (None, "held", "placeholder")
        if order.customer_id is not None:
            assert world.customers[order.customer_id].status != "merged"
            assert order.ready or order.match_basis == "placeholder"
        assert order.ready <= order.shown
    emails = Counter(normal_email(m.email) for c in world.living() for m in c.emails if m.email)
    assert all(count == 1 for count in emails.values())
    abandoned = {
        c.customer_id for c in world.living() if c.status == "unidentified" and c.special is None
    } - {o.customer_id for o in world.orders.values()}
    assert abandoned == set()


@given(pages=st.lists(some_orders, min_size=1, max_size=3))
@settings(max_examples=75, deadline=None)
def test_r21_repeating_everything_adds_and_changes_no_customer(pages: Any) -> None:
    world = World()
    for page in pages:
        world.sync(*page)
    for _ in range(2):  # the first repetition may promote a replacement whose original came after it
        for page in pages:
            world.sync(*page)
    customers, links = dict(world.customers), {i: o.customer_id for i, o in world.orders.items()}
    for page in pages:
        world.sync(*page)
    assert world.customers == customers
    assert {i: o.customer_id for i, o in world.orders.items()} == links


@given(page=some_orders, data=st.data())
@settings(max_examples=75, deadline=None)
def test_r20_the_order_of_a_page_does_not_change_the_outcome(page: Any, data: Any) -> None:
    distinct = list({(o.order_id, o.last_updated_at): o for o in page}.values())
    shuffled = data.draw(st.permutations(distinct))
    worlds = World(), World()
    worlds[0].sync(*distinct)
    worlds[1].sync(*shuffled)
    assert worlds[0].orders == worlds[1].orders
    assert worlds[0].customers == worlds[1].customers


def test_translating_the_same_copy_twice_gives_equal_records() -> None:
    assert translate(an_order(), "acme", rules_of()) == translate(an_order(), "acme", rules_of())
