"""The proposals of turns."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from moa import Mixture, Scripted
from moa.answers import Reference
from moa.mixture.codec import encoded_event
from moa.store import turns
from moa.store.archive import Archive
from moa.store.changes import Begun, Lines
from moa.store.turns import Turns

NOON = 1_700_000_000.0
REFERENCES = (Reference("ann", "Größe 你好"), Reference("bob", "half", cut=True, layer=2))


def test_proposals_are_recalled_by_another_process(tmp_path: Path) -> None:
    """Agent, text, cut and layer come back unchanged; an unknown turn gives None."""
    with Turns(tmp_path / "deep" / "runs.sqlite") as one, Turns(tmp_path / "deep" / "runs.sqlite") as other:
        one.keep("turn", REFERENCES)
        assert other.recall("turn") == REFERENCES
        assert other.recall("other") is None
        one.keep("turn", REFERENCES[:1])
        assert other.recall("turn") == REFERENCES[:1]


def test_memory_does_not_grow_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file only the most recent turns are kept."""
    monkeypatch.setattr(turns, "TURNS_IN_MEMORY", 10)
    monkeypatch.setattr(turns, "TURNS_BETWEEN_SWEEPS", 5)
    with Turns() as memory:
        for turn in range(100):
            memory.keep(str(turn), REFERENCES)
        known = [turn for turn in range(100) if memory.recall(str(turn))]
    assert 10 <= len(known) <= 15
    assert known[-10:] == list(range(90, 100))


def test_old_turns_are_deleted_while_a_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is never restarted does not keep last year's proposals."""
    clock = [NOON]
    monkeypatch.setattr("moa.store.turns.time.time", lambda: clock[0])
    monkeypatch.setattr(turns, "TURNS_BETWEEN_SWEEPS", 2)
    with Turns(tmp_path / "runs.sqlite") as memory:
        memory.keep("old", REFERENCES)
        clock[0] += turns.DAYS_KEPT * 86400 + 1
        memory.keep("new", REFERENCES)
        assert memory.recall("old") is None
        assert memory.recall("new") == REFERENCES


def test_a_locked_file_holds_nobody_up(tmp_path: Path) -> None:
    """Turns are recalled from memory until they can be written; then another process recalls them, too."""
    path = tmp_path / "runs.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as other, Turns(path) as turns:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        for number in range(20):
            turns.keep(f"turn {number}", [Reference("ann", str(number))])
        assert turns.recall("turn 7") == (Reference("ann", "7"),)
        assert time.monotonic() - began < 0.4
        other.execute("COMMIT")
    with Turns(path) as turns:
        assert [turns.recall(f"turn {number}") for number in range(20)] == [
            (Reference("ann", str(number)),) for number in range(20)
        ]


def test_a_file_that_fails_costs_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A turn that cannot be kept or recalled is logged without its text, and the run continues."""
    with Turns(tmp_path / "runs.sqlite") as memory:
        with sqlite3.connect(tmp_path / "runs.sqlite") as other:
            other.execute("DROP TABLE proposals")
        other.close()
        with caplog.at_level(logging.ERROR):
            memory.keep("turn", REFERENCES)
            assert memory.recall("turn") is None
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2
    assert "Größe" not in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize("deleted", ["first", "second"])
async def test_deleting_a_run_of_a_tool_loop_deletes_its_turn(deleted: str, tmp_path: Path) -> None:
    """The run that made the proposals and the one that reused them both name their turn."""
    body = {"messages": [{"role": "user", "content": "Why?"}], "tools": [{"type": "web_search"}]}
    later = {**body, "messages": [*body["messages"], {"role": "assistant", "content": "Let me see."}]}
    with Turns(tmp_path / "runs.sqlite") as memory, Archive(tmp_path / "runs.sqlite") as archive:
        mixture = Mixture([[Scripted("because", name="s/p")]], Scripted("So.", name="s/l"), memory=memory)
        for run, request in (("first", body), ("second", later)):
            lines = [encoded_event(event) async for event in mixture.run(request)]
            archive.write([Begun(run, "", 1.0, mixture.name, request), Lines(run, 1, lines)])
        kept = memory._file.execute("SELECT turn FROM proposals").fetchall()
        assert len(kept) == 1
        archive.delete(deleted)
        assert memory.recall(kept[0][0]) is None
