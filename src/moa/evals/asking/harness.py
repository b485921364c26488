"""Calls models for a benchmark: concurrently, within a cost limit, and never twice for the same request.

A measurement is a folder::

    run.json          what is measured and with what; other settings are another measurement
    journal.jsonl     every answered call: its text, tokens, cost and time
    failures.jsonl    every failed call and its cost
    proposals.jsonl   finished proposals of answers that are not complete; gone once they are
    answers.jsonl     the answers, one row each, in the benchmark's own format
    judgments.jsonl   the judgments, likewise
    result.json       the scores, written at the end

Notable decisions:
- The journal is the only record of the calls. A call's line is on disk before anything is derived from it, so a
  killed run resumes where it stopped: calls in the journal are not repeated, and missing rows are derived from it again.
  Only the calls that were in flight at the kill, which have no reply anywhere, are repeated. A mixture's finished proposals
  are no such calls: :mod:`~moa.evals.asking.proposals` keeps them.
- The journal is searched by the call's key and by a digest of model and request, so a reply to another prompt is never used.
- A failed call is no answer: it is counted, and the next start retries it. A reply that the benchmark cannot parse *is* an
  answer: it is kept, the benchmark counts it as failed, and the call is not repeated.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, aclosing, closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from moa.batch.folder import locked, now, settle, write_whole
from moa.batch.spending import OverLimit, Spending
from moa.closing import Closing
from moa.errors import ConfigError, KeyRejected, MoaError, StreamBroken
from moa.evals.asking.data import Row, read_rows
from moa.evals.asking.journal import (
    Lines,
    Reply,
    call_row,
    dearest,
    summed,
)
from moa.evals.asking.logprobs import first_token
from moa.evals.asking.proposals import Proposals, figures, references
from moa.evals.asking.tally import Progress, Tally
from moa.messages import Cost, Delta, Message, Request, collected
from moa.mixture.mixture import Mixture
from moa.models import Model
from moa.models.attempts import attempts_of
from moa.models.thinking import separated
from moa.prices import Prices

Item = TypeVar("Item")

HOPELESS = 20
"""Failed items, from the start and without a success between them, after which a measurement gives up."""

UNREADABLE = 8
"""Judgments without a verdict, from the start and without one between them, after which no more answers are paid for."""

SYSTEM, JUDGE = "answer", "judgment"
"""Whose calls have keys that begin so."""


class Measurement(Closing):
    """One system on one benchmark, in a folder. Close it, or use it with ``with``.

    Args:
        folder: created if it does not exist; resumed if it holds the same measurement.
        settings: what is measured and with what; must be equal to resume.
        prices: what tokens cost.
        concurrency: concurrent items.
        judge_concurrency: concurrent calls of the judge; None: as many as items. With it, ``concurrency`` limits the calls
            of the system alone.
        max_cost: US dollars, or None for no limit; :mod:`~moa.batch.spending` describes how it is enforced.
        about: what ``run.json`` records in addition to the settings; see :func:`~moa.batch.folder.settle`.
        on_progress: called after each item.
        on_notice: called with each remark about the data or the judge.

    Attributes:
        stopped: why :meth:`each` left items out, or "".
        notices: the remarks so far.
        reasons: how often items failed in this process, by their errors, and judgments, by what they lack.

    Raises:
        ConfigError: the folder holds another measurement, another process is writing it, or it is not writable.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        prices: Prices | None = None,
        *,
        concurrency: int = 8,
        judge_concurrency: int | None = None,
        max_cost: float | None = None,
        about: Mapping[str, Any] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self.folder, self.prices = folder, prices or Prices()
        self.concurrency = max(concurrency, judge_concurrency or 0)
        self.stopped = ""
        self.notices: list[str] = []
        self.reasons: Counter[str] = Counter()
        self._read = self._unread = 0  # judgments with a verdict, and without
        self._slots = {
            SYSTEM: asyncio.Semaphore(concurrency),
            JUDGE: asyncio.Semaphore(judge_concurrency or concurrency),
        }
        self._on_progress = on_progress or (lambda progress: None)
        self._on_notice = on_notice or (lambda line: None)
        try:
            with ExitStack() as opening:
                folder.mkdir(parents=True, exist_ok=True)
                opening.enter_context(locked(folder))
                settle(folder / "run.json", settings, about or {})
                self.journal = opening.enter_context(closing(Lines(folder / "journal.jsonl")))
                self.failures = opening.enter_context(closing(Lines(folder / "failures.jsonl")))
                self._known = {(row["key"], row["digest"]): row for row in self.journal.rows}
                self._proposals = opening.enter_context(closing(Proposals(folder / "proposals.jsonl", self._known)))
                self._open = opening.pop_all()
        except OSError as error:
            raise ConfigError(f"{folder}: the run cannot be written there: {error.strerror or error}") from None
        self._files: dict[str, tuple[Lines, set[str]]] = {}
        own = [row for row in self.journal.rows if not row.get("reused")]
        before = summed([*own, *self.failures.rows]) + self._proposals.cost
        self._spending = Spending(max_cost, before, dearest(own))

    @property
    def cost(self) -> Cost:
        """The cost of all calls, in this process and before."""
        return self._spending.cost

    def close(self) -> None:
        """Close the files and release the folder."""
        self._open.close()

    async def call(self, key: str, model: Model, request: Request | str | Sequence[Message]) -> Reply:
        """The model's reply, from the journal if it holds one.

        Args:
            key: names the call within the measurement, its purpose before its item: ``answer/12``, ``judgment/12/2``.
            model: the model to call.
            request: what to send.

        Raises:
            MoaError: the call failed; ``failures.jsonl`` has its error.
        """
        request = Request.of(request)
        identity = key, _digest(model, request)
        if known := self._known.get(identity):
            return Reply.of(known)
        await self._spending.admit()
        async with self._slots.get(key.partition("/")[0]) or nullcontext():
            return await self._called(identity, model, request)

    def reuse(self, folder: Path) -> None:
        """Take the answers of another measurement of the system into this journal; their cost is not this measurement's.

        Raises:
            ConfigError: the folder has no journal.
        """
        for row in read_rows(folder / "journal.jsonl"):
            identity = row["key"], row["digest"]
            if row["key"].startswith(f"{SYSTEM}/") and identity not in self._known:
                self._known[identity] = {**row, "reused": True}
                self.journal.add(self._known[identity])

    def has(self, key: str, model: Model, request: Request) -> bool:
        """Whether the journal has the reply to a call."""
        return (key, _digest(model, request)) in self._known

    async def _called(self, identity: tuple[str, str], model: Model, request: Request) -> Reply:
        started = time.monotonic()
        received: list[Delta] = []
        kept = self._proposals.of(identity)
        is_mixture = isinstance(model, Mixture)
        stream = model.stream(request, kept=references(kept)) if isinstance(model, Mixture) else model.stream(request)
        try:
            async with aclosing(separated(model, request, stream)) as deltas:
                async for delta in deltas:
                    received.append(delta)
                    if is_mixture and delta.calls and delta.finish_reason is None:
                        self._proposals.keep(identity, delta.calls)
            answer = collected(received)
            if answer.finish_reason is None:
                raise StreamBroken(model.name, "the answer ended without a finish reason")
        except MoaError as error:
            self._failed(identity[0], model, error, attempts_of(request, received, str(error), error))
            self._proposals.failed(identity)
            raise
        cost = self.prices.price_of(model.name, received)
        usage_before, cost_before = figures(kept)
        reply = Reply(
            answer.text,
            answer.finish_reason,
            answer.usage + usage_before,
            cost + cost_before if kept else cost,
            round(time.monotonic() - started, 3),
            now(),
            first_token(received),
            (*kept, *(call_row(call) for call in answer.calls)),
        )
        row = {"key": identity[0], "digest": identity[1], "model": model.name, **asdict(reply)}
        self.journal.add(row)
        self._known[identity] = row
        self._proposals.answered(identity)
        self._spending.add(cost, model.name)
        return reply

    def notice(self, line: str) -> None:
        """Report something about the data or the judge, at once and with the result."""
        if line not in self.notices:
            self.notices.append(line)
            self._on_notice(line)

    def judged(self, why_not: str) -> None:
        """Count a judgment: ``why_not`` says why it has no verdict; empty if it has one."""
        if why_not:
            self._unread += 1
            self.reasons[why_not] += 1
        else:
            self._read += 1

    def write(self, name: str, identity: str, row: Row) -> None:
        """Append a row to ``name``.jsonl with its identity under ``moa.id``, unless the file has a row of that identity."""
        lines, identities = self._opened(name)
        if identity not in identities:
            identities.add(identity)
            lines.add({**row, "moa": {"id": identity, **row.get("moa", {})}})

    def rows(self, name: str) -> list[Row]:
        """The rows of ``name``.jsonl, in the order they were written."""
        return self._opened(name)[0].rows

    def renew(self, *names: str) -> None:
        """Empty these files, whose rows are to be derived from the journal again; until then the run has no result."""
        (self.folder / "result.json").unlink(missing_ok=True)
        for name in names:
            if name in self._files:
                self._files.pop(name)[0].close()
            (self.folder / f"{name}.jsonl").unlink(missing_ok=True)

    def _opened(self, name: str) -> tuple[Lines, set[str]]:
        if name not in self._files:
            lines = self._open.enter_context(closing(Lines(self.folder / f"{name}.jsonl")))
            self._files[name] = lines, {row["moa"]["id"] for row in lines.rows}
        return self._files[name]

    def save(self, name: str, value: object) -> None:
        """Write a JSON file into the folder, atomically."""
        write_whole(self.folder / name, value)

    def allow(self, dollars: float | None, kinds: Mapping[str, float] | None = None) -> None:
        """Set another limit on the cost of all calls.

        Args:
            dollars: US dollars; None for no limit.
            kinds: what an item of each kind is estimated to cost; see :meth:`~moa.batch.spending.Spending.expect`.
        """
        self._spending.limit = dollars
        for kind, expected in (kinds or {}).items():
            self._spending.expect(kind, expected)

    async def each(
        self,
        items: Collection[Item],
        work: Callable[[Item], Awaitable[None]],
        kind: Callable[[Item], str] = lambda item: "",
    ) -> int:
        """Run ``work`` for every item, in order, ``concurrency`` items at a time.

        Items of one ``kind`` cost about the same, as far as the limit on cost is concerned. An item fails if one of its
        calls fails; the others continue. :attr:`stopped` has the reason if items were left out.

        Returns:
            How many items failed.

        Raises:
            KeyRejected: an API key was rejected, so no later call can succeed.
            ConfigError: the configuration is wrong, or the cost limit cannot be enforced.
            MoaError: the first twenty items all failed.
        """
        running: set[asyncio.Task[None]] = set()
        tally = Tally(len(items), time.monotonic())
        self.stopped = ""

        async def one(item: Item) -> None:
            try:
                async with self._spending.item(kind(item)) as share:
                    await work(item)
            except OverLimit:
                tally.left_out += 1
                return
            except ConfigError:
                raise
            except MoaError as error:
                tally.failed += 1
                self.reasons[str(error)] += 1
                if isinstance(error, KeyRejected) or (tally.failed >= HOPELESS and not tally.done):
                    raise
            else:
                tally.done += 1
            tally.called += share.admitted
            self._on_progress(tally.progress(self.cost))

        try:
            for place, item in enumerate(items):
                if len(running) >= self.concurrency:
                    await _first_ended(running)
                if self._unread >= UNREADABLE and not self._read:
                    self.stopped = _no_verdicts(self.reasons, len(items) - place)
                    break
                running.add(asyncio.create_task(one(item)))
            while running:
                await _first_ended(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        if tally.left_out:
            self.stopped = f"--max-cost {self._spending.limit:g}: {tally.left_out} of {len(items)} items were left out"
        return tally.failed

    def _failed(self, key: str, model: Model, error: MoaError, attempts: Iterable[Delta]) -> None:
        cost = self.prices.price_of(model.name, attempts)
        self.failures.add({"key": key, "model": model.name, "error": str(error), "cost": asdict(cost), "date": now()})
        self._spending.add(cost, model.name)


def _digest(model: Model, request: Request) -> str:
    return hashlib.sha256(f"{model.name}\n{request.json()}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _no_verdicts(reasons: Counter[str], left: int) -> str:
    why = reasons.most_common(1)[0][0]
    return f"stopped after {UNREADABLE} judgments without a verdict ({why}); {left} items were left out"


async def _first_ended(running: set[asyncio.Task[None]]) -> None:
    """Wait until a task has ended; remove those that have, and raise what one of them raised."""
    ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    running.difference_update(ended)
    for error in [error for task in ended if (error := task.exception())]:
        raise error
