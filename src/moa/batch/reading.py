"""The rows of files, one after the other: JSON Lines, CSV and Parquet, plain or compressed.

The input is read as a stream, from its beginning each time: no more than one row, or one group of a Parquet file's rows, is
in memory.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any

from moa.batch.lines import LONGEST_LINE, encoded_line, lines
from moa.batch.rows import Raw
from moa.errors import ConfigError

COMPRESSED = (".gz", ".zst")
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet"}
ROWS_AT_ONCE = 256
"""Rows of a Parquet file that are decoded together."""

_State = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class File:
    """A file of rows, and its size and times when the job began: inode, bytes and nanoseconds."""

    path: Path
    state: _State

    def check(self) -> None:
        """Raises ConfigError if the file has changed since then."""
        if _state(self.path) != self.state:
            raise ConfigError(
                f"{self.path} changed while it was read; what was answered is kept: when the file is complete, run the "
                "same command again (a row that was answered and is different then is refused)"
            )


def files(place: str) -> list[File]:
    """The files that a path, a folder or a pattern names, in the order of their names.

    A folder's are those of a known format, in its folders too; hidden ones and the outputs of jobs are left out.

    Raises:
        ConfigError: there is none, or one cannot be read.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        inside = (found for found in path.rglob("*") if found.is_file() and format_of(found))
        found = [each for each in inside if not any(part.startswith(".") for part in each.relative_to(path).parts)]
        found = [each for each in found if not is_of_job(each)]
    elif has_magic(place) and not path.exists():
        root = Path(path.anchor)
        found = [each for each in root.glob(str(path.relative_to(root))) if each.is_file()]
    else:
        found = [path]
    if not found:
        raise ConfigError(f"{place!r} names no file of rows (.jsonl, .csv or .parquet; .gz and .zst for the first two)")
    return [File(each, _state(each)) for each in sorted(found)]


def folder_of(output: Path) -> Path:
    """The folder of the job that writes this file."""
    return output.with_name(f"{output.name}.job")


def is_of_job(path: Path) -> bool:
    """Whether a file is the output of a job, or in a job's folder."""
    return folder_of(path).is_dir() or path.parent.name.endswith(".job")


def format_of(path: Path) -> str | None:
    """The format that a file's name promises: ``jsonl``, ``csv`` or ``parquet``; None for an unknown one."""
    name = path.name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return FORMATS.get(Path(name).suffix)


def rows(given: Sequence[File]) -> Iterator[Raw]:
    """Every row of the files, numbered from 1 through all of them. Blank lines are no rows.

    Raises:
        ConfigError: a file is damaged, needs a package that is not installed, or changes while it is read.
    """
    number = 0
    for file in given:
        read = {"csv": _csv, "parquet": _parquet}.get(format_of(file.path) or "", _jsonl)
        file.check()
        try:
            for line, problem in read(file.path):
                number += 1
                if number % 1024 == 0:
                    file.check()
                yield Raw(number, line, problem)
        except (OSError, EOFError, zlib.error, csv.Error) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"{file.path}: cannot be read after row {number}: {why}") from None
        file.check()


def _jsonl(path: Path) -> Iterator[tuple[bytes, str]]:
    with _stream(path) as stream:
        for place, (line, whole) in enumerate(lines(stream)):
            if place == 0:
                _check_text(path, line)
            if whole:
                yield line, ""
            else:
                yield b"", f"the line has more than {LONGEST_LINE // 2**20} MB"


def _check_text(path: Path, line: bytes) -> None:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{path} is UTF-16; convert it to UTF-8: iconv -f UTF-16 -t UTF-8")
    if line.startswith(b"["):
        raise ConfigError(f"{path} is a JSON list; write one object a line: jq -c '.[]' {path}")


def _csv(path: Path) -> Iterator[tuple[bytes, str]]:
    csv.field_size_limit(LONGEST_LINE)
    with _stream(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="") as text:
        reader = csv.reader(_without_nul(text), strict=True)
        names = next(reader, [])
        if len(set(names)) < len(names):
            raise ConfigError(f"{path}: two columns have the same name")
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield b"", f"line {reader.line_num} is not CSV: {error}"
                continue
            if cells is None:
                return
            if not cells:
                continue
            if len(cells) != len(names):
                yield b"", f"line {reader.line_num} has {len(cells)} cells; the header has {len(names)}"
                continue
            row = dict(zip(names, cells, strict=True))
            if any(_is_escaped(cell) for cell in cells):
                yield b"", f"line {reader.line_num} is not UTF-8"
            else:
                yield encoded_line(row).rstrip(), ""


def _without_nul(text: io.TextIOWrapper) -> Iterator[str]:
    return (line.replace("\0", "") for line in text)


def _is_escaped(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:
        return True
    return False


def _parquet(path: Path) -> Iterator[tuple[bytes, str]]:
    arrow = required(path, "pyarrow.parquet")
    try:
        with arrow.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    yield encoded_line(row).rstrip(), ""
    except ValueError as error:  # pyarrow's errors are of this kind
        raise OSError(str(error).partition("\n")[0]) from None


def required(path: Path, module: str = "pyarrow") -> Any:
    """A module of pyarrow; raises ConfigError where that is not installed, and names the file that needs it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(f"{path} needs pyarrow: pip install 'mixture-of-agents[batch]'") from None
    return pyarrow.parquet if module == "pyarrow.parquet" else pyarrow


def _stream(path: Path) -> io.BufferedReader:
    if path.name.lower().endswith(".gz"):
        return io.BufferedReader(gzip.open(path, "rb"), 2**20)
    if path.name.lower().endswith(".zst"):
        return io.BufferedReader(required(path).input_stream(str(path), compression="zstd"), 2**20)
    return path.open("rb")


def _state(path: Path) -> _State:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    return found.st_ino, found.st_size, found.st_mtime_ns
