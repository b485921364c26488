"""Schedules: when a reader may start, and on what.

A schedule sees drafts and nothing else: no model, no prompt. It gives *readings*, one after another; a reader writes what a
reading has room for and comes back for the next, until one that is the last.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from moa.messages import Reference
from moa.mixture.draft import Draft
from moa.mixture.selection import similarity

GiveUp = Callable[[Draft, str], None]
"""Ends a draft that is not waited for, with the reason, and cancels whoever writes it."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader is given.

    Attributes:
        references: the proposals, whole or as far as they have come.
        room: characters that its draft may have in all before it reads again; None: this is the last reading.
        superseded: whether a better reading waits already, so that it may as well stop here.
        warm: not to be answered, only to be read ahead, so that the upstream's cache holds it when the next reading comes.
    """

    references: tuple[Reference, ...]
    room: int | None = None
    superseded: Callable[[], bool] = _never
    warm: bool = False

    @property
    def last(self) -> bool:
        """Whether it is answered from, and no other follows."""
        return self.room is None and not self.warm


async def only(references: Sequence[Reference]) -> AsyncGenerator[Reading, None]:
    """One reading, of these."""
    yield Reading(tuple(references))


class Schedule(Protocol):
    """How the drafts of the layers before become what an agent reads."""

    @property
    def grows(self) -> bool:
        """Whether a reader writes from what is not complete."""
        ...

    @property
    def hedge(self) -> float | None:
        """Seconds of silence after which a proposer is asked a second time; None: never."""
        ...

    def agree(self, texts: Sequence[str]) -> bool:
        """Whether these complete proposals of a layer agree so far that the layers behind it can be left out."""
        ...

    def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        """The readings of one agent; ``layers`` are those before it, the nearest last. The last reading has no ``room``."""
        ...


class Barrier:
    """The paper's schedule: wait for the last word of every agent of the layer (arXiv 2406.04692, section 2.2).

    Args:
        warm: while stragglers write, send the prompt ahead as far as it is known, so that the upstream's prefix cache holds
            it when the last proposal comes. References are then in the order of their arrival. It costs the calls that
            warm: a token each, and prompts that are mostly cached. Only where references follow the last user message.
    """

    grows = False
    hedge: float | None = None

    def __init__(self, *, warm: bool = False) -> None:
        self.warm = warm

    async def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        drafts = layers[-1]
        arrived: list[Draft] = []
        while self.warm and not all(draft.ended for draft in drafts):
            ready = len(arrived)
            arrived += [draft for draft in drafts if draft.usable and draft not in arrived]
            if len(arrived) > ready:
                yield Reading(_whole(arrived), warm=True)
            await _first(draft.end() for draft in drafts if not draft.ended)
        await _all_ended(drafts)
        yield Reading(_whole([*arrived, *(draft for draft in drafts if draft not in arrived)]))

    def agree(self, texts: Sequence[str]) -> bool:
        return False

    def __repr__(self) -> str:
        return "Barrier(warm=True)" if self.warm else "Barrier()"


class Quorum:
    """Do not wait for stragglers: go on when enough proposals are there; the others are cancelled.

    Args:
        usable: how many usable proposals are enough.
        grace: seconds that the others still have from then on.
        deadline: seconds from the layer's start after which it goes on with whatever usable proposals there are, or with
            the first that comes. None: no limit.
        require: names of agents that are waited for in any case, but for the deadline.
        hedge: seconds after which a call that has not begun to speak is made a second time; the first of the two to speak
            is kept. None: never.
    """

    grows = False

    def __init__(
        self,
        usable: int,
        *,
        grace: float = 0.0,
        deadline: float | None = None,
        require: Collection[str] = (),
        hedge: float | None = None,
    ) -> None:
        self.usable, self.grace, self.deadline, self.require, self.hedge = (
            usable,
            grace,
            deadline,
            frozenset(require),
            hedge,
        )

    async def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        drafts = layers[-1]
        why = f"{self.usable} usable proposals were there without it"
        try:
            async with asyncio.timeout(self.deadline):
                await _until(drafts, lambda: self._enough(drafts))
                await _within(self.grace, _all_ended(drafts))
        except TimeoutError:
            why = f"the layer's {self.deadline:g} s were over"
            await _until(drafts, lambda: any(draft.usable for draft in drafts))
        for draft in drafts:
            if not draft.ended:
                give_up(draft, why)
        yield Reading(_whole(drafts))

    def _enough(self, drafts: Sequence[Draft]) -> bool:
        required = all(draft.ended for draft in drafts if draft.agent in self.require)
        return required and sum(draft.usable for draft in drafts) >= self.usable

    def __repr__(self) -> str:
        return f"Quorum({self.usable}, grace={self.grace:g})"

    def agree(self, texts: Sequence[str]) -> bool:
        return False


class Staircase:
    """Aggregate chunk by chunk, while proposals are still being written, in all layers at once (arXiv 2510.05059).

    An agent begins as soon as enough proposals have their first chunk, writes a piece from those, reads on when they have
    grown to the next chunk, and writes the rest, uninterrupted, from the complete proposals. For each lane (the agents of
    the same place in every layer) it reads the deepest layer that has a chunk, so that the first word comes after two calls'
    first words, however deep the mixture. A proposal that is only being thought about holds nobody up.

    Args:
        chunks: tokens that proposals must have for the first reading, the second, and so on.
        writes: tokens that a reader may have written before it reads again, one figure for each chunk.
        quorum: the share of proposals, of those that have begun to speak or might at any moment, that must have a chunk.
    """

    grows = True
    hedge: float | None = None

    def __init__(
        self, chunks: Sequence[int] = (32, 128, 384), writes: Sequence[int] | None = None, *, quorum: float = 0.5
    ) -> None:
        self.chunks = tuple(chunks)
        self.writes = tuple(writes) if writes is not None else tuple(max(8, chunk * 3 // 4) for chunk in chunks)
        if not self.chunks or len(self.chunks) != len(self.writes):
            raise ValueError("a staircase needs at least one chunk, and as many figures in writes as in chunks")
        if sorted(self.chunks) != [*self.chunks] or sorted(self.writes) != [*self.writes] or self.chunks[0] < 1:
            raise ValueError("the figures of a staircase must grow")
        if not 0 < quorum <= 1:
            raise ValueError(f"quorum is a share above 0 and up to 1, not {quorum}")
        self.quorum = quorum

    async def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        nearest = layers[-1]

        def complete() -> bool:
            return all(draft.ended for draft in nearest)

        for chunk, write in zip(self.chunks, self.writes, strict=True):
            size = chunk * CHARACTERS
            await _until_grown(layers, size, partial(self._may_start, layers, size))
            if complete():
                break
            yield Reading(_so_far(layers, size), room=write * CHARACTERS, superseded=complete)
        await _all_ended(nearest)
        yield Reading(_whole(nearest))

    def _may_start(self, layers: Sequence[Sequence[Draft]], size: int) -> bool:
        if all(draft.ended for draft in layers[-1]):
            return True
        waited_for = [
            draft
            for draft in layers[0]
            if not (draft.ended and not draft.usable) and (len(draft) or not draft.thinking)
        ]
        ready = [draft for draft in _deepest(layers, size) if draft is not None]
        return len(ready) >= max(1, math.ceil(self.quorum * len(waited_for)))

    def agree(self, texts: Sequence[str]) -> bool:
        return False

    def __repr__(self) -> str:
        return f"Staircase({self.chunks})"


class EarlyExit:
    """Around any schedule: when the proposals of a layer agree, the layers behind it are left out.

    Args:
        schedule: what says when to read otherwise.
        threshold: the least similarity (see :func:`moa.mixture.selection.similarity`) of any two proposals.
        answer: ``central``: the most central proposal is the answer; ``aggregate``: the aggregator is given it alone.
    """

    def __init__(
        self, schedule: Schedule, *, threshold: float = 0.9, answer: Literal["central", "aggregate"] = "central"
    ) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold is a share above 0 and up to 1, not {threshold}")
        self.schedule, self.threshold, self.answer = schedule, threshold, answer

    @property
    def grows(self) -> bool:
        return self.schedule.grows

    @property
    def hedge(self) -> float | None:
        return self.schedule.hedge

    def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        return self.schedule.readings(layers, give_up)

    def agree(self, texts: Sequence[str]) -> bool:
        """At least two, and all alike; short answers must be the same but for case and punctuation."""
        if len(texts) < 2:
            return False
        if all(len(text) <= SHORT for text in texts):
            return len({" ".join(re.findall(r"\w+", text.casefold())) for text in texts}) == 1
        pairs = ((one, other) for place, one in enumerate(texts) for other in texts[:place])
        return all(similarity(one, other) >= self.threshold for one, other in pairs)

    def __repr__(self) -> str:
        return f"EarlyExit({self.schedule!r}, threshold={self.threshold:g})"


SHORT = 60
"""Characters up to which an answer is short: agreement is then sameness."""


CHARACTERS = 4
"""Characters that a token is taken to have."""


def _whole(drafts: Sequence[Draft]) -> tuple[Reference, ...]:
    return tuple(reference_of(draft) for draft in drafts if draft.usable)


def reference_of(draft: Draft) -> Reference:
    """A draft as a reader gets it: whole where it has ended, and up to its last whole word where it grows."""
    if draft.ended:
        return Reference(draft.agent, draft.text, cut=draft.cut is not None, layer=draft.layer)
    words = re.sub(r"\S+\Z", "", draft.text).rstrip()
    return Reference(draft.agent, words or draft.text, cut=True, layer=draft.layer)


def _deepest(layers: Sequence[Sequence[Draft]], size: int) -> list[Draft | None]:
    """For each lane, the draft of the deepest layer that has so many characters or has ended well."""
    width = max(len(layer) for layer in layers)
    lanes = [[layer[place] for layer in reversed(layers) if place < len(layer)] for place in range(width)]
    return [next((draft for draft in lane if draft.usable or _has(draft, size)), None) for lane in lanes]


def _has(draft: Draft, size: int) -> bool:
    return not draft.ended and len(draft) >= size


def _so_far(layers: Sequence[Sequence[Draft]], size: int) -> tuple[Reference, ...]:
    return tuple(reference_of(draft) for draft in _deepest(layers, size) if draft is not None)


async def _all_ended(drafts: Sequence[Draft]) -> None:
    await asyncio.gather(*(draft.end() for draft in drafts))


async def _until(drafts: Sequence[Draft], enough: Callable[[], bool]) -> None:
    """Wait until it is enough, or all have ended; asked again whenever one ends."""
    while not enough() and (going := [draft for draft in drafts if not draft.ended]):
        await _first(draft.end() for draft in going)


async def _until_grown(layers: Sequence[Sequence[Draft]], size: int, enough: Callable[[], bool]) -> None:
    """Wait until it is enough; asked again whenever a draft reaches the size or ends."""
    while not enough():
        going = [draft for layer in layers for draft in layer if not draft.ended]
        short = [draft for draft in going if len(draft) < size]
        waits = [draft.grown(size - 1) for draft in short] + [draft.end() for draft in going if len(draft) >= size]
        if not waits:
            return
        await _first([*waits, *(draft.stirred() for draft in short if not (len(draft) or draft.thinking))])


async def _within(seconds: float, wait: Awaitable[None]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wait


async def _first(waits: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for the first of several; the others are given up."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
