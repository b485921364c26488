"""The output of a job: a projection of its journal, which can be made again from it at any time.

- JSON Lines grow while the job runs, in the order of the input, or with ``any_order`` in the order of the answers. The
  journal remembers how far the file is right, so a killed job cuts off the rest and continues from there.
- A Parquet file cannot grow: it is written at the end, and replaces the one before in one step.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from moa.batch.answering import Answered
from moa.batch.journal import OUTPUT, Journal
from moa.batch.lines import encoded_line
from moa.batch.openai_lines import output_line
from moa.batch.reading import format_of, required
from moa.closing import Closing
from moa.errors import ConfigError, MoaError

_AT_ONCE = 500
_BETWEEN_NOTES = 1.0
_OWN = frozenset(
    {
        *("id", "answer", "finish_reason", "tool_calls", "usage", "cost", "cost_is_at_least", "seconds", "degraded"),
        *("error", "proposals"),
    }
)


def row_object(answered: Answered, *, proposals: bool) -> dict[str, Any]:
    """An answer as one JSON object. A column that passes through under a name of ours gets ``input_`` before it."""
    fields: dict[str, Any] = {
        "id": answered.id,
        "answer": answered.answer,
        "finish_reason": answered.finish_reason,
        **({"tool_calls": answered.tool_calls} if answered.tool_calls else {}),
        "usage": answered.usage,
        "cost": answered.cost,
        **({"cost_is_at_least": True} if answered.cost_is_at_least else {}),
        "seconds": answered.seconds,
        "degraded": answered.degraded,
        "error": {"type": answered.error.type, "message": answered.error.message} if answered.error else None,
    }
    if proposals:
        fields["proposals"] = [
            {"agent": each.agent, "layer": each.layer, "model": each.model, "text": each.text}
            for each in answered.proposals
        ]
    for name, column in answered.columns.items():
        while name in fields or name in _OWN:
            name = f"input_{name}"
        fields[name] = column
    return fields


def line_of(answered: Answered, *, proposals: bool) -> bytes:
    """An answer as a line of JSON; a row of an OpenAI Batch file as a line of an OpenAI Batch output file."""
    return encoded_line(output_line(answered) if answered.openai else row_object(answered, proposals=proposals))


class Output(Protocol):
    """A job's output file."""

    def advance(self) -> None:
        """Write what can be written by now. Called in the thread that writes the journal."""

    def finish(self) -> None:
        """Write every row that is answered, gaps or not."""

    def close(self) -> None:
        """Close the file."""


def output(path: Path, journal: Journal, *, any_order: bool, proposals: bool) -> Output:
    """The output file of a job, by its name.

    Raises:
        ConfigError: the format is unknown, the file cannot be written, or pyarrow is missing.
    """
    if format_of(path) == "parquet":
        return ParquetOutput(path, journal, proposals=proposals)
    return LinesOutput(path, journal, any_order=any_order, proposals=proposals)


class LinesOutput(Closing):
    """A file of JSON Lines that grows; a protocol of :class:`Output`."""

    def __init__(self, path: Path, journal: Journal, *, any_order: bool, proposals: bool) -> None:
        self._path, self._journal, self._proposals = path, journal, proposals
        self._order = "place" if any_order else "number"
        self._after, length = 0, 0
        if noted := journal.fact(OUTPUT):
            self._after, length = json.loads(noted)
        try:
            self._file = path.open("ab")
            if path.stat().st_size < length:  # it was removed or cut: the journal has every row
                self._after, length = 0, 0
            self._file.truncate(length)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
        self._length, self._noted = length, time.monotonic()

    def advance(self) -> None:
        while found := self._journal.next_record(self._order, self._after, gaps=self._order == "place"):
            self._after, answered = found
            self._write(answered)
        self._flush()
        if time.monotonic() - self._noted > _BETWEEN_NOTES:
            self._note()

    def finish(self) -> None:
        self.advance()
        self._note()
        after = self._after
        while found := self._journal.next_record(self._order, after, gaps=True):
            after, answered = found
            self._write(answered)
        self._flush()

    def _write(self, answered: Answered) -> None:
        line = line_of(answered, proposals=self._proposals)
        try:
            self._file.write(line)
        except OSError as error:
            raise self._error(error) from None
        self._length += len(line)

    def _flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise self._error(error) from None

    def _note(self) -> None:
        """Note how far the file is right, once it is on disk."""
        self._flush()
        os.fsync(self._file.fileno())
        self._journal.note(OUTPUT, json.dumps([self._after, self._length]))
        self._noted = time.monotonic()

    def _error(self, error: OSError) -> MoaError:
        return MoaError(f"{self._path}: cannot be written: {error.strerror or error}")

    def close(self) -> None:
        self._file.close()


class ParquetOutput(Closing):
    """A Parquet file with a fixed schema; a protocol of :class:`Output`."""

    def __init__(self, path: Path, journal: Journal, *, proposals: bool) -> None:
        self._path, self._journal, self._proposals = path, journal, proposals
        self._arrow = required(path)

    def advance(self) -> None:
        pass

    def finish(self) -> None:
        arrow, part = self._arrow, self._path.with_name(f"{self._path.name}.part")
        schema = self._schema()
        try:
            with arrow.parquet.ParquetWriter(part, schema) as writer:
                for rows in self._rows():
                    writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            part.replace(self._path)
        except OSError as error:
            raise MoaError(f"{self._path}: cannot be written: {error.strerror or error}") from None
        finally:
            part.unlink(missing_ok=True)

    def _rows(self) -> Iterator[list[dict[str, Any]]]:
        after = 0
        rows: list[dict[str, Any]] = []
        while found := self._journal.next_record("number", after, gaps=True):
            after, answered = found
            rows.append(self._row(answered))
            if len(rows) == _AT_ONCE:
                yield rows
                rows = []
        yield rows

    def _row(self, answered: Answered) -> dict[str, Any]:
        fields = row_object(answered, proposals=True)
        own = {name: fields.get(name) for name in _OWN}
        rest = {name: column for name, column in fields.items() if name not in _OWN}
        usage = msgspec.to_builtins(answered.usage)
        texts = {
            "id": str(answered.id),
            "tool_calls": _json(answered.tool_calls) if answered.tool_calls else None,
            "columns": _json(rest),
        }
        row = {**own, "usage": usage, **texts, "cost_is_at_least": answered.cost_is_at_least}
        if not self._proposals:
            del row["proposals"]
        return {name: _writable(value) for name, value in row.items()}

    def _schema(self) -> Any:
        arrow = self._arrow
        text, count = arrow.string(), arrow.int64()
        usage = [(name, count) for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")]
        proposal = [("agent", text), ("layer", count), ("model", text), ("text", text)]
        fields = [
            *(("id", text), ("answer", text), ("finish_reason", text), ("tool_calls", text)),
            ("usage", arrow.struct([*usage, ("estimated", arrow.bool_())])),
            *(("cost", arrow.float64()), ("cost_is_at_least", arrow.bool_()), ("seconds", arrow.float64())),
            ("degraded", arrow.list_(text)),
            ("error", arrow.struct([("type", text), ("message", text)])),
            *([("proposals", arrow.list_(arrow.struct(proposal)))] if self._proposals else []),
            ("columns", text),
        ]
        return arrow.schema(fields)

    def close(self) -> None:
        pass


def _json(value: object) -> str:
    return encoded_line(value).decode().rstrip("\n")


def _writable(value: Any) -> Any:
    """The value without halves of surrogate pairs, which Parquet cannot hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_writable(each) for each in value]
    if isinstance(value, dict):
        return {name: _writable(each) for name, each in value.items()}
    return value
