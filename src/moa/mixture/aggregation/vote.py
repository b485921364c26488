"""Vote: the most frequent answer wins, weighted by what is known of the members. No model is called for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from moa.mixture.agent import Agent
from moa.mixture.aggregation.counting import Ballot, Counting
from moa.mixture.aggregation.protocol import Running
from moa.mixture.calibration import Calibration
from moa.mixture.tally import Tally, is_settled, vote
from moa.mixture.words import words_of


class Vote(Counting):
    """The proposal of the strongest member that gives the winning answer; :func:`moa.mixture.tally.vote` has the rule.

    ::

        Mixture([["groq/x", "mistral/y", "openai/z"]], aggregate=Vote(weights={"groq/x": 0.8, "mistral/y": 0.7}))

    Args:
        weights: accuracies strictly between 0 and 1, by an agent's name or its model's.
        calibration: what the votes count instead; the weights then decide ties alone, and the vote does not end early,
            because the length of a response counts.

    Raises:
        ConfigError: a weight is none.
    """

    name = "vote"

    def __init__(self, weights: Mapping[str, float] | None = None, calibration: Calibration | None = None) -> None:
        super().__init__(weights)
        self.calibration = calibration

    @property
    def identity(self) -> str:
        return f"{super().identity} {self.calibration}" if self.calibration else super().identity

    def check(self, layers: Sequence[Mapping[str, Agent]], where: str) -> None:
        super().check(layers, where)
        if self.calibration:
            self.check_names(self.calibration.agents, layers, f"{where}: calibration")

    def calibrated(self, run: Running, ballots: list[Ballot]) -> list[Ballot]:
        if self.calibration is None:
            return ballots
        words = frozenset(words_of(run.request.question))
        return [
            ballot._replace(vote=self.calibration.vote(ballot.agent, ballot.model, words, len(ballot.proposal.text)))
            if ballot.proposal
            else ballot
            for ballot in ballots
        ]

    def count(self, ballots: Sequence[Ballot], answers: Sequence[str | None], possible: int | None) -> Tally | None:
        votes = [ballot.vote for ballot in ballots] if self.calibration else ()
        return vote(answers, [ballot.weight for ballot in ballots], possible=possible, votes=votes)

    def is_decided(
        self,
        ballots: Sequence[Ballot],
        answers: Sequence[str | None],
        outstanding: Collection[int],
        possible: int | None,
    ) -> bool:
        if self.calibration:
            return not outstanding
        return is_settled(answers, outstanding, [ballot.weight for ballot in ballots], possible=possible)

    def __repr__(self) -> str:
        given = {"weights": self.weights, "calibration": self.calibration}
        return f"Vote({', '.join(f'{name}={value}' for name, value in given.items() if value)})"
