"""The interface of schedules, and the readings that they yield.

A schedule sees drafts and nothing else: no model, no prompt, no HTTP. For each agent it yields *readings* one after another.
A reading is the set of references that the agent gets for one call; the agent writes as much as the reading allows, then
takes the next reading and continues its text, until a reading that is the last.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from moa.messages import Reference
from moa.mixture.draft import Draft

GiveUp = Callable[[Draft, str], None]
"""Drops a draft, with a reason for the user, and cancels the call that writes it. Does nothing if the draft has ended."""

Exit = Literal["central", "aggregate"]
"""How a run answers once the proposals of a layer agree: with the most central one, or by an aggregator that reads it."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Reading:
    """What an agent reads for one call.

    ::

        Reading(references)                 # the last reading: the agent writes its text to the end
        Reading(references, room=400)       # the agent may write until its draft has 400 characters, then reads again
        Reading(references, warm=True)      # the agent writes nothing; its upstream only caches the prompt

    Attributes:
        references: the proposals, complete or as far as they are written.
        room: total characters (a token is about 4) that the agent's draft may have before the agent takes the next reading;
            None: no limit.
        superseded: called while the agent writes from this reading; True makes it stop at once and take the next reading.
        warm: send the prompt ahead with a limit of one token, so that the upstream's prefix cache holds it when the next
            reading comes.
    """

    references: tuple[Reference, ...]
    room: int | None = None
    superseded: Callable[[], bool] = _never
    warm: bool = False

    @property
    def last(self) -> bool:
        """Whether the agent writes its text to the end from this reading."""
        return self.room is None and not self.warm


async def single_reading(references: Sequence[Reference]) -> AsyncGenerator[Reading, None]:
    """One reading, the last, of these references."""
    yield Reading(tuple(references))


async def last_of(readings: AsyncIterator[Reading], reading: Reading) -> Reading:
    """Skip to the last reading; ``reading`` is the one before, or itself the last."""
    async for later in readings:
        reading = later
    return reading


class Schedule(Protocol):
    """When an agent may start writing, and on which references. A class with :meth:`readings` alone is a schedule::

        class FirstTwo:
            async def readings(self, layers, give_up):
                drafts = layers[-1]
                await until(drafts, lambda: sum(draft.usable for draft in drafts) >= 2)
                yield Reading(references_of(drafts))

        Mixture(layers, aggregator, schedule=FirstTwo())

    A schedule may also have these members; where one is missing, its default applies:

    ``grows: bool = False``
        Readings have ``room``: agents start from incomplete proposals. An agent whose model cannot continue a text skips
        these readings. Where a request cannot be answered incrementally (tools, a response format, ``exact``, an answer
        that is selected) the barrier replaces such a schedule.
    ``warm: bool = False``
        Readings with ``warm=True`` also warm the aggregator; otherwise they warm proposers only. Where references do not
        follow the last user message or the answer is selected, the barrier replaces such a schedule, since the aggregator
        could not reuse a prefix.
    ``hedge: float | None = None``
        Seconds of silence after which a proposer is called a second time. None: never.
    ``agree(texts: Sequence[str]) -> bool``, default: never
        Called with the usable proposals of each layer that has ended. True: the run skips all layers after it and answers
        from the most central of these proposals.
    ``exits_with: "central" | "aggregate" = "central"``
        Whether that proposal is the answer, or the aggregator writes the answer from it alone.
    ``check(layers: Sequence[Sequence[str]]) -> None``, default: any layers will do
        Called once, when a mixture is made, with the names of its proposers. Raises ValueError if the schedule cannot work
        with them.
    """

    def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        """Yield the readings of one agent.

        The run calls this once for each agent after the first layer (proposers, aggregator, fallbacks), concurrently and on
        the same drafts. State of one agent belongs in local variables, since one schedule serves many agents and runs.

        Drafts may have ended before the call. Every draft ends eventually, finished or dropped, so waiting for the end of
        drafts always returns.

        The run takes a reading only when the agent is ready for it. It closes the generator after the last reading, when
        the agent ends early, and when the run is cancelled. A ``yield`` may then raise GeneratorExit and an ``await`` may
        raise CancelledError: let both pass, and clean up in ``finally``. The generator need not close anything else.

        Args:
            layers: the drafts of all layers before the agent, the nearest last. There is at least one layer, and each has at
                least one draft. The order in a layer is the mixture's. A schedule reads drafts and waits for them; only the
                run writes and ends them.
            give_up: drops a draft that the run need not wait for any longer; no agent gets it as a reference afterwards.

        Yields:
            Readings; the last has neither ``room`` nor ``warm``. Readings after it are never taken.

        Raises:
            ScheduleError: raised by the run for a bug in the schedule: an exception that leaves the generator, a
                generator that ends without a last reading, a reading with ``room`` where ``grows`` is False. The message
                names the schedule's class. The error ends the run; unlike a failed model it is not an event.
        """
        ...
