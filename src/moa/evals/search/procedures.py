"""Procedures, and the choice among them by their cross-validated quality."""

from __future__ import annotations

from typing import NamedTuple

from moa.evals.search.ballots import Doubles
from moa.evals.search.grid import Grid
from moa.evals.search.intervals import standard_error
from moa.evals.search.ways import KINDS, Kind

__all__ = ["ONE", "Procedure", "choice", "front"]

CALL_WORTH = 0.0005
"""The accuracy that a further call must add."""


class Procedure(NamedTuple):
    """How members are chosen and a way is fitted: what cross-validation compares.

    ``by_question``: the panel was chosen by votes whose weights depend on the question.
    """

    kind: Kind
    by_question: bool
    members: int

    def calls(self, grid: Grid) -> float:
        """The calls of an answer, where each model has the mean number of samples."""
        return self.members * (len(grid.owner) / len(grid.models) if self.kind in ("samples", "mux") else 1.0)


ONE = Procedure("one", False, 1)


def choice(scores: dict[Procedure, Doubles], grid: Grid) -> Procedure:
    """The procedure whose cross-validated quality is best, for what a call must be worth."""
    worth = {each: float(score.mean()) - CALL_WORTH * each.calls(grid) for each, score in scores.items()}
    best = max(scores, key=lambda each: (worth[each], -each.members, -_ORDER.index(each.kind)))
    differences = scores[best] - scores[ONE]
    return best if differences.mean() > standard_error(differences) else ONE


_ORDER: tuple[Kind, ...] = ("one", *KINDS)


def front(scores: dict[Procedure, Doubles]) -> set[Procedure]:
    """The best procedure of each number of members."""
    best: dict[int, Procedure] = {}
    for each in sorted(scores, key=lambda each: (_ORDER.index(each.kind), each.by_question)):
        kept = best.get(each.members)
        if kept is None or scores[each].mean() > scores[kept].mean():
            best[each.members] = each
    return set(best.values())
