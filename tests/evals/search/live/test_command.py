"""The command: forecasts, what is printed and written, what is refused, and the check of an earlier search."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from moa.cli import live_search, search_check
from moa.cli.live_search import Wanted
from moa.errors import ConfigError
from moa.evals.search.live.scores import Limits
from tests.evals.search.live import arithmetic
from tests.fakes.upstream import Upstream, say

pytestmark = pytest.mark.anyio

MODELS = ["up/steady", "up/odd", "up/writer"]


@pytest.fixture
async def up(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    arithmetic.answering(upstream)
    monkeypatch.setattr(live_search, "_report", lambda found, folder: None)  # drawing has tests of its own
    return upstream


def wanted(folder: Path, up: Upstream, count: int = 12, **options: Any) -> Wanted:
    given = {"models": MODELS, "limits": Limits(5.0), "out": folder / "out", "config": arithmetic.config(folder, up)}
    return Wanted(questions=arithmetic.questions(folder / "q.jsonl", count), **{**given, **options})


def text(folder: Path) -> str:
    return (folder / "moa.toml").read_text()


async def run(options: Wanted) -> int:
    return await asyncio.to_thread(live_search.search, options)


async def test_a_dry_run_calls_nothing(tmp_path: Path, up: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    """It forecasts calls and dollars of each step."""
    assert await run(wanted(tmp_path, up, dry_run=True, as_json=True)) == 0
    rows = json.loads(capsys.readouterr().out)["forecast"]
    assert [row["calls"] for row in rows[:2]] == [18, 18]
    assert all(row["dollars"] > 0 for row in rows)
    assert not up.requests


async def test_models_that_cost_money_need_a_limit(tmp_path: Path, up: Upstream) -> None:
    """Nothing is called before the user has said how much may be spent."""
    with pytest.raises(ConfigError, match="--spend DOLLARS"):
        await run(wanted(tmp_path, up, limits=Limits()))
    assert not up.requests


async def test_the_mixture_is_written(tmp_path: Path, up: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    """``--write`` appends the block to moa.toml; a second time, it refuses to replace it."""
    options = wanted(tmp_path, up, count=24, writes=True)
    before = text(tmp_path)
    assert await run(options) == 0
    written = text(tmp_path)
    assert written.startswith(before)
    assert "[mixtures.found]" in written
    assert "# gain +" in written
    printed = capsys.readouterr().out
    assert "[mixtures.found]" in printed
    assert "█" in printed
    with pytest.raises(ConfigError, match="another name with --name"):
        await run(options)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Why?", "rubric": "It is kind."}, "1 questions need a judge, the first is"),
        ({"question": "What is 1 + 1000?"}, "no answer"),
        ({"id": "q/1", "question": "Another?", "answer": 1}, "the same id"),
    ],
)
async def test_questions_that_cannot_be_used_are_refused(
    tmp_path: Path, up: Upstream, row: dict[str, Any], message: str
) -> None:
    """Before a model is called, with the line and the remedy."""
    options = wanted(tmp_path, up, count=3)
    with options.questions.open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(ConfigError, match=message):
        await run(options)
    assert not up.requests


def test_an_interrupted_search_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C names the folder, and the same command continues."""

    async def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(live_search, "_search", interrupted)
    options = wanted(tmp_path, Upstream())
    with pytest.raises(KeyboardInterrupt):
        live_search.search(options)
    assert f"the answers so far are in {options.folder}, and the same command continues" in capsys.readouterr().err


async def check(folder: Path, config: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    options = {"config": config, "limit": 12, "concurrency": 8, "as_json": True}
    capsys.readouterr()
    status = await asyncio.to_thread(search_check.check, folder, None, None, options)
    return status, json.loads(capsys.readouterr().out)


async def test_a_check_finds_that_nothing_changed(
    tmp_path: Path, up: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same answers for the same price: the mixture is still right, and the check has spent within its share."""
    options = wanted(tmp_path, up, count=24)
    await run(options)
    status, found = await check(tmp_path / "out", str(options.config), capsys)
    assert (status, found["still_right"], found["changes"]) == (0, True, [])
    assert 0 < found["spent"] <= 0.5
    assert {row["label"] for row in found["systems"]} >= {"up/steady", "up/odd"}


async def test_a_check_says_what_changed(tmp_path: Path, up: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    """A member that answers worse, and one that costs more, are named; the exit code says to search again."""
    options = wanted(tmp_path, up, count=24)
    await run(options)
    up.script("writer", say("Answer: 0", tokens=(50, 10)))
    up.script("odd", lambda body: say(f"Answer: {arithmetic.asked(body) + 1000}", tokens=(10, 100)))
    status, found = await check(tmp_path / "out", str(options.config), capsys)
    assert (status, found["still_right"]) == (1, False)
    assert any("is worse than then" in line for line in found["changes"])
    assert any(line.startswith("up/odd: an answer cost") for line in found["changes"])


async def test_a_check_needs_a_finished_search(tmp_path: Path) -> None:
    """Without one, the error says what to name."""
    with pytest.raises(ConfigError, match="holds no finished search"):
        search_check.check(tmp_path, None, None, {})


@pytest.mark.slow  # it draws
async def test_the_result_is_drawn(tmp_path: Path, upstream: Upstream) -> None:
    """The page has the front, the members and what left early, and its drawings."""
    arithmetic.answering(upstream)
    assert await run(wanted(tmp_path, upstream, count=24)) == 0
    page = (tmp_path / "out" / "report" / "report.html").read_text()
    assert "Which mixture, for these questions" in page
    assert "up/writer" in page
    assert (tmp_path / "out" / "report" / "search-dollars.svg").exists()
