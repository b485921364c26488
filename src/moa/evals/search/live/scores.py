"""Scores of candidates on questions, and the choice among them.

Notable decisions:
- A mixture is chosen only where its gain over the best single model exceeds its own standard error. The answer is one model
  otherwise: with few questions, the best of many candidates is ahead by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from moa.evals.pareto import pareto
from moa.evals.search.live.ballots import mean
from moa.evals.search.live.candidate import Candidate
from moa.evals.search.live.trial import Trials
from moa.evals.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Limits:
    """What an answer may cost in US dollars and take in seconds, on average; and money and minutes for the whole search."""

    spend: float | None = None
    answer_cost: float | None = None
    answer_seconds: float | None = None
    minutes: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A candidate that has answered a part of the questions.

    Attributes:
        candidate: the candidate.
        right: 1 or 0 for each question.
        dollars: US dollars an answer, on average; None if a price is unknown.
        seconds: seconds an answer, on average.
    """

    candidate: Candidate
    right: tuple[float, ...]
    dollars: float | None
    seconds: float

    @property
    def mean(self) -> float:
        """The share of right answers."""
        return mean(self.right)


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores candidates by their trials.

    Attributes:
        trials: what candidates have answered.
        limits: on the cost and the time of an answer.
    """

    trials: Trials
    limits: Limits

    def chosen(self, tried: Iterable[Candidate], tasks: Sequence[Task], best: Candidate) -> Candidate:
        """The best candidate within the limits whose gain over the best single model exceeds its standard error."""
        alone = self.score(best, tasks)
        assert alone is not None
        chosen = alone
        for candidate in tried:
            score = self.score(candidate, tasks)
            if score is None or candidate.way == "single" or self.why_not(candidate, tasks):
                continue
            gains = [ours - theirs for ours, theirs in zip(score.right, alone.right, strict=True)]
            error = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
            if fmean(gains) > error and _rank(score) > _rank(chosen):
                chosen = score
        return chosen.candidate

    def why_not(self, candidate: Candidate, tasks: Sequence[Task]) -> str:
        """Why the limits on an answer do not allow a candidate, by what its answers have cost; "" if they do."""
        score = self.score(candidate, tasks)
        if score is None:
            return ""
        limit = self.limits
        if limit.answer_cost is not None and (score.dollars is None or score.dollars > limit.answer_cost):
            shown = "an unknown sum" if score.dollars is None else f"${score.dollars:.4g}"
            return f"an answer costs {shown}, more than --answer-cost {limit.answer_cost:g}"
        if limit.answer_seconds is not None and score.seconds > limit.answer_seconds:
            return f"an answer takes {score.seconds:.1f} s, more than --answer-seconds {limit.answer_seconds:g}"
        return ""

    def score(self, candidate: Candidate, tasks: Sequence[Task]) -> Score | None:
        """The score of a candidate that has answered all of these questions."""
        outcomes = self.trials.outcomes(candidate, tasks)
        if not outcomes or len(outcomes) < len(tasks):
            return None
        costs = [outcome.dollars for outcome in outcomes]
        dollars = None if any(cost is None for cost in costs) else fmean(cost for cost in costs if cost is not None)
        right = tuple(outcome.right for outcome in outcomes)
        return Score(candidate, right, dollars, fmean(outcome.seconds for outcome in outcomes))


def front_of(scores: Sequence[Score]) -> list[Score]:
    """The scores that nothing beats in both price and quality, the cheapest first."""
    known = [score for score in scores if score.dollars is not None]
    places = pareto([(score.dollars or 0.0, score.mean) for score in known])
    front = dict[tuple[float, float], Score]()
    for place in places:
        front.setdefault((known[place].dollars or 0.0, known[place].mean), known[place])
    return [*front.values()]


def _rank(score: Score) -> tuple[float, float, int]:
    """The higher, the better: by quality, then by price, then by the number of calls."""
    return score.mean, -(score.dollars or 0.0), -score.candidate.calls
