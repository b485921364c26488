"""Vote: the most frequent answer wins, weighted by what is known of the members. No model is called for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from moa.mixture.aggregation.counting import Ballot, Counting
from moa.mixture.tally import Tally, is_settled, vote


class Vote(Counting):
    """The proposal of the strongest member that gives the winning answer; :func:`moa.mixture.tally.vote` has the rule.

    ::

        Mixture([["groq/x", "mistral/y", "openai/z"]], aggregate=Vote(weights={"groq/x": 0.8, "mistral/y": 0.7}))
    """

    name = "vote"

    def count(self, ballots: Sequence[Ballot], answers: Sequence[str | None], possible: int | None) -> Tally | None:
        return vote(answers, [ballot.weight for ballot in ballots], possible=possible)

    def is_decided(
        self,
        ballots: Sequence[Ballot],
        answers: Sequence[str | None],
        outstanding: Collection[int],
        possible: int | None,
    ) -> bool:
        return is_settled(answers, outstanding, [ballot.weight for ballot in ballots], possible=possible)

    def __repr__(self) -> str:
        return f"Vote(weights={self.weights})" if self.weights else "Vote()"
