"""The table of Amazon's order statuses: complete, and the same words wherever they stand."""

from __future__ import annotations

import re

from spapi.models.orders_v2026_01_01.fulfillment_status import FulfillmentStatus

from poller.matching.statuses import PENDING, STATUSES, UNDER_WAY, is_pending, is_ready
from store.tables import OPEN


def test_the_table_has_the_seven_words_of_amazon_s_model() -> None:
    assert set(STATUSES) == {name for name in vars(FulfillmentStatus) if name.isupper()}
    assert len(STATUSES) == 7


def test_the_index_of_open_orders_covers_what_is_not_final() -> None:
    assert set(re.findall(r"'(\w+)'", OPEN)) == PENDING | UNDER_WAY
    assert "status IS NULL" in OPEN, "an order without a status is pending"


def test_every_status_is_pending_ready_or_cancelled() -> None:
    for word in (*STATUSES, None, "A_NEW_WORD"):
        assert is_pending(word) + is_ready(word) + (word == "CANCELLED") == 1
