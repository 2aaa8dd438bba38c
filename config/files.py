"""Reading files, with failures that name the file and never quote its content.

The standard library's TOML errors may quote keys, and its operating system errors may contain anything a
user took for a path, such as a secret; hence our own sentences.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

_SHORTER_THAN_ANY_SECRET = 39
"""Every secret of ours is longer than this: a base64 key has 44 characters, Amazon's have more."""


_REASONS = {
    "Cannot overwrite a value": "this key is there twice",
    "Cannot declare": "this table is there twice",
    "Invalid value": "texts need quotes, and dates must exist",
    "Expected '=' after a key": "a key must be followed by =",
    "Expected newline or end of document": "one key = value a line; texts need quotes, and dates must exist",
    "Invalid date or datetime": "there is no such day",
    "Illegal character": "a text ends where its line does",
    "Unclosed": "something is not closed",
}
"""The beginning of tomllib's message, and ours. Its own words may quote the file."""


class Unreadable(Exception):
    """A file that cannot be used; the message is the end of a sentence that starts with its name.

    ``is_missing``: the value is to be written into a file of that name.
    """

    def __init__(self, end: str, *, is_missing: bool = False) -> None:
        super().__init__(end)
        self.is_missing = is_missing


def label(path: Path) -> str:
    """Return a configuration file's name for messages: ``marketplaces/uk.toml``."""
    return f"{path.parent.name}/{path.name}"


def shown_path(text: str) -> str:
    """Return ``text`` if it is certainly a path. It may be a secret where the name of its file belongs."""
    path = Path(text)
    certain = len(text) <= _SHORTER_THAN_ANY_SECRET or (path.is_absolute() and Path(*path.parts[:2]).exists())
    return text if certain else "the file that it names"


_MISTAKEN = (".tml", ".tom", ".tmol", ".yaml", ".yml", ".json", ".ini", ".conf")
"""Endings that are written by mistake."""


def misnamed(folder: Path) -> tuple[Path, ...]:
    """Return files of the folder that look like configuration but do not end in ``.toml``."""
    try:
        return tuple(
            sorted(
                p
                for p in folder.iterdir()
                if p.suffix != ".toml"
                and (".toml" in p.name.lower() or p.suffix.lower() in _MISTAKEN)
                and p.name[0] != "."
                and p.is_file()
            )
        )
    except (OSError, ValueError):
        return ()


def toml_files(folder: Path) -> tuple[Path, ...]:
    """Return the folder's ``*.toml`` by name, without hidden ones (editors' and Kubernetes' own).

    A folder that does not exist has none. Raises Unreadable if it cannot be listed.
    """
    return tuple(Path(name) for name in toml_names(folder))


def toml_names(folder: Path) -> tuple[str, ...]:
    """Return the paths of ``toml_files`` as text, quickly: thousands are checked every few seconds."""
    try:
        names = sorted(os.listdir(folder))
        return tuple(f"{folder}/{n}" for n in names if len(n) > 5 and n.endswith(".toml") and n[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as fault:
        raise Unreadable(f"cannot be listed ({fault.strerror})") from None
    except ValueError:  # a name that no folder can have
        raise Unreadable("cannot be listed (not a folder's name)") from None


def read_text(path: Path) -> str:
    """Return the file's UTF-8 text, without a byte order mark. Raises Unreadable."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise Unreadable("does not exist", is_missing=True) from None
    except IsADirectoryError:
        raise Unreadable("is a folder: name a file in it") from None
    except PermissionError:
        raise Unreadable("cannot be read by the user that runs this program: run chown on it") from None
    except OSError as fault:
        raise Unreadable(f"cannot be read ({fault.strerror})") from None
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8 text") from None
    except ValueError:  # a name that no file can have
        raise Unreadable("cannot be read (not a file name)") from None


_MAKE_IT = "run `install -D -m 600 /dev/stdin FILE`, paste the value and press Ctrl-D"


def read_secret(path: Path, *, is_secret: bool = True) -> str:
    """Return the file's content, stripped, as of Docker's and Kubernetes' secrets.

    Raises Unreadable, also if other users may write it, or read it if it ``is_secret``.
    """
    exposed = exposure(path)
    if exposed == "written" or (exposed == "read" and is_secret):
        raise Unreadable(f"may be {exposed} by every user of this machine: run chmod 600 on it")
    try:
        content = read_text(path).strip()
    except Unreadable as fault:
        raise Unreadable(f"{fault}: {_MAKE_IT}", is_missing=True) if fault.is_missing else fault from None
    if not content:
        raise Unreadable("is empty: write the value into it")
    return content


Exposure = Literal["written", "read", "shared"]
"""What every user may do. ``shared``: read, within a mount that is read-only."""


def exposure(path: Path) -> Exposure | None:
    """Return what every user of this machine may do with a file, or its folder; None for nothing.

    Docker and Kubernetes mount secrets read-only, often readable by all of a container, and their modes
    are not the reader's to change.
    """
    try:
        file = path.resolve()
        modes = [place.stat().st_mode for place in (file, *file.parents)]
        is_mounted = bool(os.statvfs(file).f_flag & os.ST_RDONLY)
    except (OSError, ValueError, RuntimeError):
        return None  # reading it says why
    return exposure_of(modes, is_mounted=is_mounted)


def exposure_of(modes: Sequence[int], *, is_mounted: bool) -> Exposure | None:
    """Decide what ``exposure`` returns, by the modes of a file and of all folders around it.

    ``is_mounted``: from outside, read-only.
    """
    mode, *around = modes
    if is_mounted:
        return "shared" if mode & stat.S_IROTH else None
    if not all(folder & stat.S_IXOTH for folder in around):
        return None  # no other user reaches it
    if mode & stat.S_IWOTH or any(f & stat.S_IWOTH and not f & stat.S_ISVTX for f in around):
        return "written"
    return "read" if mode & stat.S_IROTH else None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the file's tables; numbers with a point are Decimal. Raises Unreadable, with the line."""
    text = read_text(path)
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as fault:
        place = re.search(r"at line (\d+), column (\d+)", str(fault))
        where = f"line {place[1]}, column {place[2]}" if place else "at the end or in a number"
        why = next((ours for theirs, ours in _REASONS.items() if theirs in str(fault)), None)
        raise Unreadable(f"is not valid TOML ({where}{': ' + why if why else ''})") from None
