"""What a person may be called is taken as it is, and a CSV file is read as Python reads it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.cli.export_files import write_csv
from poller.cli.output import put_table
from poller.customers.fields import MAX_LENGTH, checked
from poller.customers.imports import read_lines
from poller.errors import Refused
from poller.export import customer_object
from poller.text import plain
from poller.web.schemas.customers import CustomerEdit
from store.records import CustomerRecord
from tests.harness import NOON

# Blanks, joiners and marks that offices type, and that spreadsheets and web pages bring along: Japanese names
# have the first, copies from Word the second (review of customers, F3: refused as "cannot be printed").
NAMES = {
    "ideographic space": "山本\u3000春",
    "no-break space": "12\u00a0rue Inventée",
    "narrow no-break space": "Zoé\u202fInventée",
    "zero width non-joiner": "مهدی\u200cپور",
    "emoji sequence": "Team 👩\u200d🚀",
    "direction mark": "Ann\u200f Invented",
    "direction override": "\u202eAnn\u202c",
    "soft hyphen": "Inven\u00adted",
    "line separator": "Ann\u2028Invented",
    "private use": "\ue000 Ann",
}

TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=MAX_LENGTH).map(str.strip)
"""All that a person may be called; blanks at the ends are not part of it."""


def typed(text: str) -> str | None:
    return named(checked({"name": text}).values)


def sent(text: str) -> str | None:
    body = CustomerEdit.model_validate_json(json.dumps({"name": text}))
    return named(checked(body.field_values()).values)


def named(values: object) -> str | None:
    assert isinstance(values, dict)
    name = values.get("name")
    assert name is None or isinstance(name, str)
    return name


def of_file(path: Path, text: str, heading: str = "external_id,name") -> str | None:
    out = io.StringIO()
    csv.writer(out).writerows([heading.split(","), ("C-1", text)])
    path.write_text(out.getvalue(), encoding="utf-8", newline="")
    (line,) = read_lines(path, {"acme": "acme"}, frozenset())
    assert line.refused is None, line.refused
    return named(line.changes.values)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "customers.csv"


@pytest.mark.parametrize("text", NAMES.values(), ids=NAMES)
def test_real_names_are_taken_and_shown_unchanged(text: str, path: Path) -> None:
    assert typed(text) == sent(text) == of_file(path, text) == plain(text) == text


@given(text=TEXTS)
def test_whatever_a_person_is_called_is_taken_and_shown_unchanged(text: str, path: Path) -> None:
    name = text or None
    assert typed(text) == sent(text) == name
    if text[:1] != "'":  # an apostrophe may be our own export's
        assert of_file(path, text) == name
    assert plain(text) == text


@given(text=TEXTS.filter(bool))
def test_an_exported_name_is_imported_as_it_was(text: str, path: Path) -> None:
    record = CustomerRecord("acme", None, None, NOON, external_id="C-1", name=text)
    out = io.StringIO()
    write_csv("customers", [customer_object(record)], out)
    out.seek(0)
    (row,) = csv.DictReader(out)
    assert of_file(path, row["name"]) == text


def test_a_table_shows_every_character(capsys: pytest.CaptureFixture[str]) -> None:
    put_table(("", ""), list(NAMES.items()))
    shown = capsys.readouterr().out.split("\n")
    assert [line.partition("  ")[2].strip(" ") for line in shown[:-1]] == list(NAMES.values())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Ann\nInvented", "a line break"),
        ("Ann\tInvented", "a control character (U+0009)"),
        ("Ann\0Invented", "a control character (U+0000)"),
        ("Ann\x85Invented", "a control character (U+0085)"),
        ("Ann \ud83d", "half of a character (U+D83D)"),
    ],
)
@pytest.mark.parametrize("name", ["name", "email_1", "billing_line1", "price_list"])
def test_what_no_text_may_hold_is_refused_by_its_name(name: str, text: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        checked({name: text})
    assert str(refused.value) == f"{name} has {reason}: remove it."


def test_blanks_of_any_kind_at_the_ends_are_taken_off() -> None:
    assert typed("\u3000\u00a0Ann\u202f ") == "Ann"
    assert checked({"name": "\u3000\u00a0"}).values == {"name": None}
    assert checked({}, ["tier=\u3000gold\u00a0"]).labels == {"tier": "gold"}


# --- files ------------------------------------------------------------------------------------------

CELLS = st.text(st.sampled_from("aB1 é\u3000'\",;\t\n\r"), max_size=6) | st.text(
    st.characters(codec="utf-8", exclude_characters="\x1a"), max_size=6
)
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=6)
HEADING = ("external_id", "name", "company")


def strictly(text: str, delimiter: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


def read(path: Path, text: str) -> dict[int, object]:
    """What the import makes of a file: by line the cells, or why they are refused."""
    path.write_text(text, encoding="utf-8", newline="")
    lines = read_lines(path, {"acme": "acme"}, frozenset())
    return {line.number: line.refused or dict(line.changes.values) for line in lines}


def expected(row: list[str]) -> object:
    """What has to come of a row that Python's reader gives."""
    while len(row) > len(HEADING) and not row[-1].strip():
        row = row[:-1]
    if len(row) != len(HEADING):
        return f"it has {len(row)} values, the heading {len(HEADING)} columns."
    given = {}
    for name, cell in zip(HEADING, map(str.strip, row), strict=True):
        guarded = cell[:1] == "'" and cell.lstrip("'")[:1] in ("=", "+", "-", "@", "\t", "\r", "\n")
        if cell:
            given[name] = cell[1:].strip() if guarded else cell
    try:
        return dict(checked(given).values)
    except Refused as refused:
        return str(refused)


@given(
    rows=ROWS,
    delimiter=st.sampled_from(",;\t"),
    quoting=st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)),
    end=st.sampled_from(("\n", "\r\n", "\r")),
    begins=st.sampled_from(("", "\ufeff")),
    says=st.booleans(),
)
def test_any_file_that_a_csv_writer_makes_is_read_as_python_reads_it(
    path: Path, rows: list[tuple[str, ...]], delimiter: str, quoting: int, end: str, begins: str, says: bool
) -> None:
    """Also with a byte order mark, and with the line in which Excel says what separates the cells."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerows([HEADING, *rows])
    reread = strictly(out.getvalue(), delimiter)[1:]
    found = read(path, begins + (f"sep={delimiter}{end}" if says else "") + out.getvalue())
    assert list(found.values()) == [expected(row) for row in reread if any(map(str.strip, row))]


@given(body=st.text(st.sampled_from('ab",\n\r'), max_size=40))
def test_any_text_is_read_as_python_reads_it_or_refused(path: Path, body: str) -> None:
    """Refused is only what is in doubt: a mark inside a cell, or another number of cells than columns."""
    text = f"external_id,name,company\n{body}"
    found = read(path, text)
    try:
        rows = strictly(text, ",")[1:]
    except csv.Error:
        rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    wanted = [each for row in rows if isinstance(each := expected(row), dict) and each]
    taken = [outcome for outcome in found.values() if isinstance(outcome, dict)]
    assert all(outcome in wanted for outcome in taken)
    if '"' not in body:
        assert taken == wanted


HALVES = {
    "a line break in the first cell": ('"Ann\nTen",B10', 2, 3, "name has a line break: remove it."),
    "an unclosed mark": ('"Ann,B10', 2, 3, "a quotation mark is not closed."),
    "text after a closed one": ('"Ann" Ten,B10', 2, 2, "a quotation mark stands inside a cell"),
    "a mark in a cell": ('Ann "the,B10', 2, 2, "a quotation mark stands inside a cell"),
    "a mark in a cell that goes on": ('Ann "the\nTen",B10', 2, 2, "a quotation mark stands inside a cell"),
    "one that closes where the next opens": (
        '"Ann,B10\n"Cem",B12',
        2,
        3,
        "a quotation mark stands inside a cell",
    ),
}


@pytest.mark.parametrize(("text", "first", "last", "reason"), HALVES.values(), ids=HALVES)
def test_no_half_of_a_record_is_read(path: Path, text: str, first: int, last: int, reason: str) -> None:
    """Each physical line was parsed alone: a street was stored as ``Flat 3"`` (review of customers, F4)."""
    path.write_text(f"name,external_id\n{text}\nBob,B11\n")
    lines = list(read_lines(path, {"acme": "acme"}, frozenset()))
    refused = lines[0]
    assert (refused.number, refused.last) == (first, last)
    assert refused.refused is not None
    assert refused.refused.startswith(reason)
    rest = [dict(line.changes.values) for line in lines[1:] if line.refused is None]
    assert rest == ([] if "closed." in reason else [{"name": "Bob", "external_id": "B11"}])
    assert all(line.number == 3 for line in lines[1:] if line.refused is not None)


# Files of spreadsheets and other shops (review of customers, log 25-27 and 32: shopware, snipe-it, oroinc).
FILES = {
    "tabs": "External ID\tName\tE-mail\nC-1\tAnn, Ltd\tann@example.com\n",
    "Excel's first line": "sep=;\r\nexternal_id;name;email_1\r\nC-1;Ann, Ltd;ann@example.com\r\n",
    "empty columns at the end": 'external_id,name,email_1,,\nC-1,"Ann, Ltd",ann@example.com,,\n,,,,\n',
    "more cells than columns": 'external_id,name,email_1\nC-1,"Ann, Ltd",ann@example.com,,,\n',
    "capitals and marks": 'EXTERNAL-ID,Name,E-Mail 1\nC-1,"Ann, Ltd",ann@example.com\n',
    "a byte order mark": '\ufeffexternal_id,name,email\nC-1,"Ann, Ltd",ann@example.com\n',
    "carriage returns": 'external_id,name,email_1\rC-1,"Ann, Ltd",ann@example.com\r',
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_files_of_spreadsheets_are_read(path: Path, text: str) -> None:
    (values,) = read(path, text).values()
    assert values == {"external_id": "C-1", "name": "Ann, Ltd", "email_1": "ann@example.com"}
