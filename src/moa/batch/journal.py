"""What a job has done, on disk: every answered row, and the proposals of rows that are not answered yet.

Notable decisions:
- One SQLite file. An entry is on disk before it counts, and a process may be killed at any moment. Entries that come while
  others are being written are written together, so the number of writes follows the disk, not the rows.
- Rows are found by their number in the input; their digest shows whether they are still the same. Nothing about rows is kept
  in memory.
- Proposals of a row are deleted when it is answered; those of a failed row stay, for another try.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from moa.batch.answering import Answered, Proposal
from moa.batch.lines import decoded, encoded_line
from moa.closing import Closing
from moa.errors import ConfigError, MoaError
from moa.messages import Cost
from moa.sqlite import WrongKind, opened

OUTPUT = "output"
"""The fact that tells how far the output file is right."""

_MARK = b"moaJ"
_BETWEEN_WRITES = 0.05
"""Seconds in which entries are gathered while there are many; the first one after a pause is written at once."""
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
  place INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL UNIQUE, digest BLOB NOT NULL, error TEXT,
  degraded INTEGER NOT NULL, cost REAL, at_least INTEGER NOT NULL, input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL, record BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS proposals (
  number INTEGER NOT NULL, layer INTEGER NOT NULL, agent TEXT NOT NULL, cost REAL, record BLOB NOT NULL,
  PRIMARY KEY (number, layer, agent)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
_ANSWER = (
    "INSERT OR REPLACE INTO answers (number, digest, error, degraded, cost, at_least, input_tokens, output_tokens, record)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PROPOSAL = "INSERT OR REPLACE INTO proposals VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all answered rows: US dollars include what calls without an answer cost."""

    answered: int = 0
    failed: int = 0
    degraded: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Cost = field(default_factory=Cost)
    dearest: float | None = None


@dataclass(slots=True)
class _Entries:
    """Entries that are written together, and a future that is done when they are on disk."""

    written: asyncio.Future[None]
    answers: list[tuple[Any, ...]] = field(default_factory=list)
    proposals: list[tuple[Any, ...]] = field(default_factory=list)
    lost: float = 0.0


class Journal(Closing):
    """The journal of one job.

    Args:
        path: of its file, which is created if it is missing.
        on_written: called in the writing thread after each write, with the numbers of the rows in it.

    Raises:
        ConfigError: the file is no journal, or cannot be written.
    """

    def __init__(self, path: Path, on_written: Callable[[list[int]], None] = lambda numbers: None) -> None:
        self.path, self.on_written = path, on_written
        try:
            self._file = opened(path, _MARK, wait=5.0)
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.executescript(_TABLES)
            self._reader = sqlite3.connect(path, isolation_level=None)  # its reads do not wait for writes
            self._had_proposals = bool(self._reader.execute("SELECT 1 FROM proposals LIMIT 1").fetchone())
        except (OSError, sqlite3.Error, WrongKind) as error:
            raise ConfigError(f"{path}: cannot be written: {error}") from None
        self._next: _Entries | None = None
        self._writing: asyncio.Task[None] | None = None
        self._last_write = 0.0
        self.error: MoaError | None = None

    # -- writing ----------------------------------------------------------------------------------------------------------

    async def add(self, answered: Answered, digest: bytes) -> None:
        """Add an answered row; it is on disk when this returns.

        Raises:
            MoaError: it cannot be written; its disk is full, say.
        """
        usage, error = answered.usage, answered.error
        entries = self._entries()
        entries.answers.append(
            (
                *(answered.number, digest, error.type if error else None, len(answered.degraded)),
                *(answered.cost, answered.cost_is_at_least, usage.input_tokens, usage.output_tokens, answered.record()),
            )
        )
        await self._written(entries)

    def keep(self, number: int, proposal: Proposal) -> None:
        """Add a proposal of a row; it is written soon, without a wait."""
        record = encoded_line(proposal)
        self._entries().proposals.append((number, proposal.layer, proposal.agent, proposal.cost, record))

    def lose(self, dollars: float) -> None:
        """Count the cost of calls that ended without an answer or a proposal."""
        if dollars > 0:
            self._entries().lost += dollars

    async def flush(self) -> None:
        """Wait until everything that was added is on disk.

        Raises:
            MoaError: as :meth:`add`.
        """
        await self._written(self._entries())

    def _entries(self) -> _Entries:
        """The entries that are written next; begins to write where nothing is being written."""
        if self._next is None:
            self._next = _Entries(asyncio.get_running_loop().create_future())
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        return self._next

    async def _written(self, entries: _Entries) -> None:
        await asyncio.shield(entries.written)
        if self.error:
            raise self.error

    async def _write_all(self) -> None:
        """Write until there is nothing left; an error is kept, and what comes after it is not written."""
        now = asyncio.get_running_loop().time
        while self._next:
            if (wait := self._last_write + _BETWEEN_WRITES - now()) > 0:
                await asyncio.sleep(wait)  # what comes meanwhile is written with it
            entries, self._next = self._next, None
            try:
                if not self.error:
                    await asyncio.to_thread(self._write, entries.answers, entries.proposals, entries.lost)
            except sqlite3.Error as error:
                self.error = MoaError(f"{self.path}: cannot be written: {error}; what was written before is kept")
            except MoaError as error:
                self.error = error
            entries.written.set_result(None)
            self._last_write = now()
        self._writing = None

    def _write(self, answers: list[tuple[Any, ...]], proposals: list[tuple[Any, ...]], lost: float) -> None:
        numbers = [answer[0] for answer in answers]
        self._file.execute("BEGIN")
        try:
            self._file.executemany(_PROPOSAL, proposals)
            self._file.executemany(_ANSWER, answers)
            done = ((answer[0],) for answer in answers if answer[2] is None)
            self._file.executemany("DELETE FROM proposals WHERE number = ?", done)
            if lost:
                self.note("lost", (self.fact("lost") or 0.0) + lost)
            self._file.execute("COMMIT")
        except BaseException:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            raise
        self.on_written(numbers)

    def forget_failed(self) -> int:
        """Take out the failed rows, so that they are answered again, and say how many they were. Their proposals stay, what
        else they cost is counted, and the output file is to be written from its beginning."""
        file = self._file
        file.execute("BEGIN")
        failed = "SELECT number FROM answers WHERE error IS NOT NULL"
        spent = file.execute("SELECT total(cost) FROM answers WHERE error IS NOT NULL").fetchone()[0]
        kept = file.execute(f"SELECT total(cost) FROM proposals WHERE number IN ({failed})").fetchone()[0]
        count = file.execute("DELETE FROM answers WHERE error IS NOT NULL").rowcount
        if count:
            self.note("lost", (self.fact("lost") or 0.0) + max(0.0, spent - kept))
            self.note(OUTPUT, None)
        file.execute("COMMIT")
        return count

    def note(self, name: str, value: object) -> None:
        """Write a fact about the job."""
        self._file.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    # -- reading ----------------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> Any:
        """A fact; None if it was never noted."""
        found = self._file.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    def known(self, at_once: int = 1000) -> Iterator[tuple[int, bytes]]:
        """The number and digest of each answered row, in the order of their numbers; rows added meanwhile may be missing."""
        after = 0
        query = "SELECT number, digest FROM answers WHERE number > ? ORDER BY number LIMIT ?"
        while found := self._reader.execute(query, (after, at_once)).fetchall():
            yield from found
            after = found[-1][0]

    def next_record(self, order: str, after: int, *, gaps: bool) -> tuple[int, Answered] | None:
        """The next answered row by ``number``, or by ``place`` (the order in which they were answered), and its key; without
        ``gaps`` only the very next one."""
        bound = f"{order} > ? ORDER BY {order} LIMIT 1" if gaps else f"{order} = ? + 1"
        found = self._file.execute(f"SELECT {order}, record FROM answers WHERE {bound}", (after,)).fetchone()
        return (found[0], Answered.read(found[1])) if found else None

    def kept(self, number: int) -> list[Proposal]:
        """The proposals of a row that were paid for before this journal was opened."""
        if not self._had_proposals:
            return []
        query = "SELECT record FROM proposals WHERE number = ? ORDER BY layer, agent"
        found = self._reader.execute(query, (number,)).fetchall()
        return [msgspec.convert(decoded(record), Proposal) for (record,) in found]

    def paid(self, number: int) -> float:
        """US dollars of a row's proposals."""
        query = "SELECT total(cost) FROM proposals WHERE number = ?"
        return float(self._reader.execute(query, (number,)).fetchone()[0])

    def totals(self) -> Totals:
        """The sums so far."""
        file = self._file
        row = file.execute(
            "SELECT count(*), count(error), total(degraded > 0), total(input_tokens), total(output_tokens),"
            " sum(cost), total(cost IS NULL), max(at_least), max(cost) FROM answers"
        ).fetchone()
        answered, failed, degraded, input_tokens, output_tokens, dollars, unknown, at_least, dearest = row
        open_rows = "SELECT total(cost) FROM proposals WHERE number NOT IN (SELECT number FROM answers)"
        dollars = (dollars or 0.0) + file.execute(open_rows).fetchone()[0] + (self.fact("lost") or 0.0)
        unpriced = bool(unknown) and unknown == answered
        cost = Cost(None) if unpriced else Cost(dollars, bool(at_least or unknown))
        return Totals(answered, failed, int(degraded), int(input_tokens), int(output_tokens), cost, dearest)

    def errors(self) -> dict[str, int]:
        """How many rows failed, by the type of their error."""
        query = "SELECT error, count(*) FROM answers WHERE error IS NOT NULL GROUP BY error ORDER BY 2 DESC"
        return dict(self._file.execute(query).fetchall())

    def close(self) -> None:
        self._reader.close()
        self._file.close()
