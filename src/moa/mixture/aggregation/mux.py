"""Mux: the answer of the model that agrees most with itself (SLM-MUX, arXiv 2510.05077, section 3.1). No further call."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from moa.mixture.aggregation.counting import Ballot, Counting
from moa.mixture.tally import Tally, is_mux_settled, mux


class Mux(Counting):
    """A sample of the most self-consistent model; :func:`moa.mixture.tally.mux` has the rule.

    The samples of a model are the members of one layer with the same model and persona; their temperatures may differ.

    ::

        Mixture([["embedded/a", "embedded/a", "embedded/a", "embedded/b", "embedded/b", "embedded/b"]], aggregate=Mux())
    """

    name = "mux"

    def count(self, ballots: Sequence[Ballot], answers: Sequence[str | None], possible: int | None) -> Tally | None:
        absent = [index for index, ballot in enumerate(ballots) if ballot.proposal is None]
        return mux(answers, _models(ballots), [ballot.weight for ballot in ballots], absent=absent)

    def is_decided(
        self,
        ballots: Sequence[Ballot],
        answers: Sequence[str | None],
        outstanding: Collection[int],
        possible: int | None,
    ) -> bool:
        absent = [index for index, ballot in enumerate(ballots) if ballot.proposal is None and index not in outstanding]
        weights = [ballot.weight for ballot in ballots]
        return is_mux_settled(answers, _models(ballots), outstanding, weights, absent=absent)

    def reason(self, tally: Tally, answer: str) -> str:
        return f"its model agrees most with itself ({tally.agreement:.0%}): {super().reason(tally, answer)}"

    def __repr__(self) -> str:
        return f"Mux(weights={self.weights})" if self.weights else "Mux()"


def _models(ballots: Sequence[Ballot]) -> list[str]:
    return [ballot.sampled for ballot in ballots]
