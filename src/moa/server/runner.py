"""Runs that are tasks of the server: from what is asked for to a task, which goes on when whoever asked is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moa.config.export import table_object
from moa.config.names import full_name
from moa.errors import MoaError
from moa.messages import Reference, Request
from moa.mixture.mixture import Mixture
from moa.server.body import Asked
from moa.server.completions import Choice, Report
from moa.server.failures import Refusal
from moa.server.mixtures import table_of
from moa.store.record import finished_proposals
from moa.store.recording import Recording

if TYPE_CHECKING:
    from moa.server.app import Server

NOT_OF_A_RUN = ("stream", "stream_options", "n", "moa")
"""Fields of a chat request that say how its answer is sent."""

log = logging.getLogger("moa.server")


@dataclass(frozen=True, slots=True)
class Order:
    """A run that is asked for: who answers what, and what is there of it already.

    Attributes:
        table: the mixture's, as JSON; None for a single model.
        kept: proposals of the run that it continues.
    """

    model: str
    mixture: Mixture
    table: Mapping[str, Any] | None
    request: Request
    kept: Sequence[Reference] = ()
    continues: str | None = None


class Runner:
    """The server's own runs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._tasks = set[asyncio.Task[None]]()
        self._alarm: asyncio.TimerHandle | None = None

    async def order(self, body: Mapping[str, Any], owner: str) -> Order:
        """What a body asks for.

        Raises:
            Refusal: 400, 404, 409 or 503.
        """
        ways = [way for way in ("model", "mixture", "continue") if body.get(way) is not None]
        if len(ways) != 1:
            told = " and ".join(map(repr, ways)) if ways else "none of them"
            message = f"give one of 'model', 'mixture' and 'continue', not {told}"
            raise Refusal(400, message, param=ways[-1] if ways else "model", code="invalid_value")
        if ways == ["continue"]:
            return await self._continuation(body, owner)
        for field in NOT_OF_A_RUN:
            if body.get(field) is not None:
                message = f"{field!r} does not go with a run of the server's: follow it at /runs/RUN/events"
                raise Refusal(400, message, param=field, code="invalid_value")
        fields = {name: value for name, value in body.items() if name not in ("mixture", "continue")}
        tables = self._server.tables
        if ways == ["model"]:
            asked = Asked(fields)
            mixture = self._server.catalogue.mixture(asked.model)
            return Order(full_name(asked.model), mixture, self._server.config.written(asked.model), asked.request)
        name, table = table_of(body["mixture"], is_run=True)
        asked = Asked({**fields, "model": f"moa/{name}"})
        return Order(asked.model, tables.mixture(name, table), table_object(table), asked.request)

    async def _continuation(self, body: Mapping[str, Any], owner: str) -> Order:
        run = body["continue"]
        if more := [name for name, value in body.items() if name != "continue" and value is not None]:
            message = f"{more[0]!r} does not go with 'continue': the run has it already"
            raise Refusal(400, message, param=more[0], code="invalid_value")
        recordings, tables = self._server.recordings, self._server.tables
        kept = await recordings.kept(run, owner) if isinstance(run, str) else None
        if kept is None:
            raise Refusal(404, f"no run is called {run!r}", code="run_not_found", param="continue")
        begun = kept.begun
        if recordings.outcome(begun.run, kept.outcome) == "running":
            raise Refusal(409, f"run {begun.run} is under way; stop it first", code="run_under_way", param="continue")
        if begun.mixture is None or self._server.config.written(begun.model) == begun.mixture:
            mixture = self._server.catalogue.mixture(begun.model)
        else:
            mixture = tables.mixture(*table_of(begun.mixture, begun.model.removeprefix("moa/"), is_run=True))
        proposals = await asyncio.to_thread(finished_proposals, kept.lines)
        return Order(begun.model, mixture, begun.mixture, Request(begun.request), proposals, begun.run)

    async def begin(self, order: Order, report: Report, recording: Recording) -> str:
        """Begin a run, as soon as there is a place for it, and give its id. Cancelled by then, it does not begin.

        Raises:
            Refusal: 429, there is no place, and no room to wait; 503, the server stops.
        """
        stops = Refusal(503, "the server stops; ask the next one", "server_error", "stopping")
        if self._server.draining:
            raise stops
        task = asyncio.create_task(self._run(order, report, recording))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        begun = asyncio.create_task(recording.started.wait())
        try:
            await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
            if recording.begun is None:
                task.cancel()
        if recording.begun is None:
            await asyncio.wait({task})
            if task.cancelled():
                raise stops
            task.result()
            raise RuntimeError("a run ended that did not begin")
        return recording.begun.run

    async def _run(self, order: Order, report: Report, recording: Recording) -> None:
        async with self._server.admission.slot():
            choice = Choice(order.mixture, order.request, report, recording=recording, kept=order.kept)
            try:
                async with aclosing(choice.events()) as events:
                    async for _ in events:
                        pass
            except MoaError:
                pass  # its last event tells
            except Exception as error:
                log.error("run %s broke", recording.begun and recording.begun.run, exc_info=error)

    def stop_in(self, seconds: float) -> None:
        """Let them go on for so many seconds; the last word counts."""
        if self._alarm:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(seconds, self._stop)

    async def end(self) -> None:
        """Wait for all of them; at once, unless they were given time."""
        if self._alarm is None:
            self._stop()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._alarm:
            self._alarm.cancel()

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
