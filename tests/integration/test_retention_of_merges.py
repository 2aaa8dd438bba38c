"""Retention and forgetting beside what people do: merges, edits, imports (R54, R60-R63)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from connectors.amazon.parse import order_of_json
from poller.customers import imports
from poller.customers.import_rules import ImportedLine
from poller.errors import Refused
from poller.privacy.forget import forget_customer
from store import queries
from store import tables as t
from store.queries import JournalEntry
from store.records import MainEmail
from tests.databases import long_on
from tests.integration.retention_world import ANN, Place, a_place, delivered
from tests.integration.store_world import (
    add_customer,
    basis,
    count,
    customer,
    customer_of,
    edit,
    merge,
    order,
    row,
    unmerge,
)

pytestmark = long_on("postgresql")

BEA = "bea@marketplace.amazon.co.uk"
EIGHTEEN_MONTHS = 548


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    yield from a_place(database_url)


def two(place: Place) -> tuple[int, int]:
    """Store Ann, delivered on the second day, and Bea, on the twentieth."""
    place.apply(delivered("o1", ANN, on=2, name="Ann Buyer"), delivered("o2", BEA, on=20, name="Bea Buyer"))
    ann, bea = customer_of(place.store, "o1").customer_id, customer_of(place.store, "o2").customer_id
    assert ann is not None
    assert bea is not None
    return ann, bea


def journal(place: Place, customer_id: int) -> list[JournalEntry]:
    with place.store.read() as tx:
        return queries.journal_of(tx, customer_id)


def forget(place: Place, customer_id: int) -> None:
    place.store.commit(lambda tx: forget_customer(tx, customer_id, "tests", order_of_json))


def import_csv(place: Place, folder: Path, text: str) -> list[ImportedLine]:
    file = folder / "customers.csv"
    file.write_text(text)
    lines = imports.read_lines(file, {"acme": "acme"}, frozenset())
    return list(imports.import_lines(place.store, lines, "tests", dry_run=False, tell=lambda _: None))


def test_r54_r60_a_merge_can_be_undone_after_a_purge_and_restores_nothing(place: Place) -> None:
    ann, bea = two(place)
    merge(place.store, ann, bea)
    place.purge(51)
    assert place.values() == set(), "records, tombstones and what the journal quotes"
    assert [(e.action, e.details) for e in journal(place, ann)] == [("merge", {}), ("purge", {})]
    unmerge(place.store, bea)
    assert customer(place.store, bea).emails == (MainEmail(1, None, "amazon"),)
    assert customer(place.store, ann).emails == (MainEmail(1, None, "amazon"),)
    assert place.values() == set()
    place.apply(delivered("o3", BEA, on=60, name="Bea Again"), delivered("o4", ANN, on=60))
    assert [basis(place.store, o) for o in ("o3", "o4")] == ["retained_hash", "retained_hash"]
    assert customer_of(place.store, "o3").customer_id == order(place.store, "o2").customer_id == bea
    assert customer_of(place.store, "o4").customer_id == order(place.store, "o1").customer_id == ann
    assert customer(place.store, bea).name == "Bea Again"


def test_r60_what_was_merged_waits_with_the_record_that_it_was_merged_into(place: Place) -> None:
    ann, bea = two(place)
    merge(place.store, bea, ann)
    place.purge(35)
    assert order(place.store, "o1").buyer is None
    assert (customer(place.store, ann).name, customer(place.store, bea).name) == ("Ann Buyer", "Bea Buyer")
    place.purge(51)
    assert (customer(place.store, ann).name, customer(place.store, bea).name) == (None, None)
    assert place.values() == set()
    assert count(place.store, t.customer_words) == 0


def test_r60_what_was_merged_into_a_record_that_no_order_brings_up_is_erased_too(place: Place) -> None:
    place.apply(delivered("o1", None, name=None))
    left = customer_of(place.store, "o1").customer_id
    edit(place.store, left, price_list="Trade")
    place.apply(delivered("o1", ANN, on=3))
    between = add_customer(place.store, "between@home.example", name="Between")
    kept = add_customer(place.store, "kay@home.example", name="Kay")
    merge(place.store, between, left)
    merge(place.store, kept, between)
    assert customer(place.store, kept).phone == customer(place.store, left).phone == "0113"
    edit(place.store, kept, phone="0114", billing_line1="1 By Hand", delivery_line1="1 By Hand")
    edit(place.store, kept, price_list="Retail")
    place.purge(44)
    assert customer(place.store, left).phone == "0113"
    place.purge(46 + 120)
    assert (customer(place.store, left).phone, customer(place.store, kept).phone) == (None, "0114")
    assert customer(place.store, between).name == "Between"


def test_r60_a_tombstone_is_found_by_no_name_whatever_is_left_of_it(place: Place) -> None:
    kept = add_customer(place.store, "kay@home.example", name="Kay")
    other = add_customer(place.store, "oh@home.example", name="Oh")
    place.apply(delivered("o1", "oh@home.example", company="Oh & Co"))
    merge(place.store, kept, other)
    place.purge(33)
    tombstone = customer(place.store, other)
    assert (tombstone.name, tombstone.company) == ("Oh", None)
    with place.store.read() as tx:
        named = sa.select(t.customer_words.c.customer_id).distinct()
        assert list(tx.conn.execute(named).scalars()) == [kept]


def test_r61_once_the_hashes_have_gone_a_merge_cannot_be_undone_any_more(place: Place) -> None:
    ann, bea = two(place)
    kept = add_customer(place.store, "a@home.example", "b@home.example", "c@home.example", name="By Hand")
    merge(place.store, kept, ann)
    merge(place.store, kept, bea)
    place.purge(51)
    assert customer(place.store, kept).aliases == ()
    place.purge(20 + EIGHTEEN_MONTHS - 5)
    assert count(place.store, t.merged_orders) > 0
    assert row(place.store, t.journal, action="merge", other_id=ann)["facts"] is not None
    place.purge(20 + EIGHTEEN_MONTHS + 5)
    assert row(place.store, t.journal, action="merge", other_id=ann)["facts"] is None
    assert row(place.store, t.journal, action="merge", other_id=bea)["facts"] is None
    assert count(place.store, t.merged_orders) == 0
    with pytest.raises(Refused, match="cannot be undone any more: what it takes was erased"):
        unmerge(place.store, bea)
    assert len(customer(place.store, kept).emails) == 3


def test_r61_a_hash_that_an_undone_merge_gives_back_has_its_months_too(place: Place) -> None:
    ann, bea = two(place)
    merge(place.store, ann, bea)
    place.purge(51)
    unmerge(place.store, bea)
    assert place.purge(20 + EIGHTEEN_MONTHS + 5).hashes == 2
    assert count(place.store, t.customer_emails) == 0


def test_r62_forgetting_leaves_nothing_of_a_merge_in_the_journal(place: Place) -> None:
    ann, bea = two(place)
    edit(place.store, bea, "tier=gold", phone="0114", external_id="C-1")
    merge(place.store, ann, bea)
    edit(place.store, ann, name="Anne")
    forget(place, bea)
    assert place.values() == set()
    assert [(e.action, e.details) for e in journal(place, ann)] == [
        ("merge", {}),
        ("edit", {}),
        ("forget", {}),
    ]
    with place.store.read() as tx:
        assert list(tx.conn.execute(sa.select(t.journal.c.facts)).scalars()) == [None] * 4
    assert count(place.store, t.merged_orders) == 0
    with pytest.raises(Refused, match=f"customer {ann} was forgotten"):
        unmerge(place.store, bea)
    with pytest.raises(Refused, match=f"customer {ann} was forgotten"):
        edit(place.store, ann, name="Anne")
    with pytest.raises(Refused, match=f"customer {ann} was forgotten"):
        merge(place.store, ann, add_customer(place.store, "new@home.example"))


def test_r62_what_was_lent_while_it_was_merged_is_forgotten_too(place: Place) -> None:
    ann, bea = two(place)
    kept = add_customer(place.store, "kay@home.example")
    merge(place.store, kept, bea)
    assert customer(place.store, kept).name == "Bea Buyer"
    edit(place.store, kept, name="Kay")
    edit(place.store, kept, name="")
    unmerge(place.store, bea)
    edit(place.store, kept, price_list="Trade")
    forget(place, bea)
    entries = journal(place, kept)
    assert [e.action for e in entries] == ["merge", "edit", "edit", "unmerge", "edit"]
    assert "Bea" not in json.dumps([dict(e.details) for e in entries])
    assert entries[-1].details["after"] == {"price_list": "Trade"}
    assert customer(place.store, ann).name == "Ann Buyer"


def test_r62_what_was_passed_on_through_several_merges_is_forgotten_too(place: Place) -> None:
    """Bea's name moved to one record, with that to a second; then all were separated again."""
    _, bea = two(place)
    first, second = (add_customer(place.store, f"{name}@home.example") for name in ("one", "two"))
    merge(place.store, second, first)
    unmerge(place.store, first)
    edit(place.store, second, name="Own Name")
    edit(place.store, second, name="")
    merge(place.store, first, bea)
    merge(place.store, second, first)
    edit(place.store, second, phone="0115")
    unmerge(place.store, first)
    unmerge(place.store, bea)
    forget(place, bea)
    for customer_id in (bea, first, second):
        details = json.dumps([dict(e.details) for e in journal(place, customer_id)])
        assert "bea" not in details.lower()
    own = [e.details.get("after") for e in journal(place, second) if e.action == "edit"]
    assert {"name": "Own Name"} in own, "what was said of it alone stays"


def test_r54_r22_a_promotion_after_an_undone_merge_is_not_taken_for_it(place: Place) -> None:
    kept = add_customer(place.store, ANN, name="Ann")
    place.apply(delivered("o1", None, name=None))
    left = customer_of(place.store, "o1").customer_id
    merge(place.store, kept, left)
    unmerge(place.store, left)
    place.apply(delivered("o1", ANN, on=3))
    assert customer(place.store, left).merged_into == kept
    with pytest.raises(Refused, match="promoted to customer"):
        unmerge(place.store, left)


def test_r61_an_e_mail_of_which_the_hash_is_left_can_be_entered_again(place: Place) -> None:
    ann, _ = two(place)
    place.purge(33)
    edit(place.store, ann, email_2=ANN.title(), email_1="ann@home.example")
    assert customer(place.store, ann).emails == (
        MainEmail(1, "ann@home.example", "hand"),
        MainEmail(2, ANN.title(), "amazon"),
    )
    place.apply(delivered("o3", ANN, on=34))
    assert (basis(place.store, "o3"), customer_of(place.store, "o3").customer_id) == ("email_2", ann)


def test_r61_r12_an_import_knows_a_customer_by_the_hash_of_an_e_mail(place: Place, tmp_path: Path) -> None:
    ann, bea = two(place)
    place.purge(51)
    text = f"external_id,name,email_1,email_2\nC-1,Ann,ann@home.example,{ANN}\n,Bea,,{BEA}\n"
    done = import_csv(place, tmp_path, text)
    assert [(o.kind, o.customer_id) for o in done] == [("changed", ann), ("changed", bea)]
    assert customer(place.store, ann).emails == (
        MainEmail(1, ANN, "amazon"),
        MainEmail(2, "ann@home.example", "import"),
    )
    assert customer(place.store, bea).emails == (MainEmail(1, BEA, "amazon"),)
    assert [o.kind for o in import_csv(place, tmp_path, text)] == ["unchanged", "unchanged"]
    place.purge(5000)
    assert customer(place.store, bea).name == "Bea", "what was imported is not Amazon's"


def test_r60_an_erased_address_of_which_amazon_is_not_the_domain_is_entered_if_it_is_named_again(
    place: Place, tmp_path: Path
) -> None:
    place.apply(delivered("o1", "ann@home.example"))
    ann = customer_of(place.store, "o1").customer_id
    place.purge(33)
    assert customer(place.store, ann).emails == (MainEmail(1, None, "amazon"),)
    (done,) = import_csv(place, tmp_path, "email_1\nann@home.example\n")
    assert (done.kind, done.customer_id) == ("changed", ann)
    assert customer(place.store, ann).emails == (MainEmail(1, "ann@home.example", "import"),)
    assert place.purge(34).records == 0


def test_r62_r63_a_forgotten_person_may_be_imported_again_and_has_none_of_the_old_orders(
    place: Place, tmp_path: Path
) -> None:
    ann, _ = two(place)
    edit(place.store, ann, external_id="C-1")
    forget(place, ann)
    (new,) = import_csv(place, tmp_path, f"external_id,name,email_1\nC-1,Ann,{ANN}\n")
    assert new.kind == "new"
    place.apply(delivered("o1", ANN, on=9), delivered("o3", ANN, on=9))
    assert (order(place.store, "o1").buyer, order(place.store, "o1").customer_id) == (None, ann)
    assert (basis(place.store, "o3"), customer_of(place.store, "o3").customer_id) == (
        "email_1",
        new.customer_id,
    )
