"""R60: what an older version let count as entered is corrected from the journal before anything is erased."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from poller.privacy import attribution
from poller.privacy.attribution import correct
from store import attribution as rows
from store import customers, queries
from store import tables as t
from store.journal import difference
from store.records import Address, CustomerRecord, MainEmail
from tests.integration.retention_world import ANN, Place, a_place, delivered
from tests.integration.store_world import add_customer, customer, customer_of, edit, merge, order

HOME = Address(name="Ann", line1="1 High Street", city="Leds", postal_code="LS1 1AA", country="GB")
OFFICE = Address(name="Bea", line1="2 Office Road", city="York", postal_code="YO1", country="GB")


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    yield from a_place(database_url)


def an_order(place: Place, order_id: str = "o1", email: str = ANN, on: float = 2) -> int:
    place.apply(delivered(order_id, email, on=on, delivery=HOME))
    key = customer_of(place.store, order_id).customer_id
    assert key is not None
    return key


def formerly(place: Place, key: int, action: str = "edit", **values: Any) -> None:
    """Change a record as older versions did: each field named is entered, and so is all of an address."""
    before = customer(place.store, key)
    origin: Any = "import" if action == "import" else "hand"
    changed = replace(before, **values, origins={**before.origins, **dict.fromkeys(values, origin)})
    with place.store.begin() as tx:
        customers.change(tx, changed, before)
        details = difference(before, changed)
        customers.write_journal(tx, "tests", action, key, details=details)


def with_city(address: Address, city: str) -> Address:
    return Address(
        address.name, line1=address.line1, city=city, postal_code=address.postal_code, country="GB"
    )


def run(place: Place) -> None:
    correct(place.store, lambda: False, lambda: None)


def again(place: Place) -> None:
    """Let the database look as if it had not been corrected."""
    with place.store.begin() as tx:
        tx.conn.execute(sa.delete(t.meta).where(t.meta.c.name == rows._DONE))


def about_billing(record: CustomerRecord) -> dict[str, str]:
    return {name: o for name, o in record.origins.items() if name.startswith("billing")}


def test_of_an_address_that_was_corrected_in_one_part_the_rest_is_amazons_again(place: Place) -> None:
    key = an_order(place)
    formerly(place, key, billing=with_city(HOME, "Leeds"))
    an_order(place, "o2", on=3)
    assert order(place.store, "o2").billing_origin == "hand", "as it was"
    place.purge(40)
    record = customer(place.store, key)
    assert record.billing == Address(city="Leeds", country="GB")
    assert about_billing(record) == {"billing_city": "hand"}
    assert order(place.store, "o2").billing == Address(country="GB")
    with place.store.read() as tx:
        assert not any(entry.details for entry in queries.journal_of(tx, key))


def test_a_value_that_was_there_already_is_amazons_again(place: Place) -> None:
    key = an_order(place)
    formerly(place, key, billing=HOME, name="Ann Buyer", phone=None)
    formerly(place, key, name="Anne")
    formerly(place, key, "import", delivery=HOME)
    an_order(place, "o2", on=3)
    place.purge(40)
    record = customer(place.store, key)
    assert (record.billing, record.delivery) == (Address(country="GB"), Address(country="GB"))
    assert (record.name, record.origins["name"], record.origins["phone"]) == ("Anne", "hand", "hand")
    assert order(place.store, "o2").billing == Address(country="GB")
    with place.store.read() as tx:
        quoted = [entry.details["before"] for entry in queries.journal_of(tx, key) if entry.details]
    assert quoted == [{"name": None}], "the name that Amazon gave"


def test_what_was_all_typed_or_has_no_history_stays_as_it_is(place: Place) -> None:
    typed = an_order(place)
    formerly(place, typed, billing=OFFICE)
    bare = add_customer(place.store, "bare@home.example", billing=HOME, phone="0114")
    edit(place.store, bare, price_list="Trade")
    made = an_order(place, "o2", "bea@marketplace.amazon.co.uk")
    formerly(place, made, "import", delivery=OFFICE, phone="0115")
    before = [customer(place.store, key) for key in (typed, bare, made)]
    run(place)
    after = [customer(place.store, key) for key in (typed, bare, made)]
    assert after[1] == before[1]
    for kept, corrected, kind in ((before[0], after[0], "billing"), (before[2], after[2], "delivery")):
        assert (corrected.billing, corrected.delivery) == (kept.billing, kept.delivery)
        assert corrected.origins[kind] == kept.origins[kind]
    place.purge(40)
    assert customer(place.store, typed).billing == OFFICE
    assert (customer(place.store, made).delivery, customer(place.store, made).phone) == (OFFICE, "0115")
    assert customer(place.store, bare).billing == HOME


def test_edits_imports_and_merges_are_followed_one_after_another(place: Place) -> None:
    key = an_order(place)
    formerly(place, key, "import", billing=with_city(HOME, "Leeds"))
    formerly(place, key, billing=replace_part(with_city(HOME, "Leeds"), line1="2 Low Road"))
    formerly(place, key, billing=replace_part(with_city(HOME, "Leeds"), line1="2 Low Road", name=None))
    kept = add_customer(place.store, "kept@home.example")
    merge(place.store, kept, key)
    run(place)
    for each in (customer(place.store, key), customer(place.store, kept)):
        assert about_billing(each) == {
            "billing": "amazon",
            "billing_city": "import",
            "billing_line1": "hand",
            "billing_name": "hand",
        }
    place.purge(40)
    assert customer(place.store, kept).billing == Address(line1="2 Low Road", city="Leeds", country="GB")


def replace_part(address: Address, **parts: str | None) -> Address:
    values = {name: getattr(address, name) for name in address.__struct_fields__}
    return Address(**{**values, **parts})


def test_a_copy_that_an_erased_order_has_kept_is_erased(place: Place) -> None:
    key = an_order(place)
    formerly(place, key, billing=HOME)
    an_order(place, "o2", on=3)
    with place.store.begin() as tx:
        rows.note_done(tx)
    place.purge(40)
    assert order(place.store, "o2").billing == HOME, "what an older version leaves"
    with place.store.read() as tx:
        position = tx.readable_change_no()
    again(place)
    place.purge()
    assert order(place.store, "o2").billing == Address(country="GB")
    with place.store.read() as tx:
        changed = [o.order_id for o in queries.changed_orders(tx, position, tx.readable_change_no())]
    assert changed == ["o2"]
    assert customer(place.store, key).billing == Address(country="GB")


def test_a_relay_address_that_was_typed_is_reduced_to_its_hash(place: Place) -> None:
    key = add_customer(place.store, "ann@home.example", ANN, name="Ann")
    an_order(place)
    place.purge(40)
    assert customer(place.store, key).emails == (
        MainEmail(1, "ann@home.example", "hand"),
        MainEmail(2, None, "amazon"),
    )


def test_it_may_be_stopped_and_repeated_and_happens_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "CORRECTED_AT_ONCE", 1)
    keys = [an_order(place, f"o{i}", f"b{i}@marketplace.amazon.co.uk") for i in range(3)]
    for key in keys:
        formerly(place, key, billing=with_city(HOME, "Leeds"))
    stops = iter((False, True))
    correct(place.store, lambda: next(stops), lambda: None)
    assert [len(about_billing(customer(place.store, key))) for key in keys] == [2, 1, 1]
    run(place)
    assert [len(about_billing(customer(place.store, key))) for key in keys] == [2, 2, 2]
    before = [customer(place.store, key) for key in keys], place.sealed()
    again(place)
    run(place)
    assert ([customer(place.store, key) for key in keys], place.sealed()) == before
    formerly(place, keys[0], billing=with_city(HOME, "Bath"))
    run(place)
    assert about_billing(customer(place.store, keys[0]))["billing"] == "hand", "the database is done with"


def test_a_damaged_record_keeps_no_other_from_being_corrected(place: Place) -> None:
    keys = [an_order(place, f"o{i}", f"b{i}@marketplace.amazon.co.uk") for i in range(2)]
    for key in keys:
        formerly(place, key, billing=with_city(HOME, "Leeds"))
    with place.store.begin() as tx:
        damaged = sa.update(t.journal).where(t.journal.c.customer_id == keys[0])
        tx.conn.execute(damaged.values(details=b"damaged"))
    run(place)
    assert [len(about_billing(customer(place.store, key))) for key in keys] == [1, 2]
