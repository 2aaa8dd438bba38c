"""The accounts that may run, and the configuration in force around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from config.marketplaces import MarketplaceSettings
from config.problems import Problem
from config.settings import AccountSettings, Settings
from connectors.base import OrderConnector, Plans
from poller.ingest.sources import AccountRules, Source
from poller.matching.retention import Retention


@dataclass(frozen=True, slots=True)
class Account:
    """One account that may run, with its connector and sources."""

    settings: AccountSettings = field(repr=False)
    region: str
    rules: AccountRules
    connector: OrderConnector
    sources: tuple[Source, ...]
    marketplaces: Mapping[str, MarketplaceSettings]
    """All its configured marketplaces, enabled or not, by marketplace id."""
    plans: Plans

    @property
    def name(self) -> str:
        return self.settings.name


@dataclass(frozen=True, slots=True)
class Setup:
    """The configuration in force: what use cases and monitoring read beside the database."""

    settings: Settings
    problems: tuple[Problem, ...]
    owner: str
    """The name under which this process claims windows."""
    accounts: Mapping[str, Account] = field(default_factory=dict)
    sources: Mapping[str, tuple[Account, Source]] = field(default_factory=dict)
    """Every source that may run, by key."""

    @property
    def retention(self) -> Retention:
        """How long buyer data and orders stay."""
        settings = self.settings
        return Retention(
            settings.retention_days, settings.hash_retention_months, settings.order_retention_months
        )
