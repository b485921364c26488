"""``moa cache``: how much is cached, and clearing it."""

from __future__ import annotations

from pathlib import Path

import pytest

from moa.answers import Delta
from moa.cli import app
from moa.cli.status import status_of
from moa.config.config import Config


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["moa", *arguments])
    return status_of(app)


def test_the_cache_is_counted_and_cleared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """``moa cache`` shows the file, its answers and its size; ``moa cache clear`` deletes them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "moa" / "answers.sqlite"
    assert run(monkeypatch, "cache") == 0
    assert capsys.readouterr().out == f"{path}: no cached answers\n"
    assert not path.exists()
    with Config().cache() as cache:
        cache.put("key", [Delta(text="x" * 2_000_000)])
    assert run(monkeypatch, "cache") == 0
    assert capsys.readouterr().out == f"{path}: 1 answer, 2.0 MB\n"
    assert run(monkeypatch, "cache", "clear") == 0
    assert capsys.readouterr().out == f"{path}: 1 answer deleted, 2.0 MB\n"
    assert run(monkeypatch, "cache") == 0
    assert capsys.readouterr().out == f"{path}: 0 answers, 0.0 MB\n"


def test_bounds_of_the_cache_are_settings(tmp_path: Path) -> None:
    """``[cache]`` in a moa.toml bounds the bytes and the age."""
    (tmp_path / "moa.toml").write_text("[cache]\nmegabytes = 2\ndays = 0.5\n")
    config = Config(tmp_path / "moa.toml", environ={"XDG_CACHE_HOME": str(tmp_path)})
    with config.cache() as cache:
        assert (cache._megabytes, cache._days) == (2, 0.5)
