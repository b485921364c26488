"""A server's mixtures as something to consult: a question becomes a run, which can be followed, read and stopped.

The tools of the Model Context Protocol (:mod:`moa.server.mcp`) call it. Each run is one of the server's own
(:mod:`moa.server.runner`), within the key's limits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from moa.errors import MoaError
from moa.finish_reasons import CUTS
from moa.mixture.codec import events_of
from moa.mixture.events import Event
from moa.prices import Prices
from moa.server.desk import Desk
from moa.server.discretion import Discretion
from moa.server.failures import Refusal, refusal_of
from moa.server.keys import Key
from moa.server.model_list import ModelList
from moa.server.runner import Runner
from moa.store.archive import SavedRun
from moa.store.record import answer_of, record_of
from moa.store.recordings import Recordings
from moa.tracebacks import traceback_of

log = logging.getLogger("moa.server")


class Consulting:
    """Runs for callers who know only their key and a question. Its methods raise Refusal or MoaError; :meth:`message` gives
    what to show.
    """

    def __init__(
        self,
        desk: Desk,
        model_list: ModelList,
        runner: Runner,
        recordings: Recordings,
        prices: Prices,
        discretion: Discretion,
    ) -> None:
        self.desk = desk
        self._model_list, self._runner, self._recordings = model_list, runner, recordings
        self._prices, self._discretion = prices, discretion

    def message(self, error: Exception) -> str:
        """What a caller may read of an error."""
        if not isinstance(error, Refusal | MoaError):
            log.error("a consultation failed on an internal error\n%s", traceback_of(error))
        return self._discretion.refusal(refusal_of(error)).message

    def text(self, text: str) -> str:
        """What a caller may read of a text about a run."""
        return self._discretion.text(text)

    def mixtures(self, key: Key) -> list[dict[str, Any]]:
        """The mixtures that a key may call: name, description, context size in tokens."""
        return [
            {name: row[name] for name in ("id", "description", "context_length") if row.get(name)}
            for row in self._model_list.listed(key)
        ]

    async def start(self, key: Key, question: str, mixture: str, context: str = "", effort: str | None = None) -> str:
        """Start a run; returns its ID. ``effort``: its ``reasoning_effort``."""
        system = [{"role": "system", "content": context}] if context else []
        messages = [*system, {"role": "user", "content": question}]
        body = {"model": mixture, "messages": messages, **({"reasoning_effort": effort} if effort else {})}
        order = await self._runner.order(body, self.desk.owner(key))
        self.desk.check_models(key, order.chosen)
        return await self._runner.start(order, key)

    async def events(self, key: Key, run: str) -> AsyncGenerator[Event, None]:
        """The events of a run, from its first, until it ends."""
        recording = self._recordings.recent(run, self.desk.owner(key))
        groups = recording.follow(0) if recording else self._recordings.follow(run, 0)
        async with aclosing(groups):
            async for _, lines in groups:
                for event in events_of(lines):
                    yield event

    async def state(self, key: Key, run: str) -> dict[str, Any]:
        """How far a run is: its outcome, its cost so far, and each call with how it ended."""
        record = self._discretion.tree(record_of(await self._saved(key, run), self._prices))
        fields = {name: record[name] for name in ("run", "outcome", "model", "cost", "duration", "degraded")}
        calls = [{name: call[name] for name in ("agent", "layer", "role", "finish_reason")} for call in record["calls"]]
        return {**fields, "calls": calls}

    async def answer(self, key: Key, run: str) -> str:
        """The answer of a run that has ended; its last line says so where it was cut."""
        saved = await self._saved(key, run)
        if saved.outcome == "running":
            raise Refusal(409, f"run {run} is in progress")
        answer = await asyncio.to_thread(answer_of, saved.lines)
        if saved.outcome not in ("answered", "degraded") or not answer.text:
            reason = str(answer.error) if answer.error else "it has no answer"
            raise Refusal(502, f"run {run}: {saved.outcome}: {reason}", private=True)
        cut = CUTS.get(answer.finish_reason or "")
        return f"{answer.text}\n\n[This answer is incomplete: {cut}.]" if cut else answer.text

    async def stop(self, key: Key, run: str) -> None:
        """Stop a run; one that has ended stays as it is."""
        if not await self._recordings.stop(run, self.desk.owner(key)):
            await self._saved(key, run)

    async def _saved(self, key: Key, run: str) -> SavedRun:
        saved = await self._recordings.saved(run, self.desk.owner(key))
        if saved is None:
            raise Refusal(404, f"no run has the ID {run!r}")
        return saved
