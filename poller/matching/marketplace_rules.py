"""The seller's rules for one marketplace, and the datasets they may want kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

ALWAYS = ""
"""In place of a dataset's name: part of every answer."""


DATASETS: Mapping[str, str] = {
    "fulfillment": "FULFILLMENT",
    "buyer": "BUYER",
    "delivery": "RECIPIENT",
    "proceeds": "PROCEEDS",
    "price": ALWAYS,
    "promotion": "PROMOTION",
    "cancellation": "CANCELLATION",
    "packages": "PACKAGES",
    "tax": "TAX",
}
"""The dataset (``includedData`` of Amazon's Orders API model 2026-01-01) that carries each group."""


ALL_DATASETS = frozenset(DATASETS.values()) - {ALWAYS}


@dataclass(frozen=True, slots=True)
class MarketplaceRules:
    """The seller's rules for one marketplace of one account, as the configuration states them.

    ``currency`` is the marketplace's; that the price list is in it was checked when the configuration
    was read (R41). ``included_data`` names the datasets that the seller wants kept.
    """

    account: str
    business: str
    marketplace_id: str
    code: str
    currency: str
    price_list: str
    tax_code: str | None = None
    discount_percent: Decimal = Decimal(0)
    pending: Literal["hold", "placeholder"] = "hold"
    without_email: Literal["per_order", "shared", "hold"] = "per_order"
    included_data: frozenset[str] = ALL_DATASETS
    status_new: str | None = None
    status_fba: str | None = None
    status_prime: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def seller_status(
    programs: tuple[str, ...], fulfilled_by: str | None, rules: MarketplaceRules | None
) -> str | None:
    """The seller's own name for the order's status: Prime, then FBA, then new (R40)."""
    if rules is None:
        return None
    if rules.status_prime is not None and "PRIME" in programs:
        return rules.status_prime
    if rules.status_fba is not None and fulfilled_by == "AMAZON":
        return rules.status_fba
    return rules.status_new
