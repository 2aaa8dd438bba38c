"""E-mails of which older versions took ß for ss, after the upgrade, on both databases (R15, R61).

Source: review of customers, F10; others met it with case-folded local parts (MSC2265). Nothing here needs the
encryption key during the upgrade: a hash is made again when its e-mail is met.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa
from alembic import command

from poller.errors import Refused
from store import revisions
from store import tables as t
from store.engine import Store
from store.records import MainEmail
from tests.integration.store_world import (
    add_customer,
    all_customers,
    apply,
    basis,
    customer,
    edit,
    merge,
    open_store,
    order,
    unmerge,
)
from tests.unit.matching_world import an_order

SZ, SS, OTHER = "info@straße.example", "info@strasse.example", "ann@example.com"


@pytest.fixture
def old(empty_database_url: str) -> Iterator[Store]:
    """A store on an upgraded database, in which an older version had left one customer for each e-mail."""
    with closing(open_store(empty_database_url)) as store:
        revisions.upgrade(store.engine)
        yield store


def as_before(store: Store, *erased: int) -> None:
    """Make the database one of the older version, with hashes as it made them, and upgrade it.

    ``erased``: customers of whose e-mails retention had left the hash.
    """
    e = t.customer_emails
    with store.begin() as tx:
        for record in all_customers(store):
            for main in record.emails:
                assert main.email is not None
                email_hash = tx.lookup.folded_email(record.business, main.email)
                key = {"customer_id": record.customer_id, "slot": main.slot}
                tx.update(e, [{"email_hash": email_hash}], **key)
            if record.customer_id in erased:
                tx.conn.execute(sa.update(e).where(e.c.customer_id == record.customer_id).values(email=None))
    url = store.engine.url
    bare = sa.create_engine(url)  # ours has SQLite check references, which a downgrade would break
    with bare.begin() as connection:
        command.downgrade(revisions._config(connection), "0020")
        assert "folded" not in {c["name"] for c in sa.inspect(connection).get_columns("customer_emails")}
    bare.dispose()
    revisions.upgrade(store.engine)
    assert revisions.differences(store.engine) == []


def test_r15_customers_of_before_match_as_their_e_mail_is_written(old: Store) -> None:
    sz, other = add_customer(old, SZ), add_customer(old, OTHER)
    as_before(old)
    apply(old, an_order("o1", "Info@Straße.example"), an_order("o2", OTHER), an_order("o3", SS))
    assert [order(old, i).customer_id for i in ("o1", "o2")] == [sz, other]
    assert (basis(old, "o1"), basis(old, "o3")) == ("email_1", "created")
    assert order(old, "o3").customer_id not in (sz, other)
    apply(old, an_order("o4", SZ), an_order("o5", SS.upper()))
    assert (order(old, "o4").customer_id, basis(old, "o5")) == (sz, "email_1")


def test_r15_the_other_spelling_comes_first(old: Store) -> None:
    """It frees the hash that the record held, in the transaction that needs it."""
    sz = add_customer(old, SZ)
    as_before(old)
    apply(old, an_order("o1", SS))
    assert (order(old).customer_id == sz, basis(old)) == (False, "created")
    apply(old, an_order("o2", SZ))
    assert (order(old, "o2").customer_id, basis(old, "o2")) == (sz, "email_1")


def test_r16_the_other_spelling_can_be_entered_and_the_same_one_is_refused(old: Store) -> None:
    sz, ann = add_customer(old, SZ), add_customer(old, OTHER)
    as_before(old)
    edit(old, ann, email_2=SS)
    assert customer(old, ann).emails[1].email == SS
    with pytest.raises(Refused, match=f"customer {sz} has the e-mail of email_3"):
        edit(old, ann, email_3=SZ)


@pytest.mark.parametrize("email", [SZ, SS])
def test_r61_an_erased_e_mail_of_before_recognises_either_spelling_once(old: Store, email: str) -> None:
    """Which one it was is not known any more; the order that comes first decides, for good."""
    back = add_customer(old, SZ, origin="amazon")
    as_before(old, back)
    apply(old, an_order("o1", email))
    assert (order(old).customer_id, basis(old)) == (back, "retained_hash")
    assert customer(old, back).emails == (MainEmail(1, email, "amazon"),)
    apply(old, an_order("o2", SS if email == SZ else SZ), an_order("o3", email))
    assert (basis(old, "o2"), order(old, "o3").customer_id) == ("created", back)


@pytest.mark.parametrize("is_met", [False, True])
def test_r54_a_merge_of_before_is_undone_with_its_e_mails(old: Store, is_met: bool) -> None:
    kept, other = add_customer(old, OTHER), add_customer(old, SZ)
    as_before(old)
    with old.begin() as tx:  # a merge of before has the hashes of before among its facts
        merged_hash = tx.lookup.folded_email("acme", SZ).hex()
    merge(old, kept, other)
    with old.begin() as tx:
        made = tx.lookup.email("acme", SZ)
        facts = sa.func.replace(t.journal.c.facts, made.hex(), merged_hash)
        tx.conn.execute(sa.update(t.journal).where(t.journal.c.action == "merge").values(facts=facts))
    as_before(old)
    if is_met:
        apply(old, an_order("o1", SS))
    unmerge(old, other)
    assert customer(old, other).emails == (MainEmail(1, SZ, "hand"),)
    assert customer(old, kept).emails == (MainEmail(1, OTHER, "hand"),)


# --- what is no address -----------------------------------------------------------------------------


def test_r21_what_is_no_address_identifies_no_one_in_the_store(store: Store) -> None:
    """Two buyers whose e-mail is "N/A" were one customer (review, F5; woocommerce_fusion#117)."""
    joined = add_customer(store, "N/A", origin="amazon")
    apply(store, an_order("o1", "N/A", name="Ann"), an_order("o2", "n/a", name="Bea"))
    assert (basis(store, "o1"), basis(store, "o2")) == ("unidentified", "unidentified")
    assert len({joined, order(store, "o1").customer_id, order(store, "o2").customer_id}) == 3
    buyer = order(store, "o2").buyer
    assert buyer is not None
    assert (buyer.email, buyer.name) == ("n/a", "Bea")
    assert customer(store, joined).emails == (MainEmail(1, "N/A", "amazon"),)
