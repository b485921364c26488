"""Calibration: how much a vote counts for this question and this response. ``moa search`` writes it, the vote reads it.

The vote of an agent is a log-odds:

    base + scale × logit(p) + the change for the length of its response

p is the agent's expected accuracy on the question: its ``accuracy``, plus what each word of the question that stands in
``words`` adds or takes away. It is bounded to 0.03 and 0.97, because words are few and questions are many.

Notable decision: everything is known before the answer is: the question and the proposals. No model is called for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

__all__ = ["BOUND", "AgentCalibration", "Calibration"]

BOUND = 0.03
"""The expected accuracy stays this far from 0 and from 1."""


@dataclass(frozen=True, slots=True)
class AgentCalibration:
    """How much the votes of one agent count.

    Attributes:
        base: log-odds that its vote has in any case.
        accuracy: its accuracy on a question of which no word is known, from 0 to 1.
        words: what a word of the question adds to that, by word.
        lengths: pairs of a number of characters and a change of the log-odds, in ascending order: the first pair whose
            number is not below the length of the response counts, else the last one.
    """

    base: float = 0.0
    accuracy: float = 0.5
    words: Mapping[str, float] = field(default_factory=dict)
    lengths: tuple[tuple[float, float], ...] = ()

    def expected(self, words: Set[str]) -> float:
        """The expected accuracy on a question of these words."""
        known = math.fsum(change for word, change in self.words.items() if word in words)
        return min(max(self.accuracy + known, BOUND), 1 - BOUND)

    def change(self, characters: int) -> float:
        """The change for a response of so many characters."""
        for limit, change in self.lengths:
            if characters <= limit:
                return change
        return self.lengths[-1][1] if self.lengths else 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of a vote. ``agents`` has an entry by an agent's name or its model; others have no say."""

    agents: Mapping[str, AgentCalibration]
    scale: float = 0.0

    def vote(self, agent: str, model: str, words: Set[str], characters: int) -> float:
        """The log-odds of one agent's vote.

        Args:
            agent, model: the agent's name and its model's.
            words: of the question; see :func:`moa.mixture.words.words_of`.
            characters: the length of the agent's response.
        """
        found = self.agents.get(agent) or self.agents.get(model)
        if found is None:
            return 0.0
        p = found.expected(words)
        return found.base + self.scale * (math.log(p) - math.log1p(-p)) + found.change(characters)
