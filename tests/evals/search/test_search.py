"""The search on matrices whose truth is known."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moa.cli import searching
from moa.errors import ConfigError
from moa.evals.search.choice import Choice, Members
from moa.evals.search.grid import grid_of
from moa.evals.search.intervals import clustered, paired
from moa.evals.search.matrix import Item, Sample, read_matrix, write_matrix
from moa.evals.search.search import Limits, search
from moa.evals.search.splits import parted
from tests.evals.search.synthetic import items

EQUALS = {"x/a": 0.6, "x/b": 0.6, "x/c": 0.6, "x/bad": 0.1}


def test_independent_equals_are_better_together() -> None:
    """A vote of three models that err independently is found, and its gain is read on items that it has not seen."""
    found = search(items(EQUALS, count=400), seed=3)
    assert {"x/a", "x/b", "x/c"} <= {*found.found.table["layers"][0]}
    assert found.found.gain.low > 0 and found.found.accuracy == pytest.approx(
        found.best.accuracy + found.found.gain.mean
    )
    assert found.searched + found.confirmed == 400 and found.tried > 4
    assert found.front[0].table == found.best.table and found.front[0].gain.mean == 0


def test_one_model_that_is_best_is_the_answer() -> None:
    """Where no mixture is better, the result is one model, and its gain is exactly 0."""
    found = search(items({"x/best": 0.95, "x/b": 0.3, "x/c": 0.25, "x/d": 0.3}))
    assert found.found.table == {"model": "x/best"}
    assert (found.found.gain.mean, found.found.gain.low, found.found.gain.high) == (0, 0, 0)


def test_the_same_seed_gives_the_same_result() -> None:
    """A search is a function of the items and the seed."""
    first, again, other = (search(items(EQUALS, count=120), seed=seed) for seed in (1, 1, 2))
    assert searching.as_object(first) == searching.as_object(again) != searching.as_object(other)


def test_limits_bound_members_and_costs() -> None:
    """No candidate has more members, costs more or takes longer than allowed."""
    priced = [
        replace(
            item,
            answers={
                model: tuple(replace(sample, cost=cost, seconds=seconds) for sample in item.answers[model])
                for model, cost, seconds in (
                    ("x/a", 0.01, 1.0),
                    ("x/b", 0.02, 1.0),
                    ("x/c", 0.01, 9.0),
                    ("x/bad", 0.01, 1.0),
                )
            },
        )
        for item in items(EQUALS)
    ]
    found = search(priced, limits=Limits(members=3, answer_cost=0.02, answer_seconds=2.0))
    assert all(point.calls <= 2 and (point.cost or 0) <= 0.02 for point in found.front)
    assert all("x/c" not in json.dumps(point.table) for point in found.front)
    with pytest.raises(ConfigError, match="--answer-cost"):
        search(items(EQUALS), limits=Limits(answer_cost=0.02))


def test_too_little_data_is_refused() -> None:
    """A search needs items in both parts, and labels."""
    with pytest.raises(ConfigError, match="at least 20"):
        search(items(EQUALS, count=30))
    with pytest.raises(ConfigError, match="has a label"):
        search([Item(str(n), "?", {"x": (Sample("a"),)}) for n in range(50)])


def test_missing_answers_and_labels() -> None:
    """A model that covers too little is left out; gold labels a sample without one; an item without either is left out."""
    some = [
        Item(str(n), "?", {"x": (Sample("4.0"),), "y": (Sample("4"),) if n < 3 else ()}, gold="4") for n in range(9)
    ]
    grid = grid_of([*some, Item("no", "?", {"x": (Sample("4"),)})])
    assert (grid.models, grid.left_out, grid.unlabelled, len(grid)) == (("x",), ("y",), 1, 9)
    assert grid.right.tolist() == [[1.0]] * 9


def test_a_model_without_answers_to_confirm_is_no_candidate() -> None:
    """What is found can be read on the confirmation part."""
    confirm = [
        replace(item, answers={"x/b": item.answers["x/b"], "x/c": item.answers["x/c"]}) for item in items(EQUALS, 48)
    ]
    found = search(items(EQUALS, 48), confirm)
    assert "x/a" not in json.dumps([point.table for point in found.front])
    with pytest.raises(ConfigError, match="none of these models"):
        search(items(EQUALS, 48), items({"x/other": 0.5}, 48))


def test_equal_questions_stay_in_one_part() -> None:
    """No question is searched on and reported on."""
    twice = [replace(item, id=f"{item.id} {turn}") for item in items(EQUALS, count=30) for turn in range(2)]
    parts = parted(grid_of(twice), 2, 1)
    assert not {twice[row].question for row in parts[0]} & {twice[row].question for row in parts[1]}
    assert sorted(np.concatenate(parts)) == list(range(60))


def test_a_choice_finds_the_best_panel_without_trying_all() -> None:
    """Greedy steps, swaps and races reach the best of 2,024 panels of three, and score most of the others on few rows."""
    worth = np.linspace(0, 1, 24)
    noise = np.random.default_rng(0).normal(0, 0.3, 4000)
    scored = 0

    def score(members: Members, rows: np.typing.NDArray[np.intp]) -> np.typing.NDArray[np.float64]:
        nonlocal scored
        scored += len(rows)
        return float(worth[list(members)].sum()) + noise[rows]

    choice = Choice(score, np.arange(4000))
    assert [*choice.panels(range(24), 3)][-1] == (21, 22, 23)
    assert len(choice.tried) < 500 and scored < 4000 * 200


def test_intervals_hold_the_mean() -> None:
    """The interval over tasks is wider where items of a task fail together, and absent with one task."""
    differences = np.repeat([1.0, -1.0, 0.0, 1.0], 25)
    tasks = np.repeat(np.arange(4), 25)
    over, by_task = paired(differences), clustered(differences, tasks)
    assert by_task is not None
    assert over.low < over.mean == 0.25 == by_task.mean < over.high
    assert by_task.error > 3 * over.error
    assert clustered(differences, np.zeros(100, np.intp)) is None


def test_the_command_prints_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON has what was found, what the confirmation part says, what was tried, and the front."""
    write_matrix(tmp_path / "a.jsonl.gz", items(EQUALS, count=200))
    write_matrix(tmp_path / "b.jsonl", items(EQUALS, count=100, seed=2))
    options = {"members": 3, "cost": None, "seconds": None, "seed": 1}
    for confirm, count in ((None, 100), (tmp_path / "b.jsonl", 100)):
        assert searching.recorded(tmp_path / "a.jsonl.gz", confirm, as_json=True, **options) == 0  # type: ignore[arg-type]
        printed = json.loads(capsys.readouterr().out)
        assert printed["found"]["aggregate"] == "vote"
        figures = printed["confirmation"]
        assert (
            figures["items"] == count
            and figures["low"] <= figures["gain"] <= figures["high"]
            and 0 < figures["best"] < 1
        )
        assert printed["tried"] > 0 and printed["front"]


RECORDED = Path(os.environ.get("MOA_DATA", "../shared/data")) / "recorded" / "reasoning_gym_hard.jsonl.gz"


@pytest.mark.slow
@pytest.mark.skipif(
    not RECORDED.exists(), reason="needs recorded/reasoning_gym_hard.jsonl.gz in ../shared/data or MOA_DATA"
)
def test_a_mixture_gains_on_recorded_answers() -> None:
    """A mixture of few models beats the best of them on hard questions of Reasoning Gym."""
    found = search(read_matrix(RECORDED))
    assert found.found.gain.low > 0 and found.found.way.calls <= 4
