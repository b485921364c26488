"""The search: from recorded answers to the mixture that answers best, and an honest figure for it.

Notable decisions:
- Items are split before the start. What is reported was read on items that nothing was chosen or fitted on.
- How many members and which way is decided by cross-validation on the search part: in each fold, members are chosen and
  figures are fitted on the other folds. So a panel that was lucky on its own items gains nothing.
- One model is the answer, unless a mixture's cross-validated gain is greater than its standard error. A further call must
  be worth a twentieth of a point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from moa.errors import ConfigError
from moa.evals.search.ballots import Doubles, counted, open_votes, panel_of, quality, vote_weights
from moa.evals.search.choice import Choice, Members
from moa.evals.search.grid import Grid, Index, grid_of
from moa.evals.search.intervals import Interval, clustered, paired
from moa.evals.search.matrix import Item
from moa.evals.search.procedures import ONE, Procedure, choice, front
from moa.evals.search.splits import parted
from moa.evals.search.ways import KINDS, Evidence, Kind, Way, accuracies_of, fit, ranked, single
from moa.evals.search.words import Expertise, Moments, bag_of, expertise, labels_of, moments

__all__ = ["Limits", "Point", "Search", "search"]

FOLDS = 5
FEWEST = 20
"""A search needs so many items in each part."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an answer may take.

    Attributes:
        members: how many models at most.
        answer_cost: US dollars of an answer at most, on average.
        answer_seconds: the mean duration of the slowest call at most.
    """

    members: int = 4
    answer_cost: float | None = None
    answer_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A way of the front, read on the confirmation part.

    Attributes:
        way: the way.
        table: it as a table of a moa.toml, or ``{"model": …}``.
        accuracy: from 0 to 1.
        gain: over the best single model, paired over items.
        by_task: the same interval, clustered by task; None where there is only one task.
        calls: calls of an answer.
        cost: US dollars of an answer on average; None where a price is unknown.
        seconds: the mean duration of the slowest call; None where it is unknown.
    """

    way: Way
    table: dict[str, Any]
    accuracy: float
    gain: Interval
    by_task: Interval | None
    calls: int
    cost: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found.

    Attributes:
        found: the answer.
        best: the single model that was best on the search part.
        front: the best way of each number of members, the answer among them, by number of calls.
        searched, confirmed: how many items the two parts have.
        tried: how many mixtures were scored.
        expected: the gain that cross-validation on the search part promised, from -1 to 1.
        grid: all items with their answers.
        confirmation: the grid of the confirmation part.
    """

    found: Point
    best: Point
    front: tuple[Point, ...]
    searched: int
    confirmed: int
    tried: int
    expected: float
    grid: Grid
    confirmation: Grid


def search(
    items: Iterable[Item],
    confirm: Iterable[Item] | None = None,
    *,
    limits: Limits | None = None,
    seed: int = 0,
    kinds: Sequence[Kind] = KINDS,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Search:
    """Search on a part of the items, and report on the others.

    Args:
        items: recorded answers.
        confirm: items to report on; all ``items`` are then searched on.
        limits: what an answer may take.
        seed: of the split and of the folds. The same seed gives the same result.
        kinds: the ways to try.
        on_progress: called with what happens next.

    Raises:
        ConfigError: there are too few items, no labels, or no model within the limits.
    """
    whole = grid_of(items)
    if confirm is None:
        first, second = parted(whole, 2, seed)
        here, there = whole.rows(np.sort(first)), whole.rows(np.sort(second))
    else:
        here, there = whole, grid_of(confirm, whole)
    for part, name in ((here, "search"), (there, "confirmation")):
        if len(part) < FEWEST:
            raise ConfigError(f"the {name} part has {len(part)} items; a search needs at least {FEWEST} in each part")
    return _Searching(here, there, limits or Limits(), seed, kinds, on_progress).result(whole)


@dataclass(slots=True)
class _Searching:
    here: Grid
    there: Grid
    limits: Limits
    seed: int
    kinds: Sequence[Kind]
    on_progress: Callable[[str], None]
    tried: set[tuple[Kind, Members]] = field(default_factory=set)
    means: dict[int, tuple[float, float]] = field(default_factory=dict)

    def result(self, whole: Grid) -> Search:
        rows = np.concatenate(parted(self.here, 1, self.seed))
        bag = bag_of(self.here.items)
        models = self._affordable()
        self.on_progress("reading what each model is good at")
        folds = parted(self.here, FOLDS, self.seed + 1)
        evidence = self._evidence(Evidence(self.here, bag), folds)
        scores = self._cross_validated(evidence, models, folds)
        known: list[Expertise] = []

        def good_at() -> Expertise:
            if not known:
                known.append(expertise(moments(bag, labels_of(self.here), rows)))
            return known[0]

        self.on_progress("fitting to the whole search part")
        best = fit("one", _best(self.here, models, rows), evidence, rows)
        assert best is not None
        panels = self._panels(evidence, models, rows)
        confirming = Evidence(self.there, bag_of(self.there.items, bag.words))
        baseline = best.quality(confirming)
        chosen = choice(scores, self.here)
        points = {ONE: self._point(best, confirming, baseline)}
        for each in {*front(scores), chosen} - {ONE}:
            way = fit(each.kind, panels[each.by_question, each.members], evidence, rows, good_at)
            if way is not None:
                points[each] = self._point(way, confirming, baseline)
        gain = float((scores[chosen] - scores[ONE]).mean())
        return Search(
            found=points[chosen],
            best=points[ONE],
            front=tuple(sorted(points.values(), key=lambda point: point.calls)),
            searched=len(self.here),
            confirmed=len(self.there),
            tried=len(self.tried),
            expected=gain,
            grid=whole,
            confirmation=self.there,
        )

    def _evidence(self, evidence: Evidence, folds: Sequence[Index]) -> Evidence:
        """With expected accuracies, each made from the other folds."""
        if evidence.bag is None or not evidence.bag.words or "words" not in self.kinds:
            return evidence
        expected = np.zeros((len(self.here), len(self.here.models)))
        labels = labels_of(self.here)
        parts = [moments(evidence.bag, labels, fold) for fold in folds]
        for held, part in zip(folds, parts, strict=True):
            others = sum((each for each in parts if each is not part), start=Moments.none(part))
            expected[held] = expertise(others).expected(evidence.bag, held)
        return replace(evidence, expected=expected)

    def _cross_validated(
        self, evidence: Evidence, models: Sequence[int], folds: Sequence[Index]
    ) -> dict[Procedure, Doubles]:
        """The quality of each way and number of members on each item, by choices and fits without its fold."""
        scores: dict[Procedure, Doubles] = {}
        for number, held in enumerate(folds, 1):
            self.on_progress(f"choosing members, fold {number} of {len(folds)}")
            rows = np.concatenate([fold for fold in folds if fold is not held])
            panels = self._panels(evidence, models, rows)
            self._score(scores, ONE, _best(self.here, models, rows), evidence, rows, held)
            for (by_question, size), members in panels.items():
                for kind in self.kinds:
                    if not by_question or kind == "words":
                        self._score(scores, Procedure(kind, by_question, size), members, evidence, rows, held)
        return {key: score for key, score in scores.items() if not np.isnan(score).any()}

    def _score(
        self,
        scores: dict[Procedure, Doubles],
        procedure: Procedure,
        members: Members,
        evidence: Evidence,
        rows: Index,
        held: Index,
    ) -> None:
        way = fit(procedure.kind, members, evidence, rows, lambda: _NO_EXPERTISE)
        if way is None or not self._within(members, way.calls):
            return
        self.tried.add((procedure.kind, members))
        part = Evidence(self.here.rows(held))
        if way.expertise is not None and evidence.expected is not None and way.calibrated is not None:
            panel = panel_of(part.grid, [int(part.grid.columns(member)[0]) for member in way.members])
            votes = way.calibrated.votes(
                part.grid.characters[:, panel.columns], evidence.expected[held][:, way.members]
            )
            place = counted(panel, votes)
            reached = quality(part.grid, np.where(place < 0, -1, panel.columns[place]))
        else:
            reached = way.quality(part)
        scores.setdefault(procedure, np.full(len(self.here), np.nan))[held] = reached

    def _panels(self, evidence: Evidence, models: Sequence[int], rows: Index) -> dict[tuple[bool, int], Members]:
        """The best panels of each size, by a weighted vote, and by one whose weights depend on the question."""
        accuracies = accuracies_of(self.here, rows)
        found: dict[tuple[bool, int], Members] = {}
        for by_question in (False, True) if evidence.expected is not None else (False,):

            def score(members: Members, some: Index, by_question: bool = by_question) -> Doubles:
                order = list(ranked(members, accuracies))
                if len(order) == 1:
                    return single(self.here, order[0])[some]
                panel = panel_of(self.here, [int(self.here.columns(member)[0]) for member in order], some)
                if by_question and evidence.expected is not None:
                    votes = open_votes(panel, evidence.expected[some][:, order].T)
                else:
                    votes = vote_weights(panel, accuracies[order])
                place = counted(panel, votes)
                return quality(self.here, np.where(place < 0, -1, panel.columns[place]), some)

            panels = Choice(score, rows, within=lambda members: self._within(members, len(members)))
            for members in panels.panels(models, self.limits.members):
                found[by_question, len(members)] = members
            self.tried |= {("words" if by_question else "weighted", members) for members in panels.tried}
        return found

    def _affordable(self) -> list[int]:
        unknown = [model for model, name in enumerate(self.here.models) if name in self.there.left_out]
        models = [m for m in range(len(self.here.models)) if m not in unknown and self._within((m,), 1)]
        if len(unknown) == len(self.here.models):
            raise ConfigError("the confirmation part has answers of none of these models to enough of its questions")
        if not models:
            raise ConfigError("no model is within the limits of cost and time; raise --answer-cost or --answer-seconds")
        return models

    def _within(self, members: Members, calls: int) -> bool:
        cost, seconds = self._takes(members, calls // len(members))
        limit = self.limits
        return (limit.answer_cost is None or (cost is not None and cost <= limit.answer_cost)) and (
            limit.answer_seconds is None or (seconds is not None and seconds <= limit.answer_seconds)
        )

    def _takes(self, members: Members, samples: int) -> tuple[float | None, float | None]:
        """US dollars and seconds of an answer."""
        for member in members:
            if member not in self.means:
                columns = self.here.columns(member)
                self.means[member] = _mean(self.here.cost[:, columns]), _mean(self.here.seconds[:, columns])
        cost = samples * sum(self.means[member][0] for member in members)
        slowest = float(np.max([self.means[member][1] for member in members]))
        return (None if np.isnan(cost) else cost), (None if np.isnan(slowest) else slowest)

    def _point(self, way: Way, confirming: Evidence, baseline: Doubles) -> Point:
        reached = way.quality(confirming)
        differences = reached - baseline
        cost, seconds = self._takes(way.members, max(way.samples))
        unchanged = way.kind == "one"
        return Point(
            way=way,
            table=way.table(confirming),
            accuracy=float(reached.mean()),
            gain=Interval(0.0, 0.0, 0.0, 0.0) if unchanged else paired(differences),
            by_task=None if unchanged else clustered(differences, self.there.tasks),
            calls=way.calls,
            cost=cost,
            seconds=seconds,
        )


_NO_EXPERTISE = Expertise(np.zeros(0, np.intp), np.zeros(0), np.zeros((0, 0)))
"""Stands for expected accuracies that are known already."""


def _best(grid: Grid, models: Sequence[int], rows: Index) -> Members:
    """The single model that is best on these rows."""
    return (max(models, key=lambda model: (grid.right[np.ix_(rows, grid.columns(model))].mean(), -model)),)


def _mean(values: np.typing.NDArray[np.float32]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
