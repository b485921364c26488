"""Differences between runs, and their confidence intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moa.cli.report import compare
from moa.errors import ConfigError
from moa.evals.benchmarks import alpaca_eval, flask, mt_bench
from moa.evals.reading.compare import compared, interval, paired
from moa.evals.reading.measured import measured, runs_in, scores_of
from moa.models.scripted import Scripted
from tests.fakes.measured_runs import grader, measure


def test_the_interval_has_its_confidence_level() -> None:
    """Of 200 samples from a known distribution, about 95 % have an interval that contains its mean."""
    random = np.random.default_rng(7)
    held = 0
    for seed in range(200):
        low, high = interval(random.exponential(size=60), draws=1000, seed=seed)
        held += low <= 1 <= high
    assert 176 <= held <= 199


def test_pairing_removes_the_variance_of_the_items() -> None:
    """A small constant difference on easy and hard items is significant."""
    difficulty = np.random.default_rng(1).normal(50, 30, size=40)
    found = paired(difficulty + 1 + np.linspace(-0.5, 0.5, 40), difficulty)
    assert found.decided
    assert found.difference == pytest.approx(1)
    assert found.high - found.low < 0.4
    assert (found.items, found.better, found.worse, found.even) == (40, 40, 0, 0)


def test_the_same_data_gives_the_same_interval() -> None:
    """The resampling has a seed."""
    assert interval([1, 2, 3, 5]) == interval([1, 2, 3, 5])
    assert interval([1, 2, 3, 5], confidence=0.5)[0] > interval([1, 2, 3, 5])[0]


def test_one_item_has_no_interval() -> None:
    """It is an error."""
    with pytest.raises(ConfigError, match="at least two items, not 1"):
        interval([1.0])


def test_scores_by_item_come_from_each_benchmarks_judgments() -> None:
    """An item's turns and skills are averaged; failed judgments are left out; recorded grades precede the text's."""
    preferences: list[dict[str, Any]] = [
        {"index": 0, "preference": 1.25},
        {"index": 1, "preference": 0},
        {"index": 2, "preference": None},
    ]
    assert scores_of(preferences, alpaca_eval.BENCHMARK) == {"0": 25, "1": 50}
    turns: list[dict[str, Any]] = [
        {"question_id": 81, "turn": 1, "score": 8},
        {"question_id": 81, "turn": 2, "score": 5.0},
    ]
    assert scores_of([*turns, {"question_id": 82, "turn": 1, "score": -1}], mt_bench.BENCHMARK) == {"81": 6.5}
    reviews: list[dict[str, Any]] = [
        {"idx": 3, "review": "Good. {'Readability': 5, 'Factuality': 'N/A', 'Conciseness': 2}"},
        {"idx": 5, "review": "{'Readability': 1}", "score": {"readability": 4}},
    ]
    assert scores_of([*reviews, {"idx": 4, "review": "none"}], flask.BENCHMARK) == {"3": 3.5, "5": 4}


@pytest.mark.anyio
async def test_runs_are_compared_on_the_items_that_both_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run has twelve items, the other seven; the comparison has seven, in words and in JSON."""
    first = await measure(tmp_path, Scripted("one thing", name="scripted/one"))
    second = await measure(tmp_path, Scripted("another", name="scripted/two"), limit=7)
    found = compared(measured(first), measured(second))
    assert (found.items, found.confidence) == (7, 0.95)
    assert found.difference == pytest.approx(found.a - found.b)
    assert found.low <= found.difference <= found.high
    assert compare(first, second) == 0
    shown = capsys.readouterr().out
    assert "scripted/one against scripted/two, 7 items that both have" in shown
    assert "95% confidence interval" in shown
    assert compare(first, second, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["difference"]["items"] == 7


@pytest.mark.anyio
async def test_every_benchmark_is_compared_with_itself_alone(tmp_path: Path) -> None:
    """MT-Bench by question, FLASK by item."""
    one, two = Scripted("one", name="scripted/one"), Scripted("two", name="scripted/two")
    grades = [measured(await measure(tmp_path / "mt", each, mt_bench.BENCHMARK)) for each in (one, two)]
    skills = [measured(await measure(tmp_path / "fl", each, flask.BENCHMARK, judge=grader(3))) for each in (one, two)]
    assert (compared(*grades).items, compared(*skills).items) == (3, 4)
    with pytest.raises(ConfigError, match="they are of different benchmarks"):
        compared(grades[0], skills[0])
    assert len(runs_in([tmp_path / "mt"])) == 2


@pytest.mark.anyio
async def test_an_unfinished_run_is_an_error(tmp_path: Path) -> None:
    """So is a folder without a run."""
    with pytest.raises(ConfigError, match="not the folder of a run"):
        measured(tmp_path)
    folder = await measure(tmp_path, Scripted("x", name="scripted/x"), limit=2)
    (folder / "result.json").unlink()
    with pytest.raises(ConfigError, match="the run has not finished"):
        measured(folder)
