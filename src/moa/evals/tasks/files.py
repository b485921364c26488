"""The rows of a user's file, one at a time: JSON Lines, a JSON list, CSV or Parquet; gzipped or not.

Notable decisions:
- A row that cannot be read is a row with a problem, so all problems of a file are reported together.
- Spreadsheets write CSV in many ways: with commas, semicolons or tabs, a byte-order mark, UTF-16, or a first line ``sep=;``.
  All of them are read.
- Memory does not grow with the file, except for a JSON list, which is parsed as a whole.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from moa.errors import ConfigError
from moa.evals.asking.data import Row

PARQUET = "reading Parquet needs pyarrow; run: pip install 'mixture-of-agents[parquet]'"
Bytes = io.BufferedReader | gzip.GzipFile

SUFFIXES = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row of a file.

    Attributes:
        place: where it is, for a reader: ``line 7``.
        row: its fields by name, as the file spells them; empty if there is a problem.
        problem: why it cannot be read, or "".
    """

    place: str
    row: Row = field(default_factory=dict)
    problem: str = ""


def file_rows(path: Path) -> Generator[FileRow]:
    """The rows of a file, in its order.

    Raises:
        ConfigError: the file does not exist, is damaged as a whole, is of another kind, or pyarrow is missing.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            start = file.peek(4096)[:4096]
            kind = SUFFIXES.get(Path(path.name.removesuffix(".gz")).suffix.lower()) or _kind(start, path)
            yield from {"csv": _csv, "parquet": _parquet, "lines": _lines, "list": _list}[kind](file, path)
    except (OSError, EOFError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{path}: cannot be read: {why}") from None


def _kind(start: bytes, path: Path) -> str:
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith(b"PAR1"):
        return "parquet"
    if not text or text[:1] == b"{":
        return "lines"
    if text[:1] == b"[":
        return "list"
    raise ConfigError(f"{path}: neither JSON Lines, a JSON list, CSV nor Parquet; name a CSV file {path.stem}.csv")


def _lines(file: Bytes, path: Path) -> Iterator[FileRow]:
    # A file's own lines, not str.splitlines(): JSON strings may hold U+2028 and other separators unescaped.
    for number, line in enumerate(file, start=1):
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if content.strip():
            yield _parsed(content, f"line {number}")


def _parsed(line: bytes, place: str) -> FileRow:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return FileRow(place, problem="the line is not UTF-8; save the file as UTF-8")
    except (ValueError, RecursionError) as error:
        return FileRow(place, problem=f"the line is not JSON ({error}); write one JSON object on each line")
    return _object(row, place)


def _object(row: object, place: str) -> FileRow:
    if isinstance(row, dict):
        return FileRow(place, row)
    return FileRow(place, problem=f"expected a JSON object with a question, not {type(row).__name__}")


def _list(file: Bytes, path: Path) -> Iterator[FileRow]:
    try:
        rows = json.loads(file.read().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: the JSON list cannot be parsed: {error}") from None
    for number, row in enumerate(rows, start=1):
        yield _object(row, f"entry {number}")


def _csv(file: Bytes, path: Path) -> Iterator[FileRow]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    start = file.peek(2)[:2]
    utf16 = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text = io.TextIOWrapper(file, "utf-16" if utf16 else "utf-8-sig", newline="")
    skipped = 0
    try:
        head = text.readline()
        if head.lower().startswith("sep=") and len(head.strip()) <= 5:
            delimiter, skipped, head = head.rstrip("\r\n")[4:] or ",", 1, ""
        else:
            delimiter = max(",;\t", key=head.count)
        reader = csv.reader(chain([head] if head else [], text), delimiter=delimiter, strict=True)
        names = [name.strip() for name in next(reader, [])]
        if len({name for name in names if name}) < len([name for name in names if name]):
            raise ConfigError(f"{path}: two columns have the same name in {names}; rename one")
        before = reader.line_num
        for cells in reader:
            place, before = f"line {before + 1 + skipped}", reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if any(cell.strip() for cell in cells[len(names) :]):
                yield FileRow(place, problem=f"{len(cells)} cells for {len(names)} columns; quote a cell with commas")
                continue
            yield FileRow(place, {name: cell for name, cell in zip(names, cells, strict=False) if name})
    except csv.Error as error:
        raise ConfigError(f"{path}: the CSV cannot be parsed near line {reader.line_num + skipped}: {error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason}); save it as CSV UTF-8") from None
    finally:
        text.detach()


def _parquet(file: Bytes, path: Path) -> Iterator[FileRow]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(f"{path}: {PARQUET}") from None
    try:
        number = 0
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield FileRow(f"row {number}", row)
    except pyarrow.ArrowException as error:
        raise ConfigError(f"{path}: the Parquet file cannot be read: {error}") from None
