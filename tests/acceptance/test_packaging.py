"""What users install: built from what the image copies, installed into an empty environment, and run."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

from poller.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")

pytestmark = pytest.mark.timeout(400)


def instructions(word: str) -> list[str]:
    """The arguments of every such instruction of the Dockerfile, continued lines joined."""
    joined = re.sub(r"\\\n", " ", DOCKERFILE)
    return [line.partition(" ")[2].strip() for line in joined.splitlines() if line.startswith(f"{word} ")]


def copied() -> list[tuple[list[str], str]]:
    """Every COPY from the source tree: what, and where to."""
    found = []
    for arguments in instructions("COPY"):
        if not arguments.startswith("--from"):
            *sources, target = shlex.split(arguments)
            found.append((sources, target))
    return found


@dataclass(frozen=True)
class Installed:
    wheel: Path
    bin: Path
    folder: Path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the new environment in an empty folder of its own, with hardly any variables."""
        environ = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.folder), "TMPDIR": str(self.folder)}
        environ |= variables
        return subprocess.run(
            command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=170, check=False
        )


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The installation, made once for all of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "packaging"
    with (shared / "packaging.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "finished").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder)
            (folder / "finished").touch()
    (wheel,) = (folder / "wheels").glob("*.whl")
    return Installed(wheel, folder / "order-sync" / "bin", tmp_path_factory.mktemp("empty"))


def _install(folder: Path) -> None:
    """What the Dockerfile does, step by step: copy, make an environment, build the wheel, install it."""
    source = folder / "source"
    source.mkdir(parents=True)
    for sources, target in copied():
        for name in sources:
            if (ROOT / name).is_dir():
                caches = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, source / target, ignore=caches)
            else:
                shutil.copy(ROOT / name, source / target)
    for steps in instructions("RUN")[:2]:
        for place in ("/opt/order-sync", "/opt/build", "/wheels"):
            steps = steps.replace(place, str(folder / place.rpartition("/")[2]))
        _run(source, "sh", "-euc", f'python() {{ {shlex.quote(sys.executable)} "$@"; }}; {steps}')


def _run(folder: Path, *command: str) -> None:
    pip = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1"}
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **pip}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_the_wheel_holds_the_four_packages_and_the_migrations_and_nothing_else(installed: Installed) -> None:
    with ZipFile(installed.wheel) as wheel:
        names = wheel.namelist()
    assert "store/migrations/versions/0001_the_first_schema.py" in names
    assert "store/migrations/env.py" in names
    rooms = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert rooms == {"config", "connectors", "poller", "store"}
    assert [name for name in names if name.endswith((".toml", ".db", ".pyc")) or "/accounts/" in name] == []


@pytest.mark.long
def test_every_module_and_page_of_the_source_tree_is_in_the_wheel(installed: Installed) -> None:
    with ZipFile(installed.wheel) as wheel:
        names = set(wheel.namelist())
    modules = {
        str(path.relative_to(ROOT))
        for room in ("config", "connectors", "poller", "store")
        for kind in ("*.py", "*.html", "*.css", "*.js", "*.svg")
        for path in (ROOT / room).rglob(kind)
    }
    assert "poller/web/console/templates/base.html" in modules
    assert modules - names == set()


@pytest.mark.long
def test_the_wheel_carries_its_licence(installed: Installed) -> None:
    with ZipFile(installed.wheel) as wheel:
        (metadata,) = (wheel.read(name) for name in wheel.namelist() if name.endswith("/METADATA"))
        (licence,) = (wheel.read(name) for name in wheel.namelist() if name.endswith("/LICENSE"))
    assert b"\nLicense-Expression: Apache-2.0\n" in metadata
    assert b"\nSPDX-License-Identifier: Apache-2.0\n" in licence


@pytest.mark.long
def test_the_demo_of_the_installed_wheel_ends_well_says_what_it_did_and_names_no_one(
    installed: Installed,
) -> None:
    """In an empty folder, where a proxy is set that does not work: the simulator is on this machine."""
    done = installed.run(
        "order-sync", "demo", http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9"
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for said in (
        "faster than the real one",
        "order-sync sync --wait",
        "all history is stored",
        "known by e-mail",
        "the e-mail came later",
        "In quarantine",
        "orderItems is missing",
        "429, too many requests",
        "a server error: retried",
        "with its history since",
        "R6: A main e-mail of customer",
        "orders are stored, none twice",
        "has exactly one customer record",
        "order-sync config check --online",
    ):
        assert said in done.stdout
    stored = re.search(r"All ([\d,]+) orders", done.stdout)
    assert stored is not None
    assert int(stored[1].replace(",", "")) >= 500
    for secret in ("@", "Atzr", "Atza", "simulated-client-secret", "Musterfrau", "Invented Street", "+44"):
        assert secret not in done.stdout
    assert list(installed.folder.iterdir()) == []


@pytest.mark.long
def test_the_installed_commands_are_those_that_image_and_compose_call(installed: Installed) -> None:
    (started,) = instructions("CMD")
    called = [shlex.split(started.strip("[]").replace(",", ""))]
    (checked,) = (arguments.partition("CMD ")[2] for arguments in instructions("HEALTHCHECK"))
    called.append(shlex.split(checked.strip("[]").replace(",", "")))
    called += [shlex.split(c.replace(",", "")) for c in re.findall(r"^    command: \[(.*)\]$", COMPOSE, re.M)]
    assert called == [
        ["order-sync", "run"],
        ["order-sync", "health"],
        ["order-sync", "db", "upgrade"],
        ["order-sync", "worker"],
    ]
    for program, *words in called:
        assert words[0] in COMMANDS
        done = installed.run(program, *words, "--help")
        assert done.returncode == 0, done.stderr
    assert installed.run("order-sync", "health").returncode == 1
    assert installed.run("order-sync", "--version").stdout.strip() == "order-sync 0.1.0"


@pytest.mark.long
def test_postgresql_can_be_reached_from_the_image(installed: Installed) -> None:
    done = installed.run("python", "-c", "import psycopg; print(psycopg.pq.__impl__)")
    assert done.stdout.strip() == "binary"


def test_the_image_copies_what_there_is_and_what_the_context_lets_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!").rstrip("/") for line in ignored if line.startswith("!")}
    wanted = {name for sources, _ in copied() for name in sources}
    assert wanted == allowed
    for name in wanted:
        assert (ROOT / name).exists()


def test_the_image_does_not_run_as_root_and_keeps_its_data_in_a_volume() -> None:
    assert instructions("USER") == ["order-sync"]
    assert instructions("WORKDIR")[-1] == "/data"
    assert instructions("VOLUME") == ["/data"]
    assert "--uid 10001" in DOCKERFILE
    assert DOCKERFILE.index("useradd") < DOCKERFILE.index("USER order-sync")


def test_compose_gives_the_service_longer_to_stop_than_it_needs() -> None:
    from poller.service.lifecycle import STOP_WITHIN

    graces = re.findall(r"stop_grace_period: (\d+)s", COMPOSE)
    assert len(graces) == 2
    assert min(map(int, graces)) > STOP_WITHIN


def test_compose_starts_a_scheduler_and_two_workers_on_one_database() -> None:
    shared, _, services = COMPOSE.partition("\nservices:\n")
    assert shared.count("ORDER_SYNC_EXECUTOR: procrastinate") == 1
    parts = dict(re.findall(r"^  (\w+):\n((?:    .*\n|\n)+)", services.partition("\nvolumes:\n")[0], re.M))
    assert set(parts) == {"database", "upgrade", "scheduler", "worker"}
    for name in ("upgrade", "scheduler", "worker"):
        assert "<<: *service" in parts[name]
        assert "environment:" not in parts[name]
    assert "replicas: 2" in parts["worker"]
    assert "replicas" not in parts["scheduler"]
