"""The pages for developers say what is so: rooms, rule numbers, states, files and names in the code."""

from __future__ import annotations

import ast
import itertools
import re
import tomllib
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "development"
PACKAGES = ("config", "connectors", "poller", "store")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*sorted(FOLDER.rglob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md")
    if path.exists()
}
ARCHITECTURE = PAGES["docs/development/architecture.md"]
RULES = PAGES["docs/development/rules.md"]
STATES = PAGES["docs/development/state-machines.md"]

SOURCES = [
    path
    for package in (*PACKAGES, "tests")
    for kind in ("*.py", "*.html")
    for path in sorted((ROOT / package).rglob(kind))
]


def section(text: str, heading: str) -> str:
    """Return what stands between a heading and the next of its level or above."""
    level = heading.partition(" ")[0]
    _, there, rest = f"\n{text}".partition(f"\n{heading}\n")
    assert there, f"no heading {heading}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.M)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of each row of a text's tables, without headings and rulers."""
    lines = ["", *text.splitlines()]
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        for before, line in itertools.pairwise(lines)
        if line.startswith("|") and before.startswith("|") and not line.startswith("|--")
    ]


# --- rooms ----------------------------------------------------------------------------------------------


def rooms_of_the_tree() -> set[str]:
    """Return each package, and each module that stands in the poller beside them."""
    packages = {
        f"{path.parent.relative_to(ROOT).as_posix()}/"
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    modules = {f"poller/{path.name}" for path in (ROOT / "poller").glob("*.py") if path.name != "__init__.py"}
    return packages - {"poller/"} | modules


def rooms_of_the_page() -> dict[str, list[str]]:
    """Return the table of rooms: the cells beside each room's name."""
    return {cells[0].strip("`"): cells[1:] for cells in rows(section(ARCHITECTURE, "## Rooms"))}


def test_every_room_has_its_row_and_its_sentence_and_every_row_its_room() -> None:
    described = rooms_of_the_page()
    assert sorted(described) == sorted(rooms_of_the_tree())
    assert [room for room, (_, sentence, imports) in described.items() if not sentence or not imports] == []


def floors_of_the_contract() -> dict[str, int]:
    """Return the floor of each room of the poller, from the top, as import-linter enforces it."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (
        contract["layers"]
        for contract in pyproject["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["poller"]
    )
    return {
        name.strip(" ()"): floor for floor, layer in enumerate(layers, 1) for name in re.split(r"[|:]", layer)
    }


def test_the_floors_are_those_of_the_layers_contract() -> None:
    described = {
        room.removeprefix("poller/").removesuffix(".py").strip("/"): int(cells[0])
        for room, cells in rooms_of_the_page().items()
        if room.startswith("poller/") and room.count("/") <= 2 - room.endswith(".py")
    }
    assert described == floors_of_the_contract()
    siblings = {room: cells for room, cells in rooms_of_the_page().items() if not room.startswith("poller/")}
    assert {floor for floor, *_ in siblings.values()} == {""}


# --- rules ----------------------------------------------------------------------------------------------


def test_every_rule_that_the_code_cites_is_written_down_once() -> None:
    written = [cells[0] for cells in rows(RULES)]
    assert len(written) == len(set(written))
    cited = {
        f"R{number}"
        for path in SOURCES
        for number in re.findall(r"\bR(\d{1,2})\b|\btest_r(\d{1,2})_", path.read_text(encoding="utf-8"))
        for number in number
        if number
    }
    assert cited - set(written) == set()
    assert len(cited) > 40


# --- states ---------------------------------------------------------------------------------------------


def literals_of_states() -> set[str]:
    """Return the dotted name of each ``…State = Literal[…]`` of the product."""
    names = set()
    for path in SOURCES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.suffix != ".py" or module.startswith("tests."):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Literal["):
                names |= {
                    f"{module}.{target.id}"
                    for target in node.targets
                    if isinstance(target, ast.Name) and target.id.endswith("State")
                }
    return names


def diagrams() -> dict[str, set[str]]:
    """Return the states that each diagram shows, by the Literal that the section's text begins with."""
    shown = {}
    for literal, diagram in re.findall(
        r"^#+ [^\n]+\n\n`([\w.]+State)`.*?```mermaid\nstateDiagram-v2\n(.*?)```", STATES, re.M | re.S
    ):
        ends = re.findall(r"^ +(\S+) --> ([^\s:]+)", diagram, re.M)
        shown[literal] = {state for pair in ends for state in pair} - {"[*]"}
    return shown


def test_every_literal_of_states_has_a_diagram() -> None:
    assert sorted(diagrams()) == sorted(literals_of_states())


@pytest.mark.parametrize("literal", sorted(diagrams()))
def test_a_diagram_shows_the_states_of_the_code_and_no_other(literal: str) -> None:
    """A name in italics below the diagram is the end of a row, which is not stored."""
    module, _, name = literal.rpartition(".")
    text = STATES[STATES.index(f"`{literal}`") :]
    unstored = set(re.findall(r"^\*(\w+)\* is the end of the row", text.partition("\n## ")[0], re.M))
    assert diagrams()[literal] - unstored == set(typing.get_args(getattr(import_module(module), name)))


# --- files and names ------------------------------------------------------------------------------------


def quoted(text: str) -> Iterator[str]:
    """Yield everything between backticks, outside of code blocks."""
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


@pytest.mark.parametrize("page", sorted(PAGES))
def test_files_and_folders_that_a_page_names_exist(page: str) -> None:
    known = {path.name for path in ROOT.iterdir()}
    missing = []
    for word in quoted(PAGES[page]):
        is_path = re.fullmatch(r"[\w./-]+", word) and word.partition("/")[0] in known
        if is_path and ("/" in word or "." in word) and not (ROOT / word).exists():
            missing.append(word)
    assert [word for word in missing if not is_name(word)] == []


def is_name(word: str) -> bool:
    return bool(re.fullmatch(r"\w+(\.\w+)+", word)) and word.partition(".")[0] in PACKAGES


@pytest.mark.parametrize("page", sorted(PAGES))
def test_names_of_the_code_that_a_page_names_exist(page: str) -> None:
    for word in filter(is_name, quoted(PAGES[page])):
        assert resolved(word) is not None, f"{page}: {word}"


def resolved(name: str) -> Any:
    """Return the module, class, function or constant of a dotted name; None if there is none."""
    words = name.split(".")
    for end in range(len(words), 0, -1):
        try:
            there: Any = import_module(".".join(words[:end]))
        except ModuleNotFoundError:
            continue
        for word in words[end:]:
            there = getattr(there, word, None)
        return there
    return None
