"""A store of answers in one file, for :class:`moa.models.cache.Cached`.

Notable decisions:
- The standard library's SQLite in WAL mode. A lookup that finds nothing takes about 15 µs, and an answer of 600 deltas
  under 2 ms to read or write, so everything runs in the event loop.
- Nothing waits for another process that locks the file: the answer counts as not found, or is not stored.
- The store is bounded in bytes and in age; the oldest answers go first. Deleted pages are used again, so the file does not
  grow beyond its bound; only :meth:`Cache.clear` gives its space back.
- Deltas are stored as JSON and never pickled: a file from an untrusted source must not run code.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from moa import sqlite
from moa.answers import Delta
from moa.closing import Closing
from moa.errors import ConfigError

SCHEMA = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, deltas TEXT, at REAL) WITHOUT ROWID"
INDEX = "CREATE INDEX IF NOT EXISTS answers_at ON answers (at)"

MEGABYTES, DAYS = 1024.0, 90.0
"""The default bounds."""

BETWEEN_SWEEPS = 64
"""Answers that are stored before the bounds are applied again."""

logger = logging.getLogger(__name__)


class Cache(Closing):
    """Answers in one SQLite file that only its owner can read. Several processes may share it.

    Args:
        path: the file.
        megabytes: that the answers may take on disk; the oldest are deleted.
        days: after which an answer is deleted.
    """

    def __init__(self, path: Path | str, *, megabytes: float = MEGABYTES, days: float = DAYS) -> None:
        """Open the file; create it, and the directories above it, where it does not exist.

        Raises:
            ConfigError: the path cannot be used, or the file is damaged or belongs to another program.
        """
        self.path = Path(path).expanduser()
        self._megabytes, self._days, self._since_sweep = megabytes, days, 0
        with self._or_config_error():
            self._connection = sqlite.opened(self.path, b"moac", wait=1.0)
            try:
                self._prepare()
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
            values = (key, _packed([*deltas]), time.time())
            self._connection.execute("INSERT OR REPLACE INTO answers (key, deltas, at) VALUES (?, ?, ?)", values)
            self._since_sweep += 1
            if self._since_sweep >= BETWEEN_SWEEPS:
                self._sweep()
        except (sqlite3.Error, TypeError, ValueError) as error:
            logger.warning("%s: answer not stored: %s", self.path, error)

    def __len__(self) -> int:
        """The number of answers."""
        return int(self._number("SELECT count(*) FROM answers"))

    @property
    def bytes(self) -> int:
        """Bytes of disk that the answers take, without the space of deleted ones."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return int(pages * self._number("PRAGMA page_size"))

    def clear(self) -> None:
        """Delete every answer, and give the space on disk back.

        Raises:
            ConfigError: the file is damaged, or another process locks it.
        """
        with self._or_config_error():
            self._connection.execute("DELETE FROM answers")
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self._connection.close()

    def _prepare(self) -> None:
        self._connection.execute(SCHEMA)
        columns = [row[1] for row in self._connection.execute("PRAGMA table_info(answers)")]
        if "at" not in columns:  # a file of an older version; its answers are as old as this change
            self._connection.execute("ALTER TABLE answers ADD COLUMN at REAL")
            self._connection.execute("UPDATE answers SET at = ?", (time.time(),))
        self._connection.execute(INDEX)
        with suppress(sqlite3.OperationalError):  # another process locks the file, and sweeps it itself
            self._sweep()

    def _sweep(self) -> None:
        """Delete answers that are too old, then the oldest ones until the rest fits."""
        self._since_sweep = 0
        self._connection.execute("DELETE FROM answers WHERE at < ?", (time.time() - self._days * 86400,))
        limit, used = self._megabytes * 1e6, self.bytes
        if used > limit:
            surplus = math.ceil(len(self) * (1 - 0.9 * limit / used))
            oldest = "SELECT key FROM answers ORDER BY at LIMIT ?"
            self._connection.execute(f"DELETE FROM answers WHERE key IN ({oldest})", (surplus,))

    def _number(self, query: str) -> float:
        return float(self._connection.execute(query).fetchone()[0])

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
