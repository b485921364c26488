"""Scores of candidates on questions, from the members' answers and, where the candidate needs them, calls of its own.

Notable decisions:
- A candidate's mixture is built as from a moa.toml, and gets the members' kept answers as its proposals: what is scored
  is what the mixture does in use. Only its aggregator, and the layers after the first, are called.
- Candidates whose aggregator would be sent the same request share one call.
- An answer costs what its members' answers cost, and the calls that follow. It takes as long as its slowest member, and then
  what follows.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from urllib.parse import quote

from moa.config.config import Config
from moa.config.tables import MixtureTable
from moa.errors import ConfigError, MoaError
from moa.evals.asking.journal import Reply
from moa.evals.search.live.answers import Answers
from moa.evals.search.live.candidate import Candidate
from moa.evals.search.live.members import Member
from moa.evals.tasks.checks import passed
from moa.evals.tasks.task import Task
from moa.messages import Delta, Reference, Request
from moa.mixture.mixture import Mixture
from moa.models import Traits


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer of a candidate.

    Attributes:
        right: 1 if it passes the check of its question, else 0.
        dollars: US dollars; None if a price is unknown.
        seconds: from the question to the whole answer, with the members' calls at the same time.
        text: the answer; None if there is none.
    """

    right: float
    dollars: float | None
    seconds: float
    text: str | None = None


class Fed:
    """A mixture whose first layer has answered already; a :class:`~moa.models.Model`.

    Args:
        mixture: the mixture.
        references: the answers of its first layer.
        name: distinguishes it from other candidates in the journal.
    """

    def __init__(self, mixture: Mixture, references: Sequence[Reference], name: str) -> None:
        self._mixture, self._references, self.name = mixture, references, name

    @property
    def traits(self) -> Traits:
        return self._mixture.traits

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """The answer of the mixture, as :meth:`~moa.mixture.mixture.Mixture.stream` gives it."""
        given = {"kept" if self._mixture.depth > 2 else "proposals": self._references}
        async with aclosing(self._mixture.stream(request, **given)) as deltas:
            async for delta in deltas:
                yield delta


@dataclass(slots=True)
class Trials:
    """Tries candidates on questions.

    Attributes:
        config: builds the mixtures.
        members: by name.
        answers: of the members.
        failed: candidates whose calls cannot be made, with the reason.
    """

    config: Config
    members: Mapping[str, Member]
    answers: Answers
    failed: dict[Candidate, str] = field(default_factory=dict)
    _outcomes: dict[tuple[Candidate, str], Outcome] = field(default_factory=dict)
    _mixtures: dict[Candidate, Mixture] = field(default_factory=dict)
    _calling: dict[tuple[str, str], asyncio.Lock] = field(default_factory=dict)

    def outcome(self, candidate: Candidate, task: Task) -> Outcome | None:
        """The outcome of a candidate on a question; None if it was not tried."""
        return self._outcomes.get((candidate, task.id))

    def outcomes(self, candidate: Candidate, tasks: Sequence[Task]) -> list[Outcome]:
        """The outcomes of a candidate on those of the questions that it was tried on."""
        return [known for task in tasks if (known := self.outcome(candidate, task)) is not None]

    async def each(self, candidates: Sequence[Candidate], tasks: Sequence[Task]) -> bool:
        """Try every candidate on every question, as far as the limit on cost allows.

        Returns:
            Whether all were tried.
        """
        todo = [
            (candidate, task)
            for task in tasks
            for candidate in candidates
            if candidate not in self.failed and (candidate, task.id) not in self._outcomes
        ]
        calling = [one for one in todo if not one[0].free]
        for one in todo:
            if one[0].free:
                await self._one(one)
        measurement = self.answers.measurement
        measurement.stopped = ""
        if calling:
            await measurement.each(calling, self._one, kind=lambda one: one[0].kind)
        return not measurement.stopped

    async def _one(self, one: tuple[Candidate, Task]) -> None:
        candidate, task = one
        if candidate in self.failed or (not candidate.free and time.monotonic() > self.answers.until):
            return
        try:
            self._outcomes[candidate, task.id] = await self._tried(candidate, task)
        except ConfigError as error:
            self.failed[candidate] = str(error)

    async def _tried(self, candidate: Candidate, task: Task) -> Outcome:
        replies = self.given(candidate, task)
        present = [reply for _, reply in replies if reply is not None]
        before = _dollars(present)
        waited = max((reply.seconds for reply in present), default=0.0)
        if candidate.way == "single":
            text = present[0].text if present else None
            return Outcome(right(task, text), before, waited, text)
        if not present:
            return Outcome(0.0, before, waited)
        references = [Reference(seat, reply.text) for seat, reply in replies if reply is not None]
        mixture = self._mixture(candidate)
        if candidate.free:
            try:
                answer = await mixture.answer(Request.of(list(task.messages)), proposals=references)
            except MoaError:
                return Outcome(0.0, before, waited)
            return Outcome(right(task, answer.text), before, waited, answer.text)
        digest = self._digest(candidate, references)
        model = Fed(mixture, references, f"{mixture.name}-{digest}")
        try:
            async with self._calling.setdefault((task.id, digest), asyncio.Lock()):
                key = f"candidate/{quote(task.id, safe='')}/{digest}"
                reply = await self.answers.measurement.call(key, model, list(task.messages))
        except ConfigError:
            raise
        except MoaError:
            return Outcome(0.0, before, waited)
        dollars = None if before is None or reply.cost.dollars is None else before + reply.cost.dollars
        return Outcome(right(task, reply.text), dollars, waited + reply.seconds, reply.text)

    def _digest(self, candidate: Candidate, references: Sequence[Reference]) -> str:
        """Names what the calls of a candidate depend on. Candidates whose members gave the same texts share their calls."""
        table = candidate.table(self.members)
        if candidate.rounds == 1:
            del table["layers"]  # an aggregator reads texts without names
        whole = json.dumps([table, [each.text for each in references]], sort_keys=True, default=str)
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    def given(self, candidate: Candidate, task: Task) -> list[tuple[str, Reply | None]]:
        """The answers of a candidate's members, each with the name of its agent in the mixture."""
        replies = [reply for name, samples in candidate.panel for reply in self.answers.of(task, name, samples)]
        return list(zip(candidate.seats(self.members), replies, strict=False))

    def _mixture(self, candidate: Candidate) -> Mixture:
        if candidate not in self._mixtures:
            table = MixtureTable.model_validate(candidate.table(self.members))
            self._mixtures[candidate] = self.config.build("search", table)
        return self._mixtures[candidate]


def _dollars(replies: Sequence[Reply]) -> float | None:
    costs = [reply.cost.dollars for reply in replies]
    return None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None)


def right(task: Task, text: str | None) -> float:
    """1 if a text passes the check of its question; 0 for none, and for one whose check takes too long."""
    if text is None:
        return 0.0
    try:
        return float(passed(task, text))
    except TimeoutError:
        return 0.0
