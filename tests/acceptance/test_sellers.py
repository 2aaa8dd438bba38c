"""An account that changes its name, its authorisation, or its seller."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from connectors.simulator.world import Seller, World
from poller.bootstrap import Service
from store.engine import create_engine
from tests.acceptance.command_line import STARTED, Shop, account_variables, open_shop
from tests.databases import long_on

pytestmark = long_on("postgresql")

ORDERS = [f"111-0000000-000000{number}" for number in range(4)]
BAD, FOREIGN = "111-0000000-0000009", "222-0000000-0000001"


@pytest.fixture
def shop(tmp_path: Path, database_url: str) -> Iterator[Shop]:
    world = World(Seller("acme", ("UK",)))
    for number, order_id in enumerate(ORDERS):
        created = STARTED - timedelta(days=1, minutes=number)
        email = "ann@marketplace.amazon.co.uk" if number else None
        world.order(order_id, created=created, email=email)
    world.order(BAD, created=STARTED - timedelta(hours=20), poison="quantity_a_word")
    with open_shop(tmp_path / "shop", world) as opened:
        opened.environ["ORDER_SYNC_DATABASE_URL"] = database_url
        opened.configure("UK", without_email='"shared"')
        opened("sync")
        yield opened


def with_seller(shop: Shop, seller: Seller, name: str = "acme") -> None:
    """Set another account's variables in place of ``acme``'s."""
    url = next(value for key, value in shop.environ.items() if key.endswith("ENDPOINT"))
    for key in [key for key in shop.environ if "ACCOUNTS__" in key]:
        del shop.environ[key]
    shop.environ |= account_variables(url, seller, name)
    shop.configure("UK", account=name, without_email='"shared"')


def stored(shop: Shop) -> list[tuple[str, str]]:
    orders = shop("orders", "list", "--json", "--limit", "100").json()
    return sorted((order["account"], order["order_id"]) for order in orders)


def fetched(shop: Shop) -> int:
    return sum(request.operation == "getOrder" for request in shop.simulator.requests)


def the_seller(shop: Shop) -> Seller:
    return next(iter(shop.world.sellers.values()))


def test_a_renamed_account_stores_nothing_until_its_orders_are_carried_over(shop: Shop) -> None:
    customers = shop("customers", "list", "--json").json()
    position = shop("export", "orders").messages[-1]
    with_seller(shop, the_seller(shop), "newname")
    before = len(shop.simulator.requests)
    for _ in range(2):
        refused = shop("sync", status=1).messages[-1]
        assert (
            "the orders of its credentials are those of account acme; run `order-sync accounts rename"
            in refused
        )
    assert [r for r in shop.simulator.requests[before:] if r.operation == "searchOrders"] == []
    assert {account for account, _ in stored(shop)} == {"acme"}
    assert "nothing is requested since" in shop("status").out
    assert "the orders of its credentials are those of account acme" in shop("status").out

    fetch = shop("orders", "fetch", ORDERS[0], "--account", "newname", status=2).messages[-1]
    assert "account newname has other credentials than its orders came with, or another" in fetch
    days = (f"{STARTED - timedelta(days=ago):%Y-%m-%d}" for ago in (3, 1))
    verify = shop("verify", "--marketplace", "UK", "--from", next(days), "--to", next(days), status=2)
    assert "same seller's" in verify.messages[-1]

    refused = shop("accounts", "rename", "acme", "newname", status=2).messages[-1]
    assert "set ORDER_SYNC_ACCOUNTS__NEWNAME__BUSINESS=acme, or `business` in its file" in refused
    shop.environ["ORDER_SYNC_ACCOUNTS__NEWNAME__BUSINESS"] = "acme"
    (done,) = shop("accounts", "rename", "acme", "newname").messages
    (entry,) = shop("audit", "list", "--json", "--action", "account_renamed").json()
    assert entry["detail"] == "acme to newname"
    assert done == f"{len(ORDERS)} orders and {len(customers)} customers of acme are newname's now"
    shop.world.order("111-0000000-0000008", created=STARTED - timedelta(hours=1), email=None)
    with Service(shop.environ) as running:  # since before the account was renamed, with another business
        running.open_store(create=False)
        running.wire()
        account, source = running.sources["newname:EU"]
        old = replace(source, rules=replace(source.rules, business="newname"))
        running.setup = replace(running.setup, sources={"newname:EU": (account, old)})
        assert "start this process again" in str(running.syncer("newname:EU").run().message)
    shop("sync")
    shop("orders", "fetch", "111-0000000-0000008", "--account", "newname")
    assert stored(shop) == [("newname", order_id) for order_id in sorted([*ORDERS, "111-0000000-0000008"])]
    after = shop("customers", "list", "--json").json()
    assert {c["customer_id"] for c in after} == {c["customer_id"] for c in customers}, (
        "the shared record, too"
    )
    (entry,) = shop("quarantine", "list", "--json").json()
    assert (entry["account"], entry["order_id"]) == ("newname", BAD)
    assert "wrong" not in shop("db", "check").out
    changed = [json.loads(line) for line in shop("export", "orders", "--since", position).lines]
    assert {order["order_id"] for order in changed} == {*ORDERS, "111-0000000-0000008"}
    engine = create_engine(shop.environ["ORDER_SYNC_DATABASE_URL"])
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        for table in inspector.get_table_names():
            for column in inspector.get_columns(table):
                if column["name"] in ("account", "source", "special"):
                    name = column["name"]
                    query = f"SELECT count(*) FROM {table} WHERE {name} = 'acme' OR {name} LIKE '%acme:%'"
                    assert connection.exec_driver_sql(query.replace("%", "%%")).scalar_one() == 0, (
                        table,
                        name,
                    )
    engine.dispose()


def test_what_cannot_be_renamed_is_refused_in_a_sentence(shop: Shop) -> None:
    def refusal(*names: str) -> str:
        return shop("accounts", "rename", *names, status=2).messages[-1]

    assert "account acme is still configured" in refusal("acme", "acme")
    assert "there is no account other that could be polled" in refusal("acme", "other")
    assert "nothing is stored of an account unused" in refusal("unused", "acme")
    another = Seller("other", ("UK",), refresh_token="Atzr|another-seller")
    shop.world.enrol(another)
    with_seller(shop, another, "newname")
    shop.environ["ORDER_SYNC_ACCOUNTS__NEWNAME__BUSINESS"] = "acme"
    assert "account newname has other credentials than acme had" in refusal("acme", "newname")


def test_an_authorisation_that_was_renewed_is_believed_after_one_order(shop: Shop) -> None:
    renewed = replace(the_seller(shop), refresh_token="Atzr|renewed")
    shop.world.enrol(renewed)
    with_seller(shop, renewed)
    before = fetched(shop)
    shop("sync")
    assert fetched(shop) == before + 1
    shop("sync")
    assert fetched(shop) == before + 1


def test_another_sellers_orders_are_not_stored_until_a_person_says_so(shop: Shop) -> None:
    another = Seller("other", ("UK",), refresh_token="Atzr|another-seller")
    shop.world.enrol(another)
    shop.world.order(FOREIGN, created=STARTED - timedelta(hours=1), seller="other")
    with_seller(shop, another)
    refused = shop("sync", status=1).messages[-1]
    assert "Amazon finds none of its newest orders with the credentials that it has now" in refused
    assert "order-sync accounts confirm" in refused
    assert {order_id for _, order_id in stored(shop)} == {*ORDERS}
    with_seller(shop, the_seller(shop))
    shop("sync")
    with_seller(shop, another)
    shop("sync", status=1)
    assert shop("accounts", "confirm", "acme").messages == [
        "account acme goes on with its present credentials"
    ]
    shop("sync")
    assert "nothing is requested since" not in shop("status").out
