"""The file that outlives runs."""

from __future__ import annotations

import logging
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from moa.errors import ConfigError
from moa.messages import Reference
from moa.store import turns as runs
from moa.store.turns import RunStore

NOON = 1_700_000_000.0
REFERENCES = (Reference("ann", "Größe 你好"), Reference("bob", "half", cut=True, layer=2))


def test_what_is_kept_is_recalled_by_another_process(tmp_path: Path) -> None:
    """Agent, text, cut and layer come back as they were; a turn that is not known gives None."""
    with RunStore(tmp_path / "deep" / "runs.sqlite") as one, RunStore(tmp_path / "deep" / "runs.sqlite") as other:
        one.keep("turn", REFERENCES)
        assert other.recall("turn") == REFERENCES
        assert other.recall("other") is None
        one.keep("turn", REFERENCES[:1])
        assert other.recall("turn") == REFERENCES[:1]


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """It holds message text: mode 0600, the log beside it too."""
    with RunStore(tmp_path / "runs.sqlite") as store:
        store.keep("turn", REFERENCES)
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_without_a_path_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it works in memory."""
    monkeypatch.chdir(tmp_path)
    with RunStore() as store:
        store.keep("turn", REFERENCES)
        store.spend("ann", 0.5)
        assert store.recall("turn") == REFERENCES
        assert store.spent("ann") == 0.5
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file only the most recent turns are kept."""
    monkeypatch.setattr(runs, "TURNS_IN_MEMORY", 10)
    monkeypatch.setattr(runs, "TURNS_BETWEEN_SWEEPS", 5)
    with RunStore() as store:
        for turn in range(100):
            store.keep(str(turn), REFERENCES)
        known = [turn for turn in range(100) if store.recall(str(turn))]
    assert 10 <= len(known) <= 15
    assert known[-10:] == list(range(90, 100))


def test_old_turns_are_forgotten_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is never restarted does not keep last year's proposals."""
    clock = [NOON]
    monkeypatch.setattr("moa.store.turns.time.time", lambda: clock[0])
    monkeypatch.setattr(runs, "TURNS_BETWEEN_SWEEPS", 2)
    with RunStore(tmp_path / "runs.sqlite") as store:
        store.keep("old", REFERENCES)
        clock[0] += runs.DAYS_KEPT * 86400 + 1
        store.keep("new", REFERENCES)
        assert store.recall("old") is None
        assert store.recall("new") == REFERENCES


def test_requests_are_counted_by_the_minute() -> None:
    """Up to the limit there is nothing to wait for; then the rest of the minute; then it begins anew. Names are apart."""
    with RunStore() as store:
        minute = NOON - NOON % 60
        assert [store.count_request("ann", 2, minute + second) for second in (0, 10, 20, 50)] == [0, 0, 40, 10]
        assert store.count_request("bob", 2, minute + 50) == 0
        assert store.count_request("ann", 2, minute + 60) == 0


def test_spending_is_counted_by_the_day() -> None:
    """Dollars add up until midnight UTC."""
    with RunStore() as store:
        midnight = NOON - NOON % 86400
        store.spend("ann", 0.25, midnight + 1)
        store.spend("ann", 0.5, midnight + 86399)
        assert store.spent("ann", midnight + 100) == 0.75
        assert store.spent("ann", midnight + 86400) == 0
        assert store.spent("bob", midnight) == 0


def test_many_processes_count_together(tmp_path: Path) -> None:
    """No request and no dollar is lost between several that write at the same time."""

    def use() -> None:
        with RunStore(tmp_path / "runs.sqlite") as store:
            for _ in range(25):
                store.count_request("ann", 1000, NOON)
                store.spend("ann", 1.0, NOON)

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    with RunStore(tmp_path / "runs.sqlite") as store:
        assert store.spent("ann", NOON) == 100
        assert store.count_request("ann", 100, NOON) > 0


@pytest.mark.parametrize("content", [b"no database at all, however long it may be " * 50, None])
def test_a_file_that_cannot_be_used_is_said_to(tmp_path: Path, content: bytes | None) -> None:
    """ConfigError with the path: neither a database nor a directory."""
    path = tmp_path / "runs.sqlite"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"runs\.sqlite"):
        RunStore(path)


def test_a_store_that_fails_later_costs_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The turn is not kept, the operator is told, and the run goes on."""
    with RunStore(tmp_path / "runs.sqlite") as store:
        with sqlite3.connect(tmp_path / "runs.sqlite") as other:
            other.execute("DROP TABLE proposals")
            other.execute("DROP TABLE spending")
        other.close()
        with caplog.at_level(logging.ERROR):
            store.keep("turn", REFERENCES)
            store.spend("ann", 0.5)
            assert store.recall("turn") is None
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    assert "Größe" not in caplog.text
