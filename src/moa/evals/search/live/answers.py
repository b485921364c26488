"""The members' answers to the questions of a search: each is asked each question once, and the answers are kept.

Notable decisions:
- All members answer a question before the next question begins, so that money that runs out leaves whole questions.
- A member whose endpoint does not work is left out with the reason, and the others go on: its key is rejected, its price is
  unknown while there is a limit, or its first calls all fail.
- A single failed call is no answer, and an answer that is missing is wrong. The next start retries it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from moa.batch.spending import OverLimit
from moa.errors import ConfigError, KeyRejected, MoaError
from moa.evals.asking.harness import Measurement
from moa.evals.asking.journal import Reply
from moa.evals.search.live.members import Member
from moa.evals.tasks.task import Task

FAILURES = 3
"""Calls of a member that fail, from its first and without an answer between them, after which it is left out."""

MISSING = 0.5
"""The share of a member's answers that may be missing; with more, it is left out."""


@dataclass(slots=True)
class Answers:
    """What the members have answered.

    Attributes:
        measurement: makes and keeps the calls.
        samples: how many answers of each member to each question.
        limited: whether there is a limit on cost, so that unknown prices cannot be accepted.
        replies: by question and member, the samples; None for a call that failed.
        left_out: why members were left out, by name.
        complete: the questions that every member was asked.
        until: no call begins after this time, in the seconds of :func:`time.monotonic`.
    """

    measurement: Measurement
    samples: int = 1
    limited: bool = True
    replies: dict[tuple[str, str], list[Reply | None]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    complete: set[str] = field(default_factory=set)
    until: float = math.inf
    _failed: dict[str, int] = field(default_factory=dict)
    _answered: set[str] = field(default_factory=set)
    _stopped: bool = False
    _first: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def ask(self, members: Sequence[Member], tasks: Sequence[Task]) -> None:
        """Ask every member every question, as far as the limit on cost allows.

        Members that are left out are asked no further; the questions that all others were asked are complete.
        """
        calls = [(task, member, sample) for task in tasks for sample in range(self.samples) for member in members]
        self._stopped = False
        await self.measurement.each(calls, self._one, kind=lambda call: call[1].name)
        for member in members:
            missing = sum(reply is None for task in tasks for reply in self.replies.get((task.id, member.name), ()))
            asked = sum(len(self.replies.get((task.id, member.name), ())) for task in tasks)
            if member.name not in self.left_out and asked and missing > MISSING * asked:
                self.left_out[member.name] = f"{missing} of {asked} calls failed, the last with: {self._last(member)}"
        present = [member for member in members if member.name not in self.left_out]
        self.complete |= {
            task.id
            for task in tasks
            if present and all(len(self.replies.get((task.id, each.name), ())) == self.samples for each in present)
        }

    async def _one(self, call: tuple[Task, Member, int]) -> None:
        task, member, sample = call
        if member.name in self._answered:
            await self._asked(task, member, sample)
            return
        async with self._first.setdefault(
            member.name, asyncio.Lock()
        ):  # one call shows whether the member can be asked
            await self._asked(task, member, sample)

    async def _asked(self, task: Task, member: Member, sample: int) -> None:
        self._stopped = self._stopped or time.monotonic() > self.until
        if member.name in self.left_out or self._stopped:
            return
        known = self.replies.setdefault((task.id, member.name), [])
        if len(known) > sample and known[sample] is not None:
            return
        reply: Reply | None = None
        try:
            key = f"answer/{quote(task.id, safe='')}/{quote(member.name, safe='')}/{sample}"
            reply = await self.measurement.call(key, member.model, member.request(task.messages, sample))
            if self.limited and (reply.cost.dollars is None or reply.cost.at_least):
                raise ConfigError
        except OverLimit:
            self._stopped = True  # no cheaper member goes on with questions that will not be complete
            raise
        except ConfigError:
            self.left_out[member.name] = (
                f"the price of {member.model.name} is unknown, so --spend cannot limit it; set it in moa.toml under [prices]"
            )
            return
        except MoaError as error:
            self._failed[member.name] = self._failed.get(member.name, 0) + 1
            hopeless = self._failed[member.name] >= FAILURES and member.name not in self._answered
            if isinstance(error, KeyRejected) or hopeless:
                self.left_out[member.name] = str(error)
                return
        else:
            self._answered.add(member.name)
        known.extend([None] * (sample + 1 - len(known)))
        known[sample] = reply

    def _last(self, member: Member) -> str:
        rows = [row for row in self.measurement.failures.rows if row["model"] == member.model.name]
        return str(rows[-1]["error"]) if rows else "no answer"

    def of(self, task: Task, name: str, samples: int) -> list[Reply | None]:
        """The first samples of a member's answers to a question."""
        return self.replies.get((task.id, name), [])[:samples]
