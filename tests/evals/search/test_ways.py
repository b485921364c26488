"""A fitted way gives the answers that a mixture with its table gives."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from moa import Mixture, Scripted
from moa.cli.searching import toml
from moa.config.aggregations import aggregate_of
from moa.config.tables import MixtureTable
from moa.evals.search.grid import grid_of
from moa.evals.search.matrix import Item
from moa.evals.search.ways import Evidence, Kind, Way, fit
from moa.evals.search.words import bag_of, expertise, labels_of, moments
from tests.evals.search.synthetic import items
from tests.mixture.writers import run

MODELS: dict[str, dict[str, float] | float] = {
    "x/a": {"apples": 0.8, "pears": 0.5},
    "x/b": {"apples": 0.45, "pears": 0.75},
    "x/c": 0.55,
}


def fitted(kind: Kind, samples: int = 1) -> tuple[Way, Evidence]:
    """A way with all members, fitted to all items."""
    grid = grid_of(items(MODELS, samples=samples))
    bag, rows = bag_of(grid.items), np.arange(len(grid))
    known = expertise(moments(bag, labels_of(grid), rows))
    here = Evidence(grid, bag, known.expected(bag, rows))
    way = fit(kind, [0, 1, 2], here, rows, lambda: known)
    assert way is not None
    return way, here


def answered(item: Item, table: MixtureTable) -> str:
    """The answer of a mixture with this table, where the models say what is recorded."""
    said = {model: iter(samples) for model, samples in item.answers.items()}
    layer = [Scripted(next(said[str(name)]).text or "", name=str(name)) for name in table.layers[0]]
    return run(Mixture([layer], aggregate=aggregate_of(table)), item.question)[1].text


@pytest.mark.parametrize(
    ("kind", "samples"),
    [
        ("vote", 1),
        ("weighted", 1),
        ("words", 1),
        ("lengths", 1),
        ("samples", 2),
        ("mux", 2),
        ("central", 1),
    ],
)
def test_the_table_answers_as_the_search_scored(kind: Kind, samples: int) -> None:
    """A table survives TOML, and its mixture gives the answer that the way chose: a vote may end before all have written."""
    way, here = fitted(kind, samples)
    found = {"mixtures": {"found": way.table(here)}}
    table = MixtureTable.model_validate(tomllib.loads(toml(found))["mixtures"]["found"])
    columns = way.choose(here)
    for row, item in enumerate(here.grid.items[:25]):
        column = int(columns[row])
        model = int(here.grid.owner[column])
        sample = column - int(here.grid.columns(model)[0])
        chosen = item.answers[here.grid.models[model]][sample]
        assert answered(item, table).split("\n")[-1] == (chosen.text or "").split("\n")[-1]


def test_a_calibrated_vote_knows_who_is_good_at_what() -> None:
    """Words of the question and lengths of the responses make a vote better than accuracies alone do."""
    weighted, here = fitted("weighted")
    calibrated, _ = fitted("words")
    assert calibrated.quality(here).mean() > weighted.quality(here).mean() + 0.03
    table = calibrated.table(here)["calibration"]
    changes = dict(zip(table["words"], table["agents"]["x/a"]["changes"], strict=True))
    assert max(changes.get("apples", 0.0), -changes.get("pears", 0.0)) > 0.1
    lengths = [change for _, change in table["agents"]["x/c"]["lengths"]]
    assert lengths[0] > lengths[-1]


def test_ways_that_make_no_sense_are_not_tried(tmp_path: Path) -> None:
    """A vote of one member, mux without samples, and words that nobody fitted."""
    grid = grid_of(items(MODELS, count=40))
    rows = np.arange(len(grid))
    assert fit("weighted", [0], Evidence(grid), rows) is None
    assert fit("mux", [0, 1], Evidence(grid), rows) is None
    assert fit("words", [0, 1], Evidence(grid), rows) is None
