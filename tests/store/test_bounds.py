"""How much a store keeps: bounds in bytes and days, and long strings that are stored once."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moa.answers import Answer
from moa.store import blobs as blobs_module
from moa.store.archive import Archive
from moa.store.blobs import LONG, restored, shortened
from moa.store.bounds import Bounds, used_bytes
from moa.store.changes import Begun, Ended, Lines

IMAGE = "data:image/png;base64," + os.urandom(100_000).hex()
PART = {"type": "image_url", "image_url": {"url": IMAGE}}


def begun(run: str, request: dict[str, Any], started: float | None = None) -> Begun:
    return Begun(run, "", time.time() if started is None else started, "moa/trio", request)


def keep(archive: Archive, run: str, request: dict[str, Any], started: float | None = None) -> None:
    archive.write([begun(run, request, started), Lines(run, 1, [b"{}"]), Ended(run, "answered", Answer("So."))])


def turns(count: int) -> list[dict[str, Any]]:
    """The requests of a conversation that begins with an image and grows."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": [PART, {"type": "text", "text": "What is it?"}]}]
    requests = list[dict[str, Any]]()
    for number in range(count):
        requests.append({"messages": [*messages], "temperature": 0.5})
        messages += [{"role": "assistant", "content": f"{number} " * 500}, {"role": "user", "content": "And then?"}]
    return requests


def blobs(archive: Archive) -> int:
    return int(archive._file.execute("SELECT count(*) FROM blobs").fetchone()[0])


def test_an_image_in_every_turn_is_stored_once(tmp_path: Path) -> None:
    """Ten turns take little more than one, are read as they were, and the last run that goes takes the image with it."""
    with Archive(tmp_path / "runs.sqlite") as archive:
        requests = turns(10)
        keep(archive, "0", requests[0])
        first = used_bytes(archive._file)
        for number in range(1, 10):
            keep(archive, str(number), requests[number])
        assert used_bytes(archive._file) < first * 1.6
        assert blobs(archive) == 1 + 9
        for number in range(9, 0, -1):
            found = archive.saved(str(number))
            assert found and found.begun.request == requests[number]
            archive.delete(str(number))
        assert blobs(archive) == 1
        archive.delete("0")
        assert blobs(archive) == 0 and used_bytes(archive._file) < 100_000


def test_an_older_version_deletes_images_too(tmp_path: Path) -> None:
    """A trigger of the file does it, so a process that knows nothing of them leaves none behind."""
    with Archive(tmp_path / "runs.sqlite") as archive:
        keep(archive, "new", turns(1)[0])
        older = sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None)
        older.execute("PRAGMA foreign_keys = ON")
        older.execute("DELETE FROM runs WHERE run = 'new'")
        older.close()
        assert blobs(archive) == 0


_STRINGS = st.text(max_size=5) | st.sampled_from(
    ["\0", "\0" + "0" * 64, "x" * LONG, "\ud83d" * LONG, "\0" + "y" * LONG]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_STRINGS, inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=50)
@given(_JSON)
def test_any_request_is_read_as_it_was(value: Any) -> None:
    """Whatever its strings look like; and none of the long ones is left in what is stored beside the blobs."""
    texts: dict[bytes, bytes] = {}
    stored = shortened(value, texts)
    found = {digest.hex(): text.decode("utf-8", "surrogatepass") for digest, text in texts.items()}
    assert restored(stored, found) == value
    assert shortened(stored, {}) == stored or texts


def test_a_blob_that_has_just_been_deleted_is_written_again(tmp_path: Path) -> None:
    """The last run that holds it goes between the look and the write: the write fails, and the next one succeeds."""
    with Archive(tmp_path / "runs.sqlite") as archive, Archive(tmp_path / "runs.sqlite") as other:
        request = turns(1)[0]
        keep(archive, "one", request)

        def looked(file: sqlite3.Connection, digest: bytes) -> bool:
            other.delete("one")
            return True

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blobs_module, "is_stored", looked)
            with pytest.raises(sqlite3.IntegrityError):
                keep(archive, "two", request)
        keep(archive, "two", request)
        found = archive.saved("two")
        assert found and found.begun.request == request


def test_the_oldest_runs_go_when_the_store_is_too_large(tmp_path: Path) -> None:
    """A run in flight stays, in whatever process; the file is used again, and does not grow."""
    with Archive(tmp_path / "runs.sqlite") as other:
        other.write([begun("elsewhere", {"messages": []})])
        with Archive(tmp_path / "runs.sqlite", bounds=Bounds(bytes=750_000)) as archive:
            archive.write([begun("here", {"messages": []})])
            for number in range(30):
                keep(archive, str(number), {"messages": [{"role": "user", "content": os.urandom(50_000).hex()}]})
            rows = [row.run for row in archive.rows()]
            assert rows[0] == "29" and rows[-2:] == ["here", "elsewhere"] and 5 < len(rows) < 16
            assert rows[:-2] == [str(number) for number in range(29, 31 - len(rows), -1)]
            assert used_bytes(archive._file) <= 750_000
    assert (tmp_path / "runs.sqlite").stat().st_size < 1_000_000


def test_runs_go_after_their_days(tmp_path: Path) -> None:
    """Also those that were broken off; a sweep finds them without a write."""
    request = {"messages": [{"role": "user", "content": "Why?"}]}
    with Archive(tmp_path / "runs.sqlite", bounds=Bounds(days=2)) as archive:
        with Archive(tmp_path / "runs.sqlite") as other:
            other.write([begun("broken off", request, time.time() - 3 * 86400)])
            other._file.execute("UPDATE run_processes SET beat = beat - 60")
        for run, days in (("old", 2.1), ("new", 1.9)):
            keep(archive, run, request, time.time() - days * 86400)
        archive.sweep()
        assert [row.run for row in archive.rows()] == ["new"]
