"""What happens to a run in the archive, and the SQL that writes it.

Text is compressed here, before a write locks the file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moa.answers import Answer
from moa.messages import Request, text_of
from moa.store.blobs import packed, shortened
from moa.store.processes import clock

_LARGEST = 2**63 - 1
"""The largest integer that SQLite stores."""

Statement = tuple[str, tuple[Any, ...]]


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


def statements(change: Change, process: str, is_stored: Callable[[bytes], bool]) -> list[Statement]:
    """The SQL of a change.

    Args:
        process: the ID of the process that runs the run.
        is_stored: whether the file has the blob with this digest.
    """
    match change:
        case Begun():
            return _begun(change, process, is_stored)
        case Lines():
            lines = zlib.compress(b"\n".join(change.lines), 1)
            statement = "INSERT INTO run_lines SELECT number, ?, ? FROM runs WHERE run = ?"
            return [(statement, (change.first, lines, change.run))]
        case Ended():
            answer = change.answer
            statement = (
                "UPDATE runs SET outcome = ?, answer = ?, cost = ?, cost_is_at_least = ?, duration = ?, "
                "time_to_first_token = ?, tokens = ? WHERE run = ?"
            )
            tokens = max(-_LARGEST, min(answer.usage.total_tokens, _LARGEST))
            figures = (_float(answer.duration), _float(answer.time_to_first_token), tokens)
            cost = (_float(answer.cost.dollars), answer.cost.at_least)
            return [
                (statement, (change.outcome, storable(answer.text), *cost, *figures, change.run)),
                *_released(change.run),
            ]
        case BrokenOff():
            statement = "UPDATE runs SET outcome = 'broken off' WHERE run = ? AND outcome = 'running'"
            return [(statement, (change.run,)), *_released(change.run)]


def _begun(begun: Begun, process: str, is_stored: Callable[[bytes], bool]) -> list[Statement]:
    columns = (begun.run, begun.owner, begun.started, begun.model, begun.continues, begun.question)
    mixture = None if begun.mixture is None else json.dumps(begun.mixture)
    request, texts = _shortened(begun.request)
    body = zlib.compress(json.dumps(request).encode(), 1)
    run = "SELECT number, {} FROM runs WHERE run = ?"
    into_runs = (
        "INSERT INTO runs (run, owner, started, outcome, model, continues, question) "
        "VALUES (?, ?, ?, 'running', ?, ?, ?)"
    )
    into_requests = "INSERT INTO run_requests (number, request, mixture, request_id) " + run.format("?, ?, ?")
    into_processes = "INSERT INTO run_processes (number, process, beat) " + run.format("?, ?")
    blob = "INSERT INTO run_blobs " + run.format("(SELECT id FROM blobs WHERE digest = ?)")
    blobs = list[Statement]()
    for digest, text in texts.items():
        if not is_stored(digest):
            blobs.append(("INSERT OR IGNORE INTO blobs (digest, content) VALUES (?, ?)", (digest, packed(text))))
        blobs.append((blob, (digest, begun.run)))  # fails where the blob has just been deleted; the write is repeated
    return [
        (into_runs, tuple(storable(value) for value in columns)),
        (into_requests, (body, mixture, begun.request_id, begun.run)),
        (into_processes, (process, clock(), begun.run)),
        *blobs,
    ]


def _shortened(request: Mapping[str, Any]) -> tuple[Any, dict[bytes, bytes]]:
    """The request without its long strings, and these; unchanged where it is nested too deeply for that."""
    texts: dict[bytes, bytes] = {}
    try:
        return shortened(request, texts), texts
    except RecursionError:
        return request, {}


def _released(run: str) -> list[Statement]:
    """A run that ended has no process any more, and neither has the run that it continues."""
    these = "SELECT number FROM runs WHERE run = ? OR run = (SELECT continues FROM runs WHERE run = ?)"
    return [(f"DELETE FROM run_processes WHERE number IN ({these})", (run, run))]


def storable(value: Any) -> Any:
    """The value, or, of a string, what SQLite can store: half of a surrogate pair, which some servers send, is replaced."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)
