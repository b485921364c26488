"""A job on this machine: every row of the input is answered once, and its answer is in the output.

A job has a folder beside its output, ``OUTPUT.job``::

    job.json        the mixture and the options that change answers; others are another job
    journal.sqlite  every answered row, and the proposals of rows in flight
    input.jsonl     what came from standard input
    summary.json    the sums, written at the end
    lock            held while the job runs

Notable decisions:
- The input is read as a stream, and a row is read when the endpoints have room for it. Rows are answered in any order; the
  journal holds those that wait for a slower one before them, so no row holds up another.
- A row that fails because of its endpoints is not recorded before another row succeeds: where everything fails, the job
  stops with one cause, and the same command asks those rows again.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from moa.batch.answering import Answered, Proposal, Watch, answered, failure_of
from moa.batch.beginning import check_output, check_prices, spooled
from moa.batch.estimate import Estimate, estimated
from moa.batch.folder import locked, settle, write_whole
from moa.batch.journal import Journal, Totals
from moa.batch.pace import ROW, Paces
from moa.batch.progress import Progress, Tally, summary
from moa.batch.reading import files, folder_of, format_of, rows
from moa.batch.rows import Raw, Row
from moa.batch.spending import Admitted, OverLimit, Share, Spending
from moa.batch.survey import check_unchanged, spread, survey
from moa.batch.trouble import Ended, Trouble
from moa.batch.writing import output
from moa.closing import Closing
from moa.errors import ConfigError, MoaError, ScheduleError
from moa.messages import Cost
from moa.mixture.mixture import Mixture

STANDARD_INPUT = "-"

SPARE_ROWS = 4
"""Rows at a time beyond the calls that endpoints take; those of a mixture whose models are on this machine."""

_MOST_RECORDING = 1000
_CANCELLED_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a job.

    Attributes:
        any_order: answers are written as they come, not in the order of the input.
        proposals: the output holds the proposals, too.
        concurrency: rows at a time; None for as many as the endpoints take.
        max_cost: US dollars that the job may cost in all its starts; None for no limit.
        limit: only so many rows from the start.
        sample: only so many rows, spread evenly over the input.
        deadline: seconds after which no row is started any more.
        retry_failed: failed rows are answered again.
    """

    any_order: bool = False
    proposals: bool = False
    concurrency: int | None = None
    max_cost: float | None = None
    limit: int | None = None
    sample: int | None = None
    deadline: float | None = None
    retry_failed: bool = False


class Job(Closing):
    """A job, opened: its input is surveyed, and nothing was called yet. Close it, or use it with ``with``.

    Args:
        place: a file, a folder or a pattern; ``-`` for standard input.
        out: the output file, ``.jsonl`` or ``.parquet``.
        mixture: answers the rows.
        paces: of the endpoints that the mixture calls.
        options: see :class:`Options`.
        on_rows: called with the number of rows surveyed, now and then.
        on_progress: called after each row.

    Raises:
        ConfigError: the folder holds another job, another process is writing it, the input cannot be read or has changed,
            IDs are not unique, or the output cannot be written.
    """

    def __init__(
        self,
        place: str,
        out: Path,
        mixture: Mixture,
        paces: Paces,
        options: Options,
        *,
        standard_input: IO[bytes] | None = None,
        on_rows: Callable[[int], None] = lambda rows: None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.out, self.mixture, self.options = out, mixture, options
        self._paces, self._on_progress = paces, on_progress
        self.folder = folder_of(out)
        self.stopped = ""
        check_output(out, self.folder)
        if options.max_cost is not None:
            check_prices(mixture)
        with ExitStack() as opening:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                opening.enter_context(locked(self.folder, kind="job"))
            except OSError as error:
                raise ConfigError(f"{self.folder}: cannot be written: {error.strerror or error}") from None
            settle(self.folder / "job.json", self._settings(), kind="job", flag="-o")
            self.journal = opening.enter_context(Journal(self.folder / "journal.sqlite"))
            if place == STANDARD_INPUT:
                place = spooled(standard_input or sys.stdin.buffer, self.folder / "input.jsonl")
            self._files = files(place)
            if any(file.path.exists() and out.exists() and file.path.samefile(out) for file in self._files):
                raise ConfigError(f"{out} is both input and output; give another -o")
            if options.retry_failed:
                self.journal.forget_failed()
            texts = format_of(out) == "parquet"
            self.survey = survey(self._files, self.journal, self.folder, ids_are_texts=texts, on_rows=on_rows)
            self._output = output(out, self.journal, any_order=options.any_order, proposals=options.proposals)
            opening.enter_context(closing(self._output))
            self._open = opening.pop_all()
        totals = self.journal.totals()
        self.rows = min(options.limit or self.survey.rows, self.survey.rows)
        self._sample = spread(options.sample, self.rows)
        self.tally = Tally(self.rows if self._sample is None else len(self._sample), totals)
        self._spending = Spending(options.max_cost, totals.cost, totals.dearest)
        self._trouble = Trouble()
        self._running: set[asyncio.Task[None]] = set()
        self._recording = 0  # rows that are answered, and not yet on disk

    def close(self) -> None:
        """Close the files and release the folder."""
        self._open.close()

    def estimate(self) -> Estimate:
        """What the rows that are left will take; calls nothing."""
        totals = self.journal.totals()
        left = sum(1 for raw in self._left() if raw)
        return estimated(self.mixture, left, totals, (raw for raw in self._left() if raw))

    def journal_totals(self) -> Totals:
        """The sums over all rows that are answered."""
        return self.journal.totals()

    async def run(self) -> dict[str, Any]:
        """Answer the rows that are left.

        Returns:
            The summary, which is also in ``summary.json``.

        Raises:
            MoaError: everything fails for one cause, or the disk is full. What was answered is kept.
            ConfigError: the input changes while it is read.
            asyncio.CancelledError: the caller cancelled the job; calls in flight have ended, and what was answered is kept.
        """
        began, interrupted = time.monotonic(), False
        self.journal.on_written = lambda numbers: self._output.advance()
        alarm = self._alarm()
        try:
            await self._answer_all()
        except asyncio.CancelledError:
            interrupted, self.stopped = True, "interrupted"
            raise
        except MoaError as error:
            self.stopped = str(error)
            raise
        finally:
            alarm.cancel()
            await self._end(began, interrupted=interrupted)
        return self._summary(began)

    async def _answer_all(self) -> None:
        for raw in self._left():
            if raw is None:
                await asyncio.sleep(0)  # answered rows are passed over; calls in flight go on meanwhile
                continue
            await self._room()
            share = Share()
            if not self.stopped and self.options.max_cost is not None:
                try:
                    await self._spending.admit(share)
                except OverLimit:
                    self.stopped = f"--max-cost {self.options.max_cost:g}: another row would exceed it"
            if self.stopped:
                break
            task = asyncio.create_task(self._one(raw, share))
            self._running.add(task)
            task.add_done_callback(self._ended)
        while self._running and not self._trouble.error:
            await self._paces.change()
        if self._trouble.error:
            raise self._trouble.error
        for failed in self._trouble.held():
            await self._record(failed)

    def _left(self) -> Iterator[Raw | None]:
        """The rows that are to be answered; None now and then for many that are not."""
        known = self.journal.known()
        expected = next(known, None)
        for raw in rows(self._files):
            if raw.number > self.rows:
                return
            while expected and expected[0] < raw.number:
                expected = next(known, None)
            if expected and expected[0] == raw.number:
                check_unchanged(raw, expected[1])
            elif self._sample is None or raw.number in self._sample:
                yield raw
                continue
            if raw.number % 500 == 0:
                yield None

    async def _room(self) -> None:
        """Wait until another row is needed to keep the endpoints busy."""
        while not self.stopped:
            if self._trouble.error:
                raise self._trouble.error
            most = SPARE_ROWS + self._paces.calls * 5 // 4
            asking = len(self._running) - self._recording
            wanted = asking < min(most, self.options.concurrency or most) and not self._paces.full
            if wanted and self._recording < _MOST_RECORDING:
                return
            await self._paces.change()

    async def _one(self, raw: Raw, share: Share) -> None:
        """Answer one row, and record it."""
        ROW.set(raw.number)
        row, kept = Row.of(raw), self.journal.kept(raw.number)
        paid = 0.0

        def proposed(proposal: Proposal) -> None:
            nonlocal paid
            paid += proposal.cost or 0.0
            self.journal.keep(row.number, proposal)

        watch = Watch(proposed, self._trouble.worked, self._failed)
        try:
            result = await answered(row, self.mixture, Admitted(self._spending, share), kept=kept, watch=watch)
        except asyncio.CancelledError:
            self.journal.lose(max(0.0, share.dollars - paid))
            raise
        except (ConfigError, ScheduleError):
            raise
        except Exception as error:  # a bug in the code of a model or a ranker: a row is data, never the end of the job
            result = Answered(
                row.number,
                row.id,
                error=failure_of(error),
                columns=row.columns,
                openai=row.openai,
                model=self.mixture.name,
            )
        ended = Ended(result, raw.digest, Cost(None) if result.cost is None else Cost(share.dollars))
        if result.error is None:
            for failed in self._trouble.held():
                await self._record(failed)
        elif row.request and not self._trouble.is_of_the_row(ended):
            return
        await self._record(ended)

    async def _record(self, ended: Ended) -> None:
        self._recording += 1
        self._paces.notify()
        try:
            await self.journal.add(ended.result, ended.digest)
        finally:
            self._recording -= 1
        self.tally.add(ended.result, ended.spent)
        self._on_progress(self.tally.progress(len(self._running)))

    def _failed(self, error: MoaError) -> None:
        self._trouble.failed(error)
        self._paces.notify()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._trouble.stop(error if isinstance(error, MoaError) else MoaError(f"unexpected error: {error!r}"))
        self._paces.notify()

    def _alarm(self) -> asyncio.TimerHandle:
        loop, deadline = asyncio.get_running_loop(), self.options.deadline

        def passed() -> None:
            self.stopped = self.stopped or f"--deadline: {deadline:g} s have passed"
            self._paces.notify()

        if deadline is None:
            never = loop.call_later(0, lambda: None)
            never.cancel()
            return never
        return loop.call_later(deadline, passed)

    async def _end(self, began: float, *, interrupted: bool) -> None:
        """Cancel the rows in flight, and write what is answered."""
        while running := [*self._running][:_CANCELLED_AT_ONCE]:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._running.difference_update(running)
        if not self.journal.error:
            await self.journal.flush()
            for ended in self._trouble.held():
                self.journal.lose((ended.result.cost or 0.0) - self.journal.paid(ended.result.number))
            await self.journal.flush()
            if not (interrupted and format_of(self.out) == "parquet"):
                await asyncio.to_thread(self._output.finish)
            write_whole(self.folder / "summary.json", self._summary(began))

    def _summary(self, began: float) -> dict[str, Any]:
        return summary(
            output=str(self.out),
            mixture=self.mixture.name,
            rows=len(self._sample) if self._sample is not None else self.rows,
            totals=self.journal.totals(),
            errors=self.journal.errors(),
            stopped=self.stopped,
            seconds=time.monotonic() - began,
        )

    def _settings(self) -> dict[str, Any]:
        identity = hashlib.sha256(self.mixture.plan.identity.encode("utf-8", "surrogatepass")).hexdigest()
        return {
            "mixture": self.mixture.name,
            "mixture's definition (its models, prompts or settings)": identity,
            "--proposals": self.options.proposals,
            "--any-order": self.options.any_order,
            "output format": format_of(self.out),
        }
