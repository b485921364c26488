"""A dialect's route: from a request to its answer, streamed or whole.

Notable decisions:
- The whole request is one ASGI response, so one watcher of the connection can cancel it at any stage: in the queue, during
  the proposers' calls, in the middle of the answer. An answer that is not streamed is watched in the same way.
- An error is a status until the first packet is sent, and afterwards the last frame of the stream; never text.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from moa.attribution import attribution_of
from moa.config.names import full_name
from moa.errors import MoaError, ScheduleError
from moa.messages import Reference
from moa.mixture.events import RunStarted
from moa.mixture.mixture import Mixture
from moa.server.choices import Choice, Report, Step, steps_of
from moa.server.connection import ClientGone, EventStream, unless_gone
from moa.server.correlation import REQUEST_ID
from moa.server.described import ERROR_RESPONSES, request_body
from moa.server.dialects.dialect import Dialect, ParsedRequest, Result
from moa.server.discretion import Discretion
from moa.server.failures import Refusal, error_response, refusal_of
from moa.server.keys import Key
from moa.server.panels import suited
from moa.server.parts import Parts
from moa.server.progress import Progress
from moa.server.shutdown import Shutdown
from moa.server.stored_responses import continued
from moa.server.unanswered import Asked, Unanswered
from moa.server.usage import WhoseUsage, usage_by_choice
from moa.store.record import proposals_of
from moa.store.recording import Recording
from moa.tracebacks import traceback_of

MOST_UNSENT = 2**24
"""Bytes of an answer that wait for a client that does not read; then its run waits, too."""

T = TypeVar("T")

NewRecording = Callable[[], Recording]

log = logging.getLogger("moa.server")


def routes(dialect: Dialect, parts: Parts) -> APIRouter:
    """The route of a dialect."""
    desk, runs, tables, discretion = parts.desk, parts.recordings, parts.tables, parts.discretion
    router = APIRouter(tags=[dialect.tag])

    def recorder(parsed: ParsedRequest, key: Key) -> NewRecording:
        model, body, table = full_name(parsed.model), parsed.recorded, tables.written(parsed.model)
        return lambda: runs.new(
            owner=desk.owner(key), model=model, request=body, mixture=table, request_id=REQUEST_ID.get()
        )

    @router.post(
        dialect.path,
        name=dialect.name,
        summary=dialect.summary,
        openapi_extra=request_body(dialect.body),
        responses=ERROR_RESPONSES,
    )
    async def complete(request: Request) -> Response:
        key = desk.caller(request)
        address = request.client.host if request.client else ""
        caller = desk.owner(key) or address
        parsed, asked = await parts.bodies.parsed(
            request, lambda body: (dialect.read(body), Asked.of(caller, dialect.path, body))
        )
        desk.check_models(key, [parsed.model])
        if parsed.previous or parsed.refers:
            parsed = await continued(parsed, runs, desk.owner(key))
        parsed = parts.small_tasks.routed(parsed)
        if parsed.accepted:
            run = await parts.runner.start(parts.runner.ordered(parsed), key)
            parsed.encoder.start(run)
            return Response(parsed.accepted(), headers={"x-moa-run": run}, media_type="application/json")
        await runs.room()
        mixture = suited(parts.model_list.mixture(parsed.model), parsed.request, parsed.panel)
        charge = parts.charges.of(key, mixture, parsed.request, parsed.choices)
        return Completion(
            dialect,
            mixture,
            parsed,
            parts.reports.of(parsed.model, key, charge),
            charge.within_limits(parts.admission.slot()),
            parts.shutdown,
            asked,
            parts.unanswered,
            discretion,
            whose_usage=parts.config.whose_usage,
            new_recording=recorder(parsed, key) if parts.keeps else None,
        )

    return router


class Stopped(Exception):
    """A request to ``/runs`` stopped the run before its answer was complete."""


class Completion(Response):
    """The answer to one request.

    Args:
        dialect: writes errors; answers are written by the request's own encoder.
        mixture: answers the request.
        parsed: the request.
        report: called when each run has ended.
        slot: held while its runs are in progress; entering it may wait, or raise a Refusal.
        shutdown: of the server.
        asked, unanswered: where the finished proposals are kept if there is no answer, for the client's retry.
        discretion: what the caller may read of errors and notices.
        whose_usage: whose tokens ``usage`` counts, where the request leaves it open.
        new_recording: makes the recording of each run; None records nothing.
    """

    def __init__(
        self,
        dialect: Dialect,
        mixture: Mixture,
        parsed: ParsedRequest,
        report: Report,
        slot: AbstractAsyncContextManager[None],
        shutdown: Shutdown,
        asked: Asked,
        unanswered: Unanswered,
        discretion: Discretion,
        *,
        whose_usage: WhoseUsage = "answer",
        new_recording: NewRecording | None = None,
    ) -> None:
        super().__init__()
        self._dialect, self._mixture, self._parsed, self._report, self._slot = dialect, mixture, parsed, report, slot
        self._encoder, self._whose_usage = parsed.encoder, parsed.usage or whose_usage
        self._asked, self._unanswered = asked, unanswered
        self._shutdown, self._discretion, self._new_recording = shutdown, discretion, new_recording
        self._recordings: list[Recording] = []
        self._choices: list[Choice] = []
        self._run_id = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientGone):
            await unless_gone(receive, self._respond(scope, receive, send))

    async def answered(self) -> Response:
        """The whole answer, or the error, without a connection.

        Raises:
            Refusal: a limit of the key is reached, or there is no slot.
            asyncio.CancelledError: the finished proposals are kept.
        """
        try:
            response = await self._answer(None)
        except asyncio.CancelledError:
            self._keep_proposals()
            raise
        assert response
        return response

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = EventStream(send, self._encoder.keep_alive, MOST_UNSENT) if self._parsed.stream else None
        try:
            async with stream.sent() if stream else nullcontext():
                response = await self._answer(stream)
            if response:
                await response(scope, receive, send)
        except asyncio.CancelledError:
            if not (stream and stream.started):  # as at a timeout of the client's, which it may retry
                self._keep_proposals()
            raise

    async def _answer(self, stream: EventStream | None) -> Response | None:
        """Answer, and give the response; None where the stream has the answer. The slot is held until the run has ended."""
        try:
            return await self._unless_stopped(self._in_slot(stream))
        except Refusal as busy:
            if stream and stream.started:
                refusal = busy
            else:
                raise
        except Stopped:
            # A status that clients do not retry on.
            refusal = Refusal(400, "the run was stopped", code="run_stopped")
        except Exception as error:
            if not isinstance(error, MoaError) or isinstance(error, ScheduleError):
                log.error("run %s failed on an internal error\n%s", self._run_id, traceback_of(error))
            refusal = refusal_of(error)
            self._keep_proposals()
            refusal.subject = full_name(self._parsed.model)
            refusal = self._discretion.refusal(refusal)
        if stream and stream.started:
            await stream.write(self._encoder.error(refusal))
            return None
        return error_response(refusal, self._run_headers, self._dialect.error)

    def _keep_proposals(self) -> None:
        """Keep the finished proposals for the client's retry."""
        if self._choices:
            self._unanswered.keep(self._asked, proposals_of(self._choices[0].answer))

    @property
    def _run_headers(self) -> dict[str, str]:
        return {"x-moa-run": self._run_id} if self._run_id else {}

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of the work. If something cancels it, for a reason that the client has to know, raises Stopped (one of
        its runs was stopped) or a Refusal (the server shuts down)."""
        try:
            return await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            is_stopped = any(recording.stopping for recording in self._recordings)
            if task is None or not (is_stopped or self._shutdown.cut_off):
                raise
            while task.cancelling():
                task.uncancel()
            raise Stopped if is_stopped else self._shutdown.refusal from None

    async def _in_slot(self, stream: EventStream | None) -> Response | None:
        async with self._slot:
            if stream:
                await self._stream(stream)
                self._unanswered.forget(self._asked)
                return None
            async with aclosing(self._steps()) as steps:
                async for _ in steps:
                    pass
            body = self._encoder.whole(await self._results())
        self._unanswered.forget(self._asked)
        return Response(body, headers=self._run_headers, media_type="application/json")

    async def _stream(self, stream: EventStream) -> None:
        shows_progress = self._mixture.progress if self._parsed.progress is None else self._parsed.progress
        progress = Progress() if shows_progress else None
        async with aclosing(self._steps()) as steps:
            async for choice, event, deltas in steps:
                stream.headers = self._run_headers
                if progress and choice.index == 0:
                    if text := progress.add(self._discretion.event(event)):
                        await stream.write(self._encoder.progress(text, 0))
                    if any(delta.speaks for delta in deltas):
                        progress = None  # the answer can be read now
                for delta in deltas:
                    await stream.write(self._encoder.delta(delta, choice.index))
        await stream.write(self._encoder.end(await self._results()))

    async def _steps(self) -> AsyncGenerator[Step, None]:
        async with aclosing(steps_of(self._parsed.choices, self._new_choice)) as steps:
            async for step in steps:
                if not self._run_id and isinstance(step.event, RunStarted):
                    self._run_id = step.event.run_id
                    self._encoder.start(self._run_id)
                yield step

    def _new_choice(self, index: int, proposals: Sequence[Reference] | None) -> Choice:
        recording = self._new_recording() if self._new_recording else None
        if recording:
            self._recordings.append(recording)
        choice = Choice(
            self._mixture,
            self._parsed.request,
            self._report,
            index,
            recording=recording,
            restart=not self._parsed.stream,
            proposals=proposals,
            kept=self._unanswered.proposals(self._asked) if proposals is None else (),
        )
        self._choices.append(choice)
        return choice

    async def _results(self) -> list[Result]:
        """Every choice, complete. Attribution runs in a thread: with long texts it would hold up the event loop."""
        answers = [choice.answer for choice in self._choices]
        usages = usage_by_choice(answers, self._parsed.request, self._whose_usage)
        results = [
            Result(self._discretion.answer(answer), choice.extra, usage=usage, task=self._parsed.task)
            for answer, choice, usage in zip(answers, self._choices, usages, strict=True)
        ]
        if not self._parsed.explain:
            return results
        return await asyncio.to_thread(
            lambda: [replace(result, attribution=attribution_of(result.answer)) for result in results]
        )
