"""A store of answers in one file, for :class:`moa.models.cache.Cached`.

Notable decisions:
- The standard library's SQLite in WAL mode. A lookup that finds nothing takes about 15 µs, and an answer of 600 deltas
  under 2 ms to read or write, so everything runs in the event loop.
- Nothing waits for another process that locks the file: the answer counts as not found, or is not stored.
- Deltas are stored as JSON and never pickled: a file from an untrusted source must not run code.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from moa import sqlite
from moa.answers import Delta
from moa.closing import Closing
from moa.errors import ConfigError

SCHEMA = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, deltas TEXT) WITHOUT ROWID"

logger = logging.getLogger(__name__)


class Cache(Closing):
    """Answers in one SQLite file that only its owner can read. Several processes may share it."""

    def __init__(self, path: Path | str) -> None:
        """Open the file; create it, and the directories above it, where it does not exist.

        Raises:
            ConfigError: the path cannot be used, or the file is damaged or belongs to another program.
        """
        self.path = Path(path).expanduser()
        with self._or_config_error():
            self._connection = sqlite.opened(self.path, b"moac", wait=1.0)
            try:
                self._connection.execute(SCHEMA)
                self._connection.execute("PRAGMA busy_timeout = 20")  # milliseconds, which block the event loop
            except BaseException:
                self._connection.close()
                raise

    def get(self, key: str) -> list[Delta] | None:
        """The answer stored under this key, or None.

        Raises:
            ConfigError: the file is damaged.
        """
        with self._or_config_error():
            try:
                row = self._connection.execute("SELECT deltas FROM answers WHERE key = ?", (key,)).fetchone()
            except sqlite3.OperationalError as error:
                logger.warning("%s: answer not read: %s", self.path, error)
                return None
            return None if row is None else _unpacked(row[0])

    def put(self, key: str, deltas: Iterable[Delta]) -> None:
        """Store an answer. A failure is only logged, since the caller has the answer already."""
        try:
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, _packed([*deltas])))
        except (sqlite3.Error, TypeError, ValueError) as error:
            logger.warning("%s: answer not stored: %s", self.path, error)

    def clear(self) -> None:
        """Delete every answer.

        Raises:
            ConfigError: the file is damaged, or another process locks it.
        """
        with self._or_config_error():
            self._connection.execute("DELETE FROM answers")

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _or_config_error(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"the cache {self.path} cannot be used ({error}); remove it or name another") from error


def _packed(deltas: list[Delta]) -> str:
    try:
        return msgspec.json.encode(deltas, enc_hook=dict).decode()
    except (UnicodeEncodeError, OverflowError):  # half of a surrogate pair, or an integer of more than 64 bits
        return json.dumps(msgspec.to_builtins(deltas, enc_hook=dict))


def _unpacked(packed: str) -> list[Delta]:
    try:
        return msgspec.json.decode(packed, type=list[Delta])
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(packed), list[Delta])
