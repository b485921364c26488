"""A draft: one agent's answer while it is written.

Append-only, with one writer and many agents that read it. A reading agent waits for a length or for the end; the writer does
not know which agents read, nor the readers each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from moa.answers import INSTEAD_OF_TEXT, Call, Cost, Delta, Usage, tokens_in
from moa.errors import MoaError
from moa.pieces import take_back


class Draft:
    """One agent's answer while it grows. It ends exactly once, by :meth:`finish` or by :meth:`drop`.

    ``len(draft)`` is the number of characters of its text so far.

    Attributes:
        agent, layer: the agent that writes it; layers count from 1.
        tool_calls: pieces of tool calls, in the order in which they were streamed.
        instead_of_text: whether the model gave something that is an answer without text: a refusal, audio, images.
        refusal: the words of a refusal.
        logprobs: whether the model gave log probabilities of its tokens.
        finish_reason, usage, cost, calls: as the agent's model reported them, None or empty until then.
        before_loop: its text up to the first repetition, where it was stopped because it repeats itself; else None.
        taken_back: whether a part of its text turned out to be reasoning.
        in_flight: how many upstream calls are in flight for it, as its model reports.
        cut: why the text ends before the model was done (``max_tokens``, the deadline, …); None when it is complete.
        dropped: why no agent reads it; None while it grows and when it finished.
        error: the error behind ``dropped``, if there is one.
        ended: whether it has finished or was dropped; nothing can be appended from then on.
    """

    def __init__(self, agent: str, layer: int) -> None:
        self.agent, self.layer = agent, layer
        self.tool_calls: list[Mapping[str, Any]] = []
        self.instead_of_text = False
        self.refusal = ""
        self.logprobs = False
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.cost: Cost | None = None
        self.calls: tuple[Call, ...] = ()
        self.before_loop: str | None = None
        self.taken_back = False
        self.in_flight = 1
        self.cut: str | None = None
        self.dropped: str | None = None
        self.error: MoaError | None = None
        self.ended = False
        self._pieces: list[str] = []
        self._reasoning: list[str] = []
        self._length = self._reasoning_length = 0
        self._waits: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def __len__(self) -> int:
        return self._length

    @property
    def tokens(self) -> int:
        """Tokens of text and reasoning so far, estimated as characters / 4."""
        return tokens_in(self._length + self._reasoning_length)

    @property
    def text(self) -> str:
        """The text so far. Each access joins all pieces; use ``len(draft)`` for its length."""
        return "".join(self._pieces)

    @property
    def reasoning(self) -> str:
        """The model's reasoning so far, as far as it streams it. It is never part of a reference."""
        return "".join(self._reasoning)

    @property
    def usable(self) -> bool:
        """Whether it has finished and may become a reference."""
        return self.ended and self.dropped is None

    @property
    def silent(self) -> bool:
        """Whether its model has streamed neither text nor reasoning."""
        return not (self._length or self._reasoning_length)

    @property
    def thinking(self) -> bool:
        """Whether its model has streamed reasoning and no text yet."""
        return bool(self._reasoning_length) and not self._length

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, delta: Delta) -> None:
        """Add a delta of the agent's model; raises RuntimeError after the end."""
        if self.ended:
            raise RuntimeError(f"the draft of {self.agent} has ended; nothing can be appended")
        if moved := take_back(self._pieces, self._reasoning, delta.thought):
            self.taken_back = True
            self._length -= moved
            self._reasoning_length += moved
        if delta.text:
            self._pieces.append(delta.text)
            self._length += len(delta.text)
        if delta.reasoning:
            self._reasoning.append(delta.reasoning)
            self._reasoning_length += len(delta.reasoning)
        self.tool_calls.extend(delta.tool_calls)
        if delta.extra:
            self.instead_of_text = self.instead_of_text or not INSTEAD_OF_TEXT.isdisjoint(delta.extra)
            self.refusal += str(delta.extra.get("refusal") or "")
            self.logprobs = self.logprobs or bool(delta.extra.get("logprobs"))
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.usage = delta.usage or self.usage
        self.cost = delta.cost or self.cost
        self.calls = delta.calls or self.calls
        self.in_flight = self.in_flight if delta.in_flight is None else delta.in_flight
        if self._waits and (delta.text or delta.reasoning):
            self._wake()

    def finish(self, cut: str | None = None) -> None:
        """End the draft as usable; ``cut`` is the reason if it ends before its model was done."""
        self.cut = cut
        self._end()

    def drop(self, reason: str, error: MoaError | None = None) -> None:
        """End the draft as unusable: its call failed, returned no text, or is no longer needed."""
        self.dropped, self.error = reason, error
        self._end()

    def _end(self) -> None:
        if self.ended:
            raise RuntimeError(f"the draft of {self.agent} has ended already")
        self.ended = True
        self._wake()

    # -- waiting -----------------------------------------------------------------------------------------------------
    # Not with an asyncio.Condition: its notify() needs the lock, so append() would have to be a coroutine, and it wakes
    # every task that waits at every delta, only to find that most have to wait on. Here the writer checks the conditions
    # itself, without switching tasks, and wakes exactly those tasks whose condition holds.

    async def until_length(self, characters: int) -> None:
        """Wait until the text has at least so many characters, or the draft has ended."""
        await self._until(lambda: self._length >= characters)

    async def until_started(self) -> None:
        """Wait until the model has streamed text or reasoning, or the draft has ended."""
        await self._until(lambda: bool(self._length or self._reasoning_length))

    async def until_ended(self) -> None:
        """Wait until the draft has finished or was dropped."""
        await self._until(lambda: False)

    async def _until(self, holds: Callable[[], bool]) -> None:
        if self.ended or holds():
            return
        wait = holds, asyncio.get_running_loop().create_future()
        self._waits.append(wait)
        try:
            await wait[1]
        finally:
            self._waits.remove(wait)

    def _wake(self) -> None:
        for holds, woken in self._waits:
            if not woken.done() and (self.ended or holds()):
                woken.set_result(None)
