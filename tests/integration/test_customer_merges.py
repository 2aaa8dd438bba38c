"""Merging customers, taking it back, and editing by hand, on both real databases: R12, R13, R16, R50-R57."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.orders import AmazonOrder
from poller.actions.orders import reasons_for
from poller.customers import duplicates, edits, merges
from poller.customers.fields import checked
from poller.errors import Refused
from poller.export import customer_object
from poller.ingest.apply import apply_orders
from poller.matching.customer_records import shown_name
from poller.matching.explanations import explain
from store import customers, queries
from store import tables as t
from store.engine import Store
from store.journal import erase
from store.records import Address, CustomerRecord, MainEmail
from tests.databases import long_on
from tests.integration.store_world import (
    NOON,
    account_rules,
    add_customer,
    all_customers,
    apply,
    basis,
    customer,
    customer_of,
    edit,
    exported,
    merge,
    open_store,
    order,
    row,
    unmerge,
)
from tests.integration.store_world import count as rows_of
from tests.unit.matching_world import OTHER_HOME, UK, after, an_order, rules_of

pytestmark = long_on("postgresql")

NOBODY: dict[str, Any] = {"email": None, "name": None}
HOME = Address(name="Ann", line1="1 High Street", city="Leeds", postal_code="LS1", country="GB")


def journal_of(store: Store, customer_id: int) -> list[queries.JournalEntry]:
    with store.read() as tx:
        return queries.journal_of(tx, customer_id)


def picture(store: Store) -> tuple[dict[str, Any], dict[int, Any]]:
    """The whole export but for when it changed."""
    found, people, _ = exported(store)
    for each in (*found, *people):
        del each["changed_at"]
    return {o["order_id"]: o for o in found}, {c["customer_id"]: c for c in people}


def emails_of(store: Store, customer_id: int) -> dict[int, str | None]:
    return {main.slot: main.email for main in customer(store, customer_id).emails}


def bare(order_id: str, email: str) -> AmazonOrder:
    """An order that has nothing to fill its customer's empty fields with."""
    return an_order(order_id, email, name=None, delivery=None, absent={"delivery"})


def two_with_three(store: Store) -> tuple[int, int]:
    """Two customers with three e-mails each, and an order for each e-mail."""
    kept = add_customer(store, *(f"k{i}@example.com" for i in (1, 2, 3)), name="Kay", price_list="Trade")
    other = add_customer(
        store,
        *(f"o{i}@example.com" for i in (1, 2, 3)),
        name="Oh",
        phone="0113 4960000",
        billing=HOME,
        external_id="C-7",
        labels={"tier": "gold"},
        aliases=("older@example.com",),
    )
    page = [bare(f"{who}{i}", f"{who}{i}@example.com") for who in "ko" for i in (1, 2, 3)]
    apply(store, *page)
    return kept, other


# --- merging --------------------------------------------------------------------------------------


def test_r50_orders_and_e_mails_of_both_end_on_the_kept_record_and_all_three_match(store: Store) -> None:
    apply(store, an_order("o1", "one@example.com"), an_order("o2", "two@example.com"))
    kept, other = (customer_of(store, i).customer_id for i in ("o1", "o2"))
    edit(store, kept, email_3="three@example.com")
    done = merge(store, kept, other)
    assert done.moved == 1
    assert order(store, "o1").customer_id == order(store, "o2").customer_id == kept
    assert emails_of(store, kept) == {1: "one@example.com", 2: "two@example.com", 3: "three@example.com"}
    for slot, email in enumerate(("one", "two", "three"), 1):
        apply(store, an_order(f"later{slot}", f"{email}@example.com"))
        assert order(store, f"later{slot}").customer_id == kept
        assert basis(store, f"later{slot}") == f"email_{slot}"


def test_r50_a_reader_of_changes_sees_the_moved_orders(store: Store) -> None:
    apply(store, an_order("o1", "one@example.com"), an_order("o2", "two@example.com"))
    kept, other = (customer_of(store, i).customer_id for i in ("o1", "o2"))
    _, _, position = exported(store)
    merge(store, kept, other)
    moved, people, _ = exported(store, position)
    assert [(o["order_id"], o["customer_id"]) for o in moved] == [("o2", kept)]
    assert {c["customer_id"] for c in people} == {kept, other}


def test_r51_a_preview_says_which_addresses_stop_matching_and_changes_nothing(store: Store) -> None:
    kept, other = two_with_three(store)
    before = picture(store)
    with store.read() as tx:
        planned = merges.preview(tx, kept, other, frozenset())
    assert [m.email for m in planned.stopping] == [f"o{i}@example.com" for i in (1, 2, 3)]
    assert (planned.moved, planned.filled) == (3, ("phone", "billing", "external_id"))
    assert picture(store) == before


def test_r51_the_rest_become_aliases_that_do_not_match(store: Store) -> None:
    kept, other = two_with_three(store)
    merge(store, kept, other)
    record = customer(store, kept)
    assert [m.email for m in record.emails] == [f"k{i}@example.com" for i in (1, 2, 3)]
    assert record.aliases == (*(f"o{i}@example.com" for i in (1, 2, 3)), "older@example.com")
    apply(store, an_order("later", "o1@example.com"))
    assert basis(store, "later") == "created"


def test_r51_keep_email_chooses_instead(store: Store) -> None:
    kept, other = two_with_three(store)
    done = merge(store, kept, other, "O2@example.com", "k3@example.com")
    assert emails_of(store, kept) == {1: "o2@example.com", 3: "k3@example.com"}
    assert {m.email for m in done.stopping} == {f"{i}@example.com" for i in ("k1", "k2", "o1", "o3")}
    apply(store, an_order("later", "o2@example.com"))
    assert (order(store, "later").customer_id, basis(store, "later")) == (kept, "email_1")


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (("nobody@example.com",), "a main e-mail of neither customer"),
        (("k1@example.com", "k2@example.com", "o1@example.com", "o2@example.com"), "at most 3 main e-mails"),
    ],
)
def test_r51_an_impossible_choice_is_refused(store: Store, chosen: tuple[str, ...], sentence: str) -> None:
    kept, other = two_with_three(store)
    before = picture(store)
    with pytest.raises(Refused, match=sentence):
        merge(store, kept, other, *chosen)
    assert picture(store) == before


def test_r52_the_kept_record_wins_and_its_empty_fields_take_the_others_values(store: Store) -> None:
    kept = add_customer(store, name="Kay", labels={"tier": "gold", "mine": "1"}, price_list="Trade")
    other = add_customer(
        store, name="Oh", company="Oh & Co", tax_code="T9", labels={"tier": "tin", "new": "2"}
    )
    merge(store, kept, other)
    record = customer(store, kept)
    assert (record.name, record.company, record.price_list, record.tax_code) == (
        *("Kay", "Oh & Co", "Trade", "T9"),
    )
    assert record.labels == {"tier": "gold", "mine": "1", "new": "2"}
    assert record.origins["company"] == "hand"


def test_r52_a_field_that_was_emptied_by_hand_is_not_filled(store: Store) -> None:
    kept = add_customer(store, name="Kay", phone="0113 4960000")
    other = add_customer(store, name="Oh", phone="0114 4960000")
    edit(store, kept, phone="")
    merge(store, kept, other)
    assert customer(store, kept).phone is None


def test_r53_the_other_stays_as_a_tombstone_without_e_mails(store: Store) -> None:
    kept, other = two_with_three(store)
    merge(store, kept, other)
    tombstone = customer(store, other)
    assert (tombstone.status, tombstone.merged_into, tombstone.emails) == ("merged", kept, ())
    with store.read() as tx:
        assert queries.followed(tx, other) == kept
    third = add_customer(store, name="Third")
    merge(store, third, kept)
    with store.read() as tx:
        assert queries.followed(tx, other) == third


def test_r53_a_tombstone_can_neither_be_merged_nor_edited(store: Store) -> None:
    kept, other = two_with_three(store)
    third = add_customer(store, name="Third")
    merge(store, kept, other)
    sentence = f"customer {other} was merged into customer {kept}: name that one"
    with pytest.raises(Refused, match=sentence):
        merge(store, third, other)
    with pytest.raises(Refused, match=sentence):
        merge(store, other, third)
    with pytest.raises(Refused, match=sentence):
        edit(store, other, name="Another")


def test_r54_a_merge_is_in_the_journal_with_before_and_after_sealed(store: Store) -> None:
    kept, other = two_with_three(store)
    merge(store, kept, other)
    (entry,) = journal_of(store, kept)
    assert (entry.who, entry.action, entry.customer_id, entry.other_id) == ("tests", "merge", kept, other)
    assert entry.at == NOON
    assert entry.details["before"]["phone"] is None
    assert entry.details["after"]["phone"] == "0113 4960000"
    assert journal_of(store, other) == [entry]
    stored = row(store, t.journal, entry=entry.entry)
    assert b"4960000" not in stored["details"]
    assert "example" not in stored["facts"]


def test_r54_undone_a_merge_leaves_the_export_as_it_was(store: Store) -> None:
    kept, other = two_with_three(store)
    before = picture(store)
    merge(store, kept, other)
    assert picture(store) != before
    done = unmerge(store, other)
    assert (done.moved, done.arrived, done.stayed) == (3, 0, 0)
    assert picture(store) == before
    assert rows_of(store, t.merged_orders) == 0
    assert [e.action for e in journal_of(store, kept)] == ["merge", "unmerge"]
    apply(store, an_order("later", "o3@example.com"))
    assert (order(store, "later").customer_id, basis(store, "later")) == (other, "email_3")


@pytest.mark.parametrize(
    "chosen", [("o2@example.com",), ("o1@example.com", "o3@example.com", "k2@example.com")]
)
def test_r54_also_with_chosen_e_mails(store: Store, chosen: tuple[str, ...]) -> None:
    kept, other = two_with_three(store)
    before = picture(store)
    merge(store, kept, other, *chosen)
    unmerge(store, other)
    assert picture(store) == before


def test_r54_an_unidentified_record_is_so_again(store: Store) -> None:
    apply(store, an_order("o1", **NOBODY), an_order("o2", **NOBODY), an_order("o3"))
    nobody, nobody_else, ann = (customer_of(store, i).customer_id for i in ("o1", "o2", "o3"))
    before = picture(store)
    merge(store, nobody, ann)
    assert customer(store, nobody).status == "active"
    merge(store, nobody, nobody_else)
    unmerge(store, nobody_else)
    unmerge(store, ann)
    assert picture(store) == before


def test_r54_orders_that_came_since_go_with_the_e_mail_that_they_carry(store: Store) -> None:
    kept = add_customer(store, "kay@example.com", name="Kay")
    other = add_customer(store, "oh@example.com", "second@example.com", name="Oh")
    apply(store, an_order("k", "kay@example.com"), an_order("o", "oh@example.com"))
    apply(store, an_order("late", **NOBODY))
    left = customer_of(store, "late").customer_id
    before = picture(store)
    merge(store, kept, other)
    apply(store, an_order("k2", "kay@example.com"), an_order("o2", "second@example.com"))
    apply(store, an_order("late", "OH@example.com", updated=5))
    apply(store, an_order("neither", **NOBODY, replaces="k2"))
    assert {order(store, i).customer_id for i in ("k2", "o2", "late", "neither")} == {kept}
    assert (basis(store, "o2"), basis(store, "late")) == ("email_3", "promoted")

    done = unmerge(store, other)
    assert (done.moved, done.arrived, done.stayed) == (3, 2, 2)
    assert order(store, "k2").customer_id == order(store, "neither").customer_id == kept
    assert order(store, "o2").customer_id == order(store, "late").customer_id == other
    assert (basis(store, "o2"), basis(store, "late")) == ("email_2", "promoted")
    assert order(store, "o2").match_rules == ("R6", "R12", "R10", "R44", "R54")
    assert customer(store, left).merged_into == other
    found, people = picture(store)
    assert {i: found[i] for i in ("k", "o")} == {i: before[0][i] for i in ("k", "o")}
    assert {i: people[i] for i in (kept, other)} == {i: before[1][i] for i in (kept, other)}


def test_r54_an_order_that_the_kept_record_had_before_stays_though_it_carries_the_others_e_mail(
    store: Store,
) -> None:
    """It was decided when that e-mail was the kept record's own, and an order's customer is decided once."""
    apply(store, an_order("o1", "moving@example.com"), an_order("o2", "two@example.com"))
    kept, other = (customer_of(store, i).customer_id for i in ("o1", "o2"))
    edit(store, kept, email_1="kay@example.com")
    edit(store, other, email_2="moving@example.com")
    merge(store, kept, other)
    apply(store, an_order("o1", "moving@example.com", updated=9, status="SHIPPED"))
    done = unmerge(store, other)
    assert (done.moved, done.arrived, done.stayed) == (1, 0, 0)
    assert order(store, "o1").customer_id == kept


def test_r54_what_a_person_changed_since_stays_changed(store: Store) -> None:
    kept, other = two_with_three(store)
    merge(store, kept, other, "k1@example.com", "o1@example.com", "o2@example.com")
    edit(store, kept, "tier=silver", phone="0114 4960000", email_2="", email_3="new@example.com")
    done = unmerge(store, other)
    assert set(done.lost) == {"o1@example.com", "o2@example.com"}, "none stops matching unsaid"
    record, revived = customer(store, kept), customer(store, other)
    assert (record.phone, record.billing, record.labels) == ("0114 4960000", None, {"tier": "silver"})
    assert emails_of(store, kept) == {1: "k1@example.com", 2: "k2@example.com", 3: "new@example.com"}
    assert "k3@example.com" in record.aliases
    # What was taken off the kept record does not come back as a main e-mail of the other.
    assert emails_of(store, other) == {3: "o3@example.com"}
    assert (revived.phone, revived.external_id, revived.labels) == ("0113 4960000", "C-7", {"tier": "gold"})


def test_r54_an_address_that_was_entered_on_the_kept_record_since_stays_there(store: Store) -> None:
    """Whether the merge had made it an older one, or a person moved it, it was said to be the kept one's."""
    kept, other = two_with_three(store)
    merge(store, kept, other, "k1@example.com", "o1@example.com")
    edit(store, kept, email_3="O2@example.com")
    assert customer(store, kept).aliases == (
        *("k2@example.com", "k3@example.com", "o3@example.com", "older@example.com"),
    )
    apply(store, bare("later", "o2@example.com"))
    done = unmerge(store, other)
    assert done.entered == ("O2@example.com",)
    assert emails_of(store, kept) == {1: "k1@example.com", 2: "k2@example.com", 3: "O2@example.com"}
    assert emails_of(store, other) == {1: "o1@example.com", 3: "o3@example.com"}
    assert order(store, "later").customer_id == kept
    assert customer(store, kept).aliases == ("k3@example.com",)


def test_r51_r54_an_older_e_mail_that_a_merge_makes_a_main_one_is_older_again_when_it_is_undone(
    store: Store,
) -> None:
    kept = add_customer(store, "kay@example.com", aliases=("was@example.com", "oh@example.com"))
    other = add_customer(store, "oh@example.com", aliases=("Kay@example.com",))
    before = picture(store)
    merge(store, kept, other)
    assert emails_of(store, kept) == {1: "kay@example.com", 2: "oh@example.com"}
    assert customer(store, kept).aliases == ("was@example.com",)
    unmerge(store, other)
    assert picture(store) == before


def test_r51_r57_an_older_e_mail_that_is_entered_is_a_main_one_only(store: Store) -> None:
    ann = add_customer(store, "ann@example.com", aliases=("was@example.com", "two@example.com"))
    edit(store, ann, email_2="Two@example.com")
    assert customer(store, ann).aliases == ("was@example.com",)


def test_r17_r51_an_address_that_became_shared_is_not_kept_as_a_main_one(store: Store) -> None:
    kept = add_customer(store, "desk@example.com", "kay@example.com")
    other = add_customer(store, "oh@example.com", "two@example.com")
    before = picture(store)
    shared = frozenset({"desk@example.com"})
    with pytest.raises(Refused, match="many buyers share"):
        store.commit(lambda tx: merges.merge(tx, kept, other, "tests", shared, ["desk@example.com"]))
    with store.read() as tx:
        planned = merges.preview(tx, kept, other, shared)
    assert [m.email for m in planned.stopping] == ["desk@example.com"]
    store.commit(lambda tx: merges.merge(tx, kept, other, "tests", shared))
    assert emails_of(store, kept) == {1: "oh@example.com", 2: "kay@example.com", 3: "two@example.com"}
    assert customer(store, kept).aliases == ("desk@example.com",)
    unmerge(store, other)
    assert picture(store) == before


def test_r15_r51_what_is_no_address_takes_no_slot_of_the_kept_record(store: Store) -> None:
    """Earlier versions took ``N/A`` for an e-mail."""
    kept, other = add_customer(store, "k@example.com", "N/A"), add_customer(store, "o@example.com")
    merge(store, kept, other)
    assert set(emails_of(store, kept).values()) == {"k@example.com", "o@example.com"}
    assert customer(store, kept).aliases == ("N/A",)


def test_r54_the_newest_merge_goes_first(store: Store) -> None:
    a, b, c, d = (add_customer(store, f"{name}@example.com", name=name) for name in "abcd")
    apply(store, *(an_order(name, f"{name}@example.com") for name in "abcd"))
    before = picture(store)
    merge(store, a, b)
    merge(store, a, c)
    merge(store, d, a)
    with pytest.raises(Refused, match=f"customer {a} was merged into customer {d} since: undo that first"):
        unmerge(store, b)
    unmerge(store, a)
    with pytest.raises(Refused, match=f"customer {c} was merged into customer {a} later: undo that first"):
        unmerge(store, b)
    unmerge(store, c)
    unmerge(store, b)
    assert picture(store) == before
    merge(store, a, b)
    unmerge(store, b)
    assert picture(store) == before


def test_r54_an_address_that_is_now_on_a_third_record_is_named_and_refused_unless_left(store: Store) -> None:
    kept, other = two_with_three(store)
    merge(store, kept, other)
    apply(store, an_order("third", "o1@example.com"))
    third = customer_of(store, "third").customer_id
    edit(store, third, email_2="k4@example.com")
    before = picture(store)
    with pytest.raises(Refused, match=f"on customer {third} now") as refused:
        unmerge(store, other)
    assert refused.value.named == ("o1@example.com",)
    assert "example" not in str(refused.value)
    with pytest.raises(Refused, match="on no third customer"):
        unmerge(store, other, "o1@example.com", "o2@example.com")
    assert picture(store) == before
    unmerge(store, other, "O1@example.com")
    assert emails_of(store, other) == {2: "o2@example.com", 3: "o3@example.com"}
    assert customer(store, other).aliases == ("older@example.com", "o1@example.com")
    assert order(store, "third").customer_id == third
    assert customer(store, kept).aliases == ()


def erase_email(store: Store, customer_id: int, slot: int) -> None:
    """What retention leaves of a main e-mail: its hash (R61)."""
    c = t.customer_emails.c
    with store.begin() as tx:
        mine = sa.and_(c.customer_id == customer_id, c.slot == slot)
        tx.conn.execute(sa.update(t.customer_emails).where(mine).values(email=None))


def test_r54_r61_an_erased_e_mail_moves_and_returns_as_the_hash_that_it_is(store: Store) -> None:
    kept = add_customer(store, "kay@example.com")
    other = add_customer(store, "oh@example.com", "second@example.com")
    erase_email(store, other, 1)
    before = picture(store)
    merge(store, kept, other)
    assert emails_of(store, kept) == {1: "kay@example.com", 2: None, 3: "second@example.com"}
    apply(store, bare("back", "oh@example.com"))
    assert (order(store, "back").customer_id, basis(store, "back")) == (kept, "retained_hash")
    erase_email(store, kept, 2)
    unmerge(store, other)
    assert picture(store)[1] == before[1]
    apply(store, bare("again", "oh@example.com"))
    assert (order(store, "again").customer_id, basis(store, "again")) == (other, "retained_hash")


def test_r54_undoing_never_restores_what_was_erased_meanwhile(store: Store) -> None:
    kept, other = two_with_three(store)
    merge(store, kept, other, "k1@example.com", "o1@example.com")
    erase_email(store, kept, 2)
    with store.begin() as tx:
        both = customers.load(tx, [kept, other])
        for record in both.values():
            customers.change(tx, _without_person(record))
        erase(tx, [kept, other], keep_entered=False, keep_hashes=True)
    unmerge(store, other)
    for customer_id in (kept, other):
        record = customer(store, customer_id)
        assert (record.name, record.phone, record.billing, record.aliases) == (None, None, None, ())
    assert emails_of(store, other) == {1: None}
    assert emails_of(store, kept) == {1: "k1@example.com"}


def _without_person(record: CustomerRecord) -> CustomerRecord:
    return replace(record, name=None, phone=None, billing=None, aliases=())


def test_r54_a_merge_whose_hashes_were_erased_cannot_be_undone(store: Store) -> None:
    kept, other = two_with_three(store)
    merge(store, kept, other)
    with store.begin() as tx:
        assert erase(tx, [other], keep_entered=False, keep_hashes=False) == 1
    (entry,) = journal_of(store, kept)
    stored = row(store, t.journal, entry=entry.entry)
    assert stored["facts"] is None
    assert entry.details == {}
    assert rows_of(store, t.merged_orders) == 0
    with pytest.raises(Refused, match="cannot be undone any more"):
        unmerge(store, other)


def test_r60_erasing_takes_what_amazon_gave_out_of_the_journal_and_leaves_what_was_entered(
    store: Store,
) -> None:
    apply(store, an_order("o1", "ann@example.com"))
    ann = customer_of(store, "o1").customer_id
    bea = add_customer(store, "bea@example.com", name="Bea", company="Bea & Co")
    merge(store, bea, ann)
    edit(store, bea, name="Beatrix", price_list="Trade")
    with store.begin() as tx:
        erase(tx, [ann], keep_entered=True, keep_hashes=True)
        erase(tx, [bea], keep_entered=True, keep_hashes=True)
    merged, edited = journal_of(store, bea)
    assert not {"phone", "amazon_name", "billing", "email_2"} & set(merged.details["after"])
    assert edited.details["before"] == {"name": "Bea", "price_list": "UK retail"}
    assert edited.details["after"] == {"name": "Beatrix", "price_list": "Trade"}
    unmerge(store, ann)


def test_r54_only_merges_by_hand_can_be_undone(store: Store) -> None:
    apply(store, an_order("o1", **NOBODY))
    left = customer_of(store, "o1").customer_id
    apply(store, an_order("o1", updated=5))
    with pytest.raises(Refused, match="promoted"):
        unmerge(store, left)
    with pytest.raises(Refused, match=f"customer {order(store).customer_id} is not merged"):
        unmerge(store, order(store).customer_id)
    with pytest.raises(Refused, match="there is no customer 4711"):
        unmerge(store, 4711)


def test_r54_explain_names_the_merge_until_it_is_undone(store: Store) -> None:
    kept, other = two_with_three(store)
    merge(store, kept, other)

    def explained() -> tuple[str, ...]:
        with store.read() as tx:
            found = order(store, "o1")
            return explain(found, customer(store, kept), queries.merges_of(tx, found))

    sentence = f"R50: Customer {other} was merged into customer {kept}, and its orders moved there."
    assert explained()[-1] == sentence
    assert f"customer {other}" in explained()[0]
    unmerge(store, other)
    assert sentence not in explained()


# --- R55 --------------------------------------------------------------------------------------------


def test_r55_an_order_being_matched_while_a_merge_commits_ends_on_the_kept_record(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the search for the e-mail and the lock on its record, another process merges that record."""
    kept = add_customer(store, name="Kay")
    other = add_customer(store, "oh@example.com")
    _at_the_lock(store, database_url, monkeypatch, lambda there: merge(there, kept, other))
    apply(store, an_order("o1", "oh@example.com"))
    assert order(store, "o1").customer_id == kept
    assert customer(store, other).merged_into == kept


def test_r54_an_order_being_matched_while_a_merge_is_undone_goes_with_its_e_mail(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = add_customer(store, "kay@example.com")
    other = add_customer(store, "oh@example.com")
    merge(store, kept, other)
    _at_the_lock(store, database_url, monkeypatch, lambda there: unmerge(there, other))
    apply(store, an_order("o1", "oh@example.com"))
    assert order(store, "o1").customer_id == other


def _at_the_lock(store: Store, url: str, monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Let another process do something just before a page locks its customers.

    On SQLite before the page begins, because after that it has the whole database.
    """
    if url.startswith("sqlite"):
        act(store)
        return
    load, acted = customers.load, list[bool]()

    def load_late(tx: Any, ids: Any) -> Any:
        if not acted:
            acted.append(True)
            monkeypatch.setattr(customers, "load", load)
            there = open_store(url)
            act(there)
            there.close()
        return load(tx, ids)

    monkeypatch.setattr(customers, "load", load_late)


# --- who can be merged ------------------------------------------------------------------------------


def test_r56_customers_of_two_businesses_are_never_merged(store: Store) -> None:
    here, there = add_customer(store, name="Ann"), add_customer(store, name="Ann", business="beta")
    with pytest.raises(Refused, match="never merged across businesses"):
        merge(store, here, there)
    assert {c.status for c in all_customers(store)} == {"active"}


def test_r50_what_cannot_be_merged_is_refused_in_a_sentence(store: Store) -> None:
    ann = add_customer(store, name="Ann")
    with pytest.raises(Refused, match=f"customer {ann} cannot be merged into itself"):
        merge(store, ann, ann)
    with pytest.raises(Refused, match="there is no customer 4711"):
        merge(store, ann, 4711)
    rules = account_rules(rules_of(UK, without_email="shared"))
    apply(store, an_order("o1", **NOBODY), rules=rules)
    shared = customer_of(store, "o1").customer_id
    for pair in ((ann, shared), (shared, ann)):
        with pytest.raises(Refused, match="a marketplace's record"):
            merge(store, *pair)
    forgotten = add_customer(store, name="Gone", status="forgotten")
    with pytest.raises(Refused, match="was forgotten"):
        merge(store, ann, forgotten)


# --- R57: by hand -----------------------------------------------------------------------------------


def create(store: Store, *labels: str, **values: str) -> CustomerRecord:
    changes = checked(values, labels)
    return store.commit(lambda tx: edits.create(tx, "acme", changes, "tests"))


def test_r57_a_record_created_by_hand_has_what_was_said_and_matches(store: Store) -> None:
    created = create(
        store,
        "tier=gold",
        name=" Ann ",
        email_1="Ann@Example.com",
        email_3="third@example.com",
        billing_line1="1 High Street",
        billing_country="gb",
        price_list="Trade",
        currency="gbp",
        discount_percent="2.50",
        external_id="C-1",
    )
    record = customer(store, created.customer_id)
    assert record == created
    assert (record.name, record.status, record.external_id) == ("Ann", "active", "C-1")
    assert record.billing == Address(line1="1 High Street", country="GB")
    assert (record.currency, str(record.discount_percent)) == ("GBP", "2.50")
    assert record.labels == {"tier": "gold"}
    assert set(record.origins.values()) == {"hand"}
    apply(store, an_order("o1", "third@example.com"))
    assert (order(store).customer_id, basis(store)) == (record.customer_id, "email_3")
    (entry,) = journal_of(store, record.customer_id)
    assert (entry.action, entry.who, entry.details["after"]["email_1"]) == (
        *("create", "tests", "Ann@Example.com"),
    )


def test_r57_an_edit_is_in_the_journal_with_who_and_when_and_sealed_values(store: Store) -> None:
    ann = add_customer(store, "Ann@Example.com", name="Ann")
    edit(store, ann, email_1=" New@Example.com ", name="Anna")
    (entry,) = journal_of(store, ann)
    assert (entry.who, entry.action, entry.at, entry.customer_id) == ("tests", "edit", NOON, ann)
    assert entry.details["before"] == {"email_1": "Ann@Example.com", "name": "Ann"}
    assert entry.details["after"] == {"email_1": "New@Example.com", "name": "Anna"}
    assert b"xample" not in row(store, t.journal)["details"]


def test_r57_r8_what_was_set_by_hand_is_never_overwritten_by_a_sync_nor_refilled(store: Store) -> None:
    apply(store, an_order("o1"))
    ann = customer_of(store, "o1").customer_id
    edit(store, ann, "tier=gold", name="By Hand", company="", phone="", price_list="Trade", tax_code="")
    edit(store, ann, **{f"delivery_{part}": "" for part in ("name", "line1", "city", "postal_code", "phone")})
    edit(store, ann, delivery_country="")
    edited = customer(store, ann)
    assert (edited.phone, edited.delivery) == (None, None)
    apply(store, an_order("o1", updated=5, name="Amazon Name", company="Amazon & Co", delivery=OTHER_HOME))
    apply(store, an_order("o2", updated=6, name="Amazon Name", company="Amazon & Co", delivery=OTHER_HOME))
    assert customer(store, ann) == edited
    assert order(store, "o2").price_list == "Trade"
    assert order(store, "o2").tax_code is None


def test_r57_each_field_can_be_set_and_emptied(store: Store) -> None:
    values = {
        **{f"email_{slot}": f"e{slot}@example.com" for slot in (1, 2, 3)},
        **dict.fromkeys(("name", "company", "phone", "price_list", "tax_code", "external_id"), "x"),
        **{f"{kind}_{part}": "x" for kind in ("billing", "delivery") for part in ("name", "line1", "county")},
        **{"currency": "EUR", "discount_percent": "7", "billing_country": "DE"},
    }
    ann = create(store, "a=1", "b=2", **values).customer_id
    edit(store, ann, "a=", "b=", **dict.fromkeys(values, ""))
    record = customer(store, ann)
    for name in ("name", "company", "phone", "price_list", "tax_code", "external_id", "currency"):
        assert getattr(record, name) is None
    assert (record.emails, record.billing, record.delivery, record.discount_percent) == ((), None, None, None)
    assert record.labels == {}
    assert record.origins["phone"] == record.origins["email_2"] == "hand"


def test_r57_one_part_of_an_address_leaves_the_others(store: Store) -> None:
    ann = add_customer(store, billing=HOME)
    edit(store, ann, billing_line1="2 Low Street")
    assert customer(store, ann).billing == Address(
        name="Ann", line1="2 Low Street", city="Leeds", postal_code="LS1", country="GB"
    )


def test_r16_r57_an_e_mail_or_external_id_that_another_has_is_refused(store: Store) -> None:
    ann = add_customer(store, "ann@example.com", external_id="C-1")
    bea = add_customer(store, "bea@example.com")
    sentence = f"customer {ann} has the e-mail of email_2: merge them"
    with pytest.raises(Refused, match=sentence) as refused:
        edit(store, bea, email_2=" ANN@example.com")
    assert f"`order-sync customers merge {ann} {bea}`" in str(refused.value)
    with pytest.raises(Refused, match=f"customer {ann} has that external id"):
        edit(store, bea, external_id="C-1")
    with pytest.raises(Refused, match=f"customer {ann} has the e-mail of email_1"):
        create(store, email_1="ann@example.com")
    assert emails_of(store, bea) == {1: "bea@example.com"}
    assert rows_of(store, t.journal) == 0


def test_r57_an_e_mail_moves_from_one_slot_of_its_record_to_another(store: Store) -> None:
    ann = add_customer(store, "one@example.com", "two@example.com", origin="amazon")
    edit(store, ann, email_3="ONE@example.com")
    assert customer(store, ann).emails == (
        MainEmail(2, "two@example.com", "amazon"),
        MainEmail(3, "ONE@example.com", "amazon"),
    )
    assert customer(store, ann).origins == {"email_3": "hand"}


def test_r57_a_marketplaces_own_record_gets_no_person(store: Store) -> None:
    rules = account_rules(rules_of(UK, without_email="shared"))
    apply(store, an_order("o1", **NOBODY), rules=rules)
    shared = customer_of(store, "o1").customer_id
    with pytest.raises(Refused, match="it has no name, e-mail, phone or address"):
        edit(store, shared, email_1="ann@example.com")
    edit(store, shared, price_list="Special")
    assert customer(store, shared).price_list == "Special"


def test_r57_an_edit_of_an_unknown_customer_or_of_nothing_is_refused(store: Store) -> None:
    with pytest.raises(Refused, match="there is no customer 4711"):
        edit(store, 4711, name="Ann")
    with pytest.raises(Refused, match="nothing to change"):
        edit(store, add_customer(store))
    with pytest.raises(Refused, match="at least one field"):
        create(store, name=" ")


# --- R22: what a person should look at ----------------------------------------------------------------


def test_r22_an_e_mail_entered_by_hand_identifies_the_record_which_is_suggested_if_it_was_another(
    store: Store,
) -> None:
    apply(store, an_order("o1", **NOBODY, created_at=after(0)))
    left = customer_of(store, "o1").customer_id
    edit(store, left, email_1="guess@example.com")
    assert customer(store, left).status == "active"
    apply(store, an_order("o1", updated=5))
    target = customer_of(store, "o1").customer_id
    assert target != left
    with store.read() as tx:
        assert queries.suggested(tx) == [(left, target)]
    assert [(e.action, e.customer_id, e.other_id, e.order_id) for e in journal_of(store, target)] == [
        ("promote", target, left, "o1")
    ]
    merge(store, target, left)
    with store.read() as tx:
        assert queries.suggested(tx) == []


def test_r21_r22_a_held_order_that_gets_its_customer_is_in_the_journal(store: Store) -> None:
    rules = account_rules(rules_of(UK, without_email="hold"))
    apply(store, an_order(**NOBODY), rules=rules)
    apply(store, an_order(updated=10), rules=rules)
    target = customer_of(store).customer_id
    (entry,) = journal_of(store, target)
    assert (entry.who, entry.action, entry.other_id, entry.order_id) == ("sync", "promote", None, "o1")


def test_r19_r54_a_page_that_was_read_before_a_merge_finds_its_orders_on_the_kept_record(
    store: Store,
) -> None:
    kept, other = two_with_three(store)
    merge(store, kept, other)
    with store.begin() as tx:
        apply_orders(tx, account_rules(), [an_order("o1", "o1@example.com", updated=9, status="SHIPPED")])
    assert (order(store, "o1").customer_id, order(store, "o1").status) == (kept, "SHIPPED")


# --- e-mails that came too late, and orders that were lost ----------------------------------------


def nameless(order_id: str, minutes: float = 0, email: str | None = None) -> AmazonOrder:
    """An order that Amazon shows without its buyer, or a later copy of it with the e-mail."""
    return an_order(order_id, email, name=None, updated=minutes)


def explained(store: Store, order_id: str) -> tuple[str, ...]:
    with store.read() as tx:
        return reasons_for(tx, order(store, order_id))


def test_r19_r51_an_e_mail_that_comes_after_a_person_has_merged_the_record(store: Store) -> None:
    """A merged record's order keeps its customer; the next order with its e-mail makes another record.

    As with amzn/selling-partner-api-models issues 2261 and 4536: shipped orders whose e-mail comes later.
    """
    kept = add_customer(store, "k@example.com", name="Kay")
    apply(store, nameless("first"))
    merge(store, kept, customer_of(store, "first").customer_id)
    apply(store, nameless("first", 5, "late@marketplace.amazon.co.uk"))
    assert order(store, "first").customer_id == kept
    assert customer(store, kept).aliases == ("late@marketplace.amazon.co.uk",)
    assert emails_of(store, kept) == {1: "k@example.com"}
    assert explained(store, "first")[-1] == (
        f"R19: The order's e-mail came after a person had merged its record: it stays with customer {kept}."
    )
    changes = rows_of(store, t.journal)
    apply(store, nameless("first", 9, "late@marketplace.amazon.co.uk"))
    assert customer(store, kept).aliases == ("late@marketplace.amazon.co.uk",), "once"
    assert rows_of(store, t.journal) == changes

    apply(store, nameless("next", email="late@marketplace.amazon.co.uk"))
    other = customer_of(store, "next").customer_id
    assert other != kept
    assert explained(store, "next")[-1] == (
        f"R51: Customer {kept} had this e-mail before, which matches no more: see "
        "`order-sync customers duplicates`."
    )
    with store.read() as tx:
        (pair,) = duplicates.find(tx, limit=9, tell=lambda _: None).pairs
    assert (pair.customer_id, pair.other_id, pair.reasons) == (kept, other, ("older_email",))
    merge(store, kept, other)
    assert emails_of(store, kept) == {1: "k@example.com", 2: "late@marketplace.amazon.co.uk"}
    assert explained(store, "next")[-1].startswith("R50")


def test_r51_an_older_e_mail_of_a_merge_suggests_the_record_that_it_makes(store: Store) -> None:
    kept, other = two_with_three(store)
    merge(store, kept, other)
    apply(store, bare("again", "o2@example.com"))
    again = customer_of(store, "again").customer_id
    with store.read() as tx:
        (pair,) = duplicates.find(tx, limit=9, tell=lambda _: None).pairs
    assert (pair.customer_id, pair.other_id, pair.reasons) == (kept, again, ("older_email",))
    assert explained(store, "again")[-1].startswith(f"R51: Customer {kept} had this e-mail before")


def test_r21_an_order_that_was_lost_finds_its_unidentified_record(store: Store) -> None:
    apply(store, nameless("lost"), nameless("other"))
    record = customer_of(store, "lost").customer_id
    with store.begin() as tx:
        key = sa.select(t.orders.c.order_key).where(t.orders.c.order_id == "lost").scalar_subquery()
        tx.conn.execute(sa.delete(t.order_lines).where(t.order_lines.c.order_key == key))
        tx.conn.execute(sa.delete(t.orders).where(t.orders.c.order_id == "lost"))
    customers_before = rows_of(store, t.customers)
    apply(store, nameless("lost"))
    assert (order(store, "lost").customer_id, order(store, "lost").match_basis) == (record, "unidentified")
    assert rows_of(store, t.customers) == customers_before
    apply(store, nameless("lost", 5, "found@example.com"))
    assert order(store, "lost").match_basis == "promoted"
    assert customer(store, record).status == "merged"


def test_r57_a_name_that_a_person_has_emptied_is_shown_nowhere(store: Store) -> None:
    apply(store, an_order("o1", "a@example.com", name="Ann Buyer"))
    one = customer_of(store, "o1").customer_id
    edit(store, one, name="")
    apply(store, an_order("o2", "a@example.com", name="Ann Buyer"))
    record = customer(store, one)
    assert (record.name, record.amazon_name) == (None, "Ann Buyer")
    assert (shown_name(record), customer_object(record)["name"]) == (None, None)
    edit(store, one, name="Ann B")
    assert customer_object(customer(store, one))["name"] == "Ann B"
