"""The search itself: members answer, one candidate is chosen on a part of the questions, and measured on the other part.

Notable decisions:
- The questions are split before the first call, by their identities and the seed. What is chosen on the search part is
  measured on the confirmation part, which decides nothing.
- Members answer the search part first; on the confirmation part, only those answer that a finalist needs.
- Everything that the search decides follows from the journal, so a search that starts again takes the same way and asks only
  what is missing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from moa.errors import ConfigError
from moa.evals.search.live.answers import Answers
from moa.evals.search.live.ballots import Ballots, mean
from moa.evals.search.live.candidate import FREE, Candidate
from moa.evals.search.live.members import Member
from moa.evals.search.live.prices import Forecaster
from moa.evals.search.live.race import race
from moa.evals.search.live.scores import Limits, Score, Scores, front_of
from moa.evals.search.live.space import calling, counted, near
from moa.evals.search.live.trial import Trials
from moa.evals.tasks.task import Task

FIRST_PART = 0.45
"""The share of the money, and of the time, that the members' answers to the search part may take."""

AT_ONCE = 4
"""Challengers of a race."""

FINALISTS = 8
"""Candidates that call nothing whose scores are checked by the mixture itself."""

ROUNDS = 4
"""Races of candidates near the leader."""

RESERVED = 1.1
"""The time kept for the confirmation, as a multiple of the time that the search part took."""

FEWEST = 3
"""Questions of the search part without which nothing can be chosen."""


@dataclass(slots=True)
class Finding:
    """What a search has found.

    Attributes:
        found: the candidate that was chosen.
        best: the single model that was best on the search part.
        searched: how many questions the search part has.
        scores: of every candidate that answered the whole search part, the best first.
        front: those of them on the Pareto front of quality against dollars, the cheapest first.
        confirmed: scores on the confirmation part, by candidate.
        tried: how many candidates were scored, races that were left early among them.
        left: why challengers left their race, by candidate.
        left_out: why members were left out, by name.
        notes: what a reader should know.
    """

    found: Candidate
    best: Candidate
    searched: int
    scores: list[Score]
    front: list[Score]
    confirmed: dict[Candidate, Score] = field(default_factory=dict)
    tried: int = 0
    left: dict[Candidate, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Search:
    """A search in progress.

    Attributes:
        trials: tries candidates.
        members: by name.
        search, confirmation: the two parts of the questions.
        limits: on cost and time.
        on_step: called with a line about each step.
    """

    trials: Trials
    members: Mapping[str, Member]
    search: Sequence[Task]
    confirmation: Sequence[Task]
    limits: Limits
    on_step: Callable[[str], None] = lambda line: None
    _left: dict[Candidate, str] = field(default_factory=dict)
    _tried: set[Candidate] = field(default_factory=set)
    _notes: list[str] = field(default_factory=list)
    _deadline: float = math.inf

    def _is_late(self) -> bool:
        """Whether no more time is left for races."""
        return time.monotonic() > self._deadline

    @property
    def _scores(self) -> Scores:
        return Scores(self.trials, self.limits)

    @property
    def _answers(self) -> Answers:
        return self.trials.answers

    async def run(self) -> Finding:
        """Search, choose and confirm.

        Raises:
            ConfigError: no member can be asked, or the money does not suffice for any choice.
        """
        began, seconds = time.monotonic(), math.inf if self.limits.minutes is None else 60 * self.limits.minutes
        self._answers.until = began + FIRST_PART * seconds
        names = await self._ask_search_part()
        self._deadline = began + seconds - RESERVED * (time.monotonic() - began)
        self._answers.until = self._deadline
        tasks = [task for task in self.search if task.id in self._answers.complete]
        ballots = Ballots(self._answers, names, tasks)
        best = await self._count(ballots, tasks)
        leader = self._scores.chosen(self._tried, tasks, best)
        await self._race(ballots, tasks, leader, best)
        found = self._scores.chosen(self._tried, tasks, best)
        scores = sorted(
            (score for each in self._tried if (score := self._scores.score(each, tasks))),
            key=lambda score: (-score.mean, score.dollars or 0.0, score.candidate != found, score.candidate.calls),
        )
        front = front_of(scores)
        finding = Finding(found, best, len(tasks), scores, front, tried=len(self._tried), left=self._left)
        self._answers.until = began + seconds
        await self._confirm(finding)
        finding.left_out, finding.notes = dict(self._answers.left_out), self._notes
        return finding

    # -- the search part -------------------------------------------------------------------------------------------------

    async def _ask_search_part(self) -> list[str]:
        """Ask the members; returns those that are left."""
        spend = self.limits.spend
        self.on_step(f"{len(self.members)} members answer {len(self.search)} questions")
        costs = {name: cost for name in self.members if (cost := self._forecaster().call(name)) is not None}
        self._answers.measurement.allow(None if spend is None else FIRST_PART * spend, costs)
        await self._answers.ask([*self.members.values()], self.search)
        names = [name for name in self.members if name not in self._answers.left_out]
        if not names:
            reasons = "; ".join(f"{name}: {why}" for name, why in self._answers.left_out.items())
            raise ConfigError(f"no member answers: {reasons}")
        answered = sum(task.id in self._answers.complete for task in self.search)
        if answered < min(FEWEST, len(self.search)):
            raise ConfigError(
                f"{self._limit} suffices for {answered} of {len(self.search)} questions of the search part; raise it, or "
                "name fewer or cheaper models; the answers so far are kept"
            )
        if answered < len(self.search):
            self._notes.append(
                f"{self._limit} suffices for {answered} of {len(self.search)} questions of the search part"
            )
        return names

    async def _count(self, ballots: Ballots, tasks: Sequence[Task]) -> Candidate:
        """Score what calls nothing; returns the best single model."""
        candidates = list(dict.fromkeys(counted(ballots, self._answers.samples)))
        self._tried.update(candidates)
        fast = {each: self._fast(ballots, each) for each in candidates}
        counted_only = sorted(
            (each for each in candidates if each.way in ("vote", "mux")), key=lambda each: (-fast[each], each.calls)
        )
        checked = [each for each in candidates if each.way in ("single", "central")] + counted_only[:FINALISTS]
        self.on_step(f"{len(candidates)} candidates that call nothing further")
        await self.trials.each(checked, tasks)
        singles = [score for each in checked if each.way == "single" and (score := self._scores.score(each, tasks))]
        allowed = [score for score in singles if not self._scores.why_not(score.candidate, tasks)]
        if not allowed:
            self._notes.append(
                "no single model is within --answer-cost and --answer-seconds; the best of all is compared"
            )
        return max(allowed or singles, key=lambda score: (score.mean, -(score.dollars or 0.0))).candidate

    def _fast(self, ballots: Ballots, candidate: Candidate) -> float:
        weights = dict(candidate.weights)
        if candidate.way == "vote":
            return mean(ballots.voted(candidate.panel, weights))
        return mean(ballots.muxed(candidate.panel, weights)) if candidate.way == "mux" else 0.0

    async def _race(self, ballots: Ballots, tasks: Sequence[Task], leader: Candidate, best: Candidate) -> None:
        """Race what needs calls, then what is near the leader, as long as that helps and the money lasts."""
        challengers = iter(calling(ballots, self._answers.samples, leader))
        for number in range(ROUNDS):
            if self._is_late():
                self._notes.append("--minutes ran out before every race")
                break
            chosen = self._affordable(challengers, tasks)
            if not chosen:
                break
            self._tried.update(chosen)
            self.on_step(f"race {number + 1}: {len(chosen)} candidates with calls against {leader.label}")
            laps = await race(self.trials, leader, chosen, tasks, self._scores.why_not, self._is_late)
            self._left |= {lap.candidate: lap.left for lap in laps if lap.left}
            calling_so_far = [
                score
                for each in self._tried
                if each.way not in FREE
                and (score := self._scores.score(each, tasks))
                and not self._scores.why_not(each, tasks)
            ]
            leader = self._scores.chosen(self._tried, tasks, best)
            if calling_so_far:
                nearest = max(calling_so_far, key=lambda score: score.mean).candidate
                untried = [each for each in near(nearest, ballots) if each not in self._tried]
                challengers = iter(untried)

    def _affordable(self, challengers: Iterable[Candidate], tasks: Sequence[Task]) -> list[Candidate]:
        """The next challengers that the limits allow and the money suffices for, with a reserve for the confirmation."""
        forecast, costs = self._forecaster(), dict[str, float]()
        limit, chosen = self.limits, list[Candidate]()
        reserve = 0.0
        if limit.spend is not None:
            reserve = forecast.asking(
                [name for name in self.members if name not in self._answers.left_out], len(self._confirming), 1
            ).dollars
        left = None if limit.spend is None else limit.spend - (self._answers.measurement.cost.dollars or 0.0) - reserve
        for candidate in challengers:
            if candidate in self._tried or len(chosen) == AT_ONCE:
                continue
            further, whole = forecast.further(candidate), forecast.whole(candidate)
            if limit.answer_cost is not None and (whole is None or whole > limit.answer_cost):
                continue
            if left is not None:
                price = None if further is None else further * (len(tasks) + len(self._confirming))
                if price is None or price > left:
                    continue
                left -= price
            chosen.append(candidate)
            costs[candidate.kind] = further or 0.0
        if limit.spend is not None:
            self._answers.measurement.allow(limit.spend - reserve, costs)
        return chosen

    def _forecaster(self) -> Forecaster:
        """Forecasts from what is known by now."""
        return Forecaster(self._answers.measurement.prices, self.members, self._answers, self.search)

    @property
    def _limit(self) -> str:
        """The limit that leaves questions out, for readers."""
        limit = self.limits
        if limit.minutes is not None and (limit.spend is None or time.monotonic() > self._answers.until):
            return f"--minutes {limit.minutes:g}"
        return f"--spend {limit.spend or 0:g}"

    @property
    def _confirming(self) -> Sequence[Task]:
        """The confirmation part, as large as the search part that was paid for."""
        answered = sum(task.id in self._answers.complete for task in self.search)
        whole = answered >= len(self.search)
        return self.confirmation if whole else self.confirmation[: max(1, answered)]

    # -- the confirmation part -------------------------------------------------------------------------------------------

    async def _confirm(self, finding: Finding) -> None:
        """Measure the finalists on the confirmation part: what was found and the best model, then the rest of the front."""
        self._answers.measurement.allow(self.limits.spend)
        rest = [score.candidate for score in finding.front]
        for finalists in ([finding.best, finding.found], rest):
            wanted = [each for each in dict.fromkeys(finalists) if each not in finding.confirmed]
            names = list(dict.fromkeys(name for each in wanted for name in each.names))
            if not wanted:
                continue
            self.on_step(f"{len(wanted)} candidates on {len(self._confirming)} questions of the confirmation part")
            await self._answers.ask([self.members[name] for name in names], self._confirming)
            tasks = [task for task in self._confirming if self._have(task, wanted)]
            await self.trials.each(wanted, tasks)
            for each in wanted:
                if score := self._scores.score(each, tasks):
                    finding.confirmed[each] = score
            if finding.best not in finding.confirmed or len(tasks) < len(self._confirming):
                self._notes.append(
                    f"{self._limit} suffices for {len(tasks)} of {len(self._confirming)} questions of the confirmation part"
                )
                break

    def _have(self, task: Task, candidates: Sequence[Candidate]) -> bool:
        """Whether the members of these candidates were asked a question."""
        return all(
            (task.id, name) in self._answers.replies
            for each in candidates
            for name in each.names
            if name not in self._answers.left_out
        )
