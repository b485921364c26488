"""Asks models for a benchmark: many at a time, within a limit, and never the same thing twice.

A run is a folder::

    run.json          what is measured, and with what; a run that differs in this is another run
    journal.jsonl     every answered call as it came: what was said, its tokens, cost and time
    failures.jsonl    every call that failed, and what it cost
    answers.jsonl     the answers, a row each in the benchmark's own format
    judgments.jsonl   the judgments, likewise
    result.json       the scores, when the run is over

Notable decisions:
- The journal is the only truth about what was asked. A call's line is on disk before anything is made of it, so a run
  killed at any point goes on where it was: what is in the journal is not asked again, and rows that are missing are made
  anew from it. Only calls that were under way at the kill, and so have no answer anywhere, are made a second time.
- A line is looked up by its key and by a digest of model and request, so an answer to another prompt is never taken.
- A last line that was cut off by the kill is removed before the file is continued.
- A failed call is not an answer: it is counted, and tried again when the run is started again. An answer that cannot be
  understood *is* one; it is kept, counted as failed by the benchmark, and not asked for again.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, aclosing, closing
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import stdev
from typing import Any, TypeVar

from moa.errors import ConfigError, KeyRejected, MoaError, RunError, StreamBroken
from moa.evals.asking.data import Row
from moa.evals.asking.journal import (
    Lines,
    Said,
    called,
    first_token,
    locked,
    now,
    said_before,
    settle,
    summed,
    write_whole,
)
from moa.messages import Cost, Delta, Message, Request, collected
from moa.models import Model
from moa.prices import Prices

Item = TypeVar("Item")

HOPELESS = 20
"""Failures from the start, without a single success, after which a run is given up."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. ``seconds_left`` is None until there is something to judge it by."""

    done: int
    failed: int
    total: int
    cost: Cost
    seconds_left: float | None


class Run:
    """One run of one benchmark in its folder. Close it, or use it with ``with``.

    Args:
        folder: made where it is not there; continued where it holds the same run.
        settings: what is measured and with what; must be the same to continue.
        prices: what tokens cost.
        concurrency: items at a time.
        max_cost: US dollars; no item is begun that, at the price of the dearest so far, would go beyond it. Until the
            first is paid for, they go one by one. None: no limit.
        on_progress: told after each item.

    Raises:
        ConfigError: the folder holds another run, another process is at work in it, or it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        prices: Prices | None = None,
        *,
        concurrency: int = 8,
        max_cost: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.folder, self.prices = folder, prices or Prices()
        self.concurrency, self.max_cost = concurrency, max_cost
        self.stopped = ""
        self._on_progress = on_progress or (lambda progress: None)
        try:
            with ExitStack() as opening:
                folder.mkdir(parents=True, exist_ok=True)
                opening.enter_context(locked(folder))
                settle(folder / "run.json", settings)
                self.journal = opening.enter_context(closing(Lines(folder / "journal.jsonl")))
                self.failures = opening.enter_context(closing(Lines(folder / "failures.jsonl")))
                self._open = opening.pop_all()
        except OSError as error:
            raise ConfigError(f"{folder}: the run cannot be kept there: {error.strerror or error}") from None
        self._known = {(row["key"], row["digest"]): row for row in self.journal.rows}
        self._files: dict[str, tuple[Lines, set[str]]] = {}
        self._dearest = _dearest(self.journal.rows)
        self._paying = 0
        self._settled = asyncio.Condition()
        self.cost = summed([*self.journal.rows, *self.failures.rows])

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    async def ask(self, key: str, model: Model, request: Request | str | Sequence[Message]) -> Said:
        """What the model says; what it said before, where the journal has it.

        Args:
            key: names the call within the run: what for, a slash, which item, as in ``answer/12`` or ``judgment/12/2``.
            model: whom to ask.
            request: what to ask.

        Raises:
            MoaError: the call failed; it is noted in ``failures.jsonl``.
        """
        request = Request.of(request)
        digest = hashlib.sha256(f"{model.name}\n{request.json()}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if known := self._known.get((key, digest)):
            return said_before(known)
        await self._admit()
        started = time.monotonic()
        heard: list[Delta] = []
        try:
            async with aclosing(model.stream(request)) as deltas:
                async for delta in deltas:
                    heard.append(delta)  # noqa: PERF401 - what was heard before a failure counts
            answer = collected(heard)
            if answer.finish_reason is None:
                raise StreamBroken(model.name, "the answer ended without saying why")
        except MoaError as error:
            self._failed(key, model, error, heard)
            raise
        own = next((delta.cost for delta in reversed(heard) if delta.cost is not None), None)
        said = Said(
            answer.text,
            answer.finish_reason,
            answer.usage,
            own if own is not None else self.prices.price(model.name, answer.usage),
            round(time.monotonic() - started, 3),
            now(),
            first_token(heard),
            tuple(called(call) for call in answer.calls),
        )
        row = {"key": key, "digest": digest, "model": model.name, **asdict(said)}
        self.journal.add(row)
        self._known[key, digest] = row
        self._spent(said.cost, model)
        return said

    def write(self, name: str, identity: str, row: Row) -> None:
        """Add a row to ``name``.jsonl, unless the file has one of this identity, which is noted in it."""
        lines, there = self._opened(name)
        if identity not in there:
            there.add(identity)
            lines.add({**row, "moa": {"id": identity, **row.get("moa", {})}})

    def rows(self, name: str) -> list[Row]:
        """The rows of ``name``.jsonl, in the order they were written."""
        return self._opened(name)[0].rows

    def _opened(self, name: str) -> tuple[Lines, set[str]]:
        if name not in self._files:
            lines = self._open.enter_context(closing(Lines(self.folder / f"{name}.jsonl")))
            self._files[name] = lines, {row["moa"]["id"] for row in lines.rows}
        return self._files[name]

    def save(self, name: str, value: object) -> None:
        """Write a JSON file of the run, whole or not at all."""
        write_whole(self.folder / name, value)

    async def each(self, items: Sequence[Item], work: Callable[[Item], Awaitable[None]]) -> int:
        """Do the work for every item, in order, ``concurrency`` at a time; how many failed.

        An item whose call fails is counted and the others go on. :attr:`stopped` says why a run ended early.

        Raises:
            KeyRejected: no call can succeed.
            ConfigError: nothing can be asked as configured, or a limit on cost cannot be held.
            MoaError: the first twenty items failed, all of them.
        """
        running: set[asyncio.Task[None]] = set()
        tally = _Tally(len(items), time.monotonic())
        self.stopped = ""

        async def one(item: Item) -> None:
            paying = _Paying()
            _paying.set(paying)
            try:
                await work(item)
            except _TooDear:
                tally.left += 1
                return
            except ConfigError:
                raise
            except MoaError as error:
                tally.failed += 1
                if isinstance(error, KeyRejected) or (tally.failed >= HOPELESS and not tally.done):
                    raise
            else:
                tally.done += 1
            finally:
                await self._dismiss(paying)
            tally.fresh += paying.admitted
            self._on_progress(tally.progress(self.cost))

        try:
            for item in items:
                if len(running) >= self.concurrency:
                    await _some(running)
                running.add(asyncio.create_task(one(item)))
            while running:
                await _some(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        if tally.left:
            self.stopped = f"--max-cost {self.max_cost:g}: {tally.left} of {len(items)} items were left unasked"
        return tally.failed

    async def _admit(self) -> None:
        """Let an item make its first call, once that is within the limit; wait for those under way to be paid for."""
        paying = _paying.get(None)
        if paying is None or paying.admitted:
            return
        async with self._settled:
            while not self._affords(self._paying + 1):
                if not self._paying:
                    raise _TooDear
                await self._settled.wait()
            paying.admitted = True
            self._paying += 1

    async def _dismiss(self, paying: _Paying) -> None:
        if paying.admitted:
            async with self._settled:
                self._paying -= 1
                self._dearest = max(self._dearest or 0.0, paying.dollars)
                self._settled.notify_all()

    def _affords(self, under_way: int) -> bool:
        """Whether so many items under way, each as dear as the dearest so far, stay within the limit."""
        if self.max_cost is None:
            return True
        spent = self.cost.dollars or 0.0
        if self._dearest is None:
            return under_way == 1 and spent < self.max_cost
        return spent + under_way * self._dearest <= self.max_cost

    def _failed(self, key: str, model: Model, error: MoaError, heard: Iterable[Delta]) -> None:
        answer = error.answer if isinstance(error, RunError) else None
        usage = next((delta.usage for delta in heard if delta.usage is not None), None)
        cost = answer.cost if answer else self.prices.price(model.name, usage) if usage else Cost()
        self.failures.add({"key": key, "model": model.name, "error": str(error), "cost": asdict(cost), "date": now()})
        self._spent(cost, model)

    def _spent(self, cost: Cost, model: Model) -> None:
        self.cost += cost
        if paying := _paying.get(None):
            paying.dollars += cost.dollars or 0.0
        if self.max_cost is not None and (cost.dollars is None or cost.at_least):
            raise ConfigError(
                f"--max-cost cannot be held: the price of {model.name} is not known; give it in moa.toml under [prices]"
            )


class _TooDear(Exception):
    """An item would go beyond the limit on cost."""


@dataclass(slots=True)
class _Paying:
    """An item: whether it has begun to ask, and what it has paid."""

    admitted: bool = False
    dollars: float = 0.0


_paying: ContextVar[_Paying] = ContextVar("_paying")
"""The item for which a task asks."""


async def _some(running: set[asyncio.Task[None]]) -> None:
    """Wait until some have ended, and raise what one of them raised."""
    ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    running.difference_update(ended)
    for task in ended:
        task.result()


@dataclass(slots=True)
class _Tally:
    total: int
    began: float
    done: int = 0
    failed: int = 0
    fresh: int = 0
    left: int = 0

    def progress(self, cost: Cost) -> Progress:
        """Time left goes by the items that had to be asked for; those from the journal take none."""
        pace = (time.monotonic() - self.began) / self.fresh if self.fresh else None
        left = None if pace is None else pace * (self.total - self.done - self.failed)
        return Progress(self.done, self.failed, self.total, cost, left)


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of independent values, in their unit; what hangs together, an item's turns, must be one value."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _dearest(rows: Iterable[Row]) -> float | None:
    """What the dearest item of a journal cost, in dollars; None for an empty one."""
    items: dict[str, float] = {}
    for row in rows:
        item = row["key"].split("/")[1]
        items[item] = items.get(item, 0.0) + (row["cost"]["dollars"] or 0.0)
    return max(items.values(), default=None)
