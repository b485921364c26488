"""The files of a job on Ray: rows in, lines out, wherever pyarrow finds a file system."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.fs
import pyarrow.parquet
from ray.data import Datasource, ReadTask
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.datasource import BlockBasedFileDatasink

from moa.batch.reading import files, format_of, rows
from moa.errors import ConfigError

ROWS_IN_BLOCK = 50
"""Rows that are answered, written and noted together."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file, a folder or a pattern, in a file system of pyarrow. ``name``: a file's path in the folder that was given."""

    filesystem: Any
    path: str
    uri: str
    name: str = ""

    @classmethod
    def of(cls, place: str) -> Place:
        """The place of a path, or of a URI such as ``s3://bucket/folder``.

        Raises:
            ConfigError: pyarrow knows no file system for it.
        """
        if "://" not in place:
            path = str(Path(place).expanduser().absolute())
            return cls(pyarrow.fs.LocalFileSystem(), path, path)
        try:
            filesystem, path = pyarrow.fs.FileSystem.from_uri(place)
        except (OSError, pyarrow.ArrowException) as error:
            raise ConfigError(f"{place}: {error}") from None
        return cls(filesystem, path.rstrip("/"), f"{place.partition('://')[0]}://{path.rstrip('/')}")

    def beside(self, ending: str) -> Place:
        """The place with this ending."""
        return Place(self.filesystem, self.path + ending, self.uri + ending)

    def inside(self, name: str) -> Place:
        return Place(self.filesystem, f"{self.path}/{name}", f"{self.uri}/{name}")

    def files(self, *, without: Place) -> list[Place]:
        """The files of rows that it names, in the order of their names, and not those of the output ``without``.

        Raises:
            ConfigError: there is none.
        """
        found = [
            each
            for each in self._files()
            if format_of(Path(each.path)) and not each.path.startswith(f"{without.path}/")
        ]
        if not found:
            raise ConfigError(f"{self.uri!r} names no file of rows (.jsonl, .csv or .parquet)")
        return sorted(found, key=lambda each: each.path)

    def _files(self) -> Iterator[Place]:
        pattern = self.path if has_magic(self.path) else None
        root = re.split(r"/[^/]*[*?\[]", self.path)[0]
        info = self.filesystem.get_file_info(root)
        if info.type == pyarrow.fs.FileType.File:
            yield replace(self, name=info.base_name)
        elif info.type == pyarrow.fs.FileType.Directory:
            for each in self.filesystem.get_file_info(pyarrow.fs.FileSelector(root, recursive=True)):
                inside = each.type == pyarrow.fs.FileType.File and (not pattern or _matches(each.path, pattern))
                if inside and ".job/" not in each.path:
                    uri = self.uri.removesuffix(self.path) + each.path
                    yield Place(self.filesystem, each.path, uri, each.path.removeprefix(f"{root}/"))

    def read(self) -> bytes:
        with self.filesystem.open_input_stream(self.path) as stream:
            return bytes(stream.read())

    def write(self, name: str, content: bytes) -> None:
        """Write a small file inside, whole."""
        target = self.inside(name)
        parent = target.path.rpartition("/")[0]
        self.filesystem.create_dir(parent, recursive=True)
        if isinstance(self.filesystem, pyarrow.fs.LocalFileSystem):
            part = Path(f"{target.path}.part")
            part.write_bytes(content)
            part.replace(target.path)
            return
        with self.filesystem.open_output_stream(target.path) as stream:
            stream.write(content)

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Note what the job is, or check that it is the one of the folder.

        Raises:
            ConfigError: the folder holds another job.
        """
        noted = self.inside("job.json")
        if self.filesystem.get_file_info(noted.path).type == pyarrow.fs.FileType.NotFound:
            self.write("job.json", json.dumps(settings, indent=1).encode())
            return
        existing = json.loads(noted.read())
        for name, value in settings.items():
            if existing.get(name) != value:
                raise ConfigError(f"{self.uri} holds another job: its {name} differs; give another -o, or remove it")

    def books(self) -> list[dict[str, Any]]:
        """The books of all earlier starts."""
        return [json.loads(each.read()) for each in self.inside("books").listed(".json")]

    def rows(self) -> int:
        """The rows of all Parquet files inside."""
        return sum(
            pyarrow.parquet.read_metadata(each.path, filesystem=self.filesystem).num_rows
            for each in self.listed(".parquet")
        )

    def listed(self, ending: str) -> list[Place]:
        if self.filesystem.get_file_info(self.path).type != pyarrow.fs.FileType.Directory:
            return []
        found = self.filesystem.get_file_info(pyarrow.fs.FileSelector(self.path))
        return [self.inside(each.base_name) for each in found if each.base_name.endswith(ending)]


def _matches(path: str, pattern: str) -> bool:
    """Whether each step of a path fits the step of a pattern at its place."""
    steps, wanted = path.split("/"), pattern.split("/")
    return len(steps) == len(wanted) and all(fnmatchcase(*each) for each in zip(steps, wanted, strict=True))


def drop_repeated(checkpoints: Place, output: Place) -> None:
    """Remove answers to rows that the output has twice: workers may outlive a killed driver, and write a last block while
    the next start answers it again. A part file has the name of its checkpoint, and its lines are in the same order."""
    seen = set[str]()
    for checkpoint in sorted(checkpoints.listed(".parquet"), key=lambda each: each.path):
        table = pyarrow.parquet.read_table(checkpoint.path, filesystem=checkpoint.filesystem)
        places = table["place"].to_pylist()
        fresh = [place not in seen for place in places]
        seen.update(places)
        if all(fresh):
            continue
        name = checkpoint.path.rpartition("/")[2]
        part = f"{name.removesuffix('.parquet')}.jsonl"
        lines = output.inside(part).read().splitlines(keepends=True)
        output.write(part, b"".join(line for line, kept in zip(lines, fresh, strict=True) if kept))
        buffer = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table.filter(pyarrow.array(fresh)), buffer)
        checkpoints.write(name, buffer.getvalue().to_pybytes())


class RowFiles(Datasource):  # type: ignore[misc]
    """Rows with their places, FILE:NUMBER, read file by file in parallel.

    Args:
        limit: only so many rows of the first file, and no other file.
    """

    def __init__(self, places: Sequence[Place], limit: int | None = None) -> None:
        super().__init__()
        self._places, self._limit = places[:1] if limit else places, limit

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        return [
            ReadTask(
                lambda place=place: _blocks(place, self._limit),
                BlockMetadata(num_rows=None, size_bytes=None, input_files=[place.uri], exec_stats=None),
            )
            for place in self._places
        ]


def _blocks(place: Place, limit: int | None) -> Iterator[pyarrow.Table]:
    with tempfile.TemporaryDirectory() as folder:
        path = place.path
        if not isinstance(place.filesystem, pyarrow.fs.LocalFileSystem):
            path = f"{folder}/{Path(place.path).name}"
            pyarrow.fs.copy_files(place.path, path, source_filesystem=place.filesystem)
        block: dict[str, list[Any]] = {"place": [], "row": [], "problem": []}
        for raw in rows(files(path)):
            if limit and raw.number > limit:
                break
            block["place"].append(f"{place.name}:{raw.number}")
            block["row"].append(raw.line)
            block["problem"].append(raw.problem)
            if len(block["row"]) == ROWS_IN_BLOCK:
                yield _table(block)
                block = {name: [] for name in block}
        yield _table(block)


def _table(block: Mapping[str, list[Any]]) -> pyarrow.Table:
    fields = [("place", pyarrow.string()), ("row", pyarrow.binary()), ("problem", pyarrow.string())]
    return pyarrow.table(dict(block), schema=pyarrow.schema(fields))


class LineFiles(BlockBasedFileDatasink):  # type: ignore[misc]
    """Part files of JSON Lines."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.path, filesystem=place.filesystem, file_format="jsonl")

    def write_block_to_file(self, block: BlockAccessor, file: Any) -> None:
        file.write(b"".join(block.to_arrow()["line"].to_pylist()))
