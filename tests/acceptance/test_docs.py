"""What the documentation says must be so: names, commands, options, tables, keys, links and examples."""

from __future__ import annotations

import configparser
import inspect
import json
import re
import shlex
import shutil
import subprocess
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import typer

from config.load import load
from config.marketplaces import INCLUDED_DATA, MarketplaceSettings
from config.scaffold import SECRETS
from config.settings import ACCOUNT_KEYS, PREFIX, SCALARS, check_settings
from connectors.marketplaces import BY_NAME, MARKETPLACES, NON_AMAZON
from connectors.simulator.world import CLIENT_ID, CLIENT_SECRET, Seller
from poller.audit import Audited
from poller.cli import failures
from poller.cli.commands import COMMANDS, load_command
from poller.cli.simulator import marketplace_file
from poller.customers.imports import COLUMNS
from poller.export import ADDRESS_KEYS, KEYS, order_object
from poller.matching.explanations import TEXTS
from poller.web.policy import ITEMS
from poller.webhooks.rules import event_object
from store import revisions, tables
from store.audit_records import ACTIONS
from store.change_records import Change, EventKind, Position
from store.engine import create_engine
from store.records import Basis, LineRecord, OrderRecord, PackageRecord

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
}
README = PAGES["README.md"]
EVERYTHING = "\n".join(PAGES.values())


def section(page: str, heading: str) -> str:
    """A page's text, without code blocks, from a heading to the next one of its level or above."""
    level = heading.partition(" ")[0]
    _, found, rest = f"\n{without_blocks(PAGES[page])}".partition(f"\n{heading}\n")
    assert found, f"{page} has no {heading}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.M)[0]


def without_blocks(text: str) -> str:
    """A text without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def rows(text: str) -> list[list[str]]:
    """The rows of all tables of a text, without headings and rulers."""
    lines = [line.strip() for line in text.splitlines()]
    found = []
    for before, line in zip(["", *lines], lines, strict=False):
        is_heading = not before.startswith("|")
        if line.startswith("|") and not is_heading and not line.startswith("|---"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def quoted(text: str) -> list[str]:
    """Everything between backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


# --- settings ------------------------------------------------------------------------------------------


def settings_of_the_code() -> set[str]:
    accounts = {f"{PREFIX}ACCOUNTS__<NAME>__{key.upper()}" for key in ACCOUNT_KEYS}
    return {f"{PREFIX}{name}" for name in SCALARS} | accounts


def test_the_table_has_every_setting_and_no_other() -> None:
    documented = [quoted(row[0])[0] for row in rows(PAGES["docs/settings.md"])]
    assert sorted(documented) == sorted(settings_of_the_code())


def test_every_setting_that_a_page_names_exists() -> None:
    known = settings_of_the_code()
    for name in re.findall(rf"{PREFIX}[A-Z][A-Z0-9_<>]*[A-Z>]", EVERYTHING):
        assert name.removesuffix("_FILE").replace("__ACME__", "__<NAME>__") in known


def test_the_written_defaults_are_those_of_the_code() -> None:
    settings, problems = check_settings({})
    assert not problems
    written = {quoted(row[0])[0]: quoted(row[2]) for row in rows(PAGES["docs/settings.md"])}
    limits = ("READY_SUCCESS_SECONDS", "READY_GAP_SECONDS", "READY_REFUSAL_SECONDS")
    for name in ("CONFIG_DIR", "POLL_SECONDS", "POLL_SECONDS_BUSY", "EXECUTOR", "LOG_LEVEL", *limits):
        assert written[f"{PREFIX}{name}"] == [str(getattr(settings, name.lower()))]
    assert written[f"{PREFIX}DATABASE_URL"] == [settings.database_url.get_secret_value()]
    assert settings.shared_emails == ()
    assert settings.encryption_key is None


@pytest.mark.parametrize(
    ("heading", "known"),
    [
        ("## Accounts", set(ACCOUNT_KEYS)),
        (
            "## Marketplaces",
            {"marketplace", *MarketplaceSettings.model_fields, *INCLUDED_DATA}
            - {"file", "code", "marketplace_id", "region", "currency"},
        ),
    ],
)
def test_the_keys_of_files_are_documented_and_no_other(heading: str, known: set[str]) -> None:
    documented = [quoted(row[0])[0] for row in rows(section("docs/configuration.md", heading))]
    assert sorted(documented) == sorted(known)


def test_the_marketplaces_there_are_are_listed() -> None:
    listed = re.findall(r"\b[A-Z]{2}\b", section("docs/configuration.md", "## Known marketplaces"))
    assert sorted(listed) == sorted(place.code for place in MARKETPLACES)


EXAMPLE_ID = "amzn1.application-oa2-client.0123456789abcdef"


# --- examples ------------------------------------------------------------------------------------------


def examples() -> Iterator[tuple[str, str]]:
    """Every TOML block, with the file that it is said to be."""
    for page, text in PAGES.items():
        for block in blocks(text, "toml"):
            said = re.match(r"# file: (\S+)\n", block)
            yield page, (said[1] if said else "marketplaces/example.toml") + "\0" + block


@pytest.mark.parametrize(("page", "example"), list(examples()))
def test_an_example_file_is_read_without_a_word(page: str, example: str, tmp_path: Path) -> None:
    name, _, text = example.partition("\0")
    is_alone = NON_AMAZON.code not in text
    environ = {f"{PREFIX}CONFIG_DIR": str(tmp_path), "ACME_REFRESH_TOKEN": "Atzr|x"}
    for folder in ("accounts/secrets", "marketplaces"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "accounts/secrets/acme-client-secret").write_text("secret")
    (tmp_path / "marketplaces/uk.toml").write_text(marketplace_file("UK", NOON.date()))
    if name.startswith("marketplaces/"):
        if is_alone:
            (tmp_path / "marketplaces/uk.toml").unlink()
        for key in ("LWA_CLIENT_ID", "LWA_CLIENT_SECRET", "REFRESH_TOKEN"):
            environ[f"{PREFIX}ACCOUNTS__ACME__{key}"] = "x"
    (tmp_path / name).write_text(text.replace(EXAMPLE_ID, "real"), encoding="utf-8")

    config = load(environ, BY_NAME)

    assert [str(problem) for problem in config.problems] == []
    assert len(config.settings.accounts) == 1
    assert len(config.marketplaces) == (1 if is_alone else 2)


def test_there_are_examples_of_both_kinds_of_file() -> None:
    names = {example.partition("/")[0] for _, example in examples()}
    assert names == {"accounts", "marketplaces"}


def test_the_example_folder_is_read_without_a_word(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "docs/examples/config", tmp_path / "config")
    account = folder / "accounts/acme.toml"
    account.write_text(account.read_text(encoding="utf-8").replace(EXAMPLE_ID, "real"), encoding="utf-8")
    environ = {
        f"{PREFIX}CONFIG_DIR": str(folder),
        "ACME_LWA_CLIENT_SECRET": "secret",
        "ACME_REFRESH_TOKEN": "Atzr|x",
    }
    config = load(environ, BY_NAME)
    assert [str(problem) for problem in config.problems] == []
    assert {m.code for m in config.marketplaces} == {"UK", "DE"}


def test_the_full_example_has_every_key_of_a_marketplace_file() -> None:
    (full,) = [b for b in blocks(PAGES["docs/configuration.md"], "toml") if "uk.toml" in b]
    for text in (full, (ROOT / "docs/examples/config/marketplaces/uk.toml").read_text(encoding="utf-8")):
        keys = set(re.findall(r"^\[?(\w+)", text, re.M))
        assert {row[0].strip("`") for row in rows(section("docs/configuration.md", "## Marketplaces"))} - set(
            INCLUDED_DATA
        ) <= keys


# --- commands ------------------------------------------------------------------------------------------


def commands_of_the_code() -> dict[str, Any]:
    """Every command as it is typed, with its function."""
    found: dict[str, Any] = {}
    for name in COMMANDS:
        there = load_command(name)
        if not isinstance(there, typer.Typer):
            found[name] = there
            continue
        assert there.registered_groups == []
        for command in there.registered_commands:
            assert command.callback is not None
            found[f"{name} {command.name or command.callback.__name__}"] = command.callback
    return found


def options_of(function: Any) -> set[str]:
    """The options of a command, as they are typed."""
    found = {"--help"}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        for detail in getattr(parameter.annotation, "__metadata__", ()):
            if type(detail).__name__ == "OptionInfo":
                # In an annotation the first declaration stands where the default usually does.
                texts = [
                    text for text in (detail.default, *(detail.param_decls or ())) if isinstance(text, str)
                ]
                declared = [part for text in texts for part in text.split("/")]
                found.update(declared or [f"--{name.replace('_', '-')}"])
    return found


def test_the_table_has_every_command_and_no_other() -> None:
    documented = []
    for row in rows(without_blocks(PAGES["docs/commands.md"])):
        names = quoted(row[0])
        if not names:
            continue
        group = names[0].split()[1]
        documented += [names[0].removeprefix("order-sync ")]
        for name in names[1:]:
            documented.append(name if " " in name else f"{group} {name}")
    assert sorted(documented) == sorted(commands_of_the_code())


def typed() -> Iterator[tuple[str, list[str]]]:
    """Every call of the program in the pages: in shell blocks and between backticks."""
    for page, text in PAGES.items():
        lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
        lines += quoted(without_blocks(text))
        for line in lines:
            for call in re.findall(r"(?:^|\s)order-sync ([a-z][^|><#&]*)", line):
                yield page, shlex.split(call)


def test_every_call_in_the_pages_names_a_command_and_options_that_exist() -> None:
    known = commands_of_the_code()
    groups = {name.partition(" ")[0] for name in known if " " in name}
    calls = list(typed())
    assert len(calls) > 40
    for page, words in calls:
        name = " ".join(words[:2]) if words[0] in groups and len(words) > 1 else words[0]
        if name in groups:
            continue
        assert name in known, f"{page}: order-sync {' '.join(words)}"
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= options_of(known[name]), f"{page}: order-sync {' '.join(words)}"


def test_options_in_the_table_of_commands_exist() -> None:
    known = commands_of_the_code()
    for row in rows(without_blocks(PAGES["docs/commands.md"])):
        names = quoted(row[0])
        if not names:
            continue
        word = names[0].split()[1]
        there = set[str]().union(*(options_of(f) for name, f in known.items() if name.split()[0] == word))
        for option in re.findall(r"--[a-z-]+", row[1]):
            assert option in there


def test_the_simulators_options_are_documented_with_their_defaults() -> None:
    documented = {
        name for row in rows(PAGES["docs/simulator.md"]) for name in re.findall(r"--[a-z-]+", row[0])
    }
    function = commands_of_the_code()["simulator"]
    assert documented | {"--help"} == options_of(function)
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    written = {
        row[0].strip("`").removeprefix("--"): row[2].strip("`") for row in rows(PAGES["docs/simulator.md"])
    }
    for secret in (CLIENT_ID, CLIENT_SECRET, Seller().refresh_token):
        assert secret in PAGES["docs/simulator.md"]
    for name in ("port", "seed", "orders", "marketplaces"):
        assert written[name] == str(defaults[name])
    assert defaults["fast"] is True
    assert defaults["faults"] is False


def test_the_exit_statuses_are_those_of_the_code() -> None:
    documented = {int(row[0]) for row in rows(without_blocks(PAGES["docs/commands.md"])) if row[0].isdigit()}
    assert documented == {
        0,
        failures.FAULT,
        failures.BAD_INPUT,
        failures.MISSING,
        failures.DEFERRED,
        failures.INTERRUPTED,
    }


def test_the_systemd_unit_starts_what_the_page_installs() -> None:
    text, page = (
        (ROOT / "docs/ops/order-sync.service").read_text(encoding="utf-8"),
        PAGES["docs/operation.md"],
    )
    unit = configparser.ConfigParser(interpolation=None, strict=False)  # a key may be repeated
    unit.read_string(text)
    service = unit["Service"]
    program, command = service["ExecStart"].split()
    assert command in commands_of_the_code()
    assert f"{Path(program).parent}/pip install" in page
    variables = dict(each.split("=", 1) for each in service["Environment"].split())
    folder = variables[f"{PREFIX}CONFIG_DIR"]
    assert f"order-sync init {folder}\n" in page
    (database,) = re.findall(rf"{PREFIX}DATABASE_URL=\S+[^.\s]", text)
    assert f"echo {database} | sudo tee -a {folder}/.env\n" in page
    assert database.partition("sqlite:///")[2].startswith(service["WorkingDirectory"])
    assert f"useradd --system --shell /usr/sbin/nologin {service['User']}\n" in page
    assert service["RestartPreventExitStatus"] == str(failures.BAD_INPUT)
    for name in re.findall(rf"{PREFIX}[A-Z_]*[A-Z]", text):
        assert name.replace("__ACME__", "__<NAME>__") in settings_of_the_code()


@pytest.mark.long  # needs Debian's package systemd
def test_the_systemd_unit_is_confined() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=25"]
    done = subprocess.run([*command, "docs/ops/order-sync.service"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    level = re.search(r"Overall exposure level for order-sync\.service: ([\d.]+)", done.stdout)
    assert level is not None
    assert float(level[1]) <= 2.5


def test_git_leaves_alone_what_a_user_keeps_in_a_clone() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    written = {".env", f"/{SECRETS}/", "/marketplaces/", "/accounts/", "/simulated/"}
    assert written | {"/config/marketplaces/", "/config/accounts/"} <= set(ignored)


def test_the_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(blocks(EVERYTHING, "sh"))))
    assert named
    assert named <= targets


# --- the database and the export -----------------------------------------------------------------------


def test_every_table_is_documented_with_its_sealed_columns_and_no_other() -> None:
    documented = {
        quoted(row[0])[0]: tuple(re.findall(r"\*\*(\w+)\*\*", row[2]))
        for row in rows(section("docs/database.md", "## What can be read without the key"))
    }
    assert documented == {name: tables.SEALED.get(name, ()) for name in tables.metadata.tables}


def test_every_index_is_documented_with_what_it_answers_and_no_other() -> None:
    documented = [quoted(row[0])[0] for row in rows(section("docs/database.md", "## Indexes"))]
    there: set[str] = set()
    for table in tables.metadata.tables.values():
        there.update(str(index.name) for index in table.indexes)
        there.update(str(c.name) for c in table.constraints if isinstance(c, sa.UniqueConstraint))
    assert sorted(documented) == sorted(there)


def test_every_column_that_is_readable_without_the_key_is_explained_and_no_other() -> None:
    text = section("docs/security.md", "## What is readable without the key")
    explained: dict[str, list[str]] = {}
    for table, columns, why in rows(text):
        assert why
        explained.setdefault(quoted(table)[0], []).extend(quoted(columns))
    harmless = quoted(text.partition("Nothing in the other tables leads to a buyer:")[2].partition(". ")[0])
    there = {
        table.name: sorted({c.name for c in table.columns} - {*tables.SEALED.get(table.name, ())})
        for table in tables.metadata.sorted_tables
    }
    assert sorted([*explained, *harmless]) == sorted(there)
    assert {name: sorted(columns) for name, columns in explained.items()} == {
        name: there[name] for name in explained
    }


def test_every_item_of_the_policy_is_explained_and_no_other() -> None:
    documented = rows(section("docs/security.md", "## Amazon's data protection policy"))
    assert [(item, *quoted(shown)[:1]) for item, _, _, shown in documented] == [
        (item, *([f"order-sync {command}"] if command else [])) for item, command, _ in ITEMS
    ]


def test_the_sql_of_the_pages_runs(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'order-sync.db'}")
    revisions.upgrade(engine)
    queries = blocks(PAGES["docs/database.md"], "sql")
    assert queries
    with engine.connect() as connection:
        for query in queries:
            connection.execute(sa.text(query)).all()
    engine.dispose()


@pytest.mark.parametrize(("heading", "what"), [("### Order", "orders"), ("### Customer", "customers")])
def test_the_exported_keys_are_documented_and_no_other(heading: str, what: str) -> None:
    documented = [key for row in rows(section("docs/database.md", heading)) for key in quoted(row[0])]
    assert sorted(documented) == sorted(KEYS[what])


def test_the_keys_of_lines_packages_and_addresses_are_documented_and_no_other() -> None:
    order = OrderRecord(
        "", "", "", NOON, NOON, {}, lines=(LineRecord("1", 0),), packages=(PackageRecord("1"),)
    )
    exported = order_object(order)
    text = " ".join(section("docs/database.md", "### Order").split())
    for what, keys in (
        ("A line has", exported["lines"][0]),
        ("A package has", exported["packages"][0]),
        ("An address has", ADDRESS_KEYS),
    ):
        (sentence,) = re.findall(rf"{what} (.*?)\.", text)
        assert sorted(quoted(sentence)) == sorted(keys)


def test_the_columns_of_an_import_are_documented_and_no_other() -> None:
    documented = [name for row in rows(section("docs/customers.md", "## Import")) for name in quoted(row[0])]
    assert sorted(documented) == sorted(COLUMNS)


def test_every_kind_of_event_is_documented_and_no_other() -> None:
    documented = [quoted(row[0])[0] for row in rows(section("docs/changes.md", "## Events"))]
    assert sorted(documented) == sorted(typing.get_args(EventKind))


def test_every_action_of_the_audit_log_is_documented_with_its_meaning_and_no_other() -> None:
    documented = {quoted(row[0])[0]: row[1] for row in rows(section("docs/audit.md", "## An entry"))}
    actions = {name: meaning for name, meaning in documented.items() if name in ACTIONS}
    assert actions == dict(ACTIONS)
    keys = [key for row in rows(section("docs/audit.md", "## An entry")) for key in quoted(row[0])]
    assert [key for key in keys if key not in ACTIONS] == list(Audited.__annotations__)


def test_the_example_of_an_event_has_the_keys_of_one() -> None:
    (example,) = (json.loads(block) for block in blocks(PAGES["docs/changes.md"], "json"))
    event = event_object(Change(Position(1, 2, 3), "order.changed", NOON, account="acme", order_id="1"))
    assert example.keys() == event.keys()
    assert example["data"].keys() == event["data"].keys()  # type: ignore[attr-defined]


def test_every_match_basis_is_documented_and_no_other() -> None:
    table = rows(section("docs/matching.md", "## `match_basis`"))
    documented = [name for row in table for name in quoted(row[0])]
    assert sorted(documented) == sorted(typing.get_args(Basis))


def test_every_rule_that_explains_an_order_is_documented() -> None:
    documented = {row[0] for row in rows(PAGES["docs/matching.md"])}
    assert documented >= TEXTS.keys()


# --- links ---------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The anchors that a page's headings get."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_relative_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached = {"README.md"}
    waiting = ["README.md"]
    while waiting:
        page = waiting.pop()
        for target in re.findall(r"\]\(([^)#\s]+\.md)", PAGES[page]):
            found = ((ROOT / page).parent / target).resolve().relative_to(ROOT).as_posix()
            if found not in reached:
                reached.add(found)
                waiting.append(found)
    assert reached == set(PAGES)


def test_the_readme_is_a_front_door() -> None:
    """Its first screen has pictures, and it stays short: what is longer has a page of its own."""
    assert len(README.splitlines()) <= 156
    assert len(README.encode()) <= 12_500
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', README)
    assert len(pictures) == 4
    for name in pictures:
        assert (ROOT / name).stat().st_size < 150_000, name
