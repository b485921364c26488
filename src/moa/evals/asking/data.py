"""Where a benchmark's files come from: the user's own copy, or a download from their official place on first use.

Notable decisions:
- No file of a benchmark ships with this project. Licences differ, and one benchmark has none.
- The user's own folder comes first, and its files are not checked. A download must have the checksum written in the code,
  so a file that changes at its source stops a run instead of changing its result.
- A file is found at its official path, by its bare name, or in a folder named for its benchmark; plain or gzipped.
- Judgments are read in any format they are published in: a JSON list, JSON Lines, CSV, gzipped or not.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from moa.errors import ConfigError

Row = dict[str, Any]
Fetching = Callable[[str, int, int], None]
"""Called with a file's name, the bytes downloaded, and the bytes in total (0 if unknown)."""

FOLDER_VARIABLE = "MOA_DATA"
"""The environment variable with the user's own folder."""

DOWNLOAD_TIMEOUT = 30.0
"""Seconds without a byte after which a download fails."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a benchmark.

    Attributes:
        benchmark: the folder it may be in.
        names: its possible paths in a user's folder, the official one first.
        url: where to download it; empty if it cannot be downloaded.
        sha256: the checksum of the download; empty without a URL.
        packaged: its path in an installed Python package; empty if no package has it.
    """

    benchmark: str
    names: tuple[str, ...]
    url: str = ""
    sha256: str = ""
    packaged: str = ""


class Shelf:
    """The files of benchmarks on this machine, and those that can be downloaded.

    Args:
        folder: the user's own folder; None for ``MOA_DATA``, if that is set.
        beside: a second folder to search, after the user's own.
        licences: by benchmark, reported before its first download.
        on_notice: called with a licence.
        on_fetching: called with the progress of a download.
        environ: where ``MOA_DATA``, ``XDG_CACHE_HOME`` and ``HF_ENDPOINT`` are looked up.

    Raises:
        ConfigError: the folder does not exist.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        beside: Path | None = None,
        licences: Mapping[str, str] | None = None,
        on_notice: Callable[[str], None] | None = None,
        on_fetching: Fetching | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        named = environ.get(FOLDER_VARIABLE)
        self.folder = folder or (Path(named).expanduser() if named else None)
        if self.folder is not None and not self.folder.is_dir():
            raise ConfigError(f"{'--data' if folder else FOLDER_VARIABLE} names {str(self.folder)!r}: no such folder")
        self._folders = [place for place in (self.folder, beside) if place is not None]
        self.cache = Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "moa" / "data"
        self._hub = environ.get("HF_ENDPOINT", "").rstrip("/")
        self._licences = dict(licences or {})
        self._on_notice = on_notice or (lambda line: None)
        self._on_fetching = on_fetching or (lambda name, done, total: None)

    def here(self, file: File) -> Path | None:
        """The path of the file on this machine, or None."""
        for root in self._folders:
            for name in file.names:
                for stem in (root / file.benchmark / name, root / name, root / file.benchmark / Path(name).name):
                    for path in (stem, stem.with_name(stem.name + ".gz")):
                        if path.is_file():
                            return path
        package, _, inside = file.packaged.partition("/")
        spec = find_spec(package) if package else None
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (path := Path(folder) / inside).is_file():
                return path
        fetched = self.cache / file.benchmark / Path(file.names[0]).name
        return fetched if fetched.is_file() else None

    def path(self, file: File) -> Path:
        """The path of the file; downloads it first if it is not on this machine, which blocks for as long as that takes.

        Raises:
            ConfigError: the download is impossible, fails, or has another checksum.
        """
        return self.here(file) or self._fetched(file)

    def digest(self, file: File) -> str:
        """The SHA-256 of the file's content, unpacked; raises as :meth:`path` does."""
        return hashlib.sha256(_bytes(self.path(file))).hexdigest()

    def rows(self, file: File) -> list[Row]:
        """The rows of a JSON, JSON Lines or CSV file; raises as :meth:`path` and :func:`read_rows` do."""
        return read_rows(self.path(file))

    def text(self, file: File) -> str:
        """The text of a file.

        Raises:
            ConfigError: as :meth:`path`, or the file is not UTF-8.
        """
        path = self.path(file)
        try:
            return _bytes(path).decode("utf-8")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from None

    def _fetched(self, file: File) -> Path:
        name = Path(file.names[0]).name
        place = f"put a copy at DIR/{file.benchmark}/{file.names[0]} and give --data DIR (or set {FOLDER_VARIABLE})"
        if not file.url:
            raise ConfigError(f"{file.benchmark} needs {name}, which is not on this machine; {place}")
        url = file.url.replace("https://huggingface.co", self._hub) if self._hub else file.url
        if licence := self._licences.pop(file.benchmark, ""):
            self._on_notice(licence)
        target = self.cache / file.benchmark / name
        part = target.with_name(f"{name}.{os.getpid()}.part")
        digest = hashlib.sha256()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT) as response, part.open("wb") as out:
                total, done = int(response.headers.get("Content-Length") or 0), 0
                while block := response.read(2**16):
                    digest.update(block)
                    out.write(block)
                    done += len(block)
                    self._on_fetching(name, done, total)
            if total and done < total:
                raise ConfigError(f"{url} closed the connection after {done} of {total} bytes; retry, or {place}")
            if digest.hexdigest() != file.sha256:
                raise ConfigError(f"{url} has changed (SHA-256 {digest.hexdigest()[:12]}…); {place}")
            part.replace(target)
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", error)
            if isinstance(error, urllib.error.HTTPError):
                why = f"{error.code} {error.reason}"
                error.close()
            raise ConfigError(f"{file.benchmark} needs {name}, which {url} does not return: {why}; {place}") from None
        finally:
            part.unlink(missing_ok=True)
        return target


def read_rows(path: Path) -> list[Row]:
    """The objects of a JSON list, of JSON Lines, or of a CSV file with a header; gzipped or not.

    An incomplete last line is left out.

    Raises:
        ConfigError: the file does not exist, is damaged, or holds something else.
    """
    try:
        text = _bytes(path).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{path}: cannot be read: {why}") from None
    if path.name.removesuffix(".gz").endswith(".csv"):
        return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
    begins = text.lstrip()[:1]
    if begins == "[":
        return [_object(row, f"{path}: entry {place}") for place, row in enumerate(_json(text, str(path)), start=1)]
    if begins and begins != "{":
        raise ConfigError(f"{path}: neither JSON nor JSON Lines")
    return list(_lines(text, path))


def check_identities(rows: Sequence[Row], field: str, where: Path) -> None:
    """Check that rows have identities, and different ones.

    Raises:
        ConfigError: a row has none, or two have the same.
    """
    seen: set[str] = set()
    for place, row in enumerate(rows, start=1):
        if row.get(field) is None:
            raise ConfigError(f"{where}: row {place} has no {field!r}")
        identity = str(row[field])
        if identity in seen:
            raise ConfigError(f"{where}: two rows have the {field} {identity}; number them differently")
        seen.add(identity)


def _lines(text: str, path: Path) -> Iterator[Row]:
    # Not splitlines(): JSON strings may hold U+2028 and other separators unescaped.
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            if number == len(lines) and number > 1:
                return
            raise ConfigError(f"{path}:{number}: not JSON") from None
        yield _object(row, f"{path}:{number}")


def _json(text: str, where: str) -> list[Any]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}") from None
    assert isinstance(rows, list)
    return rows


def _object(row: object, where: str) -> Row:
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: expected an object")
    return row


def _bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
