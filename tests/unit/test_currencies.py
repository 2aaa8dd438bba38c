"""The codes that a customer's currency may be."""

from __future__ import annotations

import pytest

from connectors.marketplaces import MARKETPLACES
from poller.customers.currencies import CURRENCIES
from poller.customers.fields import checked
from poller.errors import Refused


def test_what_a_marketplace_gives_its_customers_may_be_entered_by_hand() -> None:
    for marketplace in MARKETPLACES:
        values = checked({"currency": marketplace.currency.lower()}).values
        assert values == {"currency": marketplace.currency}


@pytest.mark.parametrize("text", ["XXY", "pounds", "XXX", "€", "GB"])
def test_what_is_no_currency_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="ISO 4217"):
        checked({"currency": text})


def test_codes_are_three_letters() -> None:
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in CURRENCIES)
