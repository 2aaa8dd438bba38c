"""Customers of other channels from a CSV file, on both real databases (R12, R16, R57)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from poller.customers import imports
from poller.customers.import_rules import ImportedLine
from poller.errors import Refused
from store import queries
from store import tables as t
from store.engine import Store
from store.records import Address, MainEmail
from tests.databases import long_on
from tests.integration.store_world import (
    add_customer,
    apply,
    basis,
    customer,
    customer_of,
    edit,
    exported,
    merge,
    order,
    row,
)
from tests.integration.store_world import count as rows_of
from tests.unit.matching_world import an_order

pytestmark = long_on("postgresql")

HEADING = "external_id,name,email_1,email_2,phone,billing_line1,billing_country,price_list,discount_percent"


def imported(
    store: Store, folder: Path, *lines: str, heading: str = HEADING, dry_run: bool = False, **further: Any
) -> list[ImportedLine]:
    path = folder / "customers.csv"
    path.write_bytes("".join(f"{line}\n" for line in (heading, *lines)).encode("utf-8", "surrogateescape"))
    businesses = further.get("businesses", {"acme": "acme"})
    read = imports.read_lines(path, businesses, frozenset({"shared@example.com"}))
    return list(imports.import_lines(store, read, "tests", dry_run=dry_run, tell=lambda _: None))


def kinds(outcomes: list[ImportedLine]) -> list[str]:
    return [outcome.kind for outcome in outcomes]


def test_r12_imported_customers_match_with_all_their_e_mails(store: Store, tmp_path: Path) -> None:
    (done,) = imported(store, tmp_path, "C-1,Ann,One@Example.com,two@example.com,0113,1 High St,gb,Trade,2.5")
    assert done.kind == "new"
    record = customer(store, done.customer_id)
    assert record.emails == (
        MainEmail(1, "One@Example.com", "import"),
        MainEmail(2, "two@example.com", "import"),
    )
    assert record.billing == Address(line1="1 High St", country="GB")
    assert (record.name, record.external_id, record.status) == ("Ann", "C-1", "active")
    assert set(record.origins.values()) == {"import"}
    apply(store, an_order("o1", "two@example.com"))
    assert (order(store).customer_id, basis(store)) == (record.customer_id, "email_2")
    assert order(store).price_list == "Trade"
    with store.read() as tx:
        (entry,) = queries.journal_of(tx, record.customer_id)
    assert (entry.who, entry.action, entry.details["after"]["name"]) == ("tests", "import", "Ann")


FILE = (
    "C-1,Ann,ann@example.com,,0113,1 High Street,GB,Trade,2.5",
    ",Bea,bea@example.com,second@example.com,,,,,",
    "C-3,Cem,,,,,,,",
)


def test_importing_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    assert kinds(imported(store, tmp_path, *FILE)) == ["new"] * 3
    _, _, position = exported(store)
    assert kinds(imported(store, tmp_path, *FILE)) == ["unchanged"] * 3
    _, people, _ = exported(store, position)
    assert people == []
    assert rows_of(store, t.journal) == 3


def test_r57_what_was_edited_by_hand_is_left_alone_whatever_the_file_says(
    store: Store, tmp_path: Path
) -> None:
    ann, bea, _ = (o.customer_id for o in imported(store, tmp_path, *FILE))
    edit(store, ann, name="By Hand", phone="", email_1="")
    edit(store, bea, email_1="other@example.com")
    before = [customer(store, i) for i in (ann, bea)]
    assert kinds(imported(store, tmp_path, FILE[0])) == ["unchanged"]
    (changed,) = imported(store, tmp_path, ",Bea,bea@example.com,second@example.com,0114,,,,")
    assert (changed.kind, changed.text) == ("changed", "phone")
    assert customer(store, ann) == before[0]
    assert customer(store, bea).emails == before[1].emails


def test_a_changed_file_changes_what_it_says_and_nothing_that_it_leaves_out(
    store: Store, tmp_path: Path
) -> None:
    ann, *_ = (o.customer_id for o in imported(store, tmp_path, *FILE))
    (done,) = imported(store, tmp_path, "C-1,,new@example.com,,,2 Low Street,,,0")
    assert (done.kind, done.customer_id) == ("changed", ann)
    assert done.text == "billing, discount percent, e-mails"
    record = customer(store, ann)
    assert (record.name, record.phone) == ("Ann", "0113")
    assert record.billing == Address(line1="2 Low Street")
    assert record.emails == (MainEmail(1, "new@example.com", "import"),)


def test_r12_a_record_that_amazon_made_is_known_by_its_e_mail_and_keeps_it(
    store: Store, tmp_path: Path
) -> None:
    apply(store, an_order("o1", "ann@example.com"))
    ann = customer_of(store).customer_id
    (done,) = imported(store, tmp_path, "C-1,Anna,ann@example.com,two@example.com,,,,,")
    assert (done.kind, done.customer_id) == ("changed", ann)
    record = customer(store, ann)
    assert (record.external_id, record.name, record.amazon_name) == ("C-1", "Anna", "Ann Buyer")
    assert record.emails == (
        MainEmail(1, "ann@example.com", "amazon"),
        MainEmail(2, "two@example.com", "import"),
    )
    assert record.phone == "0113"


def test_an_e_mail_never_takes_the_slot_of_one_that_was_not_imported(store: Store, tmp_path: Path) -> None:
    apply(store, an_order("o1", "relay@marketplace.amazon.co.uk"))
    ann = customer_of(store).customer_id
    edit(store, ann, external_id="C-1")
    imported(store, tmp_path, "C-1,Ann,ann@example.com,,,,,,")
    assert [m.email for m in customer(store, ann).emails] == [
        *("relay@marketplace.amazon.co.uk", "ann@example.com"),
    ]
    imported(store, tmp_path, "C-1,Ann,ann@example.com,,,,,,")
    assert len(customer(store, ann).emails) == 2
    full = add_customer(store, *(f"{i}@example.com" for i in "abc"), external_id="C-2")
    (refused,) = imported(store, tmp_path, "C-2,,d@example.com,,,,,,")
    assert refused.text == f"customer {full} has no slot that is free for email_1."


@pytest.mark.parametrize("emails", ["home,work,relay", "relay,home,work", "work,relay,home"])
def test_a_line_never_overwrites_its_own_e_mails_whatever_their_order(
    store: Store, tmp_path: Path, emails: str
) -> None:
    """Amazon's address stands in the first slot already: all three end on the record, once and for all."""
    heading = "external_id,email_1,email_2,email_3"
    addresses = {
        "relay": "relay@marketplace.amazon.co.uk",
        "home": "home@example.com",
        "work": "work@example.com",
    }
    line = ",".join(("C-1", *(addresses[name] for name in emails.split(","))))
    apply(store, an_order("o1", addresses["relay"]))
    ann = customer_of(store).customer_id
    assert kinds(imported(store, tmp_path, line, heading=heading)) == ["changed"]
    assert {m.email for m in customer(store, ann).emails} == set(addresses.values())
    assert customer(store, ann).emails[0].email == addresses["relay"]
    _, _, position = exported(store)
    assert kinds(imported(store, tmp_path, line, heading=heading)) == ["unchanged"]
    assert exported(store, position)[1] == []
    # A new home address takes the place of the one that the file gave before.
    moved = line.replace("home@", "new.home@")
    assert kinds(imported(store, tmp_path, moved, heading=heading)) == ["changed"]
    after = {m.email for m in customer(store, ann).emails}
    assert after == {addresses["relay"], addresses["work"], "new.home@example.com"}


def test_r51_an_imported_e_mail_is_no_older_one_any_more(store: Store, tmp_path: Path) -> None:
    ann = add_customer(
        store, "ann@example.com", external_id="C-1", aliases=("was@example.com", "Two@example.com")
    )
    imported(store, tmp_path, "C-1,,,two@example.com,,,,,")
    record = customer(store, ann)
    assert [m.email for m in record.emails] == ["ann@example.com", "two@example.com"]
    assert record.aliases == ("was@example.com",)


def test_a_bad_line_never_spoils_the_others(store: Store, tmp_path: Path) -> None:
    held = add_customer(store, "held@example.com")
    lines = (
        "C-1,Ann,ann@example.com,,,,,,",
        ",Nobody,,,0113,,,,",
        "C-3,Cem,not an e-mail,,,,,,",
        'C-4,5" Dan,d@example.com,,,,,,',
        "C-5,Eve,e@example.com",
        "C-6,Fay,f@example.com,,,,,,much",
        "C-7,Gus,shared@example.com,,,,,,",
        "C-8,Hal,no-reply-amazon-iba-buyer@amazon.de,,,,,,",
        "C-1,Ann again,,,,,,,",
        ",Held and Ann,held@example.com,ann@example.com,,,,,",
        "C-12,M\udcfcller,m@example.com,,,,,,",
        "",
        f"C-14,{'x' * 600},x@example.com,,,,,,",
        "C-15,Last,last@example.com,,,,GBR,,",
        "C-16,Good,good@example.com,,'+44 113,,,,",
        f"C-17,{'x' * 140_000},long@example.com,,,,,,",
        'C-18,"Ida,ida@example.com,,,,,,',
        "C-19,Jon,jon@example.com,,,,,,",
    )
    outcomes = imported(store, tmp_path, *lines)
    assert {o.number: o.text for o in outcomes if o.kind == "refused"} == {
        3: "it has neither an external_id nor an e-mail to know the customer by.",
        4: "email_1 is not an e-mail address.",
        5: "a quotation mark stands inside a cell: put the cell in quotation marks and double any in it.",
        6: "it has 3 values, the heading 9 columns.",
        7: "discount_percent must be a number from 0 to 100, for example 2.5.",
        8: "email_1 is an address that many buyers share: it identifies none of them (R17).",
        9: "email_1 is an address that many buyers share: it identifies none of them (R17).",
        10: "line 2 is about the same customer (a customer of this file): one line for each.",
        11: f"its e-mails are on different customers (a customer of this file and customer {held}): "
        "merge them.",
        12: "it is not UTF-8 text: save the file as UTF-8 (Excel: CSV UTF-8).",
        14: "name is too long: 500 characters are allowed.",
        15: "billing_country must be a country's code of two letters (ISO 3166), for example GB.",
        17: "it is too long: 100,000 characters are allowed.",
        18: "a quotation mark is not closed.",
    }
    assert outcomes[-1].place == "lines 18 to 19"
    good = {o.number: o.customer_id for o in outcomes if o.kind == "new"}
    assert list(good) == [2, 16]
    assert customer(store, good[16]).phone == "+44 113"


def test_r16_an_e_mail_of_another_customer_is_refused_with_the_remedy(store: Store, tmp_path: Path) -> None:
    ann = add_customer(store, "ann@example.com", external_id="C-1")
    bea = add_customer(store, "bea@example.com", external_id="C-2")
    outcomes = imported(
        store, tmp_path, "C-2,Bea,bea@example.com,ann@example.com,,,,,", "C-3,,ann@example.com,,,,,,"
    )
    assert [o.text for o in outcomes] == [
        f"customer {ann} has the e-mail of email_2: merge them (`order-sync customers merge {ann} {bea}`).",
        f"customer {ann} has the e-mail of email_1, and another external_id.",
    ]


def test_r53_a_line_about_a_merged_customer_changes_nothing(store: Store, tmp_path: Path) -> None:
    ann, bea, cem = (o.customer_id for o in imported(store, tmp_path, *FILE))
    merge(store, ann, cem)
    merge(store, ann, bea)
    before = customer(store, ann)
    outcomes = imported(store, tmp_path, FILE[0], FILE[2])
    assert [(o.kind, o.text) for o in outcomes] == [
        ("unchanged", ""),
        ("merged", f"merged into customer {ann}"),
    ]
    assert customer(store, ann) == before
    assert row(store, t.customers, customer_id=cem)["external_id"] == "C-3"


def all_rows(store: Store) -> list[Any]:
    """Whatever an import may write; not as exported, which may be slightly behind on PostgreSQL."""
    tables = (t.customers, t.customer_emails, t.orders, t.journal, t.outbox)
    with store.read() as tx:
        return [sorted(map(repr, tx.rows(sa.select(table)))) for table in tables]


def test_a_dry_run_says_the_same_and_stores_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_SIZE", 2)
    apply(store, an_order("o1", "bea@example.com"))
    lines = (*FILE, "C-1,Ann again,,,,,,,", ",,ann@example.com,,,,,,", ",,second@example.com,,,,,,")
    before = all_rows(store)
    planned = imported(store, tmp_path, *lines, dry_run=True)
    assert all_rows(store) == before
    done = imported(store, tmp_path, *lines)
    assert kinds(planned) == kinds(done) == ["new", "changed", "new", "refused", "refused", "refused"]


def test_each_line_may_name_its_business(store: Store, tmp_path: Path) -> None:
    businesses = {"acme": "acme", "acme_eu": "acme", "beta_shop": "beta"}
    heading = "business,email_1"
    outcomes = imported(
        store,
        tmp_path,
        *("acme,a@example.com", "beta,a@example.com", "beta_shop,b@example.com", "gamma,c@example.com"),
        ",d@example.com",
        heading=heading,
        businesses=businesses,
    )
    assert [customer(store, o.customer_id).business for o in outcomes[:3]] == ["acme", "beta", "beta"]
    assert [o.text for o in outcomes[3:]] == [
        "there is no business gamma; there is acme, beta.",
        "say which business the customers belong to: there are acme, beta.",
    ]


@pytest.mark.parametrize(
    ("heading", "sentence"),
    [
        ("external_id,surname", r"there is no column surname: is name meant\? .* lists the columns"),
        ("external_id,colour", "there is no column colour: rename or remove it; .* lists the columns"),
        ("external_id,,email_1", "column 2 has no name in the heading: name it, or remove the column"),
        ("name,name,email_1", "the column name is in the heading twice"),
        ("name,phone", "neither a column external_id nor one for an e-mail"),
        ("C-1,Ann", "its first line must name columns, for example external_id,name,email_1: "),
        ("", "its first line must name columns"),
        ('external_id,"email_1', "a quotation mark is not closed"),
        ("external_id,stra\udcdfe", "it is not UTF-8 text: save the file as UTF-8"),
    ],
)
def test_a_wrong_heading_is_refused_in_a_sentence(
    store: Store, tmp_path: Path, heading: str, sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        imported(store, tmp_path, "C-1,Ann", heading=heading)


def test_semicolons_and_a_byte_order_mark_are_understood(store: Store, tmp_path: Path) -> None:
    heading = "\ufeffExternal_ID;Name;email_1"
    (done,) = imported(store, tmp_path, 'C-1;"Ann; really";ann@example.com\r', heading=heading)
    assert customer(store, done.customer_id).name == "Ann; really"


def test_an_e_mail_may_go_from_one_customer_to_a_later_one_of_the_same_file(
    store: Store, tmp_path: Path
) -> None:
    imported(store, tmp_path, "C-1,Ann,one@example.com,,,,,,")
    outcomes = imported(store, tmp_path, "C-1,Ann,two@example.com,,,,,,", "C-2,Bea,one@example.com,,,,,,")
    assert kinds(outcomes) == ["changed", "new"]
    assert [m.email for m in customer(store, outcomes[1].customer_id).emails] == ["one@example.com"]
