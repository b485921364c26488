"""Ways from members to one answer that call no further model: fitted to some items, then applied to any.

A fitted way chooses exactly what a mixture with its table chooses at run time: all figures are rounded before they count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from moa.evals.search.ballots import Doubles, counted, muxed, panel_of, quality, vote_weights
from moa.evals.search.calibrating import Calibrated, calibrate
from moa.evals.search.choice import Members
from moa.evals.search.grid import Grid, Index
from moa.evals.search.words import Bag, Expertise
from moa.mixture.selection import most_central

__all__ = ["KINDS", "Evidence", "Kind", "Way", "accuracies_of", "fit", "ranked", "single"]

Kind = Literal["one", "vote", "weighted", "samples", "mux", "central", "lengths", "words"]
KINDS: tuple[Kind, ...] = ("vote", "weighted", "samples", "mux", "central", "lengths", "words")
"""Every way but a single model. ``samples``: a weighted vote of all samples of each model. ``lengths``, ``words``: votes
calibrated to the lengths of responses, and to the words of the question as well."""

DIGITS = 4


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a way is fitted to, and applied to.

    Attributes:
        grid: the answers.
        bag: the words of the questions.
        expected: expected accuracies by question, of shape (items, models), made without the item's own label.
    """

    grid: Grid
    bag: Bag | None = None
    expected: Doubles | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """A way with its members, the strongest first.

    Attributes:
        kind: which way.
        members: models, as indices; ``samples`` of each answer.
        accuracies: of the members, strictly between 0 and 1.
        calibrated, expertise: what a calibrated vote needs.
    """

    kind: Kind
    members: Members
    accuracies: tuple[float, ...]
    samples: tuple[int, ...]
    calibrated: Calibrated | None = None
    expertise: Expertise | None = None

    @property
    def calls(self) -> int:
        """How many calls an answer takes."""
        return sum(self.samples)

    def quality(self, here: Evidence) -> Doubles:
        """The quality of the answer to each item, from 0 to 1."""
        if self.kind == "one":
            return single(here.grid, self.members[0])
        return quality(here.grid, self.choose(here))

    def choose(self, here: Evidence) -> Index:
        """The column whose answer wins, for each item; -1 where there is no answer."""
        groups = [here.grid.columns(m, count) for m, count in zip(self.members, self.samples, strict=True)]
        columns = np.concatenate(groups)
        if self.kind == "mux":
            return muxed(here.grid, groups, np.array(self.accuracies))
        if self.kind == "central":
            return columns[[_central(here.grid, row, columns) for row in range(len(here.grid))]]
        panel = panel_of(here.grid, columns)
        place = counted(panel, self._votes(here, columns))
        return np.where(place < 0, -1, columns[place])

    def _votes(self, here: Evidence, columns: Index) -> Doubles:
        if self.kind == "vote":
            return np.ones(len(columns))
        if self.calibrated is None:
            return vote_weights(panel_of(here.grid, columns), np.repeat(self.accuracies, self.samples))
        expected = None
        if self.expertise is not None and here.bag is not None:
            expected = self.expertise.expected(here.bag, np.arange(len(here.grid)))[:, self.members]
        return self.calibrated.votes(here.grid.characters[:, columns], expected)

    def table(self, here: Evidence) -> dict[str, Any]:
        """The table of a moa.toml, or ``{"model": …}`` for a single model without a vote."""
        names = [here.grid.models[member] for member in self.members]
        if self.kind == "one":
            return {"model": names[0]}
        layer = [name for name, count in zip(names, self.samples, strict=True) for _ in range(count)]
        aggregate = self.kind if self.kind in ("mux", "central") else "vote"
        table: dict[str, Any] = {"layers": [layer], "aggregate": aggregate}
        if self.kind not in ("vote", "central"):
            table["weights"] = dict(zip(names, self.accuracies, strict=True))
        if self.calibrated is not None:
            table["calibration"] = self._calibration(self.calibrated, names, here.bag)
        return table

    def _calibration(self, calibrated: Calibrated, names: Sequence[str], bag: Bag | None) -> dict[str, Any]:
        table: dict[str, Any] = {}
        agents: dict[str, dict[str, Any]] = {name: {} for name in names}
        if self.expertise is not None and bag is not None:
            table |= {"scale": calibrated.scale, "words": [bag.words[word] for word in self.expertise.words]}
        for place, (agent, member) in enumerate(zip(agents.values(), self.members, strict=True)):
            agent["base"] = float(calibrated.base[place])
            if self.expertise is not None and bag is not None:
                agent["accuracy"] = float(self.expertise.accuracy[member])
                agent["changes"] = [float(change) for change in self.expertise.changes[:, member]]
            if calibrated.limits:
                pairs = zip(calibrated.limits[place], calibrated.changes[place], strict=True)
                agent["lengths"] = [[int(limit), float(change)] for limit, change in pairs]
        return table | {"agents": agents}


def single(grid: Grid, model: int) -> Doubles:
    """The quality of a single model: the mean of its samples."""
    return np.asarray(grid.right[:, grid.columns(model)].mean(1), dtype=np.float64)


def accuracies_of(grid: Grid, rows: Index) -> Doubles:
    """The accuracy of each model on these rows, strictly between 0 and 1, as a moa.toml holds it."""
    means = np.array(
        [grid.right[np.ix_(rows, grid.columns(m))].mean() for m in range(len(grid.models))], dtype=np.float64
    )
    return (
        np.clip(means, 0.5 / (len(rows) + 1), 1 - 0.5 / (len(rows) + 1))
        .round(DIGITS)
        .clip(10**-DIGITS, 1 - 10**-DIGITS)
    )


def ranked(members: Sequence[int], accuracies: Doubles) -> Members:
    """The members, the strongest first."""
    return tuple(sorted(members, key=lambda member: (-accuracies[member], member)))


def fit(
    kind: Kind, members: Sequence[int], here: Evidence, rows: Index, expertise: Callable[[], Expertise] | None = None
) -> Way | None:
    """A way, fitted to these rows; None where it makes no sense with these members or this data.

    Args:
        kind: which way.
        members: models, as indices.
        here: the answers; ``expected`` for ways with words.
        rows: the rows to fit to.
        expertise: what gives the expected accuracies of other items.
    """
    grid, accuracies = here.grid, accuracies_of(here.grid, rows)
    order = ranked(members, accuracies)
    many = kind in ("samples", "mux")
    samples = tuple(len(grid.columns(member)) if many else 1 for member in order)
    chosen = tuple(float(accuracies[member]) for member in order)
    if kind == "one":
        return Way("one", order[:1], chosen[:1], (1,))
    if (many and max(samples) == 1) or (not many and len(order) < 2):
        return None
    if kind == "mux" and min(samples) < max(samples):  # one sample always agrees with itself
        return None
    if kind == "central" and not _has_texts(grid):
        return None
    if kind not in ("lengths", "words"):
        return Way(kind, order, chosen, samples)
    words = kind == "words"
    panel = panel_of(grid, [int(grid.columns(member)[0]) for member in order])
    lengths = bool(np.isnan(grid.characters[np.ix_(rows, panel.columns)]).mean() < UNKNOWN)
    if (words and (here.expected is None or expertise is None)) or not (words or lengths):
        return None
    expected = here.expected[:, order] if words and here.expected is not None else None
    calibrated = calibrate(grid, panel, rows, expected, lengths=lengths)
    return Way(kind, order, chosen, samples, calibrated, expertise() if words and expertise is not None else None)


UNKNOWN = 0.5
"""Lengths do not count where a greater share of them is unknown."""


def _has_texts(grid: Grid) -> bool:
    return all(sample.text is not None for model in grid.models for sample in grid.items[0].answers.get(model, ()))


def _central(grid: Grid, row: int, columns: Index) -> int:
    """The place of the most central text among those of these columns that have one."""
    texts: list[str] = []
    places: list[int] = []
    for place, column in enumerate(columns):
        model = grid.models[grid.owner[column]]
        samples = grid.items[row].answers.get(model, ())
        index = int(column - np.flatnonzero(grid.owner == grid.owner[column])[0])
        if index < len(samples) and samples[index].text:
            texts.append(samples[index].text or "")
            places.append(place)
    return places[most_central(texts)] if texts else 0
