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
