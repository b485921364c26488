"""The run store's file: how it is opened, and where it is.

It holds message text. Only its owner can read it, and deleted text is overwritten.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from moa import sqlite
from moa.errors import ConfigError

MARK = b"moar"

WAIT = 5.0
"""Seconds to wait for another process that has locked the file."""


PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)
"""Errors that say something about the file, not about the change: the same change may succeed later.
https://www.sqlite.org/rescode.html"""


def opened(path: Path | None, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """A connection to the file, created if it is missing; None keeps everything in memory.

    Args:
        prepare: creates tables and the like; the connection is closed if it raises.

    Raises:
        ConfigError: the file cannot be opened or prepared, or is not a run store.
    """
    try:
        file = sqlite.opened(path, MARK, wait=WAIT, adopt=True)
        try:
            file.execute("PRAGMA secure_delete = ON")
            prepare(file)
        except BaseException:
            file.close()
            raise
    except (OSError, sqlite3.Error, sqlite.WrongKind) as error:
        raise ConfigError(f"the run store {str(path)!r} cannot be used: {error}") from None
    return file


def store_path() -> Path:
    """The default file: ``moa/runs.sqlite`` in ``$XDG_STATE_HOME``, or in ``~/.local/state``."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "moa" / "runs.sqlite"


def is_passing(error: Exception) -> bool:
    """Whether the same write may succeed later."""
    return isinstance(error, sqlite3.Error) and _code(error) in PASSING


def is_locked(error: Exception) -> bool:
    """Whether another process has locked the file."""
    return isinstance(error, sqlite3.Error) and _code(error) == sqlite3.SQLITE_BUSY


def _code(error: sqlite3.Error) -> int:
    """SQLite's code without the details of the extended one; 0 for an error of Python's module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
