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
from pathlib import Path
from typing import Any

from moa.batch.folder import encoded
from moa.evals.asking.data import Row
from moa.messages import Call, Cost, Usage


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
        self._file.write(encoded(row) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def dearest(journal: Iterable[Row]) -> float | None:
    """US dollars of the most expensive item of a journal; None for an empty one."""
    items: dict[str, float] = {}
    for row in journal:
        item = row["key"].split("/")[1]
        items[item] = items.get(item, 0.0) + (row["cost"]["dollars"] or 0.0)
    return max(items.values(), default=None)


def summed(rows: Iterable[Row]) -> Cost:
    """The total cost of rows of a journal."""
    return sum((Cost(**row["cost"]) for row in rows), Cost())


def call_row(call: Call) -> Row:
    """A call as the journal keeps it: without its times and without empty fields."""
    kept = {key: value for key, value in asdict(call).items() if value not in (None, "", (), False)}
    return {**kept, "calls": [call_row(inner) for inner in call.calls]} if call.calls else kept
