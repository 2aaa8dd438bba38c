"""Accounts, from variables and from ``accounts/*.toml``.

Both use the same keys, so both become drafts that are checked in one way. No message quotes a value:
nearly all of them are secrets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config.files import Unreadable, label, read_secret, read_toml, shown_path, toml_files
from config.problems import Problem, suggestion
from config.settings import (
    ACCOUNT_KEYS,
    ACCOUNT_NAME,
    ACCOUNT_NAME_RULE,
    AccountSettings,
    Environment,
    account_variable,
    is_secret_of_account,
    source_of,
)
from config.values import complaints


@dataclass(frozen=True, slots=True, repr=False)
class AccountDraft:
    """An account as one place defines it. ``spell`` names a key as that place writes it.

    ``faults`` are sentences about what could not be read; a draft with faults is not checked.
    """

    name: str
    place: str
    given: Mapping[str, Any]
    spell: Callable[[str], str]
    faults: tuple[str, ...] = ()


def drafts_of_environment(environment: Environment) -> tuple[AccountDraft, ...]:
    """Return the accounts that variables name, including unreadable ones."""
    broken = {p.subject for p in environment.problems if p.stops == "account"}
    return tuple(
        AccountDraft(
            name=name,
            place="the environment",
            given=environment.accounts.get(name, {}),
            spell=partial(account_variable, name),
        )
        for name in sorted(environment.accounts.keys() | broken)
    )


def read_account_files(
    folder: Path, environ: Mapping[str, str]
) -> tuple[tuple[AccountDraft, ...], tuple[Path, ...]]:
    """Return the drafts of ``folder/*.toml``, and the secret files that they name.

    Raises Unreadable if the folder cannot be listed.
    """
    secret_files: list[Path] = []
    drafts = tuple(_read(path, environ, secret_files) for path in toml_files(folder))
    return drafts, tuple(secret_files)


def _read(path: Path, environ: Mapping[str, str], secret_files: list[Path]) -> AccountDraft:
    place = label(path)
    faults: list[str] = []
    given: dict[str, Any] = {}
    try:
        table = read_toml(path)
    except Unreadable as fault:
        table = {}
        faults.append(f"{place} {fault}")
    if not ACCOUNT_NAME.fullmatch(path.stem):
        faults.append(f"{place} must have an account's name; {ACCOUNT_NAME_RULE}")
    for written, value in table.items():
        key, way = _take_apart(written)
        if key not in ACCOUNT_KEYS:
            near = suggestion(written, ACCOUNT_KEYS)
            faults.append(f"{place}: {written} is not a key of this file; {near}")
        elif key in given:
            faults.append(f"{place}: {key} is set twice; keep one")
        else:
            try:
                given[key] = _fetch(key, way, value, path.parent, environ, secret_files)
            except Unreadable as fault:
                given[key] = None
                faults.append(f"{place}: {written} {fault}")
    return AccountDraft(path.stem, place, given, lambda key: f"{place}: {key}", tuple(faults))


def _take_apart(written: str) -> tuple[str, str]:
    """Split a written key into the account's key and the way to its value: inline, file or env."""
    for way in ("file", "env"):
        if written.endswith(f"_{way}"):
            return written.removesuffix(f"_{way}"), way
    return written, "inline"


def _fetch(
    key: str, way: str, value: object, folder: Path, environ: Mapping[str, str], secret_files: list[Path]
) -> object:
    """Return the value itself. A relative path counts from the folder of the file that names it."""
    if way == "inline":
        return value
    if not isinstance(value, str) or not value.strip():
        raise Unreadable("must be a text that is not empty")
    if way == "env":
        if not environ.get(value, "").strip():
            raise Unreadable("names a variable that is not set")
        return environ[value]
    secret_files.append(folder / value)
    try:
        return read_secret(folder / value, is_secret=is_secret_of_account(key))
    except Unreadable as fault:
        where = source_of(key) if fault.is_missing else ""
        raise Unreadable(f"names an unusable file: {shown_path(value)} {fault}{where}") from None


def check_accounts(
    drafts: Iterable[AccountDraft], broken: frozenset[str] = frozenset()
) -> tuple[dict[str, AccountSettings], tuple[Problem, ...]]:
    """Return the usable accounts, and the problems of the others.

    ``broken`` names accounts whose problems are reported already: they are not checked again, but still
    count as defined.
    """
    by_name: defaultdict[str, list[AccountDraft]] = defaultdict(list)
    for draft in drafts:
        by_name[draft.name].append(draft)
    problems: list[Problem] = []
    accounts: dict[str, AccountSettings] = {}
    for name, defined in sorted(by_name.items()):
        if len(defined) > 1:
            places = " and ".join(draft.place for draft in defined)
            problems.append(Problem(f"account {name} is defined in {places}; keep one", "account", name))
            continue
        (draft,) = defined
        faults = list(draft.faults)
        if not faults and name not in broken:
            try:
                accounts[name] = AccountSettings.model_validate({**draft.given, "name": name})
            except ValidationError as error:
                faults = [f"{draft.spell(key)} {end}" for (key, *_), end in complaints(error)]
        problems.extend(Problem(sentence, "account", name) for sentence in faults)
    shared = _sharing(accounts)
    for name, others in shared.items():
        places = " and ".join(f"{other} ({by_name[other][0].place})" for other in others)
        message = f"accounts {places} have the same refresh token and would share one budget; keep one"
        problems.append(Problem(message, "account", name))
    return {name: account for name, account in accounts.items() if name not in shared}, tuple(problems)


def _sharing(accounts: Mapping[str, AccountSettings]) -> dict[str, tuple[str, ...]]:
    """Map each account that shares its refresh token to all that share it."""
    by_token: defaultdict[str, list[str]] = defaultdict(list)
    for name, account in accounts.items():
        by_token[account.refresh_token.get_secret_value()].append(name)
    return {name: tuple(names) for names in by_token.values() if len(names) > 1 for name in names}
