"""Writes an agent's draft with one call for each reading; the outcome of a call pauses, finishes or drops the draft."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from moa.answers import is_blank
from moa.closing import cancelled
from moa.errors import CallRejected, MoaError, ModelError, StreamBroken
from moa.finish_reasons import CUTS, finish_reason_of, is_known
from moa.messages import Delta, Request
from moa.mixture.agent import Agent
from moa.mixture.calls import Calls
from moa.mixture.continuation import Conversation, MakeRequest
from moa.mixture.draft import Draft
from moa.mixture.outcome import FOLLOWED, Consults, Outcome, why_empty
from moa.mixture.repetition import Loops
from moa.mixture.room import Room, listed_context
from moa.mixture.schedules.protocol import Reading, last_of
from moa.mixture.seam import Restarted, Seam
from moa.mixture.silence import noticed
from moa.mixture.way import way_of
from moa.models import traits_of
from moa.models.fitting import TOKEN_LIMITS
from moa.models.refusals import one_line
from moa.models.tool_calls import ToolCallReader
from moa.tracebacks import traceback_of

log = logging.getLogger("moa")

SENSIBLE = 200
"""Characters before a loop that make an answer worth keeping, although another agent could write one."""


class Writer:
    """One agent that writes one draft.

    Args:
        role: as in :class:`~moa.answers.Call`.
        make_request: makes the request from references.
        stop: called after each delta with text, reasoning or tool calls; a reason ends the draft there.
        question: what the user asks.
        replaceable: whether another agent can write instead, so that a text that only repeats itself is dropped.
        check: raises ModelError where the draft cannot become what the request demands, or, when complete, is not.
        patience: seconds without a word after which a notice is emitted; None: never.
    """

    def __init__(
        self,
        calls: Calls,
        agent: Agent,
        draft: Draft,
        role: str,
        make_request: MakeRequest,
        stop: Callable[[], str | None],
        patience: float | None = None,
        *,
        question: str = "",
        replaceable: Callable[[], bool] = lambda: True,
        check: Callable[[Draft, bool], None] = lambda draft, complete: None,
    ) -> None:
        self._calls, self._agent, self._draft, self._role = calls, agent, draft, role
        self._make_request, self._stop, self._patience = make_request, stop, patience
        self._tool_calls = ToolCallReader()
        self._end_silence: Callable[[], None] = lambda: None
        self._in_pieces = not agent.sampling.get("stop")  # a stop sequence may lie across two pieces
        self._way = traits_of(agent.model).continuation if self._in_pieces else None
        self._has_stop_sequences = False
        self._loops, self._replaceable, self._check = Loops(question), replaceable, check
        self._room = Room(make_request, agent.model, listed_context, self._notice_room)
        self._conversation, self._seam = Conversation(self._room, self._way, self._room.fits), Seam()
        self._consulted = self._ended_early = False
        """Whether the model ended its text on references that were still growing."""

    async def write(self, readings: AsyncIterator[Reading]) -> None:
        """Write the draft, by one call or, where a schedule gives several readings, by several that continue each other.

        A model that cannot continue a text writes from the last reading alone. When this returns the draft has ended. A
        failure of the model drops the draft and raises nothing.

        Raises:
            Exception: any that ``readings`` raises.
        """
        warming: list[asyncio.Task[None]] = []
        try:
            async for reading in readings:
                await cancelled(*warming)
                if reading.warm:
                    composite = traits_of(self._agent.model).composite
                    warming = [] if composite else [asyncio.create_task(self._warm(reading))]
                    continue
                if not reading.last and self._way is None and self._in_pieces:
                    self._way = self._conversation.way = await way_of(self._agent, self._draft, self._calls)
                    self._in_pieces = self._way is not None
                if reading.last or (self._way is not None and not self._ended_early):
                    outcome = await self._continue(reading)
                    if outcome.kind == "restarted":
                        self._calls.notice(
                            f"{self._draft.agent} did not continue where it stopped; finishing in a single call"
                        )
                        await self._finish_in_one_call(await last_of(readings, reading))
                    elif outcome.kind == "empty":
                        await self._finish_in_one_call(reading)
                    if self._draft.ended:
                        return
        finally:
            await cancelled(*warming)

    async def _continue(self, reading: Reading) -> Outcome:
        """Write the draft's next piece."""
        while True:
            try:
                request = self._conversation.request(
                    reading.references,
                    "" if self._consulted else self._seam.text,  # what it said before it asked is in its request
                    last=reading.last,
                    ended=self._ended_early,
                )
            except CallRejected as error:
                self._calls.notice(f"{self._draft.agent} was not called: {error.reason}", degrades=True)
                self._calls.drop(self._draft, str(error), error)
                return Outcome("failed", error=error)
            if outcome := self._unaffordable(request, reading):
                self._settle(outcome)
                return outcome
            if not self._consulted:
                self._seam.join(exact=self._way == "prefix")
            outcome = await self._call(request, reading)
            if outcome.kind != "too long":
                return outcome

    def _unaffordable(self, request: Request, reading: Reading) -> Outcome | None:
        """The outcome of a piece that the cost limit does not allow. A piece before the last leaves money for the last."""
        model = self._agent.model
        if not reading.last:
            return None if self._calls.affords(model, request, times=2) else Outcome("skipped")
        if not self._draft.text or self._calls.affords(model, request):
            return None
        return Outcome("stopped", "the cost limit was reached")

    async def _finish_in_one_call(self, reading: Reading) -> None:
        """Make one fresh call that is shown the text so far. That text was already streamed, so it cannot change."""
        request = self._conversation.resumed(reading.references, self._seam.text)
        self._seam.join(exact=False)
        outcome = await self._call(request, reading)
        if outcome.kind == "empty":
            self._finish_incomplete("its last piece was empty, twice")
        elif outcome.kind == "restarted":
            error = ModelError(self._agent.model.name, "it started its answer over instead of continuing it")
            self._settle(Outcome("failed", error=error))

    async def _warm(self, reading: Reading) -> None:
        """Have the upstream cache a prompt. The one token it answers is ignored; the draft pays for the call."""
        draft, model = self._draft, self._agent.model
        request = self._make_request(reading.references, "")
        error: Exception | None = None
        self._calls.warm(draft, model, request)
        short = request.without(TOKEN_LIMITS).replaced(max_tokens=1)
        try:
            async with aclosing(model.stream(short)) as deltas:
                async for delta in deltas:
                    silent = delta.replaced(text="", reasoning="", tool_calls=(), finish_reason=None, extra=None)
                    self._append(silent, whole_words=False)
        except Exception as raised:
            log.debug("warming %s failed\n%s", model.name, traceback_of(raised))
            error = raised
        finally:
            self._calls.pause(draft, "it warmed the prompt cache", error)

    # -- one call ----------------------------------------------------------------------------------------------------

    async def _call(self, request: Request, reading: Reading) -> Outcome:
        self._calls.begin(self._draft, self._agent.model, self._role, request, reading.references)
        self._has_stop_sequences = bool(request.body.get("stop"))
        before = len(self._draft)
        self._tool_calls = ToolCallReader()
        with noticed(self._patience, self._notice_silence) as self._end_silence:
            outcome = await self._read(request, reading)
        if outcome.kind == "completed":
            outcome = self._completed(reading, before)
        if outcome.kind == "completed" and self._draft.finish_reason == "length":
            self._loops.end_cut()
            if self._loops.reason:
                outcome = Outcome("repeating", self._loops.reason)
        if _is_too_long(outcome.error) and len(self._draft) == before and self._room.refused(request):
            self._calls.pause(self._draft, "its prompt was too long", outcome.error)
            return Outcome("too long")
        self._settle(outcome)
        return outcome

    def _completed(self, reading: Reading, before: int) -> Outcome:
        """How a call ended whose stream had a finish reason, when the draft had ``before`` characters before it."""
        draft = self._draft
        if draft.finish_reason in CUTS or draft.tool_calls or draft.instead_of_text or draft.ended:
            return Outcome("completed")
        empty = 0 < before <= len(draft) and is_blank(draft.text[before:])
        if not reading.last:
            self._ended_early = not empty  # an empty piece does not end a paused text
            return Outcome("unfinished")
        return Outcome("empty" if empty and not self._ended_early else "completed")

    def _notice_room(self, message: str) -> None:
        self._calls.notice(f"{self._draft.agent} {message}", degrades=True)

    def _finish_incomplete(self, reason: str) -> None:
        """End a draft whose text is usable, but may lack its end."""
        self._calls.notice(f"{self._draft.agent} may be incomplete: {reason}", degrades=True)
        self._draft.finish_reason = "length"
        self._calls.finish(self._draft, reason)

    async def _read(self, request: Request, reading: Reading) -> Outcome:
        """Append a call's stream to the draft, until the stream ends or has to be closed."""
        model = self._agent.model
        try:
            self._check(self._draft, False)
            async with aclosing(self._agent.stream(request)) as deltas:
                async for delta in deltas:
                    if self._draft.ended:
                        return Outcome("ended")
                    self._append(delta, whole_words=not reading.last)
                    if outcome := self._interruption(delta, reading):
                        return outcome
                self._calls.append(self._draft, self._role, Delta(text=self._seam.end()))
                self._check(self._draft, True)
        except Restarted:
            return Outcome("restarted")
        except Consults:
            self._consulted = True
            return Outcome("consults")
        except MoaError as error:
            return Outcome("failed", error=error)
        except Exception as error:
            log.warning("%s raised while answering\n%s", model.name, traceback_of(error))
            return Outcome("failed", error=ModelError(model.name, one_line(f"{type(error).__name__}: {error}")))
        if self._draft.finish_reason is None:
            return Outcome("failed", error=ModelError(model.name, "its stream ended without a finish reason"))
        if not is_known(self._draft.finish_reason):
            reason = f"its server ended it with the reason {self._draft.finish_reason!r}"
            return Outcome("failed", error=StreamBroken(model.name, f"the answer broke off: {reason}"))
        if self._tool_calls:
            complete = self._draft.finish_reason not in CUTS
            rest = Delta(tool_calls=self._tool_calls.rest(complete=complete))
            if complete and (half := self._tool_calls.half):
                return Outcome("failed", error=StreamBroken(model.name, f"the answer broke off: {half}"))
            self._calls.append(self._draft, self._role, rest)
            self._draft.finish_reason = "tool_calls" if complete else self._draft.finish_reason
        return Outcome("completed")

    def _append(self, delta: Delta, *, whole_words: bool) -> None:
        if not isinstance(delta, Delta):
            raise ModelError(self._agent.model.name, f"its stream() yielded {delta!r:.60}; expected Delta(text=…)")
        if self._draft.silent:
            self._check(self._draft, False)
        if delta.speaks:
            self._end_silence()
        if delta.notice:
            self._calls.notice(delta.notice, degrades=delta.degrades)
        if delta.tool_calls:
            delta = delta.replaced(tool_calls=tuple(self._tool_calls.read(delta.tool_calls)))
        if delta.finish_reason is not None:
            delta = delta.replaced(finish_reason=finish_reason_of(delta.finish_reason))
        if delta.thought:
            if self._way == "prefix" and not self._draft.taken_back:
                self._seam.forget_joints()  # what the model continues to the letter began inside its thinking, too
                thought, held = self._seam.take_back(len(self._draft) + delta.thought)
            else:
                thought, held = self._seam.take_back(delta.thought)
            delta = delta.replaced(thought=thought, reasoning=held + delta.reasoning)
        if delta.text:
            text = self._seam.feed(delta.text, whole_words=whole_words)
            delta = delta if text == delta.text else delta.replaced(text=text)
        self._calls.append(self._draft, self._role, delta)
        self._loops.add(delta)

    def _notice_silence(self) -> None:
        self._calls.notice(f"{self._draft.agent} has been silent for {self._patience:g} s; still waiting for it")

    def _interruption(self, delta: Delta, reading: Reading) -> Outcome | None:
        """Why to close the stream after this delta, if there is a reason."""
        draft = self._draft
        reason = self._stop() if delta.speaks else None
        if draft.ended:
            return Outcome("ended")
        if reason:
            return Outcome("stopped", reason)
        if self._loops.reason:
            return Outcome("repeating", self._loops.reason)
        if reading.room is None or not len(draft) or draft.finish_reason is not None:
            return None  # a text that its model has completed is not paused: the seam still holds its last word
        return Outcome("paused") if len(draft) >= reading.room or reading.superseded() else None

    def _settle(self, outcome: Outcome) -> None:
        """Update the draft after a call: pause it, finish it, drop it, or nothing if it has ended."""
        calls, draft = self._calls, self._draft
        if draft.ended or outcome.kind == "skipped":
            return
        if outcome.kind in FOLLOWED:
            calls.pause(draft, FOLLOWED[outcome.kind], part=outcome.kind in ("paused", "unfinished", "consults"))
        elif outcome.error and self._ended_early and not is_blank(draft.text):
            self._finish_incomplete(f"its call with the complete proposals failed: {outcome.error}")
        elif outcome.error:
            calls.drop(draft, str(outcome.error), outcome.error)
        elif outcome.kind == "repeating" and self._may_drop_loop():
            calls.drop(draft, outcome.reason)
        elif outcome.kind == "repeating":
            self._stop_early(outcome.reason)
        elif is_blank(draft.text) and not self._answers_without_text:
            calls.drop(draft, why_empty(draft))
        elif outcome.kind == "stopped":
            self._stop_early(outcome.reason)
        else:
            cut = CUTS.get(draft.finish_reason or "")
            if draft.refusal:
                calls.notice(f"{draft.agent} refused: {one_line(draft.refusal)}")
            if cut and self._role == "aggregator":
                why = why_empty(draft) if is_blank(draft.text) and not draft.tool_calls else cut
                calls.notice(f"the answer of {draft.agent} ends early: {why}", degrades=True)
            calls.finish(draft, cut)

    def _stop_early(self, reason: str) -> None:
        """End a draft that we closed; its text so far is usable."""
        self._calls.notice(f"{self._draft.agent} was stopped: {reason}", degrades=True)
        self._draft.finish_reason = "length"
        self._calls.finish(self._draft, reason)

    def _may_drop_loop(self) -> bool:
        """Whether to drop a draft that repeats itself: every proposal, and an answer that says nothing before its loop."""
        self._draft.before_loop = self._loops.before(self._draft.text)
        if self._role == "proposer":
            return True
        return self._role == "aggregator" and len(self._draft.before_loop) < SENSIBLE and self._replaceable()

    @property
    def _answers_without_text(self) -> bool:
        """Whether a draft without text is an answer, as in OpenAI's API: a refusal, an image, a tool call; a text cut
        or filtered before its first word, or ended there by a stop sequence. A retry gives the same and costs the same.
        """
        draft = self._draft
        stopped = self._has_stop_sequences and draft.finish_reason == "stop"
        is_one = draft.tool_calls or draft.instead_of_text or draft.finish_reason in CUTS or stopped
        return self._role == "aggregator" and bool(is_one)


def _is_too_long(error: MoaError | None) -> bool:
    return isinstance(error, ModelError) and error.code == "context_length_exceeded"
