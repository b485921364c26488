"""Votes over many items are those of the tally, which counts one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from moa.evals.search.ballots import counted, muxed, panel_of, quality, vote_weights
from moa.evals.search.grid import Grid, grid_of
from moa.evals.search.matrix import Item, Sample
from moa.mixture import tally

ANSWERS = st.sampled_from([None, "a", "b", "c", "d"])


def grid(rows: list[list[str | None]], samples: int = 1, options: int = 0) -> Grid:
    """A grid with these answers, all of the labels 0; each model has so many samples."""
    return grid_of(
        Item(
            id=str(row),
            question="?",
            answers={
                f"m{start // samples}": tuple(Sample(answer, 0.0) for answer in answers[start : start + samples])
                for start in range(0, len(answers), samples)
            },
            options=("",) * options,
        )
        for row, answers in enumerate(rows)
    )


@settings(max_examples=40)
@given(
    rows=st.lists(st.lists(ANSWERS, min_size=4, max_size=4), min_size=1, max_size=8),
    accuracies=st.lists(st.sampled_from([0.9, 0.7, 0.55, 0.3, 0.15]), min_size=4, max_size=4),
    options=st.sampled_from([0, 3, 10]),
)
def test_a_weighted_vote_is_the_tallys(rows: list[list[str | None]], accuracies: list[float], options: int) -> None:
    """The same member wins as in a vote at run time."""
    order = sorted(range(4), key=lambda member: -accuracies[member])
    panel = panel_of(grid(rows, options=options), order)
    weights = np.array([accuracies[member] for member in order])
    chosen = counted(panel, vote_weights(panel, weights))
    for answers, place in zip(rows, chosen, strict=True):
        result = tally.vote([answers[member] for member in order], list(weights), possible=options or None)
        assert (result.index if result else -1) == place


@settings(max_examples=40)
@given(
    rows=st.lists(st.lists(ANSWERS, min_size=6, max_size=6), min_size=1, max_size=8),
    accuracies=st.lists(st.sampled_from([0.9, 0.5]), min_size=2, max_size=2),
)
def test_mux_is_the_tallys(rows: list[list[str | None]], accuracies: list[float]) -> None:
    """The same answer wins as with mux at run time."""
    here = grid(rows, samples=3)
    chosen = muxed(here, [np.arange(3), np.arange(3, 6)], np.array(accuracies))
    for answers, column in zip(rows, chosen, strict=True):
        result = tally.mux(answers, ["x"] * 3 + ["y"] * 3, [accuracies[0]] * 3 + [accuracies[1]] * 3)
        assert (result.winner if result else None) == (answers[column] if column >= 0 else None)


def test_no_answer_is_wrong() -> None:
    """An item on which nobody answers has the quality 0, whatever the labels say."""
    here = grid([[None, None], ["a", None]])
    here.right[:] = 1
    panel = panel_of(here, [1, 0])
    place = counted(panel, np.ones(2))
    assert place.tolist() == [-1, 1]
    assert quality(here, np.where(place < 0, -1, panel.columns[place])).tolist() == [0, 1]
