"""Customers edited by hand: create, edit, merge, duplicates, import; and every refusal."""

from __future__ import annotations

import csv
import io
import json
import os
import pwd
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from config import values
from connectors.simulator.orders import Address
from connectors.simulator.world import Seller, World
from poller.cli import progress, session
from poller.cli.session import operator
from store import customers
from store.engine import Store, create_engine
from store.records import CustomerRecord
from store.sealing import Sealer
from tests.acceptance.command_line import STARTED, Shop, open_shop, order_sync

ANN, ANN_TOO, BEA, NOBODY = (f"111-0000000-000000{i}" for i in range(1, 5))
DAY = STARTED - timedelta(days=1)
HOME = Address(
    name="Ann Invented", line1="1 Invented Street", city="Inventown", postal_code="IN1 1AA", country="GB"
)


def small_world() -> World:
    world = World(Seller("acme", ("UK",)))
    world.order(ANN, created=DAY, email="ann@marketplace.amazon.co.uk", name="Ann Invented", delivery=HOME)
    world.order(
        ANN_TOO,
        created=DAY + timedelta(hours=1),
        email="ann@marketplace.amazon.de",
        name="Ann Invented",
        delivery=HOME,
    )
    world.order(
        BEA, created=DAY + timedelta(hours=2), email="bea@marketplace.amazon.co.uk", name="Bea Invented"
    )
    return world


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path / "shop", small_world()) as shop:
        shop("sync")
        yield shop


def store_of(shop: Shop) -> Store:
    key = values.keys(shop.environ["ORDER_SYNC_ENCRYPTION_KEY"])[0]
    return Store(create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"]), Sealer([key]))


def customer_of(shop: Shop, order_id: str) -> int:
    return int(shop("orders", "show", order_id, "--json").json()["customer_id"])


def exported(shop: Shop) -> list[dict[str, Any]]:
    """All orders and customers, but for when they changed."""
    lines = [shop("export", what).lines for what in ("orders", "customers")]
    objects = [json.loads(line) for part in lines for line in part]
    objects.sort(key=lambda o: (o.get("order_id", ""), o["customer_id"] or 0))
    return [{key: value for key, value in o.items() if key != "changed_at"} for o in objects]


# --- create and edit --------------------------------------------------------------------------------


@pytest.mark.long
def test_r57_create_prints_the_id_and_edit_changes_what_is_named(shop: Shop) -> None:
    created = shop("customers", "create", "--name", "Cem Invented", "--email-1", "cem@example.com")
    customer_id = created.out.strip()
    assert created.messages == [f"customer {customer_id} was created in business acme"]
    result = shop(
        *("customers", "edit", customer_id, "--email-1", "", "--email-2", "two@example.com"),
        *("--billing-line1", "1 Invented Street", "--price-list", "Trade", "--discount-percent", "2.5"),
        *("--label", "tier=gold", "--external-id", "C-1"),
    )
    assert result.out == ""
    assert result.messages == [
        f"customer {customer_id}: changed external id, email 1, email 2, billing line1, price list, "
        "discount percent, label tier"
    ]
    found = shop("customers", "show", customer_id, "--json").json()
    assert (found["emails"], found["price_list"], found["discount_percent"]) == (
        *(["two@example.com"], "Trade", "2.5"),
    )
    assert (found["billing"]["line1"], found["labels"]) == ("1 Invented Street", {"tier": "gold"})
    assert [(e["action"], e["who"]) for e in found["journal"]] == [
        ("create", operator()),
        ("edit", operator()),
    ]
    assert found["journal"][1]["before"]["email_1"] == "cem@example.com"
    assert found["journal"][1]["after"]["email_1"] is None
    text = shop("customers", "show", customer_id).out
    assert operator() == pwd.getpwuid(os.getuid()).pw_name
    for words in ("price list", "(none)", "Trade", "cem@example.com", operator()):
        assert words in text


@pytest.mark.long
def test_r57_a_deliberate_edit_outlives_a_sync(shop: Shop) -> None:
    customer_id = str(customer_of(shop, ANN))
    shop("customers", "edit", customer_id, "--name", "By Hand", "--phone", "")
    shop.world.update(ANN, STARTED - timedelta(minutes=10), name="Another Name")
    shop("orders", "fetch", ANN, "--account", "acme")
    found = shop("customers", "show", customer_id, "--json").json()
    assert (found["name"], found["phone"]) == ("By Hand", None)
    assert shop("orders", "show", ANN, "--json").json()["buyer_name"] == "Another Name"


@pytest.mark.long
def test_r12_a_customer_may_be_created_before_the_first_sync(tmp_path: Path) -> None:
    with open_shop(tmp_path / "shop", small_world()) as shop:
        customer_id = shop("customers", "create", "--email-3", "bea@marketplace.amazon.co.uk").out.strip()
        shop("sync")
        order = shop("orders", "show", BEA, "--json").json()
    assert (str(order["customer_id"]), order["match_basis"]) == (customer_id, "email_3")


# --- merge and unmerge ------------------------------------------------------------------------------


@pytest.mark.long
def test_r51_r54_a_merge_is_previewed_done_and_undone(shop: Shop) -> None:
    keep, other = (customer_of(shop, i) for i in (ANN, ANN_TOO))
    shop("customers", "edit", str(keep), "--email-2", "k2@example.com", "--email-3", "k3@example.com")
    shop("customers", "edit", str(other), "--email-2", "o2@example.com", "--email-3", "o3@example.com")
    before = exported(shop)
    planned = shop("customers", "merge", str(keep), str(other), "--dry-run")
    assert planned.err == ""
    stopping = next(line for line in planned.lines if line.startswith("No longer matching new orders"))
    for email in ("ann@marketplace.amazon.de", "o2@example.com", "o3@example.com"):
        assert email in stopping
    assert f"1 order of customer {other} moves to customer {keep}." in planned.out
    assert exported(shop) == before

    done = shop("customers", "merge", str(keep), str(other))
    assert done.out == planned.out
    assert done.messages == [
        f"customer {other} is merged into customer {keep}, 1 order moved",
        f"`order-sync customers unmerge {other}` undoes it",
    ]
    assert customer_of(shop, ANN_TOO) == keep
    explained = shop("orders", "explain", ANN_TOO).out
    assert f"R50: Customer {other} was merged into customer {keep}" in explained
    assert f"so customer {other} was created from the order" in explained

    undone = shop("customers", "unmerge", str(other))
    assert undone.messages == [f"customer {other} is separate from customer {keep} again, 1 order moved"]
    assert exported(shop) == before
    found = shop("customers", "show", str(other), "--json").json()
    assert [e["action"] for e in found["journal"]] == ["edit", "merge", "unmerge"]


@pytest.mark.long
def test_r53_show_of_a_tombstone_says_where_it_went(shop: Shop) -> None:
    keep, other = (customer_of(shop, i) for i in (ANN, ANN_TOO))
    shop("customers", "merge", str(keep), str(other), "--keep-email", "ann@marketplace.amazon.de")
    result = shop("customers", "show", str(other), "--json")
    assert result.messages == [f"customer {other} was merged into customer {keep}"]
    assert result.json()["customer_id"] == keep
    assert result.json()["emails"] == ["ann@marketplace.amazon.de"]
    merged = shop("customers", "list", "--status", "merged", "--json").json()
    assert [(c["customer_id"], c["merged_into"]) for c in merged] == [(other, keep)]


@pytest.mark.long
def test_r54_an_address_that_a_third_customer_has_is_named_and_may_be_left(shop: Shop) -> None:
    keep, other = (customer_of(shop, i) for i in (ANN, ANN_TOO))
    shop("customers", "edit", str(keep), "--email-2", "k2@example.com", "--email-3", "k3@example.com")
    shop("customers", "merge", str(keep), str(other))
    third = shop("customers", "create", "--email-1", "ann@marketplace.amazon.de").out.strip()
    refused = shop("customers", "unmerge", str(other), status=2)
    assert refused.messages == [
        f"error: addresses of this merge are on customer {third} now; merge, or leave them there (--leave): "
        "ann@marketplace.amazon.de"
    ]
    shop("customers", "unmerge", str(other), "--leave", "ann@marketplace.amazon.de")
    assert customer_of(shop, ANN_TOO) == other


@pytest.mark.long
def test_r54_an_address_that_was_taken_off_the_kept_record_since_is_named(shop: Shop) -> None:
    """As an order office works: the wrong e-mail is taken off first, then the merge is undone."""
    keep, other = (customer_of(shop, i) for i in (ANN, ANN_TOO))
    shop("customers", "merge", str(keep), str(other))
    shop("customers", "edit", str(keep), "--email-2", "")
    printed = shop("customers", "unmerge", str(other)).messages
    assert printed[1:] == [
        f"ann@marketplace.amazon.de is with no customer: it was taken off customer {keep} after the merge; "
        f"`order-sync customers edit {other}` can give it to this one"
    ]
    shop("customers", "edit", str(other), "--email-1", "ann@marketplace.amazon.de")
    assert shop("customers", "show", str(other), "--json").json()["emails"] == ["ann@marketplace.amazon.de"]


@pytest.mark.long
def test_r57_a_name_that_was_emptied_is_empty_in_lists_and_exports(shop: Shop) -> None:
    customer = customer_of(shop, ANN)
    shop("customers", "edit", str(customer), "--name", "")
    (listed,) = [c for c in shop("customers", "list", "--json").json() if c["customer_id"] == customer]
    assert listed["name"] is None
    assert "Ann Invented" not in next(
        line for line in shop("customers", "list").lines if line.split()[:1] == [str(customer)]
    )
    rows = shop("export", "customers", "--format", "csv").lines
    (row,) = [r for r in csv.DictReader(rows) if r["customer_id"] == str(customer)]
    assert row["name"] == ""


@pytest.mark.long
def test_r54_an_address_that_was_entered_on_the_kept_record_since_stays_and_is_named(shop: Shop) -> None:
    keep, other = (customer_of(shop, i) for i in (ANN, ANN_TOO))
    shop("customers", "merge", str(keep), str(other))
    shop("customers", "edit", str(keep), "--email-3", "ann@marketplace.amazon.de")
    printed = shop("customers", "unmerge", str(other)).messages
    assert printed[1:] == [
        f"ann@marketplace.amazon.de stays with customer {keep}: it was entered there after the merge"
    ]
    assert shop("customers", "show", str(other), "--json").json()["emails"] == []


@pytest.mark.long
def test_a_terminal_is_asked_before_a_merge_and_an_import(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    keep, other = (str(customer_of(shop, i)) for i in (ANN, ANN_TOO))
    file = tmp_path / "customers.csv"
    file.write_text("email_1\nnew@example.com\n")
    before = exported(shop)
    asked: list[str] = []

    def confirm(question: str, *, yes: bool) -> None:
        with monkeypatch.context() as terminal:
            terminal.setattr(sys, "stdin", Terminal("n\n"))
            terminal.setattr(sys, "stderr", Terminal())
            asked.append(question)
            session.confirm(question, yes=yes)

    for module in ("customers_edit", "customers_import"):
        monkeypatch.setattr(f"poller.cli.{module}.confirm", confirm)
    commands = (
        ("customers", "merge", keep, other),
        ("customers", "unmerge", other),
        ("customers", "import", str(file)),
    )
    for command in commands:
        assert shop(*command, status=1).messages[-1] == "error: cancelled: nothing was changed."
    assert asked == [
        f"merge customer {other} into customer {keep}?",
        f"undo the merge of customer {other}?",
        f"import 1 line of {file}?",
    ]
    assert exported(shop) == before
    for command in commands:
        shop(*command, "--yes")


# --- duplicates -------------------------------------------------------------------------------------


@pytest.mark.long
def test_r56_duplicates_are_listed_with_reason_and_score(shop: Shop) -> None:
    keep, other = sorted(customer_of(shop, i) for i in (ANN, ANN_TOO))
    result = shop("customers", "duplicates")
    assert result.lines[0].split() == ["keep", "name", "other", "name", "score", "reasons"]
    who = ["Ann", "Invented"]
    assert result.lines[1].split()[:6] == [str(keep), *who, str(other), *who]
    assert "same name and postcode" in result.lines[1]
    assert result.messages == [
        "`order-sync customers merge KEEP OTHER --dry-run` shows what merging a pair would do"
    ]
    (pair,) = shop("customers", "duplicates", "--json").json()
    assert list(pair) == ["customer_id", "name", "other_id", "other_name", "score", "reasons"]
    assert (pair["customer_id"], pair["other_id"]) == (keep, other)
    assert pair["name"] == pair["other_name"] == "Ann Invented"
    shop("customers", "merge", str(keep), str(other))
    result = shop("customers", "duplicates")
    assert (result.out, result.messages) == ("", ["no customers look like duplicates"])
    assert shop("customers", "duplicates", "--json").json() == []


@pytest.mark.long
def test_r22_status_names_what_is_suggested_for_merging(tmp_path: Path) -> None:
    world = small_world()
    world.order(NOBODY, created=DAY, email=None, name=None)
    with open_shop(tmp_path / "shop", world) as shop:
        shop("sync")
        assert "suggested for merging" not in shop("status").out.partition("Needs attention")[2]
        left = customer_of(shop, NOBODY)
        shop("customers", "edit", str(left), "--name", "By Hand")
        late = {"email": "late@example.com", "name": "Late Invented"}
        world.update(NOBODY, STARTED - timedelta(minutes=10), **late)
        shop("orders", "fetch", NOBODY, "--account", "acme")
        target = customer_of(shop, NOBODY)
        text = shop("status").out
        pairs = shop("customers", "duplicates", "--json").json()
        explained = shop("orders", "explain", NOBODY).out
    assert "1 pair of customers suggested for merging (`order-sync customers duplicates`)." in text
    assert (pairs[0]["customer_id"], pairs[0]["other_id"]) == (target, left)
    assert "promoted" in pairs[0]["reasons"]
    assert "R22" in explained


# --- import -----------------------------------------------------------------------------------------

FILE = (
    "external_id,business,name,email_1,billing_line1,billing_postal_code,billing_country\n"
    "C-1,acme,Cem Invented,cem@example.com,1 Invented Street,IN1 1AA,GB\n"
    "C-2,,Ann Invented,ann@marketplace.amazon.co.uk,,,\n"
    ",,Nobody,,,,\n"
    "C-4,elsewhere,Dan Invented,dan@example.com,,,\n"
)


@pytest.mark.long
def test_r12_import_reports_line_by_line_and_bad_lines_spoil_nothing(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    file.write_text(FILE)
    ann = customer_of(shop, ANN)
    before = exported(shop)
    planned = shop("customers", "import", str(file), "--dry-run", status=1)
    assert planned.lines == [
        "line 2: new",
        f"line 3: changed customer {ann}: external id",
        "line 4: refused: it has neither an external_id nor an e-mail to know the customer by.",
        "line 5: refused: there is no business elsewhere; there is acme.",
    ]
    assert planned.messages == ["would be: 1 new, 1 changed, 2 refused"]
    assert exported(shop) == before

    done = shop("customers", "import", str(file), status=1)
    assert done.out == ""
    assert done.messages == [*planned.lines[2:], "1 new, 1 changed, 2 refused"]
    assert shop("customers", "list", "--email", "cem@example.com", "--json").json()[0]["external_id"] == "C-1"
    assert shop("customers", "import", str(file), status=1).messages[-1] == "2 unchanged, 2 refused"


@pytest.mark.long
def test_a_large_import_shows_its_progress(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "customers.csv"
    file.write_text("email_1\n" + "".join(f"e{i}@example.com\n" for i in range(450)))
    monkeypatch.setattr(
        "poller.cli.customers_import.progress", lambda text, total, _: progress.progress(text, total, 200)
    )
    printed = shop("customers", "import", str(file)).messages
    assert printed == ["importing: 200 of 450", "importing: 400 of 450", "450 new"]


def test_a_dry_run_before_the_first_sync(tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    file.write_text("email_1\nnew@example.com\n")
    with open_shop(tmp_path / "shop", small_world()) as shop:
        assert shop("customers", "import", str(file), "--dry-run").lines == ["line 2: new"]
        assert shop("customers", "list", "--json").json() == []


@pytest.mark.long
def test_import_refuses_a_file_that_is_none(shop: Shop, tmp_path: Path) -> None:
    missing = tmp_path / "missing.csv"
    assert shop("customers", "import", str(missing), status=2).messages == [
        f"error: {missing} cannot be read: No such file or directory."
    ]
    assert shop("customers", "import", str(tmp_path), status=2).messages == [
        f"error: {tmp_path}: it is not a file: save what it holds as one first."
    ]
    file = tmp_path / "customers.csv"
    for content, sentence in (
        (
            "email_1\nann@example.com\n".encode("utf-16"),
            "it is not UTF-8 text but UTF-16: save the file as UTF",
        ),
        ("naïve\n".encode("cp1252"), "it is not UTF-8 text: save the file as UTF-8 (Excel: CSV UTF-8)."),
    ):
        file.write_bytes(content)
        (printed,) = shop("customers", "import", str(file), status=2).messages
        assert printed.startswith(f"error: {file}: {sentence}")
    file.write_text("name,surname\nAnn,Invented\n")
    (printed,) = shop("customers", "import", str(file), status=2).messages
    assert printed.startswith(
        f"error: {file}: there is no column surname: is name meant? `order-sync customers import --help`"
    )


# --- bad input --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, dict[str, str]]]:
    """A shop with one of each kind that is refused; these tests change nothing."""
    world = small_world()
    world.order(NOBODY, created=DAY, email=None, name=None, fulfilled_by="AMAZON")
    with open_shop(tmp_path_factory.mktemp("shop"), world) as shop:
        shop.configure("UK", without_email='"shared"')
        shop("sync")
        ids = {"ann": str(customer_of(shop, ANN)), "bea": str(customer_of(shop, BEA))}
        ids |= {"gone": str(customer_of(shop, ANN_TOO)), "shared": str(customer_of(shop, NOBODY))}
        shop("customers", "merge", ids["ann"], ids["gone"])
        store = store_of(shop)
        with store.begin() as tx:
            others = [
                CustomerRecord("beta", None, None, STARTED, name="Ann Invented"),
                CustomerRecord("acme", None, None, STARTED, status="forgotten"),
            ]
            beta, forgotten = customers.create(tx, others)
        store.close()
        yield shop, {**ids, "beta": str(beta), "forgotten": str(forgotten), "unknown": "4711"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("merge", "{ann}", "{unknown}"),
            "there is no customer 4711: `order-sync customers list` finds those there are.",
        ),
        (
            ("merge", "{unknown}", "{ann}", "--dry-run"),
            "there is no customer 4711: `order-sync customers list` finds those there are.",
        ),
        (("merge", "{ann}", "{ann}"), "customer {ann} cannot be merged into itself: name two customers."),
        (("merge", "{bea}", "{gone}"), "customer {gone} was merged into customer {ann}: name that one."),
        (
            ("merge", "{ann}", "{beta}"),
            "customer {ann} belongs to the business acme, customer {beta} to beta: "
            "customers are never merged across businesses.",
        ),
        (
            ("merge", "{ann}", "{shared}"),
            "customer {shared} is a marketplace's record for orders without a buyer "
            "(shared:acme:A1F83G8C2ARO7P): it cannot be merged.",
        ),
        (
            ("merge", "{ann}", "{forgotten}"),
            "customer {forgotten} was forgotten: nothing can be added to it.",
        ),
        (
            ("merge", "{ann}", "{bea}", "--keep-email", "strange@example.com"),
            "an address to keep is a main e-mail of neither customer: strange@example.com",
        ),
        (
            ("merge", "{ann}", "{bea}", "--keep-email", ""),
            "an address to keep is empty: name a main e-mail of either customer (--keep-email).",
        ),
        (("unmerge", "{ann}"), "customer {ann} is not merged into another one."),
        (
            ("unmerge", "{unknown}"),
            "there is no customer 4711: `order-sync customers list` finds those there are.",
        ),
        (
            ("unmerge", "{gone}", "--leave", "strange@example.com"),
            "an address to leave is on no third customer: strange@example.com",
        ),
        (
            ("edit", "{unknown}", "--name", "X"),
            "there is no customer 4711: `order-sync customers list` finds those there are.",
        ),
        (("edit", "{ann}"), "nothing to change: name at least one field."),
        (("edit", "{gone}", "--name", "X"), "customer {gone} was merged into customer {ann}: name that one."),
        (
            ("edit", "{ann}", "--email-2", "no-reply-amazon-iba-buyer@amazon.de"),
            "email_2 is an address that many buyers share: it identifies none of them (R17).",
        ),
        (
            ("edit", "{ann}", "--email-3", "Bea@marketplace.amazon.co.uk"),
            "customer {bea} has the e-mail of email_3: merge them "
            "(`order-sync customers merge {bea} {ann}`).",
        ),
        (
            ("create", "--email-1", "bea@marketplace.amazon.co.uk"),
            "customer {bea} has the e-mail of email_1: `order-sync customers edit {bea}` changes that one.",
        ),
        (("edit", "{ann}", "--email-1", "nonsense"), "email_1 is not an e-mail address."),
        (
            ("edit", "{ann}", "--email-1", "a@example.com", "--email-2", "A@example.com"),
            "the same e-mail is given for two slots: one is enough.",
        ),
        (
            ("edit", "{ann}", "--discount-percent", "101"),
            "discount_percent must be a number from 0 to 100, for example 2.5.",
        ),
        (
            ("edit", "{ann}", "--currency", "pounds"),
            "currency must be a currency's code of three letters (ISO 4217), for example GBP.",
        ),
        (
            ("edit", "{ann}", "--currency", "XXY"),
            "currency must be a currency's code of three letters (ISO 4217), for example GBP.",
        ),
        (("edit", "{ann}", "--label", "gold"), "a label is written key=value; key= takes it off."),
        (
            ("edit", "{shared}", "--name", "Ann"),
            "customer {shared} is a marketplace's record for orders without a buyer "
            "(shared:acme:A1F83G8C2ARO7P): it has no name, e-mail, phone or address.",
        ),
        (("create",), "a customer needs at least one field, for example a name or an e-mail."),
        (("create", "--name", "X", "--business", "gamma"), "there is no business gamma; there is acme."),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(
    refusing: tuple[Shop, dict[str, str]], arguments: tuple[str, ...], sentence: str
) -> None:
    shop, ids = refusing
    before = exported(shop)
    result = shop("customers", *(word.format(**ids) for word in arguments), status=2)
    assert result.messages == [f"error: {sentence.format(**ids)}"]
    assert exported(shop) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("customers", "merge", "1"),
        ("customers", "merge", "one", "two"),
        ("customers", "unmerge"),
        ("customers", "edit", "1", "--surname", "X"),
        ("customers", "duplicates", "--limit", "0"),
        ("customers", "import"),
    ],
)
def test_a_command_that_is_not_complete_is_one_sentence_and_status_two(arguments: tuple[str, ...]) -> None:
    result = order_sync(*arguments, status=2)
    assert result.out == ""
    assert len(result.messages) == 1
