"""The file ``.env`` of a configuration: variables for a process whose environment lacks them.

It lies in the configuration folder or beside it. Relative paths in it count from its own folder, so they
lead to the same files whatever folder a command is run in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from config.files import Unreadable, exposure, read_text
from config.problems import Problem
from config.settings import FILE_SUFFIX, PREFIX, Settings, is_secret_variable

NAME = ".env"


@dataclass(frozen=True, slots=True, repr=False)
class Completed:
    """The variables of a process and, where it has none, those of ``file``, if there is one."""

    environ: Mapping[str, str]
    file: Path | None
    problems: tuple[Problem, ...]


def completed(environ: Mapping[str, str]) -> Completed:
    """Complete the variables of a process. Never raises for bad input."""
    path = _find(environ)
    if path is None:
        return Completed(environ, None, ())
    exposed = exposure(path)
    if exposed == "written":
        return Completed(environ, path, (_exposed(path, "may be written"),))
    try:
        written, problems = read(path)
    except Unreadable as fault:
        return Completed(environ, path, (Problem(f"{path} {fault}", "everything"),))
    secret = next((name for name in sorted(written) if is_secret_variable(name)), None)
    if exposed == "read" and secret is not None:
        problems.append(_exposed(path, f"has {secret} and may be read"))
    present = {_base(name) for name, value in environ.items() if value.strip()}
    added = {
        name: _from_its_folder(path.parent, name, value)
        for name, value in written.items()
        if _base(name) not in present
    }
    return Completed({**environ, **added}, path, tuple(problems))


def _find(environ: Mapping[str, str]) -> Path | None:
    given = [v.strip() for name, v in environ.items() if name.upper() == f"{PREFIX}CONFIG_DIR"]
    folder = next(filter(None, given), str(Settings.model_fields["config_dir"].default))
    places = (os.path.normpath(os.path.join(folder, *up, NAME)) for up in ((), ("..",)))
    return next((Path(place) for place in places if os.path.exists(place)), None)


def _exposed(path: Path, fault: str) -> Problem:
    return Problem(f"{path} {fault} by every user of this machine: run chmod 600 on it", "everything")


def read(path: Path) -> tuple[dict[str, str], list[Problem]]:
    """Return the variables of a file, and a problem for each line that has none. Raises Unreadable."""
    written: dict[str, str] = {}
    problems: list[Problem] = []
    for binding in parse_stream(StringIO(read_text(path))):
        if binding.key is not None and binding.value is not None and not binding.error:
            written[binding.key] = binding.value
        elif binding.key is not None or binding.error:
            line = binding.original.line
            problems.append(Problem(f"{path}: line {line} must be NAME=value or begin with #", "everything"))
    return written, problems


def _base(name: str) -> str:
    """Return what a variable sets, as it is or by a file."""
    upper = name.upper()
    return upper.removesuffix(FILE_SUFFIX) if upper.startswith(PREFIX) else name


_SQLITE = "sqlite:///"


def _from_its_folder(folder: Path, name: str, value: str) -> str:
    """Return a value whose relative path counts from ``folder``."""
    upper = name.upper()
    is_path = upper.endswith(FILE_SUFFIX) or upper in (f"{PREFIX}CONFIG_DIR", f"{PREFIX}RUNTIME_DIR")
    if folder == Path() or not upper.startswith(PREFIX) or not value:
        return value
    if is_path:
        return str(folder / value)
    file = value.removeprefix(_SQLITE)
    if upper == f"{PREFIX}DATABASE_URL" and file != value and file and not file.startswith((":", "file:")):
        return f"{_SQLITE}{folder / file}"
    return value
