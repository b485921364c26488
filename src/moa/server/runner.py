"""The server's own runs: from a request at ``/runs`` to a task, which continues when its client disconnects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from moa.closing import cancelled
from moa.config.export import table_object
from moa.config.names import full_name
from moa.errors import MoaError
from moa.messages import Reference, Request
from moa.mixture.mixture import Mixture
from moa.mixture.panel import Panel
from moa.server.admission import Admission
from moa.server.bodies import Bodies
from moa.server.charges import Charge, Charges
from moa.server.choices import Choice, Report
from moa.server.correlation import REQUEST_ID
from moa.server.desk import Desk
from moa.server.dialects.chat import read_chat
from moa.server.dialects.dialect import ParsedRequest
from moa.server.failures import Refusal
from moa.server.keys import Key
from moa.server.mixtures import Tables, members_of, table_of
from moa.server.model_list import ModelList
from moa.server.panels import suited
from moa.server.reports import Reports
from moa.server.shutdown import Shutdown
from moa.store.record import finished_proposals, taken_apart
from moa.store.recording import Recording
from moa.store.recordings import Recordings
from moa.tracebacks import traceback_of

ABOUT_DELIVERY = ("stream", "stream_options", "n")
"""Fields of a chat request that define how its answer is delivered; a run of the server's own takes none of them."""

log = logging.getLogger("moa.server")


@dataclass(frozen=True, slots=True)
class Order:
    """A run to start.

    Attributes:
        table: the mixture's, as JSON; None for a single model.
        chosen: the models that the caller chose, which its key must allow: the one that it named, or the members of a
            mixture of its own.
        recorded: the request as the saved run keeps it.
        proposals: finished proposals of the run that this one continues; their agents are not called again.
        continues: that run's ID.
    """

    model: str
    mixture: Mixture
    table: Mapping[str, Any] | None
    request: Request
    chosen: Sequence[str]
    recorded: Mapping[str, Any]
    proposals: Sequence[Reference] = ()
    continues: str | None = None


class Runner:
    """Starts the server's own runs and ends them.

    Args:
        desk: knows whose runs they are.
        recordings: every run is recorded.
        bodies: parses large ones.
        shutdown: no run starts when it is ``closed``.
        charges, reports: each run's cost and end go there.
    """

    def __init__(
        self,
        desk: Desk,
        model_list: ModelList,
        tables: Tables,
        recordings: Recordings,
        admission: Admission,
        bodies: Bodies,
        shutdown: Shutdown,
        charges: Charges,
        reports: Reports,
    ) -> None:
        self._desk, self._charges, self._reports = desk, charges, reports
        self._bodies, self._shutdown = bodies, shutdown
        self._model_list, self._tables, self._recordings, self._admission = model_list, tables, recordings, admission
        self._tasks = set[asyncio.Task[None]]()
        self._deadline: asyncio.TimerHandle | None = None

    async def order(self, body: Mapping[str, Any], owner: str) -> Order:
        """The run that a request body describes.

        Raises:
            Refusal: 400, 404, 409 or 503.
        """
        subjects = [field for field in ("model", "mixture", "continue") if body.get(field) is not None]
        if len(subjects) != 1:
            given = " and ".join(map(repr, subjects)) if subjects else "none of them"
            message = f"give exactly one of 'model', 'mixture' and 'continue', not {given}"
            raise Refusal(400, message, param=subjects[-1] if subjects else "model", code="invalid_value")
        if subjects == ["continue"]:
            return await self._continuation(body, owner)
        for field in ABOUT_DELIVERY:
            if body.get(field) is not None:
                message = f"{field!r} is not accepted by /runs: read the run's events at /runs/RUN/events"
                raise Refusal(400, message, param=field, code="invalid_value")
        options = body.get("moa")
        for field in options if isinstance(options, Mapping) else ():
            if field not in Panel.FIELDS:
                message = f"'moa.{field}' is not accepted by /runs, which takes {', '.join(Panel.FIELDS)}"
                raise Refusal(400, message, param=f"moa.{field}", code="invalid_value")
        fields = {name: value for name, value in body.items() if name not in ("mixture", "continue")}
        if subjects == ["model"]:
            return self.ordered(await self._bodies.apart(lambda: read_chat(fields)))
        name, table = table_of(body["mixture"], is_run=True)
        parsed = await self._bodies.apart(lambda: read_chat({**fields, "model": f"moa/{name}"}))
        mixture = suited(self._tables.mixture(name, table), parsed.request, parsed.panel)
        return Order(parsed.model, mixture, table_object(table), parsed.request, members_of(table), parsed.recorded)

    def ordered(self, parsed: ParsedRequest) -> Order:
        """The run that answers a request.

        Raises:
            Refusal: 404 or 503.
        """
        mixture, model = self._model_list.mixture(parsed.model), full_name(parsed.model)
        mixture = suited(mixture, parsed.request, parsed.panel)
        return Order(model, mixture, self._tables.written(model), parsed.request, [model], parsed.recorded)

    async def _continuation(self, body: Mapping[str, Any], owner: str) -> Order:
        run = body["continue"]
        if more := [name for name, value in body.items() if name != "continue" and value is not None]:
            message = f"{more[0]!r} cannot be combined with 'continue': the run continues with its own request"
            raise Refusal(400, message, param=more[0], code="invalid_value")
        saved = await self._recordings.saved(run, owner) if isinstance(run, str) else None
        if saved is None:
            raise Refusal(404, f"no run has the ID {run!r}", code="run_not_found", param="continue")
        begun = saved.begun
        if saved.outcome == "running":
            message = f"run {begun.run} is in progress; stop it first"
            raise Refusal(409, message, code="run_under_way", param="continue")
        if begun.mixture is None or self._tables.written(begun.model) == begun.mixture:
            mixture, chosen = self._model_list.mixture(begun.model), [begun.model]
        else:
            name, table = table_of(begun.mixture, begun.model.removeprefix("moa/"), is_run=True)
            mixture, chosen = self._tables.mixture(name, table), members_of(table)
        proposals = await asyncio.to_thread(finished_proposals, saved.lines)
        request, panel = taken_apart(begun.request)
        mixture = suited(mixture, request, panel)
        return Order(begun.model, mixture, begun.mixture, request, chosen, begun.request, proposals, begun.run)

    async def start(self, order: Order, key: Key) -> str:
        """Start a run of a key as soon as there is a free slot, and return its ID. Cancelled before that, the run does not
        start.

        Raises:
            Refusal: 409, another request continues the same run; 429, a limit of the key is reached, or all slots are taken
                and the queue is full; 503, the server is shutting down.
        """
        recording = self._recordings.new(
            owner=self._desk.owner(key),
            model=order.model,
            request=order.recorded,
            mixture=order.table,
            continues=order.continues,
            request_id=REQUEST_ID.get(),
        )
        charge = self._charges.of(key, order.mixture, order.request)
        report = self._reports.of(order.model, key, charge)
        await self._recordings.room()
        if self._shutdown.closed:
            raise self._shutdown.refusal
        if order.continues and not await self._recordings.claim(order.continues):
            message = f"run {order.continues} is in progress or is being continued; stop that run first"
            raise Refusal(409, message, code="run_under_way", param="continue")
        task = asyncio.create_task(self._run(order, report, recording, charge))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        started = asyncio.create_task(recording.started.wait())
        try:
            await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()
            if recording.begun is None:
                await cancelled(task, grace=None)
                await self._recordings.release(order.continues or "")
        if recording.begun is None:
            if task.cancelled():
                raise self._shutdown.refusal
            task.result()
            raise RuntimeError("a run ended before its first event")
        return recording.begun.run

    async def _run(self, order: Order, report: Report, recording: Recording, charge: Charge) -> None:
        async with charge.within_limits(self._admission.slot()):
            choice = Choice(order.mixture, order.request, report, recording=recording, kept=order.proposals)
            try:
                async with aclosing(choice.steps()) as steps:
                    async for _ in steps:
                        pass
            except MoaError:
                pass  # the run's last event reports it
            except Exception as error:
                run = recording.begun and recording.begun.run
                log.error("run %s failed on an internal error\n%s", run, traceback_of(error))

    def stop_in(self, seconds: float) -> None:
        """Stop all runs after so many seconds; a later call sets a new deadline."""
        if self._deadline:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._stop)

    async def end(self) -> None:
        """Wait until all runs have ended; they are stopped at once unless :meth:`stop_in` set a deadline."""
        if self._deadline is None:
            self._stop()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._deadline:
            self._deadline.cancel()

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
