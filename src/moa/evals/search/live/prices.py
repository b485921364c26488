"""What the calls of a search will cost, before they are made.

Notable decisions:
- Until a member has answered, the length of its answers is a guess: :data:`ANSWER_TOKENS`. Afterwards it is the mean of
  its own.
- A price that is not in the list is unknown, never 0. Where the member's answers have a cost, they give the price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from moa.evals.asking.journal import Reply
from moa.evals.search.live.answers import Answers
from moa.evals.search.live.candidate import Candidate
from moa.evals.search.live.members import Member
from moa.evals.tasks.task import Task
from moa.messages import Request, Usage
from moa.prices import Prices

ANSWER_TOKENS = 400
"""Tokens of an answer of which nothing is known."""

INSTRUCTION_TOKENS = 250
"""Tokens of the instruction before the references."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a step will cost.

    Attributes:
        calls: how many calls.
        dollars: US dollars of those with a known price.
        unknown: members whose price is unknown.
    """

    calls: int
    dollars: float
    unknown: tuple[str, ...] = ()


class Forecaster:
    """Forecasts the cost of calls, from the price list and from what members have answered."""

    def __init__(self, prices: Prices, members: Mapping[str, Member], answers: Answers, tasks: Sequence[Task]) -> None:
        self._prices, self._members, self._answers = prices, members, answers
        self._question = fmean(Request.of(list(task.messages)).tokens for task in tasks)
        self._tasks = tasks

    def asking(self, names: Sequence[str], questions: int, samples: int) -> Forecast:
        """Every one of these members answers so many questions, ``samples`` times each."""
        each = {name: self.call(name) for name in names}
        dollars = sum(cost for cost in each.values() if cost is not None) * questions * samples
        unknown = tuple(name for name, cost in each.items() if cost is None)
        return Forecast(len(names) * questions * samples, dollars, unknown)

    def call(self, name: str, references: Sequence[str] = ()) -> float | None:
        """US dollars of one call of a member that reads the answers of others; None if its price is unknown."""
        replies = self._known(name)
        read = self._question + sum(self.length(each) for each in references)
        usage = Usage(round(read + (INSTRUCTION_TOKENS if references else 0)), round(self.length(name)))
        cost = self._prices.price(self._members[name].model.name, usage).dollars
        if cost is None and replies:
            paid = [reply for reply in replies if reply.cost.dollars is not None]
            tokens = sum(reply.usage.input_tokens + reply.usage.output_tokens for reply in paid)
            if paid and tokens:
                rate = sum(reply.cost.dollars or 0.0 for reply in paid) / tokens
                return rate * (usage.input_tokens + usage.output_tokens)
        return cost

    def further(self, candidate: Candidate) -> float | None:
        """US dollars of the calls that one answer of a candidate needs besides its members' first answers."""
        settings = dict(candidate.settings)
        panel = [name for name, samples in candidate.panel for _ in range(samples)]
        again = [self.call(name, panel) for name in panel] * (candidate.rounds - 1)
        last = [] if candidate.aggregator is None else [self.call(candidate.aggregator, panel)]
        calls = again + last * (2 if settings.get("analysis") else 1)
        return None if any(cost is None for cost in calls) else sum(cost for cost in calls if cost is not None)

    def whole(self, candidate: Candidate) -> float | None:
        """US dollars of one answer of a candidate, its members' answers among them."""
        further = self.further(candidate)
        first = [self.call(name) for name, samples in candidate.panel for _ in range(samples)]
        if further is None or any(cost is None for cost in first):
            return None
        return further + sum(cost for cost in first if cost is not None)

    def length(self, name: str) -> float:
        """Tokens of a member's answer."""
        known = [reply.usage.output_tokens for reply in self._known(name) if reply.usage.output_tokens]
        return fmean(known) if known else ANSWER_TOKENS

    def _known(self, name: str) -> list[Reply]:
        return [
            reply
            for task in self._tasks
            for reply in self._answers.replies.get((task.id, name), ())
            if reply is not None
        ]
