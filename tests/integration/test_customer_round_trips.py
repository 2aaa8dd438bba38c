"""What was exported as CSV comes back: unchanged it changes nothing, changed it edits (both databases).

Source: review of customers, F13 and log 29 (iris-client#443, chatwoot#15334).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poller.cli.export_files import write_csv
from poller.customers import imports
from poller.customers.import_rules import ImportedLine
from poller.errors import Refused
from poller.export import customer_object
from store import queries
from store import tables as t
from store.engine import Store
from store.records import Address
from tests.databases import long_on
from tests.integration.store_world import add_customer, apply, customer, edit, merge
from tests.integration.test_customer_imports import all_rows, kinds
from tests.unit.matching_world import an_order
from tests.unit.test_customer_texts import NAMES, TEXTS

pytestmark = long_on("postgresql")

Row = dict[str, str]


def exported(store: Store) -> list[Row]:
    with store.read() as tx:
        objects = [customer_object(c) for c in queries.changed_customers(tx, 0, tx.readable_change_no())]
    out = io.StringIO(newline="")
    write_csv("customers", objects, out)
    return list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))


def imported(store: Store, folder: Path, rows: list[Row], **further: Any) -> list[ImportedLine]:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path = folder / "customers.csv"
    path.write_text(out.getvalue(), encoding="utf-8", newline="")
    lines = imports.read_lines(path, {"acme": "acme", "beta": "beta"}, frozenset(), **further)
    return list(imports.import_lines(store, lines, "tests", dry_run=False, tell=lambda _: None))


def fill(store: Store) -> dict[str, int]:
    """One customer of each kind that an export has."""
    apply(
        store,
        an_order("o1", "ann@marketplace.amazon.co.uk"),
        an_order("o2", None, name=None),
        an_order("o3", "erased@marketplace.amazon.co.uk"),
    )
    with store.begin() as tx:
        (erased,) = tx.rows(sa.select(t.orders.c.customer_id).where(t.orders.c.order_id == "o3").limit(1))
        tx.conn.execute(
            sa.update(t.customer_emails)
            .where(t.customer_emails.c.customer_id == erased.customer_id)
            .values(email=None)
        )
    kept = add_customer(store, "kept@example.com", "two@example.com", name="Kept", external_id="00123")
    merge(store, kept, add_customer(store, "three@example.com", "four@example.com", name="Gone"))
    odd = add_customer(
        store,
        name=" Odd\tName\n",  # as Amazon may send it
        company="'=HYPERLINK()",
        phone="+44 1632 960777",
        billing=Address(name="@home", line1="=1+1", city="-", country="UK"),
        price_list="'t Hooft",
        labels={"tier": "gold"},
    )
    names = {name: add_customer(store, name=text) for name, text in NAMES.items()}
    other = add_customer(store, "beta@example.com", business="beta", name="Beta")
    return names | {"erased": erased.customer_id, "kept": kept, "odd": odd, "beta": other}


def test_an_export_that_is_imported_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    fill(store)
    before = all_rows(store)
    ignored: list[str] = []
    outcomes = imported(store, tmp_path, exported(store), tell_ignored=ignored.extend)
    assert set(kinds(outcomes)) == {"unchanged"}, [o for o in outcomes if o.kind != "unchanged"]
    assert len(outcomes) > len(NAMES) + 6
    assert all_rows(store) == before
    assert sorted(ignored) == sorted(imports.IGNORED)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=4, max_size=4))
def test_whatever_a_customer_holds_comes_back_as_it_was(
    store: Store, tmp_path: Path, texts: list[str]
) -> None:
    name, company, line1, phone = (text or None for text in texts)
    number = add_customer(
        store, name=name, company=company, phone=phone, delivery=Address(line1=line1), price_list="Trade"
    )
    (row,) = [row for row in exported(store) if row["customer_id"] == str(number)]
    assert kinds(imported(store, tmp_path, [row])) == ["unchanged"]


def changed(row: Row, **cells: str) -> Row:
    return row | {name.replace("__", "."): cell for name, cell in cells.items()}


def test_r57_changed_cells_edit_as_a_person_does(store: Store, tmp_path: Path) -> None:
    numbers = fill(store)
    rows = {int(row["customer_id"]): row for row in exported(store)}
    kept = numbers["kept"]
    edit(store, kept, company="By Hand")
    (done,) = imported(
        store,
        tmp_path,
        [
            changed(
                rows[kept],
                **{
                    "name": "New Name",
                    "company": "By File",
                    "price_list": "Trade",
                    "discount_percent": "2.5",
                },
                **{"billing__line1": "1 Invented Street", "billing__country": "uk", "external_id": "C-9"},
                emails='["kept@example.com", "new@example.com"]',
            )
        ],
    )
    assert done.kind == "changed"
    record = customer(store, kept)
    assert (record.name, record.company, record.price_list) == ("New Name", "By File", "Trade")
    assert (record.billing, record.external_id) == (Address(line1="1 Invented Street", country="GB"), "C-9")
    assert [(m.slot, m.email) for m in record.emails] == [(1, "kept@example.com"), (2, "new@example.com")]
    assert {record.origins[name] for name in ("name", "company", "billing", "email_2")} == {"hand"}
    with store.read() as tx:
        entry = queries.journal_of(tx, kept)[-1]
    assert (entry.who, entry.action, entry.details["after"]["name"]) == ("tests", "import", "New Name")


def test_an_empty_cell_removes_only_within_an_address_that_has_others(store: Store, tmp_path: Path) -> None:
    home = Address(line1="1 Invented Street", line2="Flat 2", city="Inventown")
    number = add_customer(store, "ann@example.com", name="Ann", phone="0113", billing=home, delivery=home)
    row = {"customer_id": str(number), "name": "", "phone": "", "emails": "", "billing.line1": "2 New Street"}
    row |= {"billing.line2": "", "delivery.line2": ""}
    assert kinds(imported(store, tmp_path, [row])) == ["changed"]
    record = customer(store, number)
    assert (record.name, record.phone, record.delivery) == ("Ann", "0113", home)
    assert record.billing == Address(line1="2 New Street", city="Inventown"), "there is no column of the city"
    assert [m.email for m in record.emails] == ["ann@example.com"]


def test_an_erased_e_mail_keeps_its_place(store: Store, tmp_path: Path) -> None:
    number = fill(store)["erased"]
    row = {"customer_id": str(number), "emails": '[null, "new@example.com"]'}
    assert kinds(imported(store, tmp_path, [row])) == ["changed"]
    assert [(m.slot, m.email) for m in customer(store, number).emails] == [(1, None), (2, "new@example.com")]
    row["emails"] = "[null]"
    assert kinds(imported(store, tmp_path, [row])) == ["changed"]
    assert [(m.slot, m.email) for m in customer(store, number).emails] == [(1, None)]


def test_another_programs_customer_id_is_not_taken_for_ours(store: Store, tmp_path: Path) -> None:
    """Exports of shops name their own numbers so: 1, 2, 3 … would overwrite strangers."""
    fill(store)
    with pytest.raises(Refused, match="Customer ID is another program's number, or ours"):
        imported(store, tmp_path, [{"Customer ID": "1", "Name": "Stranger", "Email": "s@example.com"}])


REFUSALS: dict[str, tuple[Row, Callable[[dict[str, int]], str]]] = {
    "no number": ({"customer_id": "C-1"}, lambda _: "customer_id must be a customer's number."),
    "no key": ({"customer_id": "9" * 5000}, lambda _: "customer_id must be a customer's number."),
    "unknown": (
        {"customer_id": "999"},
        lambda _: "there is no customer 999: `order-sync customers list` finds those there are.",
    ),
    "another's e-mail": (
        {"customer_id": "{odd}", "email_1": "kept@example.com"},
        lambda n: (
            f"customer {n['kept']} has the e-mail of email_1: merge them "
            f"(`order-sync customers merge {n['kept']} {n['odd']}`)."
        ),
    ),
    "another's external id": (
        {"customer_id": "{odd}", "external_id": "00123"},
        lambda n: f"customer {n['kept']} has that external id: every customer needs its own.",
    ),
    "another business": (
        {"customer_id": "{beta}", "business": "acme"},
        lambda n: f"customer {n['beta']} belongs to the business beta.",
    ),
    "no list": (
        {"customer_id": "{odd}", "emails": "ann@example.com"},
        lambda _: 'emails must be a list, for example ["ann@example.com"].',
    ),
    "a line break": (
        {"customer_id": "{odd}", "name": "Ann\nInvented"},
        lambda _: "name has a line break: remove it.",
    ),
    "no country": (
        {"customer_id": "{odd}", "billing.country": "XX"},
        lambda _: "billing_country must be a country's code of two letters (ISO 3166), for example GB.",
    ),
}


@pytest.mark.parametrize(("row", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_a_line_that_cannot_edit_is_refused(
    store: Store, tmp_path: Path, row: Row, sentence: Callable[[dict[str, int]], str]
) -> None:
    numbers = fill(store)
    before = all_rows(store)
    sent = row | {"customer_id": row["customer_id"].format(**numbers)}
    (done,) = imported(store, tmp_path, [sent])
    assert (done.kind, done.text) == ("refused", sentence(numbers))
    assert all_rows(store) == before


def test_without_its_numbers_an_export_makes_customers_elsewhere(store: Store, tmp_path: Path) -> None:
    add_customer(store, "a@example.com", "b@example.com", name="Ann", billing=Address(country="GB"))
    (row,) = exported(store)
    del row["customer_id"]
    assert kinds(imported(store, tmp_path, [row])) == ["unchanged"]
    moved = changed(row, emails='["c@example.com", "d@example.com"]', business="beta")
    (done,) = imported(store, tmp_path, [moved])
    assert (done.kind, [m.email for m in customer(store, done.customer_id).emails]) == (
        "new",
        ["c@example.com", "d@example.com"],
    )
