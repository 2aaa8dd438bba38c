"""``order-sync init``: asks for an account, or takes it by options, and writes its configuration.

Nothing is written before the last answer, and nothing that is there is overwritten.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from shlex import quote
from typing import Annotated, TypeVar

import typer

from config import env_file, scaffold, values
from config.files import Unreadable, read_text
from config.load import load
from config.scaffold import KEY_FILE, SECRETS, NewAccount, Present, secret_name
from config.settings import ACCOUNT_NAME, ACCOUNT_NAME_RULE, PREFIX, WHERE, account_variable, source_of
from connectors.marketplaces import BY_NAME, MARKETPLACES
from poller.cli.failures import BAD_INPUT, FAULT, Failure
from poller.cli.options import marketplace_codes
from poller.cli.output import say
from store.sealing import new_key

HISTORY = timedelta(days=90)
SECRET_KEYS = {"lwa_client_secret": "client secret", "refresh_token": "refresh token"}
IMAGE_USER = 10001
"""Whom a container runs as (``Dockerfile``), unless ``compose.yaml`` names another user."""

KEEP_A_COPY = "keep a copy apart from the database: without it, no one can read the buyer data again"

DATABASE_OF_COMPOSE = "postgresql+psycopg://order_sync:{password}@database/order_sync?sslmode=disable"


def init(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", show_default=False, help="Where to; else the current folder."),
    ] = Path(),
    account: Annotated[str | None, typer.Option(metavar="NAME", help="Your name for the account.")] = None,
    marketplaces: Annotated[
        str | None, typer.Option(metavar="CODES", help="Country codes of one region, comma-separated.")
    ] = None,
    start_date: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="History is fetched from this day; else from 90 days ago."),
    ] = None,
    price_list: Annotated[
        str | None, typer.Option(metavar="NAME", help="For new customers; else `Amazon UK retail` and so on.")
    ] = None,
    client_id: Annotated[str | None, typer.Option(metavar="ID", help="The client identifier.")] = None,
    client_secret_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Has the client secret, and is copied.")
    ] = None,
    refresh_token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Has the refresh token, and is copied.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Another SP-API, such as the simulator.")
    ] = None,
    token_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Another address for access tokens.")
    ] = None,
    compose: Annotated[
        bool, typer.Option("--compose", help="Add what compose.yaml needs: a password for its PostgreSQL.")
    ] = False,
) -> None:
    """Write the configuration of an account: marketplace files, secrets with a fresh key, and `.env`.

    On a terminal it asks for what no option says. It overwrites nothing, and can be run again, for a further
    account, too.

    Exit status: 0 if all is written or there; 1 if what is there differs, or the configuration has a problem;
    2, and nothing is written, if an answer is missing or wrong.
    """
    there = _present(folder)
    secret_files = dict(zip(SECRET_KEYS, (client_secret_file, refresh_token_file), strict=True))
    if not _at_terminal():
        _require(there, account, marketplaces, client_id, secret_files)
    name = _answer("account", account, "Your name for the seller account", _account)
    if marketplaces is None:
        _show_marketplaces()
    codes = _answer("marketplaces", marketplaces, "Those you sell in, separated by commas", marketplace_codes)
    first_day = str(datetime.now(UTC).date() - HISTORY)
    start = _answer("start-date", start_date or _unless_asked(first_day), "History from", _day, first_day)
    if client_id is not None or not there.has(account_variable(name, "lwa_client_id")):
        client_id = _answer(
            "client-id", client_id, f"Client identifier ({WHERE['lwa_client_id']})", _word("lwa_client_id")
        )
    new = NewAccount(
        name,
        tuple(BY_NAME[code] for code in codes),
        start,
        client_id,
        price_list,
        endpoint and _checked("endpoint", endpoint, values.service_url),
        token_url and _checked("token-url", token_url, values.service_url),
    )
    secrets = {
        secret_name(name, key): _secret(key, file)
        for key, file in secret_files.items()
        if file is not None or secret_name(name, key) not in there.secrets
    }
    _write(folder, there, new, secrets, for_compose=compose)


# --- answers -------------------------------------------------------------------------------------------

T = TypeVar("T")


def _present(folder: Path) -> Present:
    try:
        return scaffold.present(folder, BY_NAME)
    except Unreadable as fault:
        raise Failure(f"{str(fault).removesuffix('.')}; nothing was written.", status=BAD_INPUT) from None


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _unless_asked(default: str) -> str | None:
    return None if _at_terminal() else default


def _require(
    there: Present,
    account: str | None,
    marketplaces: str | None,
    client_id: str | None,
    secret_files: Mapping[str, Path | None],
) -> None:
    """Raise Failure with every option that is missing where no one can be asked."""
    name = account or ""
    missing = [
        option for option, given in (("--account", account), ("--marketplaces", marketplaces)) if not given
    ]
    if client_id is None and not there.has(account_variable(name, "lwa_client_id")):
        missing.append("--client-id")
    for key, file in secret_files.items():
        if file is None and secret_name(name, key) not in there.secrets:
            missing.append(f"--{key.removeprefix('lwa_').replace('_', '-')}-file")
    if missing:
        raise Failure(
            f"there is no terminal to ask at: give {', '.join(missing)}; nothing was written.",
            status=BAD_INPUT,
        )


def _answer(
    option: str, given: str | None, question: str, check: Callable[[str], T], default: str | None = None
) -> T:
    """Return the checked value of an option, or of an answer, asking again until it is right."""
    if given is not None:
        return _checked(option, given, check)
    while True:
        try:
            return check(str(typer.prompt(question, default=default, err=True)))
        except (ValueError, typer.BadParameter) as error:
            say(f"  {_sentence(question.partition(' (')[0], error)}")


def _checked(option: str, given: str, check: Callable[[str], T]) -> T:
    try:
        return check(given)
    except (ValueError, typer.BadParameter) as error:
        raise Failure(f"{_sentence(f'--{option}', error)}; nothing was written.", status=BAD_INPUT) from None


def _sentence(subject: str, error: ValueError | typer.BadParameter) -> str:
    """Return what is wrong; a bad parameter names its option itself."""
    return error.message if isinstance(error, typer.BadParameter) else f"{subject} {error}"


def _account(text: str) -> str:
    name = text.strip().lower()
    if not ACCOUNT_NAME.fullmatch(name):
        raise ValueError(f"cannot be used: {ACCOUNT_NAME_RULE}")
    return name


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("must be a date like 2026-01-31") from None


def _word(key: str) -> Callable[[str], str]:
    """Return a check for a value that `.env` takes as it is."""

    def check(text: str) -> str:
        word = values.text(text)
        try:
            values.not_an_example(word)
        except ValueError as error:
            raise ValueError(f"{error}{source_of(key)}") from None
        if not word.isascii() or any(c.isspace() or c in "'\"\\$#`" for c in word):
            raise ValueError("must be one word, as Amazon shows it")
        return word

    return check


def _secret(key: str, file: Path | None) -> str:
    """Return a secret, of a file or pasted where it is not shown."""
    check, what = _word(key), SECRET_KEYS[key]
    if file is not None:
        try:
            return check(read_text(file))
        except (Unreadable, ValueError) as error:
            raise Failure(f"{file} {error}; nothing was written.", status=BAD_INPUT) from None
    question = f"{what.capitalize()} ({WHERE[key]}; paste it, it is not shown)"
    while True:
        try:
            return check(str(typer.prompt(question, hide_input=True, err=True)))
        except ValueError as error:
            say(f"  The {what} {error}")


def _show_marketplaces() -> None:
    say("Marketplaces, of one region:")
    regions = {"NA": "Americas", "EU": "Europe, Middle East, Africa, India", "FE": "Far East"}
    for region, name in regions.items():
        say(f"  {name:34}  {' '.join(place.code for place in MARKETPLACES if place.region == region)}")


# --- files ---------------------------------------------------------------------------------------------


def _write(
    folder: Path, there: Present, new: NewAccount, secrets: Mapping[str, str], *, for_compose: bool
) -> None:
    """Write what is missing, say what was written and what to do next. Raises Failure."""
    writer = _Writer(folder, for_compose=for_compose)
    try:
        wanted = writer.write(there, new, secrets)
    except OSError as fault:
        raise Failure(
            f"{fault.filename or folder} cannot be written: {fault.strerror}; mend that and run this again."
        ) from None
    say(f"written in {folder.resolve()}:" if writer.written else f"nothing was missing in {folder.resolve()}")
    for name, note in writer.written.items():
        say(f"  {name:{max(map(len, writer.written))}}  {note}".rstrip())
    differing = [*writer.differing, *(f".env: {v}" for v in scaffold.differing_variables(there, wanted))]
    problems = [p.message for p in load({f"{PREFIX}CONFIG_DIR": str(folder)}, BY_NAME).problems]
    for sentence in (*(f"kept as it was, and differs: {name}" for name in differing), *problems):
        say(f"warning: {sentence}")
    say("next:")
    for line in _next(folder, for_compose=for_compose):
        say(f"  {line}")
    if differing or problems:
        raise typer.Exit(FAULT)


class _Writer:
    """Writes files that are missing, secrets first and `.env` last, and remembers which."""

    def __init__(self, folder: Path, *, for_compose: bool) -> None:
        self._folder = folder
        self._for_compose = for_compose
        self.written: dict[str, str] = {}
        self.differing: list[str] = []

    def write(self, there: Present, new: NewAccount, secrets: Mapping[str, str]) -> dict[str, str]:
        """Write everything and return the variables that `.env` should have. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make(SECRETS, 0o700)
        self._make("marketplaces", 0o755)
        if not there.has(f"{PREFIX}ENCRYPTION_KEY") and KEY_FILE not in there.secrets:
            self._file(f"{SECRETS}/{KEY_FILE}", new_key(), KEEP_A_COPY, is_secret=True)
        for name, text in secrets.items():
            self._file(f"{SECRETS}/{name}", text, is_secret=True)
        if self._for_compose and scaffold.DATABASE_URL not in there.secrets:
            self._password(there)
        for file in scaffold.marketplace_files(new, there):
            if not file.is_there:
                self._file(f"marketplaces/{file.name}", file.text)
        about = f"account {new.name}"
        wanted = scaffold.common_variables() | new.variables(SECRET_KEYS)
        if self._for_compose and os.geteuid() != 0:
            wanted["CONTAINER_USER"] = f"{os.getuid()}:{os.getgid()}"
        self._complete(there, wanted, about=about)
        self._hand_over()
        return wanted

    def _make(self, name: str, mode: int) -> None:
        path = self._folder / name
        if not path.exists():
            path.mkdir(mode=mode)

    def _hand_over(self) -> None:
        """Give what root has written to the service's user: the image's, or the owner of the secrets."""
        if os.geteuid() != 0:
            return
        folder = self._folder / SECRETS
        owner, group = folder.stat().st_uid, folder.stat().st_gid
        if self._for_compose and owner == 0:
            owner, group = IMAGE_USER, IMAGE_USER
        for path in (folder, *folder.iterdir(), self._folder / env_file.NAME):
            os.chown(path, owner, group)

    def _password(self, there: Present) -> None:
        """Write the password of the database in containers, and the URL that has it."""
        place = self._folder / SECRETS / scaffold.DATABASE_PASSWORD
        if scaffold.DATABASE_PASSWORD not in there.secrets:
            self._file(f"{SECRETS}/{scaffold.DATABASE_PASSWORD}", token_hex(24), is_secret=True)
        password = place.read_text(encoding="utf-8").strip()
        url = DATABASE_OF_COMPOSE.format(password=password)
        self._file(f"{SECRETS}/{scaffold.DATABASE_URL}", url, is_secret=True)

    def _file(self, name: str, text: str, note: str = "", *, is_secret: bool = False) -> None:
        path, mode = self._folder / name, 0o600 if is_secret else 0o644
        content = text if text.endswith("\n") else f"{text}\n"
        if scaffold.write_file(path, content, mode=mode) == "written":
            self.written[name] = note
        elif path.read_text(encoding="utf-8").strip() != text.strip():
            self.differing.append(name)

    def _complete(self, there: Present, wanted: Mapping[str, str], *, about: str) -> None:
        missing = scaffold.missing_variables(there, wanted)
        if missing:
            path = self._folder / env_file.NAME
            before = read_text(path) if path.exists() else ""
            text = scaffold.env_text(before, missing, about=about)
            scaffold.replace_file(path, text, mode=0o600)
            self.written[env_file.NAME] = "the settings, which every command in this folder reads"


def _next(folder: Path, *, for_compose: bool) -> list[str]:
    enter = [] if folder.resolve() == Path.cwd() else [f"cd {quote(str(folder))}"]
    if for_compose:
        return [
            *enter,
            "docker compose up -d                           # with compose.yaml in this folder, too",
            "docker compose logs scheduler | grep sign_in   # a link to the console",
            "docker compose exec scheduler order-sync status",
        ]
    return [
        *enter,
        "order-sync config check --online   # tests the credentials and what they may see",
        "order-sync sync                    # reads the first orders",
        "order-sync run                     # keeps them fresh; its first line has a link to the console",
    ]
