"""The seller's rules for each marketplace, one file each: ``marketplaces/*.toml``.

A wrong file disables only itself, and all its problems are reported: one sentence for each wrong key.
Conflicts between files (a marketplace twice, an account in two regions) are checked for every file
whose marketplace and account are known, whatever else is wrong with it; otherwise correcting one mistake
would reveal the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from config import values
from config.files import Unreadable, label, misnamed, read_toml, toml_files
from config.problems import Problem, suggestion

INCLUDED_DATA = (
    "BUYER",
    "RECIPIENT",
    "PROCEEDS",
    "PROMOTION",
    "FULFILLMENT",
    "CANCELLATION",
    "PACKAGES",
    "TAX",
)
"""The datasets that the service can use (of Amazon's Orders API model 2026-01-01)."""

Text = Annotated[str, BeforeValidator(values.text)]
OptionalText = Annotated[str | None, BeforeValidator(values.text)]
Flag = Annotated[bool, BeforeValidator(values.flag)]


class CatalogueEntry(Protocol):
    """The facts about one of Amazon's marketplaces that a file is checked against.

    ``region`` is None, and ``currency`` empty, for what is in every region.
    """

    @property
    def code(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def region(self) -> str | None: ...
    @property
    def currency(self) -> str: ...


Catalogue = Mapping[str, CatalogueEntry]
"""By country code, other names of it, and marketplace id."""


def _included_data(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError("must be a list of words in quotes")
    strange = [word for word in value if word not in INCLUDED_DATA]
    if strange:
        raise ValueError(f"must not have {values.shown(strange[0])}; allowed are {', '.join(INCLUDED_DATA)}")
    if "FULFILLMENT" not in value:
        raise ValueError("must have FULFILLMENT, which has an order's status")
    if len(set(value)) < len(value):
        raise ValueError("must have no word twice")
    return tuple(value)


class OrderStatus(BaseModel):
    """The seller's own status names; None where none is configured (R40)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    new: OptionalText = None
    fba: OptionalText = None
    prime: OptionalText = None


class _Rules(BaseModel):
    """The keys that are taken from the file unchanged, with their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    account: Text
    enabled: Flag = True
    start_date: Annotated[date, BeforeValidator(values.day)]
    price_list: Text
    tax_code: OptionalText = None
    discount_percent: Annotated[Decimal, BeforeValidator(values.percent)] = Decimal(0)
    pending: Annotated[
        Literal["hold", "placeholder"], BeforeValidator(values.one_of("hold", "placeholder"))
    ] = "hold"
    without_email: Annotated[
        Literal["per_order", "shared", "hold"], BeforeValidator(values.one_of("per_order", "shared", "hold"))
    ] = "per_order"
    included_data: Annotated[tuple[str, ...], BeforeValidator(_included_data)] = INCLUDED_DATA
    split: Flag = False
    order_status: Annotated[OrderStatus, BeforeValidator(values.table)] = OrderStatus()
    labels: Annotated[dict[str, Text], BeforeValidator(values.table)] = Field(default_factory=dict)


class _File(_Rules):
    """The whole file: all keys that a user may write."""

    marketplace: Text
    price_list_currency: OptionalText = None


class MarketplaceSettings(_Rules):
    """One marketplace of one account, with the seller's rules for it.

    ``file`` is its name in messages (``marketplaces/uk.toml``). ``price_list_currency`` is the
    marketplace's currency (R41). ``region`` is None for orders of other shops, which have no currency of
    their own either: they come with those of the account's marketplaces. ``start_date`` is a day in UTC.
    """

    file: str
    code: str
    marketplace_id: str
    region: str | None
    currency: str
    price_list_currency: str


@dataclass(frozen=True, slots=True)
class MarketplaceFiles:
    """The files of a folder, usable and not; both parts are sorted by file."""

    good: tuple[MarketplaceSettings, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Draft:
    file: str
    marketplace: CatalogueEntry | None
    account: str | None
    settings: MarketplaceSettings | None
    faults: tuple[str, ...]

    @property
    def place(self) -> tuple[str, str] | None:
        """Account and marketplace id, once the marketplace is known."""
        return None if self.marketplace is None else (self.account or "", self.marketplace.id)


def read_marketplaces(folder: Path, catalogue: Catalogue, accounts: Collection[str]) -> MarketplaceFiles:
    """Read all marketplace files of ``folder``. Never raises for their content.

    ``accounts`` are the names that a file may use. A folder without any file is a problem that stops
    syncing.
    """
    try:
        paths = toml_files(folder)
    except Unreadable as fault:
        return MarketplaceFiles((), (Problem(f"{folder} {fault}", "everything"),))
    if not paths:
        message = f"no marketplace is configured: write one TOML file for each into {folder}"
        if not folder.parent.exists():
            message += f"; the folder {folder.parent} that ORDER_SYNC_CONFIG_DIR names does not exist"
        if others := misnamed(folder):
            names = ", ".join(path.name for path in others)
            message += f"; {names} there must end in .toml to be read"
        return MarketplaceFiles((), (Problem(message, "syncing"),))
    drafts = [_read(path, catalogue, accounts) for path in paths]
    together = _faults_between(drafts)
    problems = [
        Problem(sentence, "marketplace", draft.file, draft.place)
        for draft in drafts
        for sentence in (*draft.faults, *together[draft.file])
    ]
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    problems += [
        Problem(
            f"{draft.file}: start_date {draft.settings.start_date} is in the future: "
            "orders are read from now on, and no history",
            "nothing",
        )
        for draft in drafts
        if draft.settings is not None and draft.settings.enabled and draft.settings.start_date > tomorrow
    ]
    good = tuple(draft.settings for draft in drafts if draft.settings and not together[draft.file])
    return MarketplaceFiles(good, tuple(problems))


def _read(path: Path, catalogue: Catalogue, accounts: Collection[str]) -> _Draft:
    file = label(path)
    try:
        table = read_toml(path)
    except Unreadable as fault:
        return _Draft(file, None, None, None, (f"{file} {fault}",))
    marketplace = _named(table.get("marketplace"), catalogue)
    account = table.get("account")
    known_account = account if isinstance(account, str) and account in accounts else None
    parsed: _File | None = None
    wrong: dict[tuple[str, ...], str] = {}
    try:
        parsed = _File.model_validate(table)
    except ValidationError as error:
        wrong = dict(values.complaints(error))
    if ("marketplace",) not in wrong and marketplace is None:
        codes = {entry.code for entry in catalogue.values()}
        wrong["marketplace",] = f"must be a marketplace id or one of {', '.join(sorted(codes))}"
    if ("account",) not in wrong and known_account is None:
        wrong["account",] = f"must be a configured account; {suggestion(str(account), accounts)}"
    currency = table.get("price_list_currency")
    if (
        ("price_list_currency",) not in wrong
        and currency
        and marketplace
        and currency != (marketplace.currency or currency)
    ):
        wrong["price_list_currency",] = (
            f"must be {marketplace.currency}, the currency of {marketplace.code} (R41)"
        )
    if marketplace and not (marketplace.currency or currency):
        wrong.setdefault(("price_list_currency",), "is missing")
    of_its_own = "" if marketplace is None else marketplace.currency
    faults = tuple(_sentence(file, table, steps, end) for steps, end in wrong.items())
    if faults or parsed is None or marketplace is None:
        return _Draft(file, marketplace, known_account, None, faults)
    settings = MarketplaceSettings.model_construct(
        **{key: getattr(parsed, key) for key in _Rules.model_fields},
        file=file,
        code=marketplace.code,
        marketplace_id=marketplace.id,
        region=marketplace.region,
        currency=of_its_own or str(currency),
        price_list_currency=of_its_own or str(currency),
    )
    return _Draft(file, marketplace, known_account, settings, ())


def _named(name: object, catalogue: Catalogue) -> CatalogueEntry | None:
    if not isinstance(name, str):
        return None
    return catalogue.get(name.strip().upper())


def _sentence(file: str, table: Mapping[str, Any], steps: tuple[str, ...], end: str) -> str:
    """Return the sentence about the key that ``steps`` lead to, with its value and the remedy."""
    key = ".".join(steps)
    if end == "is missing":
        return f"{file}: {key} is missing; it is required"
    if end == "is unknown":
        known = _File.model_fields if len(steps) == 1 else OrderStatus.model_fields
        return f"{file}: {key} is not a key of this file; {suggestion(steps[-1], known)}"
    value: Any = table
    for step in steps:
        value = value[step]
    return f"{file}: {key} is {values.shown(value)}; it {end}"


def _faults_between(drafts: list[_Draft]) -> defaultdict[str, list[str]]:
    """Map each file to its conflicts with others whose marketplace and account are known."""
    faults: defaultdict[str, list[str]] = defaultdict(list)
    first_of_account: dict[str, tuple[str, CatalogueEntry]] = {}
    files: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for file, account, marketplace in _identified(drafts):
        files[account, marketplace.id].append(file)
        if marketplace.region is None:
            continue
        first, its = first_of_account.setdefault(account, (file, marketplace))
        if marketplace.region != its.region:
            faults[file].append(
                f"{file}: {marketplace.code} is in region {marketplace.region}, but {first} has account "
                f"{account} in region {its.region}; an account has one region, so give it another account"
            )
    for file, account, marketplace in _identified(drafts):
        if marketplace.region is None and account not in first_of_account:
            faults[file].append(
                f"{file}: {marketplace.code} orders come by the report of another marketplace of account "
                f"{account}, which has none; write its file"
            )
    for (account, _), several in files.items():
        if len(several) > 1:
            for file in several:
                faults[file].append(
                    f"{' and '.join(several)} are for one marketplace of account {account}; keep one"
                )
    return faults


def _identified(drafts: list[_Draft]) -> Iterator[tuple[str, str, CatalogueEntry]]:
    for draft in drafts:
        if draft.account is not None and draft.marketplace is not None:
            yield draft.file, draft.account, draft.marketplace
