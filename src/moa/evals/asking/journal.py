"""What a run keeps on disk: every answered call as it came, in files that are only ever added to.

A line is whole when it ends in a line feed. What a kill left after the last one is removed before a file is continued.
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
class Said:
    """What a model said to one request.

    Attributes:
        text, finish_reason, usage, cost: as in :class:`~moa.messages.Answer`.
        seconds: how long it took.
        date: when it was said, UTC, ISO 8601.
        logprobs: of its first token: the likeliest tokens and their log-probabilities; None where not told.
        calls: the calls it was made of, where a mixture answered.
    """

    text: str
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    date: str = ""
    logprobs: Mapping[str, float] | None = None
    calls: tuple[Mapping[str, Any], ...] = ()


class Lines:
    """A JSON Lines file that is only ever added to. Each line is on disk when :meth:`add` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        whole = b""
        if path.exists():
            whole, end, _ = path.read_bytes().rpartition(b"\n")
            for line in whole.split(b"\n"):
                # A damaged line was paid for like the others, but what it said is lost; the rest is not.
                with suppress(ValueError):
                    self.rows.append(json.loads(line))
            whole += end
        self._file = path.open("ab")
        self._file.truncate(len(whole))

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self._file.write(_encoded(row) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _encoded(value: object, indent: int | None = None) -> bytes:
    """As JSON; readable, or escaped where half a surrogate pair stands in it, which no reader of UTF-8 takes."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent).encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent).encode()


def summed(rows: Iterable[Row]) -> Cost:
    """What rows of a journal cost together."""
    return sum((Cost(**row["cost"]) for row in rows), Cost())


def said_before(row: Row) -> Said:
    """What a row of the journal tells of."""
    return Said(
        row["text"],
        row["finish_reason"],
        Usage(**row["usage"]),
        Cost(**row["cost"]),
        row["seconds"],
        row["date"],
        row["logprobs"],
        tuple(row["calls"]),
    )


def called(call: Call) -> Row:
    """A call as it is kept: what it said and cost, without the times and fields that are empty."""
    kept = {key: value for key, value in asdict(call).items() if value not in (None, "", (), False)}
    return {**kept, "calls": [called(inner) for inner in call.calls]} if call.calls else kept


def first_token(deltas: Iterable[Delta]) -> dict[str, float] | None:
    """The log-probabilities of what could have stood first, by token.

    https://platform.openai.com/docs/api-reference/chat/object#chat-object-choices-logprobs
    """
    for delta in deltas:
        content = ((delta.extra or {}).get("logprobs") or {}).get("content") or ()
        for token in content:
            told = token.get("top_logprobs") or [token]
            return {str(one["token"]): float(one["logprob"]) for one in told}
    return None


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_whole(path: Path, value: object) -> None:
    """Write a JSON file so that it is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as out:
        out.write(_encoded(value, indent=1) + b"\n")
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)


def settle(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a new run; see that those of one that is there are the same."""
    wanted: Row = json.loads(json.dumps(settings))
    if not path.exists():
        write_whole(path, {**wanted, "started": now()})
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"{path} is damaged; give another --out") from None
    for name, value in wanted.items():
        if there.get(name) != value:
            raise ConfigError(f"{path.parent} holds another run: its {name} differs; give another --out, or remove it")


def locked(folder: Path) -> TextIO:
    """The folder's lock, held until it is closed or the process ends, however that happens."""
    lock = (folder / "lock").open("w")
    try:
        import fcntl
    except ImportError:  # Windows: two processes at one run would ask things twice, and do no other harm
        return lock
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ConfigError(f"{folder}: another process is at work on this run") from None
    return lock
