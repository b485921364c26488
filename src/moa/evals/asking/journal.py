"""What a measurement keeps on disk: every answered call, in files that only grow.

A line is complete when it ends in a line feed. A process that is killed may leave an incomplete last line; the next process
removes it before it appends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from moa.errors import ConfigError
from moa.evals.asking.data import Row
from moa.messages import Call, Cost, Delta, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's reply to one request.

    Attributes:
        text, finish_reason, usage, cost: as in :class:`~moa.messages.Answer`.
        seconds: how long the call took.
        date: when the reply was complete, UTC, ISO 8601.
        logprobs: the likeliest first tokens and their log-probabilities; None if the model did not return them.
        calls: the calls behind the reply, if a mixture answered.
    """

    text: str
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    date: str = ""
    logprobs: Mapping[str, float] | None = None
    calls: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, row: Row) -> Reply:
        """The reply in a row of the journal."""
        return cls(
            row["text"],
            row["finish_reason"],
            Usage(**row["usage"]),
            Cost(**row["cost"]),
            row["seconds"],
            row["date"],
            row["logprobs"],
            tuple(row["calls"]),
        )


class Lines:
    """An append-only JSON Lines file. A line is on disk when :meth:`add` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        complete = b""
        if path.exists():
            complete, end, _ = path.read_bytes().rpartition(b"\n")
            for line in complete.split(b"\n"):
                # A damaged line cannot be recovered; the other lines can.
                with suppress(ValueError):
                    self.rows.append(json.loads(line))
            complete += end
        self._file = path.open("ab")
        self._file.truncate(len(complete))

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self._file.write(_encoded(row) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _encoded(value: object, indent: int | None = None) -> bytes:
    """The value as JSON in UTF-8; escaped if it holds half a surrogate pair, which UTF-8 cannot encode."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent).encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent).encode()


def summed(rows: Iterable[Row]) -> Cost:
    """The total cost of rows of a journal."""
    return sum((Cost(**row["cost"]) for row in rows), Cost())


def call_row(call: Call) -> Row:
    """A call as the journal keeps it: without its times and without empty fields."""
    kept = {key: value for key, value in asdict(call).items() if value not in (None, "", (), False)}
    return {**kept, "calls": [call_row(inner) for inner in call.calls]} if call.calls else kept


def first_token(deltas: Iterable[Delta]) -> dict[str, float] | None:
    """The log-probabilities of the candidates for the first token, by token.

    https://platform.openai.com/docs/api-reference/chat/object#chat-object-choices-logprobs
    """
    for delta in deltas:
        content = ((delta.extra or {}).get("logprobs") or {}).get("content") or ()
        for token in content:
            candidates = token.get("top_logprobs") or [token]
            return {str(one["token"]): float(one["logprob"]) for one in candidates}
    return None


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_whole(path: Path, value: object) -> None:
    """Write a JSON file atomically: a reader sees the old file or the new one."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as out:
        out.write(_encoded(value, indent=1) + b"\n")
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)


def settle(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a new run, or check that an existing run has the same settings.

    Raises:
        ConfigError: the existing run has other settings, or its file is damaged.
    """
    wanted: Row = json.loads(json.dumps(settings))
    if not path.exists():
        write_whole(path, {**wanted, "started": now()})
        return
    try:
        existing = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"{path} is damaged; give another --out") from None
    for name, value in wanted.items():
        if existing.get(name) != value:
            raise ConfigError(f"{path.parent} holds another run: its {name} differs; give another --out, or remove it")


def locked(folder: Path) -> TextIO:
    """The folder's lock, held until the file is closed or the process ends.

    Raises:
        ConfigError: another process holds the lock.
    """
    lock = (folder / "lock").open("w")
    try:
        import fcntl
    except ImportError:  # Windows: two processes in one folder make some calls twice and do no other harm
        return lock
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ConfigError(f"{folder}: another process is writing this run") from None
    return lock
