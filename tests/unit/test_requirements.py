"""The locked versions: those of constraints.txt, enough for pyproject.toml, each with its hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
SERVICE: list[str] = PROJECT["project"]["dependencies"]
LOCKS = {
    "build": PROJECT["build-system"]["requires"],
    "service": SERVICE,
    "image": [*SERVICE, *(each for extra in EXTRAS if extra != "dev" for each in EXTRAS[extra])],
    "dev": [*SERVICE, *(each for extra in EXTRAS.values() for each in extra)],
}
"""What each file of requirements/ must be enough for."""

REMEDY = "`make lock` makes requirements/ of pyproject.toml and constraints.txt"


def pins(text: str) -> dict[str, str]:
    """Return the version of each package."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.M)
    return {canonicalize_name(name): version for name, version in found}


def locked(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_the_versions_of_the_constraints(name: str) -> None:
    versions = pins(locked(name))
    assert versions
    assert {n: CONSTRAINTS.get(n) for n in versions} == versions, REMEDY


def test_every_constraint_is_of_a_locked_package() -> None:
    together = {name for each in LOCKS for name in pins(locked(each))}
    assert CONSTRAINTS.keys() - together == set()


@pytest.mark.parametrize(("name", "wanted"), LOCKS.items(), ids=LOCKS)
def test_a_lock_is_enough_for_the_project(name: str, wanted: list[str]) -> None:
    versions = pins(locked(name))
    for each in map(Requirement, wanted):
        version = versions.get(canonicalize_name(each.name))
        assert version is not None, f"{each.name}: {REMEDY}"
        assert each.specifier.contains(version, prereleases=True), f"{each}: {REMEDY}"


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes_and_no_address(name: str) -> None:
    text = locked(name)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    entries = re.split(r"\n(?=\S)", "\n".join(lines))
    for entry in entries:
        assert re.fullmatch(
            r"[a-z0-9._-]+==[^\s;]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", entry
        ), entry
    assert "://" not in text
    assert "--index" not in text


def test_people_ci_and_the_image_install_what_is_locked() -> None:
    makefile, dockerfile = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "Dockerfile"))
    installs = re.findall(r"^\t@\$\(INSTALL\) (.*)", makefile, re.M)
    installs += re.findall(r"/pip (?:--python \S+ )?(?:install|wheel) (.*)", dockerfile)
    assert len(installs) == 8
    for arguments in installs:
        assert "--require-hashes" in arguments or "--no-deps" in arguments, arguments
    froms = re.findall(r"^FROM (\S+)", dockerfile, re.M)
    assert len(set(froms)) == 1
    images = [*froms, *re.findall(r"image: (postgres\S+)", (ROOT / "compose.yaml").read_text())]
    assert len(images) == 3
    for image in images:
        assert re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", image)
