"""The whole configuration, read at once: variables, accounts, marketplaces.

A running service rereads it, so it never raises for bad input: the caller decides to refuse to start, or
to continue with the last good one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from config import env_file
from config.accounts import check_accounts, drafts_of_environment, read_account_files
from config.files import Unreadable, label, misnamed, toml_names
from config.marketplaces import Catalogue, MarketplaceSettings, read_marketplaces
from config.problems import Problem
from config.settings import Settings, check_settings, read_environment
from config.values import is_loopback


@dataclass(frozen=True, slots=True)
class Config:
    """The usable part, and the problems of the rest.

    ``settings.accounts`` and ``marketplaces`` hold only what may run; a marketplace of a stopped
    account is left out without a problem of its own. ``secret_files`` are ``.env`` and all files
    that variables and account files name, for ``fingerprint``.
    """

    settings: Settings
    marketplaces: tuple[MarketplaceSettings, ...]
    problems: tuple[Problem, ...]
    secret_files: tuple[Path, ...] = field(default=(), repr=False)  # may be a secret by mistake

    @property
    def stopped(self) -> bool:
        """True if nothing can be synced."""
        return self.unusable or any(problem.stops == "syncing" for problem in self.problems)

    @property
    def unusable(self) -> bool:
        """True if a problem stops everything; ``settings`` then has defaults in place of wrong values."""
        return any(problem.stops == "everything" for problem in self.problems)


def load(environ: Mapping[str, str], catalogue: Catalogue) -> Config:
    """Read everything. Bad input is reported in ``Config.problems`` and never raised."""
    completed = env_file.completed(environ)
    environment = read_environment(completed.environ)
    settings, wrong_settings = check_settings(environment.scalars)
    problems = [*completed.problems, *environment.problems, *wrong_settings]
    folder = settings.config_dir / "accounts"
    try:
        from_files, named_files = read_account_files(folder, completed.environ)
    except Unreadable as fault:
        from_files, named_files = (), ()
        problems.append(Problem(f"{folder} {fault}", "everything"))
    drafts = (*drafts_of_environment(environment), *from_files)
    broken = frozenset(p.subject for p in environment.problems if p.stops == "account")
    accounts, wrong_accounts = check_accounts(drafts, broken)
    files = read_marketplaces(
        settings.config_dir / "marketplaces", catalogue, {draft.name for draft in drafts}
    )
    unread = [
        Problem(f"{label(path)} is not read: the names of configuration files end in .toml", "nothing")
        for name in ("accounts", "marketplaces")
        for path in misnamed(settings.config_dir / name)
    ]
    problems.extend(_about_database(settings.database_url.get_secret_value(), environ))
    return Config(
        settings=settings.model_copy(update={"accounts": accounts}),
        marketplaces=tuple(m for m in files.good if m.account in accounts),
        problems=(*problems, *wrong_accounts, *files.problems, *unread),
        secret_files=(*environment.secret_files, *named_files, *filter(None, [completed.file])),
    )


def _about_database(url: str, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a warning if a PostgreSQL beyond this machine may be used without TLS, which libpq allows.

    ``sslmode=disable`` is a decision, of which no one needs to be warned.
    """
    if tls_mode(url, environ) in _WITHOUT_TLS:
        yield Problem(
            "ORDER_SYNC_DATABASE_URL: PostgreSQL on another machine may be used without TLS: add "
            "?sslmode=verify-full (or require), or disable if the way there is private.",
            "nothing",
        )


_WITHOUT_TLS = ("prefer", "allow", "")


def tls_mode(url: str, environ: Mapping[str, str]) -> str | None:
    """Return libpq's ``sslmode`` for a PostgreSQL on another machine; None for any other database."""
    if not url.startswith("postgresql"):
        return None
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    hosts = ",".join(query.get("host", [parts.hostname or environ.get("PGHOST", "")])).split(",")
    if all(_is_here(host) for host in hosts):
        return None
    return query.get("sslmode", [environ.get("PGSSLMODE", "prefer")])[-1]


def _is_here(host: str) -> bool:
    """Return True for this machine, and for a socket in the file system."""
    return not host or host.startswith("/") or is_loopback(host)


def fingerprint(config_dir: Path, secret_files: Collection[Path] = ()) -> str:
    """Return a text that changes if a file of the configuration is added, removed or written.

    Reads names, sizes and times only. Take it before ``load``, with the secret files of the last load:
    a change in between, such as a new secret file, then shows the next time.
    """
    paths = {str(path) for path in secret_files}
    for name in ("accounts", "marketplaces"):
        try:
            paths.update(toml_names(config_dir / name))
        except Unreadable:
            paths.add(str(config_dir / name))
    lines = "\n".join(f"{path}\t{_stamp(path)}" for path in sorted(paths))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return "absent"
    return f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"
