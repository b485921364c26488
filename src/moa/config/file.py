"""Reading a moa.toml. An error is one line: the file, the line, the field, what was expected and what was found."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from moa.config.names import wrong_name
from moa.config.problems import problem_of
from moa.config.tables import File
from moa.errors import ConfigError


def find(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, bool]:
    """The file to read: the path given, ``$MOA_CONFIG``, ``./moa.toml`` or ``~/.config/moa/moa.toml``; None if none exists.

    Returns:
        The file, and whether it may run programs. ``./moa.toml`` may not: it can be another person's, in a folder that the
        user has cloned or unpacked.

    Raises:
        ConfigError: the path, or the variable, names a file that does not exist.
    """
    for named, where in ((path, "--config"), (environ.get("MOA_CONFIG"), "MOA_CONFIG")):
        if named:
            file = Path(named).expanduser()
            if not file.is_file():
                raise ConfigError(f"{where} names {str(named)!r}, but no such file exists")
            return file, True
    here = Path("moa.toml")
    if here.is_file():
        return here, False
    own = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "moa" / "moa.toml"
    return (own if own.is_file() else None), True


def read(path: Path, *, runs_programs: bool = True) -> File:
    """The tables of a file.

    Args:
        runs_programs: whether it may have an ``api_key_command``.

    Raises:
        ConfigError: for the first thing that is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows editors begin a file with a byte order mark
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = place[1] if place else str(text.count("\n") + 1)
        raise ConfigError(f"{path}:{line}: not valid TOML: {str(error).split(' (at ')[0]}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {reason(error)}") from None
    try:
        file = File.model_validate(data)
    except ValidationError as error:
        where, problem = problem_of(error)
        raise ConfigError(f"{path}:{line_of(text, where)}: {'.'.join(map(str, where))}: {problem}") from None
    for kind, names in (("mixture", file.mixtures), ("endpoint", file.endpoints)):
        for name in names:
            if why := wrong_name(name):
                line = line_of(text, (f"{kind}s", name))
                raise ConfigError(f"{path}:{line}: the name of {kind} {name!r} {why}")
    for name, endpoint in file.endpoints.items():
        if endpoint.api_key_command and not runs_programs:
            where = ("endpoints", name, "api_key_command")
            raise ConfigError(
                f"{path}:{line_of(text, where)}: {'.'.join(where)}: a file that is only found in the current folder may not "
                f"run programs (here {endpoint.api_key_command[0]!r}): if you trust it, name it with --config {path} or "
                f"MOA_CONFIG={path}"
            )
    return file


def reason(error: Exception) -> str:
    """Why a file could not be read, in a few words."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not UTF-8 text"


KEY = r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*"""
"""A key of TOML, bare, quoted or dotted."""


def line_of(text: str, path: tuple[int | str, ...]) -> int:
    """The line of a TOML file, from 1, that holds the value at this path, or the nearest table or key above it."""
    names = [part for part in path if isinstance(part, str)]
    best, depth, table = 1, 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(rf"\s*\[{{1,2}}{KEY}\]", line):
            here = table = _parts(header[1])
        elif key := re.match(rf"{KEY}=", line):
            here = [*table, *_parts(key[1])]
        else:
            continue
        if len(here) > depth and here == names[: len(here)]:
            best, depth = number, len(here)
    return best


def _parts(key: str) -> list[str]:
    return [part[1:-1] if part[0] in "\"'" else part for part in re.findall(r""""[^"]*"|'[^']*'|[\w-]+""", key)]
