"""Accounts, their rules, and the sources that are polled: the configuration in the poller's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from connectors.marketplaces import NON_AMAZON, NON_AMAZON_IDS
from poller.matching.customer_records import special_key
from poller.matching.marketplace_rules import MarketplaceRules
from poller.matching.retention import KEEP_ALL, Retention


@dataclass(frozen=True, slots=True)
class AccountRules:
    """What matching needs to know of one account: its marketplaces' rules by marketplace id."""

    account: str
    business: str
    by_marketplace: Mapping[str, MarketplaceRules]
    shared_emails: frozenset[str]
    retention: Retention = KEEP_ALL
    """Orders past their term bring no buyer data any more (R63)."""

    @property
    def specials(self) -> frozenset[str]:
        """Return the keys of the shared and placeholder records that these rules may use (R21, R31)."""
        keys = set()
        for rules in self.by_marketplace.values():
            if rules.without_email == "shared":
                keys.add(special_key("shared", self.account, rules.marketplace_id))
            if rules.pending == "placeholder":
                keys.add(special_key("placeholder", self.account, rules.marketplace_id))
        return frozenset(keys)


@dataclass(frozen=True, slots=True)
class PolledMarketplace:
    """One enabled marketplace: which datasets are requested, and orders since when."""

    marketplace_id: str
    code: str
    start_date: date
    included_data: tuple[str, ...]
    split: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Marketplaces of one account that are polled in one request."""

    key: str
    account: str
    application: str
    """Fingerprint of the application's client id; a budget belongs to an application and an account."""
    credential: str
    """Fingerprint of the account's credentials: shows if refused ones were replaced."""
    secret: str
    """Fingerprint of the application's part of the credentials, which its accounts share."""
    authorisation: str
    """Fingerprint of the seller's part: shows if an account changes hands or its name."""
    rules: AccountRules
    marketplaces: Mapping[str, PolledMarketplace]
    reported: Mapping[str, PolledMarketplace]
    """What no search lists: the orders of other shops, which come by Amazon's report."""

    def verified(self) -> dict[str, PolledMarketplace]:
        """Return what is compared with Amazon's report: all of it, by marketplace id."""
        return {**self.marketplaces, **self.reported}


def ids_of(marketplace_id: str) -> frozenset[str]:
    """Return the marketplace ids that a marketplace's orders may have."""
    return NON_AMAZON_IDS if marketplace_id == NON_AMAZON.id else frozenset({marketplace_id})


def sources_of(
    rules: AccountRules,
    region: str,
    polled: Iterable[PolledMarketplace],
    application: str,
    credential: str,
    secret: str,
    authorisation: str,
) -> tuple[Source, ...]:
    """Return an account's sources: ``acme:EU`` for its marketplaces, ``acme:UK`` for each split one.

    What comes by report belongs to the first of them.
    """
    together: dict[str, PolledMarketplace] = {}
    reported: dict[str, PolledMarketplace] = {}
    groups: dict[str, dict[str, PolledMarketplace]] = {}
    for marketplace in polled:
        if marketplace.marketplace_id == NON_AMAZON.id:
            reported[marketplace.marketplace_id] = marketplace
        elif marketplace.split:
            groups[f"{rules.account}:{marketplace.code}"] = {marketplace.marketplace_id: marketplace}
        else:
            together[marketplace.marketplace_id] = marketplace
    if together:
        groups[f"{rules.account}:{region}"] = together
    first = min(groups, default=None)
    return tuple(
        Source(
            key,
            rules.account,
            application,
            credential,
            secret,
            authorisation,
            rules,
            group,
            reported if key == first else {},
        )
        for key, group in sorted(groups.items())
    )
