"""The archive of runs."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from moa.messages import Answer, Cost, Reference, Usage
from moa.store.archive import Archive
from moa.store.bounds import Bounds
from moa.store.changes import Begun, Ended, Lines
from moa.store.turns import Turns

LINES = [b'{"event":"run_started"}', '{"text":"Größe"}'.encode(), b"{}"]


def begun(run: str, question: str = "Why?", owner: str = "", started: float = 1_700_000_000.0) -> Begun:
    request = {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": question}]}
    return Begun(run, owner, started, "moa/trio", request, {"layers": []}, None)


def ended(run: str, text: str = "Because.", outcome: str = "answered") -> Ended:
    answer = Answer(text, usage=Usage(30, 12), cost=Cost(0.5, at_least=True), duration=2.0, time_to_first_token=1.0)
    return Ended(run, outcome, answer)


def fill(archive: Archive, *runs: str) -> None:
    for run in runs:
        archive.write([begun(run, f"question {run}"), Lines(run, 1, LINES), ended(run, f"answer {run}")])


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Its beginning, its outcome and its lines, written in batches, can be read by another process too."""
    with Archive(tmp_path / "deep" / "runs.sqlite") as mine, Archive(tmp_path / "deep" / "runs.sqlite") as other:
        mine.write([begun("one", "Größe?"), Lines("one", 1, LINES[:2])])
        found = other.saved("one")
        assert found and (found.begun, found.outcome, found.lines) == (begun("one", "Größe?"), "running", LINES[:2])
        mine.write([Lines("one", 3, LINES[2:]), ended("one")])
        found = other.saved("one")
        assert found and (found.outcome, found.lines) == ("answered", LINES)
        assert other.saved("two") is None


def test_a_list_shows_results() -> None:
    """The latest run comes first, with the beginning of question and answer, and its cost, tokens and seconds."""
    with Archive() as archive:
        archive.write([begun("one", "why " * 100), ended("one", "because " * 100), begun("two")])
        two, one = archive.rows()
        assert (one.run, one.question, one.answer) == ("one", ("why " * 100)[:200], ("because " * 100)[:200])
        assert (one.outcome, one.cost, one.tokens) == ("answered", Cost(0.5, at_least=True), 42)
        assert (one.duration, one.time_to_first_token, one.started) == (2.0, 1.0, 1_700_000_000.0)
        assert (two.run, two.outcome, two.answer, two.cost) == ("two", "running", "", Cost(None))


def test_pages_of_a_list_do_not_shift() -> None:
    """The runs before a number are the next page, whatever runs were added meanwhile."""
    with Archive() as archive:
        fill(archive, *"abcde")
        first = archive.rows(limit=2)
        fill(archive, "f")
        second = archive.rows(before=first[-1].number, limit=2)
        third = archive.rows(before=second[-1].number, limit=2)
        assert [row.run for row in (*first, *second, *third)] == ["e", "d", "c", "b", "a"]


@pytest.mark.parametrize(
    ("search", "runs"),
    [
        ("QUESTION", ["ä", "b", "a"]),
        ("Answer B", ["b"]),
        ("100%", ["b"]),
        ("%", ["b"]),
        ("_", ["b"]),
        ("ÄRGER", ["ä"]),
        ("ärger", ["ä"]),
        ("nothing of that", []),
        ("\ud83d", []),
    ],
)
def test_a_search_is_literal(search: str, runs: list[str]) -> None:
    """It finds text in question and answer, ignoring case in any script; no character is a wildcard."""
    with Archive() as archive:
        archive.write([begun("a", "question a"), ended("a", "answer a")])
        archive.write([begun("b", "question b of 100%"), ended("b", "answer b, snake_case")])
        archive.write([begun("ä", "a question of Ärger"), ended("ä", "none")])
        assert [row.run for row in archive.rows(search=search)] == runs


def test_runs_belong_to_their_owner() -> None:
    """A list with an owner holds only that owner's runs, and another owner's run is not found."""
    with Archive() as archive:
        archive.write([begun("a", owner="ann"), begun("b", owner="bob")])
        assert [row.run for row in archive.rows("ann")] == ["a"]
        assert archive.saved("a", "ann") and archive.saved("a", "bob") is None
        assert [row.run for row in archive.rows()] == ["b", "a"]


def test_the_oldest_runs_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the limit is kept, lines and requests included; a run in flight stays, whatever its age."""
    monkeypatch.setattr("moa.store.archive.RUNS_BETWEEN_SWEEPS", 1)
    with Archive(bounds=Bounds(runs=3)) as archive:
        archive.write([begun("in flight")])
        fill(archive, *"abcde")
        assert [row.run for row in archive.rows()] == ["e", "d", "c", "in flight"]
        assert archive.saved("a") is None and archive.lines("a") == []
        archive.write([ended("in flight")])
        fill(archive, "f")
        assert [row.run for row in archive.rows()] == ["f", "e", "d"]


def test_half_of_a_surrogate_pair_is_stored(tmp_path: Path) -> None:
    """Servers that cut strings at any place send it, and people paste it."""
    with Archive(tmp_path / "runs.sqlite") as archive:
        archive.write([begun("one", "\ud83d?"), ended("one", "\ude00")])
        assert [(row.question, row.answer) for row in archive.rows()] == [("??", "?")]
        found = archive.saved("one")
        assert found and found.begun == begun("one", "\ud83d?")


def test_the_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    """They hold message text: mode 0600."""
    with Archive(tmp_path / "runs.sqlite") as archive:
        fill(archive, "a")
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize("with_others", [False, True], ids=["alone", "shared"])
def test_deleted_text_is_gone_from_the_disk(tmp_path: Path, with_others: bool) -> None:
    """Neither the file nor its log holds a word of it, and the proposals kept for its turn are deleted too."""
    secret = os.urandom(8).hex()
    references = f'[{{"agent": "a", "text": "proposal {secret}", "cut": false, "layer": 1}}]'
    lines = [b'{"event":"answer_began","at":1.0,"references":' + references.encode() + b"}"]
    with Archive(tmp_path / "runs.sqlite") as archive, Turns(tmp_path / "runs.sqlite") as turns:
        other = Archive(tmp_path / "runs.sqlite") if with_others else None
        turns.keep("turn", [Reference("a", f"proposal {secret}")])
        fill(archive, "before")
        archive.write(
            [begun("one", f"question {secret} " * 1000), Lines("one", 1, lines), ended("one", f"said {secret}")]
        )
        fill(archive, "behind")
        assert secret.encode() in bytes_of(tmp_path)
        archive.delete("one")
        assert secret.encode() not in bytes_of(tmp_path)
        assert archive.saved("one") is None and turns.recall("turn") is None
        assert [row.run for row in archive.rows()] == ["behind", "before"]
        archive.write([Lines("one", 2, LINES)])  # lines of a deleted run are ignored
        assert archive.lines("one") == []
        if other:
            other.close()


def test_text_that_a_reader_still_holds_is_overwritten_by_the_next_write(tmp_path: Path) -> None:
    """A process that is reading prevents the log from being emptied; the next write empties it."""
    secret = os.urandom(8).hex()
    with Archive(tmp_path / "runs.sqlite") as archive:
        archive._file.execute("PRAGMA busy_timeout = 50")
        archive.write([begun("one", secret), ended("one")])
        reader = sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs").fetchone()
        archive.delete("one")
        assert secret.encode() in bytes_of(tmp_path)
        reader.close()
        fill(archive, "two")
        assert secret.encode() not in bytes_of(tmp_path)


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Either all changes are written or none."""
    with Archive(tmp_path / "runs.sqlite") as archive:
        fill(archive, "a")
        with pytest.raises(sqlite3.IntegrityError):
            archive.write([begun("b"), begun("a")])
        assert [row.run for row in archive.rows()] == ["a"]
        fill(archive, "b")
        assert [row.run for row in archive.rows()] == ["b", "a"]


def test_a_rating_is_kept_changed_removed_and_deleted_with_its_run(tmp_path: Path) -> None:
    """Another owner cannot rate; lists show the thumb; the text of a note that is gone is gone from the disk."""
    with Archive(tmp_path / "runs.sqlite") as archive:
        archive.write([begun("one", owner="ann"), ended("one"), begun("two"), ended("two")])
        assert archive.rate("one", "ann", "down", "misses the p\ud800oint: cobalt")
        assert not archive.rate("one", "bob", "up")
        assert not archive.rate("none", None, "up")
        saved = archive.saved("one")
        assert saved and saved.rating and saved.rating[:2] == ("down", "misses the p?oint: cobalt")
        assert [row.rating for row in archive.rows()] == [None, "down"]
        assert b"cobalt" in bytes_of(tmp_path)
        archive.rate("one", None, "up", "vermilion")
        assert b"cobalt" not in bytes_of(tmp_path)
        archive.rate("two", None, "up")
        archive.rate("two", None, None)
        assert [row.rating for row in archive.rows()] == [None, "up"]
        archive.delete("one")
        assert b"vermilion" not in bytes_of(tmp_path)
        assert archive.saved("one") is None
