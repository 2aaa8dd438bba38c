"""Customer records in their tables: found by hash, opened, changed, buried, journalled, edited by hand."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from store import customers
from store.engine import Store, is_conflict
from store.records import Address, CustomerRecord, MainEmail
from store.sealing import SealError
from store.tables import customer_emails, customer_words
from store.tables import customers as table
from tests.integration.store_world import NOON, add_customer, apply, count, customer, row
from tests.unit.matching_world import an_order

HOME = Address(name="Ann Recipient", line1="1 High Street", city="Leeds", country="GB", phone="0113")


def whole(**changes: Any) -> CustomerRecord:
    """A record in which nothing is empty."""
    record = CustomerRecord(
        business="acme",
        account="acme",
        marketplace="UK",
        created_at=NOON,
        external_id="C-1",
        name="Ann Buyer",
        company="Ann & Co",
        amazon_name="ann",
        phone="0113",
        emails=(
            MainEmail(1, "Ann@Example.com", "hand"),
            MainEmail(2, "abc@marketplace.amazon.co.uk", "amazon"),
            MainEmail(3, "ann@import.example", "import"),
        ),
        aliases=("old@example.com",),
        billing=HOME,
        delivery=msgspec.structs.replace(HOME, line1="2 Low Street"),
        price_list="Retail",
        currency="GBP",
        tax_code="T20",
        discount_percent=Decimal("2.50"),
        labels={"channel": "Amazon UK"},
        origins={"name": "hand", "phone": "amazon"},
        special="shared:acme:UK",
        created_from_order="o1",
    )
    return replace(record, **changes)


def create(store: Store, *records: CustomerRecord) -> list[int]:
    with store.begin() as tx:
        return customers.create(tx, records)


def find(store: Store, email: str, business: str = "acme") -> tuple[int, int] | None:
    with store.read() as tx:
        return next(iter(customers.find_emails(tx, business, [email]).values()), None)


def test_a_customer_comes_back_as_it_was_created(store: Store) -> None:
    (customer_id,) = create(store, whole())
    assert customer(store, customer_id) == replace(whole(), customer_id=customer_id, changed_at=NOON)


def test_a_customer_of_whom_nothing_is_known_comes_back_too(store: Store) -> None:
    record = CustomerRecord("acme", None, None, NOON, status="unidentified")
    (customer_id,) = create(store, record)
    assert customer(store, customer_id) == replace(record, customer_id=customer_id, changed_at=NOON)


def test_ids_are_given_in_the_order_of_the_records_and_grow(store: Store) -> None:
    assert create(store) == []
    records = [CustomerRecord("acme", None, None, NOON, external_id=name) for name in "abc"]
    ids = create(store, *records)
    assert ids == sorted(ids)
    assert [customer(store, i).external_id for i in ids] == ["a", "b", "c"]
    assert create(store, CustomerRecord("acme", None, None, NOON))[0] > ids[-1]


def test_a_main_e_mail_is_found_in_every_slot_whatever_its_letters(store: Store) -> None:
    (customer_id,) = create(store, whole())
    assert find(store, " aNN@eXAMPLE.com\n") == (customer_id, 1)
    assert find(store, "ABC@marketplace.amazon.co.uk") == (customer_id, 2)
    assert find(store, "ann@import.example") == (customer_id, 3)
    with store.read() as tx:
        found = customers.find_emails(tx, "acme", ["ANN@example.com", "nobody@example.com"])
        assert found == {"ann@example.com": (customer_id, 1)}
        assert customers.find_emails(tx, "acme", []) == {}


def test_an_alias_and_another_business_are_not_found(store: Store) -> None:
    create(store, whole())
    assert find(store, "old@example.com") is None
    assert find(store, "ann@example.com", business="beta") is None
    create(store, whole(business="beta"))
    assert count(store, customer_emails) == 6


def test_a_shared_record_is_found_by_its_key(store: Store) -> None:
    (customer_id,) = create(store, whole())
    with store.read() as tx:
        found = customers.find_special(tx, "acme", {"shared:acme:UK", "shared:acme:DE"})
        assert found == {"shared:acme:UK": customer_id}
        assert customers.find_special(tx, "beta", {"shared:acme:UK"}) == {}
        assert customers.find_special(tx, "acme", ()) == {}


def test_orders_are_counted_also_those_that_are_not_there(store: Store) -> None:
    apply(store, an_order("o1"), an_order("o2"), an_order("o3", "bea@example.com"))
    ann, lonely = find(store, "ann@marketplace.amazon.co.uk"), add_customer(store)
    assert ann is not None
    with store.read() as tx:
        assert customers.order_counts(tx, [ann[0], lonely]) == {ann[0]: 2, lonely: 0}


def test_loading_opens_the_wanted_records_in_the_order_of_their_ids(store: Store) -> None:
    ids = [add_customer(store, f"{i}@example.com") for i in range(4)]
    with store.begin() as tx:
        assert list(customers.load(tx, [ids[2], ids[0]])) == [ids[0], ids[2]]
        assert customers.load(tx, [4711]) == {}
        assert customers.load(tx, []) == {}


# --- changing -------------------------------------------------------------------------------------


def change(store: Store, record: CustomerRecord) -> None:
    with store.begin() as tx:
        customers.change(tx, record)


def words_of(store: Store, text: str) -> set[int]:
    with store.read() as tx:
        wanted = tx.lookup.words("acme", text)
        query = sa.select(customer_words.c.word).where(customer_words.c.word.in_(wanted))
        return {found.word for found in tx.rows(query)}


def test_a_change_writes_the_whole_record_with_its_e_mails_and_words(store: Store) -> None:
    (customer_id,) = create(store, whole())
    before = row(store, table)["change_no"]
    changed = whole(
        customer_id=customer_id,
        name="Zoë Newname",
        emails=(MainEmail(1, "new@example.com", "hand"),),
        aliases=(),
        billing=None,
        special=None,
    )
    change(store, changed)
    assert customer(store, customer_id) == replace(changed, changed_at=NOON)
    assert row(store, table)["change_no"] > before
    assert find(store, "new@example.com") == (customer_id, 1)
    assert find(store, "ann@example.com") is None
    assert words_of(store, "zoe newname") == words_of(store, "ZOË Newname") != set()
    assert words_of(store, "Buyer") == set()


def test_a_name_is_found_by_each_of_its_words(store: Store) -> None:
    create(store, whole())
    for text in ("ANN", "buyer", "Co", "recipient"):
        assert len(words_of(store, text)) == 1
    assert words_of(store, "bu") == set()


def test_main_e_mails_may_change_places(store: Store) -> None:
    (customer_id,) = create(store, whole())
    first, second, third = whole().emails
    moved = (replace(second, slot=1), replace(first, slot=2), third)
    change(store, whole(customer_id=customer_id, emails=moved))
    assert customer(store, customer_id).emails == moved


def erase_email(store: Store, customer_id: int, slot: int) -> None:
    """What retention leaves of a main e-mail: its hash (R61)."""
    c = customer_emails.c
    with store.begin() as tx:
        mine = sa.and_(c.customer_id == customer_id, c.slot == slot)
        tx.conn.execute(sa.update(customer_emails).where(mine).values(email=None))


def test_r61_an_erased_e_mail_keeps_its_slot_and_is_still_found(store: Store) -> None:
    (customer_id,) = create(store, whole())
    erase_email(store, customer_id, 2)
    record = customer(store, customer_id)
    assert [e.email for e in record.emails] == ["Ann@Example.com", None, "ann@import.example"]
    change(store, replace(record, name="Another"))
    assert find(store, "abc@marketplace.amazon.co.uk") == (customer_id, 2)
    assert customer(store, customer_id).emails == record.emails


def test_a_new_record_cannot_have_an_erased_e_mail(store: Store) -> None:
    with pytest.raises(ValueError, match="erased"):
        create(store, whole(emails=(MainEmail(1, None, "amazon"),)))


def test_a_doubled_e_mail_or_external_id_or_shared_record_is_a_conflict(store: Store) -> None:
    create(store, whole())
    plain = CustomerRecord("acme", None, None, NOON)
    for doubled in (
        replace(plain, emails=(MainEmail(1, "ANN@IMPORT.EXAMPLE", "hand"),)),
        replace(plain, external_id="C-1"),
        replace(plain, special="shared:acme:UK"),
    ):
        with pytest.raises(sa.exc.IntegrityError) as raised:
            create(store, doubled)
        assert is_conflict(raised.value)
    assert count(store, table) == 1


def test_a_fourth_slot_is_refused(store: Store) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        create(store, whole(emails=(MainEmail(4, "ann@example.com", "hand"),)))


@pytest.mark.parametrize("column", ["person", "aliases", "billing", "delivery"])
def test_a_sealed_value_moved_to_another_customer_does_not_open(store: Store, column: str) -> None:
    other = whole(business="beta")
    victim, thief = create(store, whole(), other)
    stolen = row(store, table, customer_id=victim)[column]
    with store.begin() as tx:
        moved = sa.update(table).where(table.c.customer_id == thief).values({column: stolen})
        tx.conn.execute(moved)
    with pytest.raises(SealError, match=f"customers:{thief}:{column}: .*moved from another row"):
        customer(store, thief)
    assert customer(store, victim).name == "Ann Buyer"


# --- tombstones and suggestions -------------------------------------------------------------------


def test_a_buried_record_points_on_and_gives_its_e_mails_and_words_free(store: Store) -> None:
    left, kept = create(store, whole(), CustomerRecord("acme", None, None, NOON))
    with store.begin() as tx:
        customers.bury(tx, left, kept)
    tombstone = customer(store, left)
    assert (tombstone.status, tombstone.merged_into, tombstone.emails) == ("merged", kept, ())
    assert find(store, "ann@example.com") is None
    assert count(store, customer_words) == 0
    assert row(store, table, customer_id=left)["change_no"] > row(store, table, customer_id=kept)["change_no"]


def test_a_suggestion_is_remembered_through_later_changes(store: Store) -> None:
    left, other = create(store, whole(), CustomerRecord("acme", None, None, NOON))
    with store.begin() as tx:
        customers.suggest(tx, left, other)
    change(store, whole(customer_id=left, name="Another"))
    assert row(store, table, customer_id=left)["suggested_into"] == other
