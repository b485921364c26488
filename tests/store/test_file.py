"""The run store's file."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moa.answers import Answer, Cost, Reference
from moa.errors import ConfigError
from moa.models.answer_store import Cache
from moa.store.archive import Archive
from moa.store.changes import Begun, Ended, Lines
from moa.store.ledger import Ledger
from moa.store.turns import Turns

OLD_FILE = """
PRAGMA journal_mode = WAL;
CREATE TABLE proposals (turn TEXT PRIMARY KEY, at REAL NOT NULL, "references" TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX proposals_at ON proposals (at);
CREATE TABLE spending (name TEXT, day TEXT, dollars REAL NOT NULL, PRIMARY KEY (name, day)) WITHOUT ROWID;
CREATE TABLE requests (name TEXT PRIMARY KEY, minute INTEGER, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, started REAL NOT NULL,
    outcome TEXT NOT NULL, model TEXT NOT NULL, continues TEXT, cost REAL, cost_is_at_least INTEGER NOT NULL DEFAULT 0,
    duration REAL, time_to_first_token REAL, tokens INTEGER NOT NULL DEFAULT 0,
    question TEXT NOT NULL, answer TEXT NOT NULL DEFAULT ''
);
CREATE INDEX runs_by_owner ON runs (owner, number);
CREATE TABLE run_requests (
    number INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE, request BLOB NOT NULL, mixture TEXT
);
CREATE TABLE run_lines (
    number INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, first INTEGER NOT NULL, lines BLOB NOT NULL,
    PRIMARY KEY (number, first)
);
"""
"""The file as older versions create it, without an application ID."""

REQUEST = {"messages": [{"role": "user", "content": "Why?"}], "tools": [{"type": "function"}]}
REFERENCES = '[{"agent": "ann", "text": "because", "cut": false, "layer": 1}]'
OLD_LINES = [
    b'{"event":"run_started","at":1.0,"run_id":"old","mixture":"moa/trio","schedule":"Barrier()","started":1.0}',
    (
        b'{"event":"answer_began","at":2.0,"references":[{"agent":"ann","text":"because","cut":false,"layer":1}],'
        b'"recalled":false}'
    ),
]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file with a run, a turn and a key's spending, written by an older version."""
    path = tmp_path / "runs.sqlite"
    file = sqlite3.connect(path)
    file.executescript(OLD_FILE)
    file.execute("INSERT INTO proposals VALUES ('turn', ?, ?)", (time.time(), REFERENCES))
    file.execute("INSERT INTO proposals VALUES ('other', ?, '[]')", (time.time(),))
    file.execute("INSERT INTO spending VALUES ('ann', '2026-11-25', 0.5)")
    file.execute(
        "INSERT INTO runs VALUES (1, 'old', 'ann', 1.0, 'answered', 'moa/trio', NULL, 0.25, 0, 2.0, 1.0, 42, 'Why?', 'So.')"
    )
    request = zlib.compress(json.dumps(REQUEST).encode(), 1)
    file.execute("INSERT INTO run_requests VALUES (1, ?, '{\"layers\": []}')", (request,))
    file.execute("INSERT INTO run_lines VALUES (1, 1, ?)", (zlib.compress(b"\n".join(OLD_LINES), 1),))
    file.commit()
    file.close()
    return path


def test_a_file_of_an_older_version_is_read(old: Path) -> None:
    """Its runs, turns and spending are all found, and new runs are stored beside them."""
    with Turns(old) as turns, Ledger(old) as ledger, Archive(old) as archive:
        assert turns.recall("turn") == (Reference("ann", "because"),)
        assert ledger.spent("ann", 1_795_564_800.0).today == 0.5  # 2026-11-25
        stored = archive.saved("old", "ann")
        assert stored and stored.lines == OLD_LINES and stored.outcome == "answered"
        assert stored.begun == Begun("old", "ann", 1.0, "moa/trio", REQUEST, {"layers": []})
        new = Begun("new", "ann", 2.0, "moa/trio", REQUEST, request_id="req-1")
        archive.write([new, Ended("new", "failed", Answer())])
        assert (saved := archive.saved("new")) and saved.begun == new
        assert archive.rate("old", "ann", "up", "right") and archive.rows("ann")[-1].rating == "up"
        rows = archive.rows("ann")
        assert [(row.run, row.cost, row.answer) for row in rows] == [("new", Cost(0.0), ""), ("old", Cost(0.25), "So.")]


def test_an_older_version_deletes_ratings_with_their_runs(tmp_path: Path) -> None:
    """It does not know the table, and SQLite keeps the two together; other ratings stay."""
    with Archive(tmp_path / "runs.sqlite") as archive:
        archive.write([Begun(run, "", 1.0, "moa/trio", REQUEST) for run in ("one", "two")])
        for run in ("one", "two"):
            archive.rate(run, None, "up")
        older = sqlite3.connect(tmp_path / "runs.sqlite")
        older.execute("PRAGMA foreign_keys = ON")
        older.execute("DELETE FROM runs WHERE run = 'one'")
        older.commit()
        older.close()
        assert [(row.run, row.rating) for row in archive.rows()] == [("two", "up")]


def test_deleting_a_run_of_an_older_version_deletes_its_turn(old: Path) -> None:
    """Its line does not name the turn, so the turn with the same proposals goes, and no other."""
    with Turns(old) as turns, Archive(old) as archive:
        archive.delete("old")
        assert turns.recall("turn") is None and turns.recall("other") == ()


def test_deleting_a_run_deletes_its_own_turn(tmp_path: Path) -> None:
    """Another turn with the same proposals stays."""
    began = (
        b'{"event":"answer_began","at":2.0,"references":' + REFERENCES.encode() + b',"recalled":false,"turn":"mine"}'
    )
    with Turns(tmp_path / "runs.sqlite") as turns, Archive(tmp_path / "runs.sqlite") as archive:
        for turn in ("mine", "other"):
            turns.keep(turn, [Reference("ann", "because")])
        archive.write([Begun("one", "", 1.0, "moa/trio", REQUEST), Lines("one", 1, [began])])
        archive.delete("one")
        assert turns.recall("mine") is None and turns.recall("other")


def test_the_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    """It holds message text: mode 0600, as have the files that SQLite puts beside it."""
    with Turns(tmp_path / "runs.sqlite") as turns, Ledger(tmp_path / "runs.sqlite"), Archive(tmp_path / "runs.sqlite"):
        turns.keep("turn", [Reference("ann", "because")])
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("kind", [Turns, Ledger, Archive])
def test_without_a_path_there_is_no_file(
    kind: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything works in memory."""
    monkeypatch.chdir(tmp_path)
    kind().close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [Turns, Ledger, Archive])
@pytest.mark.parametrize("content", [b"no database at all, however long it may be " * 50, None])
def test_a_file_that_cannot_be_used_is_named(
    kind: Callable[[Path], Any], content: bytes | None, tmp_path: Path
) -> None:
    """A directory, or a file that is not a database, is a ConfigError with the path."""
    path = tmp_path / "runs.sqlite"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"runs\.sqlite"):
        kind(path)


def test_a_store_and_a_cache_do_not_take_each_others_file(tmp_path: Path) -> None:
    """Each file is marked with the kind of its content."""
    Cache(tmp_path / "answers.sqlite").close()
    with pytest.raises(ConfigError, match="another kind"):
        Turns(tmp_path / "answers.sqlite")
    Turns(tmp_path / "runs.sqlite").close()
    with pytest.raises(ConfigError, match="another kind"):
        Cache(tmp_path / "runs.sqlite")


def test_another_process_that_closes_the_file_loses_nothing(tmp_path: Path) -> None:
    """Two connections of one process are open when another process reads the file and closes it: later writes are kept."""
    path = tmp_path / "runs.sqlite"
    program = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"

    def elsewhere(statement: str) -> str:
        return subprocess.run(
            [sys.executable, "-S", "-c", program, str(path), statement], capture_output=True, text=True, check=True
        ).stdout.strip()

    with Ledger(path) as ledger, Archive(path):
        ledger.spend("ann", 1.0)
        assert elsewhere("SELECT dollars FROM spending") == "1.0"
        ledger.spend("ann", 1.0)
        assert elsewhere("SELECT dollars FROM spending") == "2.0"
