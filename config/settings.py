"""The service's settings, and the environment variables that they come from.

pydantic-settings splits the variables. It gets a mapping with the secret files already read, not the
process's environment, so that reading is a function of its arguments. Our own functions check values,
because pydantic's messages quote the input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretBytes,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from config import values
from config.files import Unreadable, read_secret, shown_path
from config.problems import Problem, suggestion

PREFIX = "ORDER_SYNC_"
FILE_SUFFIX = "_FILE"

ACCOUNT_NAME = re.compile(r"[a-z0-9-]+(?:_[a-z0-9-]+)*")
"""No double underscore and none at the ends: in variables, two of them end the name."""

ACCOUNT_NAME_RULE = "an account's name is made of a-z, 0-9, - and single _ between them"

Text = Annotated[str, BeforeValidator(values.text)]
Url = Annotated[str | None, BeforeValidator(values.service_url)]
Seconds = Annotated[int, BeforeValidator(values.seconds)]


WHERE = {
    "lwa_client_id": "Seller Central shows it: Develop Apps, LWA credentials, View",
    "lwa_client_secret": "Seller Central shows it: Develop Apps, LWA credentials, View",
    "refresh_token": "Seller Central shows it: Develop Apps, Edit app, Authorize app",
    "encryption_key": "`order-sync keys new` makes one",
    "api_token": "`openssl rand -hex 32` makes one",
    "oidc_issuer": "your OpenID provider names it",
    "oidc_client_id": "your OpenID provider shows it",
    "oidc_client_secret": "your OpenID provider shows it",
    "database_url": "write it as postgresql+psycopg://user:password@host:5432/orders or sqlite:///orders.db",
}
"""Where the values come from that the documents can only hint at."""


def source_of(key: str) -> str:
    """Return where to get the value of a setting or of a key of an account, as the end of a sentence."""
    return f"; {WHERE[key]}" if key in WHERE else ""


class _Given(BaseModel):
    """Settings as a person gives them."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_example(cls, value: object, info: ValidationInfo) -> object:
        try:
            return values.not_an_example(value)
        except ValueError as error:
            raise ValueError(f"{error}{source_of(info.field_name or '')}") from None


class AccountSettings(_Given):
    """One selling partner's credentials in one region. ``lwa_client_secret`` holds one or two.

    ``endpoint`` and ``token_url`` are None for Amazon's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    lwa_client_id: Text = Field(repr=False)
    lwa_client_secret: Annotated[tuple[SecretStr, ...], BeforeValidator(values.secrets)]
    refresh_token: Annotated[SecretStr, BeforeValidator(values.text)]
    endpoint: Url = None
    token_url: Url = None
    business: Text = Field(default_factory=lambda given: str(given["name"]))


ACCOUNT_KEYS = tuple(key for key in AccountSettings.model_fields if key != "name")


class Settings(_Given, BaseSettings):
    """The settings of the whole service; credentials are hidden in ``repr``.

    ``encryption_key`` is None if it is not set: a process that needs it refuses to start.
    ``log_format`` is None for the default, which depends on the terminal. ``runtime_dir`` is None for beside
    the SQLite file. ``retention_days``, ``hash_retention_months`` and ``listen`` (host and port) are None for
    off.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        enable_decoding=False,
        validate_default=False,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    config_dir: Annotated[Path, BeforeValidator(values.text)] = Path("config")
    database_url: Annotated[SecretStr, BeforeValidator(values.database_url)] = SecretStr(
        "sqlite:///order-sync.db"
    )
    encryption_key: Annotated[tuple[SecretBytes, ...] | None, BeforeValidator(values.keys)] = None
    accounts: dict[str, AccountSettings] = Field(default_factory=dict)
    runtime_dir: Annotated[Path | None, BeforeValidator(values.text)] = None
    database_connections: Annotated[int, BeforeValidator(values.count)] = 12
    executor: Annotated[
        Literal["threads", "procrastinate"], BeforeValidator(values.one_of("threads", "procrastinate"))
    ] = "threads"
    worker_concurrency: Annotated[int, BeforeValidator(values.count)] = 10
    poll_seconds: Seconds = 180
    poll_seconds_busy: Seconds = Field(default_factory=lambda given: max(900, given.get("poll_seconds", 0)))
    retention_days: Annotated[int | None, BeforeValidator(values.number_or_off(3650, "days"))] = 30
    hash_retention_months: Annotated[int | None, BeforeValidator(values.number_or_off(240, "months"))] = 18
    order_retention_months: Annotated[int | None, BeforeValidator(values.number_or_off(240, "months"))] = None
    shared_emails: Annotated[tuple[str, ...], BeforeValidator(values.emails)] = ()
    private_webhook_hosts: Annotated[frozenset[str], BeforeValidator(values.host_names)] = frozenset()
    alert_urls: Annotated[tuple[SecretStr, ...], BeforeValidator(values.alert_urls)] = ()
    ready_success_seconds: Seconds = 3600
    ready_gap_seconds: Seconds = 21_600
    ready_refusal_seconds: Seconds = 900
    listen: Annotated[tuple[str, int] | None, BeforeValidator(values.listen)] = ("127.0.0.1", 8000)
    api_token: Annotated[SecretStr | None, BeforeValidator(values.api_token)] = None
    public_url: Annotated[str | None, BeforeValidator(values.public_url)] = None
    trusted_proxies: Annotated[tuple[values.Network, ...], BeforeValidator(values.networks)] = ()
    require_totp: Annotated[bool, BeforeValidator(values.switch)] = False
    oidc_client_id: Annotated[str | None, BeforeValidator(values.text)] = None
    oidc_client_secret: Annotated[SecretStr | None, BeforeValidator(values.text)] = None
    oidc_user_claim: Annotated[str, BeforeValidator(values.text)] = "preferred_username"
    oidc_issuer: Annotated[str | None, BeforeValidator(values.service_url)] = None
    log_format: Annotated[
        Literal["console", "json"] | None,
        BeforeValidator(values.one_of("console", "json")),
        BeforeValidator(values.lowered),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(values.one_of("debug", "info", "warning", "error")),
        BeforeValidator(values.lowered),
    ] = "info"

    @field_validator("executor")
    @classmethod
    def _where_jobs_can_wait(cls, executor: str, info: ValidationInfo) -> str:
        url = info.data.get("database_url")
        if executor == "procrastinate" and url is not None and url.get_secret_value().startswith("sqlite"):
            raise ValueError(
                f"must be threads with SQLite: workers need PostgreSQL in {PREFIX}DATABASE_URL "
                "(`order-sync db copy` moves a database there)"
            )
        return executor

    @field_validator("order_retention_months")
    @classmethod
    def _after_their_buyers(cls, months: int | None, info: ValidationInfo) -> int | None:
        if months is not None and info.data.get("retention_days") is None:
            raise ValueError(
                f"must be off while {PREFIX}RETENTION_DAYS is: an order is erased after its buyer data"
            )
        return months

    @field_validator("oidc_issuer")
    @classmethod
    def _with_a_client(cls, issuer: str, info: ValidationInfo) -> str:
        missing = [
            f"{PREFIX}{key.upper()}"
            for key in ("oidc_client_id", "oidc_client_secret", "public_url")
            if info.data.get(key) is None
        ]
        if missing:
            raise ValueError(f"needs {' and '.join(missing)}, too")
        return issuer

    @field_validator("poll_seconds_busy")
    @classmethod
    def _no_faster_than_alone(cls, busy: int, info: ValidationInfo) -> int:
        alone = info.data.get("poll_seconds", 0)
        if busy < alone:
            raise ValueError(f"must be at least {PREFIX}POLL_SECONDS, which is {alone}")
        return busy

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use the arguments alone: the process's environment is read in one place, not by a constructor."""
        return (init_settings,)


SCALARS = tuple(key.upper() for key in Settings.model_fields if key != "accounts")
_ACCOUNT_VARIABLE = re.compile(rf"ACCOUNTS__(?P<name>.+)__(?P<key>{'|'.join(ACCOUNT_KEYS).upper()})")


@dataclass(frozen=True, slots=True, repr=False)
class Environment:
    """The values of the variables, unchecked: settings by key, accounts by name and key."""

    scalars: Mapping[str, Any]
    accounts: Mapping[str, Mapping[str, Any]]
    problems: tuple[Problem, ...]
    secret_files: tuple[Path, ...]


def account_variable(name: str, key: str) -> str:
    """Return the variable of an account's key."""
    return f"{PREFIX}ACCOUNTS__{name}__{key}".upper()


def read_environment(environ: Mapping[str, str]) -> Environment:
    """Collect our variables, directly and from ``_FILE``; an empty variable counts as unset.

    Names are case-insensitive. Never raises for bad input.
    """
    problems: list[Problem] = []
    secret_files: list[Path] = []
    contents: dict[str, str] = {}
    given: dict[str, tuple[str, str]] = {}
    for spelled, value in sorted(environ.items()):
        variable = spelled.upper()
        if not variable.startswith(PREFIX) or not value.strip():
            continue
        base = variable.removesuffix(FILE_SUFFIX)
        name = base.removeprefix(PREFIX)
        if not _known(name):
            problems.append(Problem(f"{spelled} is not a setting; {_nearest(variable)}", "nothing"))
        elif base in given:
            problems.append(_stopping(name, f"{given[base][0]} and {spelled} are both set; keep one"))
        else:
            given[base] = (spelled, value.strip())
    for base, (spelled, value) in given.items():
        name = base.removeprefix(PREFIX)
        if spelled.upper() == base:
            contents[name.lower()] = value
            continue
        secret_files.append(Path(value))
        try:
            contents[name.lower()] = read_secret(Path(value), is_secret=_is_secret(name))
        except Unreadable as fault:
            where = source_of(_key_of(name)) if fault.is_missing else ""
            problems.append(_stopping(name, f"{spelled}: {shown_path(value)} {fault}{where}"))
    source = EnvSettingsSource(Settings)
    source.env_vars = {f"{PREFIX.lower()}{name}": value for name, value in contents.items()}
    scalars = source()
    accounts = scalars.pop("accounts", {})
    return Environment(scalars, accounts, tuple(problems), tuple(secret_files))


def _key_of(name: str) -> str:
    account = _ACCOUNT_VARIABLE.fullmatch(name)
    return (name if account is None else account["key"]).lower()


def _is_secret(name: str) -> bool:
    """Return True for a setting whose value is kept out of sight."""
    account = _ACCOUNT_VARIABLE.fullmatch(name)
    if account is not None:
        return is_secret_of_account(account["key"].lower())
    return "Secret" in str(Settings.model_fields[name.lower()].annotation)


def is_secret_variable(spelled: str) -> bool:
    """Return True for a variable that holds a secret itself."""
    name = spelled.upper().removeprefix(PREFIX)
    return spelled.upper().startswith(PREFIX) and _known(name) and _is_secret(name)


def is_secret_of_account(key: str) -> bool:
    """Return True for a key of an account whose value is kept out of sight."""
    return "Secret" in str(AccountSettings.model_fields[key].annotation)


def _known(name: str) -> bool:
    if name in SCALARS:
        return True
    account = _ACCOUNT_VARIABLE.fullmatch(name)
    return account is not None and ACCOUNT_NAME.fullmatch(account["name"].lower()) is not None


def _nearest(variable: str) -> str:
    """Suggest the variable that was meant; of an account's, only the last part can be wrong."""
    ending = FILE_SUFFIX if variable.endswith(FILE_SUFFIX) else ""
    name = variable.removeprefix(PREFIX).removesuffix(FILE_SUFFIX)
    front, parts, key = name.rpartition("__")
    if front.startswith("ACCOUNTS__"):
        account = front.removeprefix("ACCOUNTS__")
        if not ACCOUNT_NAME.fullmatch(account.lower()):
            return ACCOUNT_NAME_RULE
        known, start = [k.upper() for k in ACCOUNT_KEYS], f"{PREFIX}{front}{parts}"
    elif name.startswith("ACCOUNTS_"):
        return f"an account's is {account_variable('<NAME>', '<KEY>')}, with two underscores before and after"
    else:
        known, start, key = list(SCALARS), PREFIX, name
    return suggestion(f"{start}{key}{ending}", (f"{start}{k}{ending}" for k in known))


def _stopping(name: str, message: str) -> Problem:
    account = _ACCOUNT_VARIABLE.fullmatch(name)
    return Problem(message, "account", account["name"].lower()) if account else Problem(message, "everything")


def check_settings(scalars: Mapping[str, Any]) -> tuple[Settings, tuple[Problem, ...]]:
    """Return the settings without accounts. A wrong one is reported and has its default in the result."""
    given = dict(scalars)
    problems: list[Problem] = []
    while True:  # a default in place of a wrong value can contradict another setting
        try:
            return Settings.model_validate(given), tuple(problems)
        except ValidationError as error:
            for (key, *_), end in values.complaints(error):
                problems.append(Problem(f"{PREFIX}{key.upper()} {end}", "everything"))
                del given[key]
