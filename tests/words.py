"""Refuse words that this project does not write: ``python -m tests.words [FILE OR FOLDER]…``.

Looked through are docstrings, comments and texts of the product, docstrings of tests, documents and
templates. Prose is found by masking everything else with blanks, so that a phrase is found across lines and
its place is the file's own.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

WORDS = {
    "told": "reported, notified, or the fact itself",
    "anew": "again, or a verb with re-",
    "whoever": "the caller, the reader, or if",
    "nobody": "no one, no process, no customer",
    "somebody": "someone, another process, a person",
    "so many": "N, that many, this number of",
    "asked for": "requested",
    "asked again": "requested again, retried",
    "fetched again": "refetched",
    "looked at": "checked, read",
    "gives way": "is dropped",
    "sees to": "handles",
    "keeps to": "follows",
    "a stretch": "a range, an interval",
    "stretches": "ranges, intervals",
    "trouble": "problem, failure",
    "troubles": "problems, failures",
    "moment": "time, timestamp",
    "let go of": "drop, release",
}
"""Each retired word with what to write instead."""

_PATTERNS = {
    word: re.compile(r"\b" + r"[\s#\"']+".join(word.split()) + r"\b", re.IGNORECASE) for word in WORDS
}
_FIELD = re.compile(r"\{[^{}\n]*\}")
_NAME = re.compile(r"[rbuf]*(['\"])\w+\1")  # a text of one word is the name of a column, a key or a state
_PROSE = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}


def masked(text: str, kept: list[tuple[int, int]]) -> str:
    """Return the text with everything outside of the kept spans blank, each line where it was."""
    result, end = [], 0
    for first, last in [*kept, (len(text), len(text))]:
        result.append(re.sub(r"[^\n]", " ", text[end:first]))
        result.append(text[first:last])
        end = last
    return "".join(result)


def prose_of_code(text: str, *, docstrings_only: bool) -> str:
    """Return the comments, docstrings and other texts of Python code; of tests the docstrings alone."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    kept = []
    begins = True  # a string that begins a line of code and ends it is a docstring
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for token, following in zip(tokens, [*tokens[1:], tokens[-1]], strict=True):
        is_docstring = (
            token.type == tokenize.STRING
            and begins
            and following.type in (tokenize.NEWLINE, tokenize.NL, tokenize.COMMENT)
        )
        is_prose = token.type in _PROSE and not _NAME.fullmatch(token.string)
        if is_docstring or (is_prose and not docstrings_only):
            (row, column), (last_row, last_column) = token.start, token.end
            kept.append((starts[row - 1] + column, starts[last_row - 1] + last_column))
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            begins = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    return _FIELD.sub(lambda field: " " * len(field[0]), masked(text, kept))


def texts() -> Iterator[tuple[Path, str]]:
    """Yield each file that is checked, with its prose."""
    for path in sorted(ROOT.glob("*.md")):
        yield path, path.read_text(encoding="utf-8")
    for path in sorted(p for p in (ROOT / "docs").rglob("*") if p.is_file() and p.suffix != ".png"):
        yield path, path.read_text(encoding="utf-8")
    for room in ("config", "connectors", "poller", "store", "tests"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if path != Path(__file__):
                code = path.read_text(encoding="utf-8")
                yield path, prose_of_code(code, docstrings_only=room == "tests")
    for kind in ("*.html", "*.js", "*.css"):
        for path in sorted((ROOT / "poller").rglob(kind)):
            yield path, path.read_text(encoding="utf-8")


def found(prose: str) -> Iterator[tuple[int, str]]:
    """Yield each retired word of a text with its line."""
    for word, pattern in _PATTERNS.items():
        for match in pattern.finditer(prose):
            yield prose.count("\n", 0, match.start()) + 1, word


def main(chosen: list[str]) -> int:
    """Print each retired word of the chosen files, or of all, with its place; return 1 if there is one."""
    count = 0
    for path, prose in texts():
        place = path.relative_to(ROOT).as_posix()
        if chosen and not place.startswith(tuple(chosen)):
            continue
        for line, word in sorted(found(prose)):
            print(f"{path.relative_to(ROOT)}:{line}: {word!r}: write {WORDS[word]}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
