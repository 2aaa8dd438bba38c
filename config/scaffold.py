"""The files of a new configuration: what to write for an account, beside what is there already.

Nothing that is there is overwritten. Secrets are written first and ``.env``, which leads to them, last: a
configuration that was interrupted is completed by doing the same again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from config import env_file
from config.files import Unreadable, read_toml, toml_files
from config.marketplaces import Catalogue, CatalogueEntry
from config.settings import FILE_SUFFIX, PREFIX, account_variable

KEY_FILE = "encryption_key"
DATABASE_PASSWORD, DATABASE_URL = "database_password", "database_url"
"""The secrets of the database that ``compose.yaml`` starts."""

SECRETS = "secrets"


def secret_name(account: str, key: str) -> str:
    """Return the name of the file that has a secret of an account: ``acme_refresh_token``."""
    return f"{account}_{key}"


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account as a person describes it. ``price_list`` is None for one a marketplace."""

    name: str
    marketplaces: Sequence[CatalogueEntry]
    start_date: date
    client_id: str | None
    price_list: str | None = None
    endpoint: str | None = None
    token_url: str | None = None

    def variables(self, secrets: Collection[str]) -> dict[str, str]:
        """Return the variables that define the account; its ``secrets`` lie in files of their own."""
        given = {"lwa_client_id": self.client_id, "endpoint": self.endpoint, "token_url": self.token_url}
        written = {account_variable(self.name, key): value for key, value in given.items() if value}
        files = {
            account_variable(self.name, key) + FILE_SUFFIX: f"{SECRETS}/{secret_name(self.name, key)}"
            for key in secrets
        }
        return {**written, **files}


@dataclass(frozen=True, slots=True)
class Present:
    """What a folder has already: variables of ``.env``, names of secrets, marketplace files.

    ``places`` has the file of each (account, marketplace id); ``names`` are all names of marketplace files.
    """

    variables: Mapping[str, str]
    secrets: frozenset[str]
    places: Mapping[tuple[str, str], str]
    names: frozenset[str]

    def has(self, variable: str) -> bool:
        """Return True if ``.env`` sets a variable, as it is or by a file."""
        return variable in self.variables or variable + FILE_SUFFIX in self.variables


def present(folder: Path, catalogue: Catalogue) -> Present:
    """Look at a folder, which need not exist. Raises Unreadable with a whole sentence."""
    places: dict[tuple[str, str], str] = {}
    try:
        files = toml_files(folder / "marketplaces")
    except Unreadable as fault:
        raise Unreadable(f"{folder / 'marketplaces'} {fault}") from None
    for path in files:
        try:
            table = read_toml(path)
        except Unreadable as fault:
            raise Unreadable(f"{path} {fault}") from None
        entry = catalogue.get(str(table.get("marketplace", "")).strip().upper())
        if entry is not None:
            places[str(table.get("account")), entry.id] = path.name
    try:
        variables, problems = env_file.read(folder / env_file.NAME)
    except Unreadable as fault:
        if not fault.is_missing:
            raise Unreadable(f"{folder / env_file.NAME} {fault}") from None
        variables, problems = {}, []
    if problems:
        raise Unreadable(problems[0].message)
    try:
        secrets = frozenset(os.listdir(folder / SECRETS))
    except FileNotFoundError:
        secrets = frozenset()
    except OSError as fault:
        raise Unreadable(f"{folder / SECRETS} cannot be listed ({fault.strerror})") from None
    return Present(variables, secrets, places, frozenset(path.name for path in files))


@dataclass(frozen=True, slots=True)
class MarketplaceFile:
    """One file to be written, or the one that ``is_there`` already."""

    name: str
    text: str
    is_there: bool


def marketplace_files(account: NewAccount, there: Present) -> Iterator[MarketplaceFile]:
    """Yield a file for each marketplace; ``uk-<account>.toml`` where ``uk.toml`` is of another account."""
    for place in account.marketplaces:
        found = there.places.get((account.name, place.id))
        name = f"{place.code.lower()}.toml"
        if found is None and name in there.names:
            name = f"{place.code.lower()}-{account.name}.toml"
        yield MarketplaceFile(found or name, _marketplace(account, place.code), found is not None)


def _marketplace(account: NewAccount, code: str) -> str:
    price_list = account.price_list or f"Amazon {code} retail"
    lines = (
        (f'marketplace = "{code}"', ""),
        (f'account = "{account.name}"', ""),
        (f"start_date = {account.start_date}", "history is fetched from this day (UTC)"),
        (
            f"price_list = {json.dumps(price_list, ensure_ascii=False)}",
            "given to customers created from this marketplace",
        ),
    )
    width = max(len(line) for line, _ in lines)
    written = "".join(f"{line:{width}}  # {why}\n" if why else f"{line}\n" for line, why in lines)
    return f"{written}# More keys, such as tax_code and order_status: docs/configuration.md\n"


def env_text(before: str, added: Mapping[str, str], *, about: str) -> str:
    """Return the text of ``.env`` with these variables at its end, after a line that says what they are."""
    if not added:
        return before
    lines = "".join(f"{name}={value}\n" for name, value in added.items())
    start = before if before.endswith("\n") or not before else f"{before}\n"
    return f"{start}# {about}\n{lines}"


def missing_variables(there: Present, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that ``.env`` does not set yet."""
    return {name: value for name, value in wanted.items() if not there.has(name.removesuffix(FILE_SUFFIX))}


def differing_variables(there: Present, wanted: Mapping[str, str]) -> list[str]:
    """Return the variables that ``.env`` sets to something else."""
    missing = missing_variables(there, wanted)
    return [n for n, value in wanted.items() if n not in missing and there.variables.get(n) != value]


def common_variables() -> dict[str, str]:
    """Return the variables of every new configuration; its paths count from the folder of ``.env``."""
    return {
        f"{PREFIX}CONFIG_DIR": ".",
        f"{PREFIX}ENCRYPTION_KEY{FILE_SUFFIX}": f"{SECRETS}/{KEY_FILE}",
    }


Written = Literal["written", "there"]


def write_file(path: Path, text: str, *, mode: int) -> Written:
    """Write a new file, whole or not at all, unless it is there; its folder exists. Raises OSError."""
    with _draft(path, text, mode) as draft:
        try:
            os.link(draft, path)  # unlike a rename, it never replaces a file
        except FileExistsError:
            return "there"
    _keep(path.parent)
    return "written"


def replace_file(path: Path, text: str, *, mode: int) -> None:
    """Write a file, whole or not at all, in place of the one that is there. Raises OSError."""
    with _draft(path, text, mode) as draft:
        os.replace(draft, path)
    _keep(path.parent)


@contextmanager
def _draft(path: Path, text: str, mode: int) -> Iterator[Path]:
    """Yield a file with this text beside ``path``; it is gone afterwards."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)  # of a process that was killed, and had the same number
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, mode)  # whatever the umask is
            file.write(text)
            file.flush()
            os.fsync(handle)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _keep(folder: Path) -> None:
    """Let the names in a folder outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
