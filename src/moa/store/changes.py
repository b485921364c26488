"""What happens to a run in the archive, and the SQL that writes it.

Text is compressed here, before a write locks the file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moa.answers import Answer
from moa.messages import Request, text_of
from moa.store.blobs import packed, shortened
from moa.store.processes import clock

_LARGEST = 2**63 - 1
"""The largest integer that SQLite stores."""

ROWS = 50
"""Rows of one statement: fewer than 999 values, the limit of SQLite before 3.32. https://www.sqlite.org/limits.html"""

RUNS = "FROM new CROSS JOIN runs USING (run)"
"""The runs of a statement's rows; a CROSS JOIN finds the run of each row, never the row of each run that there is.
https://www.sqlite.org/optoverview.html#crossjoin"""

THEIRS = "WHERE run IN (SELECT run FROM new)"

Row = tuple[Any, ...]

Statement = tuple[str, Row]


@dataclass(frozen=True, slots=True)
class Begun:
    """A run began.

    Attributes:
        run: the run ID.
        owner: the name of the caller's API key; empty where there are no keys.
        started: seconds since 1970.
        model: the model that the caller requested, ``moa/<mixture>`` or ``provider/name``.
        request: the Chat Completions body, without the model.
        mixture: the mixture's table as the run used it; None for a single model.
        continues: the ID of the run whose proposals this one took over.
        request_id: the ``x-request-id`` of the request that started it; None outside a server.
    """

    run: str
    owner: str
    started: float
    model: str
    request: Mapping[str, Any]
    mixture: Mapping[str, Any] | None = None
    continues: str | None = None
    request_id: str | None = None

    @property
    def question(self) -> str:
        """The text of the last user message."""
        request = Request(self.request)
        return "" if request.last_user is None else text_of(request.messages[request.last_user])


@dataclass(frozen=True, slots=True)
class Lines:
    """Further event lines of a run; ``first`` is the number of the first of them, from 1."""

    run: str
    first: int
    lines: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run ended; ``outcome`` is ``answered``, ``degraded``, ``failed`` or ``stopped``."""

    run: str
    outcome: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """The rest of a run will never be written."""

    run: str


Change = Begun | Lines | Ended | BrokenOff


def statements(changes: Iterable[Change], process: str, is_stored: Callable[[bytes], bool]) -> Iterator[Statement]:
    """The SQL of changes. A statement writes the rows of many runs.

    SQLite releases the interpreter lock around every statement, and a thread waits up to
    ``sys.getswitchinterval()`` to get it back from a busy event loop. With one statement for each row, a server under load
    ends more runs than this thread can write.

    Args:
        process: the ID of the process that runs the runs.
        is_stored: whether the file has the blob with this digest.
    """
    begun, lines, ended, broken_off = list[Begun](), list[Row](), list[Row](), list[Row]()
    for change in changes:
        match change:
            case Begun():
                begun.append(change)
            case Lines():
                lines.append((change.run, change.first, zlib.compress(b"\n".join(change.lines), 1)))
            case Ended():
                ended.append(_ended(change))
            case BrokenOff():
                broken_off.append((change.run,))
    yield from _begun(begun, process, is_stored)
    yield from _of_runs("run, first, lines", lines, f"INSERT INTO run_lines SELECT number, first, lines {RUNS}")
    columns = "outcome, answer, cost, cost_is_at_least, duration, time_to_first_token, tokens"
    end = f"UPDATE runs SET ({columns}) = (SELECT {columns} FROM new WHERE new.run = runs.run) {THEIRS}"
    yield from _of_runs(f"run, {columns}", ended, end)
    broken = f"UPDATE runs SET outcome = 'broken off' {THEIRS} AND outcome = 'running'"
    yield from _of_runs("run", broken_off, broken)
    # A run that ended has no process any more, and neither has the run that it continues.
    continued = f"SELECT earlier.number {RUNS} JOIN runs AS earlier ON earlier.run = runs.continues"
    release = f"DELETE FROM run_processes WHERE number IN (SELECT number {RUNS} UNION ALL {continued})"
    yield from _of_runs("run", [row[:1] for row in (*ended, *broken_off)], release)


def _of_runs(columns: str, rows: Sequence[Row], statement: str) -> Iterator[Statement]:
    """A statement about rows, which it finds in the table ``new``; several where there are many rows."""
    for start in range(0, len(rows), ROWS):
        group = rows[start : start + ROWS]
        places = ", ".join(["(" + ", ".join("?" * len(group[0])) + ")"] * len(group))
        yield f"WITH new ({columns}) AS (VALUES {places}) {statement}", tuple(value for row in group for value in row)


def _begun(runs: Sequence[Begun], process: str, is_stored: Callable[[bytes], bool]) -> Iterator[Statement]:
    begun, requests, processes = list[Row](), list[Row](), list[Row]()
    blobs, references = list[Row](), list[Row]()
    for run in runs:
        columns = (run.run, run.owner, run.started, run.model, run.continues, run.question)
        begun.append(tuple(storable(value) for value in columns))
        request, texts = _shortened(run.request)
        body = zlib.compress(json.dumps(request).encode(), 1)
        mixture = None if run.mixture is None else json.dumps(run.mixture)
        requests.append((run.run, body, mixture, run.request_id))
        processes.append((run.run, process, clock()))
        blobs += [(digest, packed(text)) for digest, text in texts.items() if not is_stored(digest)]
        references += [(run.run, digest) for digest in texts]
    columns_of_runs = "run, owner, started, model, continues, question"
    into_runs = f"INSERT INTO runs (outcome, {columns_of_runs}) SELECT 'running', * FROM new"
    yield from _of_runs(columns_of_runs, begun, into_runs)
    of_requests = "request, mixture, request_id"
    into_requests = f"INSERT INTO run_requests (number, {of_requests}) SELECT number, {of_requests} {RUNS}"
    yield from _of_runs(f"run, {of_requests}", requests, into_requests)
    into_processes = f"INSERT INTO run_processes (number, process, beat) SELECT number, process, beat {RUNS}"
    yield from _of_runs("run, process, beat", processes, into_processes)
    into_blobs = "INSERT OR IGNORE INTO blobs (digest, content) SELECT digest, content FROM new"
    yield from _of_runs("digest, content", blobs, into_blobs)
    # It fails where a blob has just been deleted; the write is repeated.
    blob = f"INSERT INTO run_blobs SELECT number, (SELECT id FROM blobs WHERE digest = new.digest) {RUNS}"
    yield from _of_runs("run, digest", references, blob)


def _ended(change: Ended) -> Row:
    answer = change.answer
    tokens = max(-_LARGEST, min(answer.usage.total_tokens, _LARGEST))
    figures = (_float(answer.duration), _float(answer.time_to_first_token), tokens)
    cost = (_float(answer.cost.dollars), answer.cost.at_least)
    return (change.run, change.outcome, storable(answer.text), *cost, *figures)


def _shortened(request: Mapping[str, Any]) -> tuple[Any, dict[bytes, bytes]]:
    """The request without its long strings, and these; unchanged where it is nested too deeply for that."""
    texts: dict[bytes, bytes] = {}
    try:
        return shortened(request, texts), texts
    except RecursionError:
        return request, {}


def storable(value: Any) -> Any:
    """The value, or, of a string, what SQLite can store: half of a surrogate pair, which some servers send, is replaced."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)
