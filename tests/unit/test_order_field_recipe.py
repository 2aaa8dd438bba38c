"""An order's field is complete, from Amazon's model to the documents; each failure names the file to edit.

The way is docs/development/add-an-order-field.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from connectors.amazon.model import spares
from connectors.orders import AmazonLine, AmazonOrder
from poller import export
from poller.matching.translation import CONVERTERS
from store import revisions
from store.engine import create_engine
from store.introspection import fields_of, sealed_fields
from store.records import LineRecord, OrderRecord

ROOT = Path(__file__).parents[2]

OTHERWISE_TRANSLATED = {
    AmazonOrder: {"present", "unread", "lines", "tax_registrations"},
    AmazonLine: {"cancel_requested", "cancel_request_reason", "cancelled_by", "cancel_reason"},
}
"""Fields of Amazon's that have another name or place in our records (``poller.matching.translation``)."""

NOT_EXPORTED = {
    OrderRecord: {
        *("channel", "match_rules", "ready", "shown", "billing_origin", "delivered_at", "shipped_at"),
        *("cancelled_at", "term_at", "erased_at", "delivery_instructions", "tax_numbers", "cancel_reason"),
        "buyer",  # its members are exported one by one
        "own_amounts",  # exported as other_amounts
    },
    LineRecord: {"withheld_tax", "customization_url"},
}
"""Fields for our own use, or buyer data that only `privacy show` prints."""

PAIRS = [
    pytest.param(AmazonOrder, OrderRecord, export.Order, id="order"),
    pytest.param(AmazonLine, LineRecord, export.Line, id="line"),
]


@pytest.mark.parametrize(("amazon", "record", "exported"), PAIRS)
def test_every_field_that_is_read_is_stored(amazon: Any, record: Any, exported: Any) -> None:
    stored = {field.name: field for field in fields_of(record)}
    theirs, ours = get_type_hints(amazon), get_type_hints(record)
    for name in theirs.keys() - OTHERWISE_TRANSLATED[amazon]:
        assert name in stored, f"{name}: declare it with In(...) in {record.__name__}, in store/records.py"
        if stored[name].kind not in CONVERTERS:
            assert theirs[name] == ours[name], f"{name}: store/records.py gives it another type"


@pytest.mark.parametrize("name", ["AmazonOrder", "AmazonLine"])
def test_every_field_is_read_from_amazon_s_answer(name: str) -> None:
    tree = ast.parse((ROOT / "connectors/amazon/model.py").read_text(encoding="utf-8"))
    (made,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    )
    declared = [field.name for field in fields({"AmazonOrder": AmazonOrder, "AmazonLine": AmazonLine}[name])]
    unread = declared[len(made.args) :]
    assert not unread, f"{unread}: read them where connectors/amazon/model.py makes the {name}, in this order"


def test_what_cannot_be_read_keeps_a_field_that_is_stored() -> None:
    stored = {field.name for record in (OrderRecord, LineRecord) for field in fields_of(record)}
    unknown = {spare.field for spare in spares().values()} - stored - {None}
    assert not unknown, (
        f"{unknown}: Spare(...) in connectors/amazon/model.py names no field of store/records.py"
    )


def test_every_field_has_a_column_in_an_upgraded_database(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'order-sync.db'}")
    revisions.upgrade(engine)
    differences = revisions.differences(engine)
    engine.dispose()
    assert differences == [], "add a migration to store/migrations/versions"


@pytest.mark.parametrize(("amazon", "record", "exported"), PAIRS)
def test_every_field_is_exported_and_buyer_data_marked(amazon: Any, record: Any, exported: Any) -> None:
    names = {field.name for field in fields_of(record)} - NOT_EXPORTED[record]
    missing = names - exported.__annotations__.keys()
    assert not missing, f"{missing}: add them to {exported.__name__} in poller/export.py"
    unmarked = (names & {*sealed_fields(record)}) - {*export.buyer_keys(exported)}
    assert not unmarked, f"{unmarked}: annotate them with BUYER_DATA in poller/export.py"


def documented() -> Iterator[str]:
    page = (ROOT / "docs/database.md").read_text(encoding="utf-8")
    section = page.partition("\n### Order\n")[2].partition("\n### ")[0]
    yield from section.split("`")[1::2]


@pytest.mark.parametrize("exported", [export.Order, export.Line, export.Package, export.Address])
def test_every_exported_key_is_documented(exported: Any) -> None:
    missing = exported.__annotations__.keys() - {*documented()}
    assert not missing, f"{missing}: describe them below 'Order' in docs/database.md"
