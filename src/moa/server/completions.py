"""``POST /v1/chat/completions``: from a checked request to an answer on the wire.

Notable decisions:
- The whole of it is one ASGI response, so that a watcher of the connection can cancel it wherever it is: in the queue,
  among the proposers, in the middle of the answer. An answer in one piece is watched like one that streams.
- A streamed answer's status waits for its first word, so that a run that fails before it gets the status it deserves. After
  :data:`QUIET` seconds without one, the stream begins all the same, with a comment, to keep connections from timing out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from moa.errors import MoaError
from moa.messages import Answer, Delta, Reference, Request, pieces_of
from moa.mixture.events import (
    AgentSaid,
    AgentStarted,
    AnswerBegan,
    Event,
    Fold,
    RunFailed,
    RunStarted,
    Selected,
)
from moa.mixture.mixture import Mixture
from moa.server.body import Asked
from moa.server.failures import Refusal, refusal_of
from moa.server.progress import Progress
from moa.server.wire import Explained, Wire, encoded
from moa.store.outcome import recorded
from moa.store.recording import Recording

QUIET = 15.0
"""Seconds without a word after which a comment is sent."""

Report = Callable[[Answer, str, float], None]
"""Told how each run ended: its answer; ``answered``, ``degraded``, ``failed`` or ``cancelled``; and when it began, in
seconds since 1970."""

Record = Callable[[], Recording | None]
"""Gives the recording for a run that is about to begin; None where it is not recorded."""

log = logging.getLogger("moa.server")

T = TypeVar("T")


class ClientGone(Exception):
    """The client went away; there is nobody to answer."""


class Stopped(Exception):
    """Somebody else stopped the run while its answer was under way."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled as soon as the client goes away.

    Raises:
        ClientGone: it went away.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.wait({task, gone})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Choice:
    """One choice of an answer: a run, its fold, and what its answer says; recorded where there is a recording.

    ``restart``, ``proposals`` and ``kept`` are as in :meth:`Mixture.run`.
    """

    def __init__(
        self,
        mixture: Mixture,
        request: Request,
        report: Report,
        index: int = 0,
        *,
        recording: Recording | None = None,
        restart: bool = True,
        proposals: Sequence[Reference] | None = None,
        kept: Sequence[Reference] = (),
    ) -> None:
        self.index = index
        self.fold = Fold()
        self.extras: dict[str, Any] = {}
        self._events = mixture.run(request, restart=restart, proposals=proposals, kept=kept)
        self._mixture, self._request, self._report, self._recording = mixture, request, report, recording
        self._began = time.time()
        self._speaker: tuple[int, str] | None = None

    async def events(self) -> AsyncGenerator[tuple[Choice, Event, list[Delta]], None]:
        """Each event of the run, with what the answer says in it.

        Raises:
            RunError: the run failed.
        """
        prices = self._mixture.prices
        events = recorded(
            self._events, self._request, prices, fold=self.fold, recording=self._recording, on_end=self._ended
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, RunFailed):
                    raise event.error
                yield self, event, self._said(event)

    def _ended(self, outcome: str, answer: Answer) -> None:
        self._report(answer, outcome, self._began)

    def _said(self, event: Event) -> list[Delta]:
        match event:
            case AgentStarted(role="aggregator"):
                self._speaker, self.extras = (event.layer, event.agent), {}
            case AgentSaid() if (event.layer, event.agent) == self._speaker:
                for name, value in (event.delta.extra or {}).items():
                    _gather(self.extras, name, value)
                return [event.delta]
            case Selected():
                return [Delta(text=piece) for piece in pieces_of(event.text)]
        return []


def _gather(into: dict[str, Any], name: str, value: Any) -> None:
    """Put a field that comes in pieces (``logprobs``, ``refusal``) together, for an answer in one piece."""
    kept = into.get(name)
    if isinstance(value, list):
        if isinstance(kept, list):
            kept.extend(value)
        else:
            into[name] = [*value]
    elif isinstance(value, dict):
        if not isinstance(kept, dict):
            kept = into[name] = {}
        for key, item in value.items():
            _gather(kept, key, item)
    elif name == "refusal" and isinstance(value, str) and isinstance(kept, str):
        into[name] = kept + value
    else:
        into[name] = value


async def choices_of(
    mixture: Mixture, asked: Asked, report: Report, record: Record
) -> AsyncGenerator[tuple[Choice, Event, list[Delta]], None]:
    """The events of every choice, as they come: the proposers are asked once, the aggregator for each choice.

    Raises:
        RunError: a choice has no answer.
    """

    def choice_of(index: int, proposals: Sequence[Reference] | None = None) -> Choice:
        restart = not asked.stream
        return Choice(mixture, asked.request, report, index, recording=record(), restart=restart, proposals=proposals)

    first = choice_of(0)
    if asked.choices == 1:
        async with aclosing(first.events()) as events:
            async for told in events:
                yield told
        return
    queue: asyncio.Queue[tuple[Choice, Event, list[Delta]] | None] = asyncio.Queue()

    async def listen(choice: Choice) -> None:
        try:
            async with aclosing(choice.events()) as events:
                async for told in events:
                    queue.put_nowait(told)
        finally:
            queue.put_nowait(None)

    tasks = [asyncio.create_task(listen(first))]
    try:
        going = 1
        while going:
            heard = await queue.get()
            if heard is None:
                going -= 1
                for task in tasks:
                    if task.done():
                        task.result()
                continue
            choice, event, _ = heard
            if choice is first and isinstance(event, AnswerBegan):
                others = [choice_of(index, event.references) for index in range(1, asked.choices)]
                tasks += [asyncio.create_task(listen(other)) for other in others]
                going += len(others)
            yield heard
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Completion(Response):
    """The answer to one request, streamed or whole.

    Args:
        mixture: who answers.
        asked: what was asked.
        report: told how each run ended.
        slot: a place among the server's runs, held while it is answered; entering it may wait, or raise a Refusal.
        progress: whether proposals are shown as ``reasoning_content`` while they are written.
        record: gives the recording for each run; None where runs are not recorded.
    """

    def __init__(
        self,
        mixture: Mixture,
        asked: Asked,
        report: Report,
        slot: AbstractAsyncContextManager[None],
        *,
        progress: bool,
        record: Callable[[], Recording] | None = None,
    ) -> None:
        super().__init__()
        self._mixture, self._asked, self._report, self._slot = mixture, asked, report, slot
        self._make_recording = record
        self._recordings: list[Recording] = []
        self._progress = Progress() if progress else None
        self._begun = False
        self._run_id = ""
        self._last_sent = 0.0
        self._sending = asyncio.Lock()  # between the answer and the comments that keep it alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientGone):
            await unless_gone(receive, self._respond(scope, receive, send))

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._slot:
                await self._unless_stopped(
                    self._stream(send) if self._asked.stream else self._whole(scope, receive, send)
                )
        except Refusal:
            raise  # no place to run in
        except Stopped:
            # Not a status that clients try again on.
            await self._refuse(Refusal(400, "the run was stopped", code="run_stopped"), scope, receive, send)
        except Exception as error:
            if not isinstance(error, MoaError):
                log.error("run %s broke", self._run_id, exc_info=error)
            await self._refuse(refusal_of(error), scope, receive, send)

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        if self._begun:
            await self._send(send, b"data: " + refusal.json + b"\n\n")
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await refusal.response({"x-moa-run": self._run_id} if self._run_id else None)(scope, receive, send)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work; raises Stopped where its run was stopped, which cancels whoever does it."""
        try:
            await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not any(recording.stopping for recording in self._recordings):
                raise
            while task.cancelling():
                task.uncancel()
            raise Stopped from None

    def _record(self) -> Recording | None:
        if self._make_recording is None:
            return None
        self._recordings.append(self._make_recording())
        return self._recordings[-1]

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        choices: dict[int, Choice] = {}
        async with aclosing(choices_of(self._mixture, self._asked, self._report, self._record)) as told:
            async for choice, event, _ in told:
                choices[choice.index] = choice
                if isinstance(event, RunStarted):
                    self._run_id = self._run_id or event.run_id
        ordered = [choices[index] for index in sorted(choices)]
        wire = Wire(self._run_id, self._asked.model, int(time.time()))
        answers = [choice.fold.answer for choice in ordered]
        body = wire.whole(answers, [choice.extras for choice in ordered], await self._explained(answers))
        headers = {"x-moa-run": self._run_id}
        await Response(encoded(body), headers=headers, media_type="application/json")(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        ticking = asyncio.create_task(self._keep_alive(send))
        try:
            async with aclosing(self._packets()) as packets:
                async for packet in packets:
                    await self._send(send, packet)
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _packets(self) -> AsyncGenerator[bytes, None]:
        choices: dict[int, Choice] = {}
        wire: Wire | None = None
        opened: set[int] = set()
        async with aclosing(choices_of(self._mixture, self._asked, self._report, self._record)) as told:
            async for choice, event, deltas in told:
                choices[choice.index] = choice
                if wire is None and isinstance(event, RunStarted):
                    self._run_id = event.run_id
                    with_usage = self._asked.usage_in_stream
                    wire = Wire(event.run_id, self._asked.model, int(time.time()), usage_in_stream=with_usage)
                if wire is None:
                    continue
                shown = self._progress.add(event) if self._progress and choice.index == 0 else ""
                if (shown or deltas) and choice.index not in opened:
                    opened.add(choice.index)
                    yield wire.opening(choice.index)
                if shown:
                    yield wire.thought(shown, choice.index)
                for delta in deltas:
                    self._progress = None if choice.index == 0 else self._progress  # the answer is there to be read
                    yield wire.said(delta, choice.index)
        if wire:
            answers = [choices[index].fold.answer for index in sorted(choices)]
            yield wire.closing(answers, await self._explained(answers))

    async def _explained(self, answers: Sequence[Answer]) -> Explained:
        """What the answers resemble, if it was asked for; apart from the event loop, which long texts would hold up."""
        if not self._asked.explain:
            return ()
        return await asyncio.to_thread(lambda: [answer.attribution for answer in answers])

    async def _send(self, send: Send, packet: bytes) -> None:
        async with self._sending:
            self._last_sent = time.monotonic()
            if not self._begun:
                self._begun = True
                headers = [
                    (b"content-type", b"text/event-stream; charset=utf-8"),
                    (b"cache-control", b"no-cache"),
                    (b"x-accel-buffering", b"no"),  # nginx would otherwise hold the stream back
                    (b"x-moa-run", self._run_id.encode()),
                ]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": packet, "more_body": True})

    async def _keep_alive(self, send: Send) -> None:
        self._last_sent = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, self._last_sent + QUIET - time.monotonic()))
            if time.monotonic() - self._last_sent >= QUIET:
                await self._send(send, b": still at work\n\n")
