"""A job on Ray: rows are read, answered and written in parallel, on this machine or on a cluster.

    read rows -> small blocks -> Answerer, one actor a worker, each with a mixture -> part files

A job has a folder beside its output, ``OUTPUT.job``: ``job.json`` (what the job is), ``checkpoint/`` (the places of the rows
that are in the output), ``books/`` (what each start has cost) and ``summary.json``. They may be on ``s3://``, too.

Notable decisions:
- Ray's checkpoints make it resumable: a block's places are noted once its answers are written. A block that was in flight at
  a kill is answered again, and the books have what it cost.
- Blocks are small, since nothing of a block is noted before its end: https://docs.ray.io/en/latest/data/checkpointing.html
- A row that has no ID is called FILE:NUMBER. IDs are not searched for duplicates: that would read all input before the
  start.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pyarrow
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.checkpoint import CheckpointConfig

from moa.batch.answering import Answered, answered
from moa.batch.job import SPARE_ROWS
from moa.batch.leases import LeasedAllowance, Leases, Worker
from moa.batch.pace import Paces
from moa.batch.ray_files import ROWS_IN_BLOCK, LineFiles, Place, RowFiles, drop_repeated
from moa.batch.ray_options import RayOptions
from moa.batch.rows import Raw, Row
from moa.batch.spending import OverLimit
from moa.batch.writing import line_of
from moa.config.config import Config
from moa.errors import ConfigError, MoaError
from moa.models import Model
from moa.models.catalog import Access

BLOCKS_AT_ONCE = 8
"""Blocks that a worker answers at a time."""

BETWEEN_BOOKS = 2.0
"""Seconds between two notes of what a job has cost."""


class Desk:
    """The one actor that grants limits and money to all workers, and keeps the books of this start."""

    def __init__(self, folder: Place, start: str, max_cost: float | None, spent: float) -> None:
        self.leases = Leases(max_cost, spent)
        self._folder, self._start, self._before = folder, start, spent
        self._counts = {"answered": 0, "failed": 0, "degraded": 0, "input_tokens": 0, "output_tokens": 0, "left_out": 0}
        self._noting: asyncio.Task[None] | None = None
        self._ended = False

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the :class:`~moa.batch.leases.Leases`."""
        self._noting = self._noting or asyncio.create_task(self._note_again())
        return await getattr(self.leases, method)(*arguments)

    async def count(self, counts: Mapping[str, int]) -> None:
        """Count rows that have ended."""
        for name, count in counts.items():
            self._counts[name] += count

    async def note(self, *, ended: bool = False) -> dict[str, Any]:
        """Write the books of this start, and return them; ``ended``: it has come to its end."""
        self._ended = self._ended or ended
        books = {**self._counts, "cost": self.leases.dollars - self._before, "ended": self._ended}
        await asyncio.to_thread(self._folder.write, f"books/{self._start}.json", json.dumps(books).encode())
        return books

    async def _note_again(self) -> None:
        """Write the books while the job runs, so that a kill loses seconds of them."""
        while True:
            await asyncio.sleep(BETWEEN_BOOKS)
            await self.note()


class _Remote:
    """The desk, as a worker reaches it: a :class:`~moa.batch.leases.Lessor`."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk

    def __getattr__(self, method: str) -> Any:
        async def call(*arguments: Any) -> Any:
            return await self._desk.call.remote(method, *arguments)

        return call


class Answerer:
    """One worker: a mixture that answers blocks of rows."""

    def __init__(
        self, desk: Any, mixture: str | None, config: str | None, options: RayOptions, rows: int | None
    ) -> None:
        self._desk, self._options = desk, options
        self._name = uuid.uuid4().hex
        self._worker = Worker(_Remote(desk), self._name)
        self._paces = Paces()
        self._config = Config(config, around=self._around)
        self._mixture = self._config.as_mixture(mixture)
        self._allowance = LeasedAllowance(self._worker.lessor, self._name)
        self._began = time.monotonic()
        self._most, self._in_flight, self._turn = rows, 0, asyncio.Lock()
        self._living: asyncio.Task[None] | None = None

    def _around(self, provider: str, access: Access, model: Model) -> Model:
        """The model, at the pace of its endpoint, and within the limits that all workers share."""
        return self._paces.around(provider, access, self._worker.around(provider, access, model))

    async def __call__(self, block: pyarrow.Table) -> AsyncGenerator[pyarrow.Table, None]:
        if self._living is None:
            await self._worker.lessor.join(self._name)
            self._living = asyncio.create_task(self._worker.live())
        places, lines = block["place"].to_pylist(), block["row"].to_pylist()
        problems = block["problem"].to_pylist()
        given = zip(places, lines, problems, strict=True)
        results = await asyncio.gather(*(self._answer(*row) for row in given))
        done = [(place, result) for place, result in zip(places, results, strict=True) if result is not None]
        await self._desk.count.remote(_counts([result for _, result in done], len(results) - len(done)))
        texts = [line_of(result, proposals=self._options.proposals) for _, result in done]
        columns = {"place": [place for place, _ in done], "line": texts}
        schema = pyarrow.schema([("place", pyarrow.string()), ("line", pyarrow.binary())])
        yield pyarrow.table(columns, schema=schema)

    async def _answer(self, place: str, line: bytes, problem: str) -> Answered | None:
        """The row's answer; None where the limit on cost, or the deadline, leaves the row for a later start."""
        number = int(place.rpartition(":")[2])
        row = Row.of(Raw(number, line, problem))
        if row.id == number:
            row = row.called(place)
        async with self._turn:  # one after the other, so that the blocks that came first end first
            while self._in_flight >= self._room:
                await self._paces.change()
            self._in_flight += 1
        try:
            if self._options.deadline and time.monotonic() - self._began > self._options.deadline:
                return None
            return await answered(row, self._mixture, self._allowance)
        except OverLimit:
            return None
        finally:
            self._in_flight -= 1
            self._paces.notify()

    @property
    def _room(self) -> int:
        """How many rows at a time keep the endpoints busy."""
        enough = SPARE_ROWS + self._paces.calls * 5 // 4
        return min(enough, self._most or enough)


def answer_on_ray(place: str, out: str, mixture: str | None, config: str | None, options: RayOptions) -> dict[str, Any]:
    """Answer all rows that are not in the output yet.

    Args:
        place: a file, a folder or a pattern; also ``s3://`` and what else pyarrow opens.
        out: a folder, for part files of JSON Lines.

    Returns:
        The summary, which is also in ``summary.json``.

    Raises:
        ConfigError: the input or the output cannot be used, or the folder holds another job.
        MoaError: Ray failed.
    """
    began = time.monotonic()
    output = Place.of(out)
    found = Place.of(place).files(without=output)
    folder = output.beside(".job")
    identity = Config(config).as_mixture(mixture).plan.identity
    folder.settle({"input": place, "mixture": identity, "--proposals": options.proposals})
    before = folder.books()
    spent = sum(books["cost"] for books in before)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if not ray.is_initialized():
        ray.init(
            address=options.address,
            include_dashboard=False if options.address is None else None,
            num_cpus=max(4, os.cpu_count() or 1) if options.address is None else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    workers = options.workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // 2)
    start = f"{int(time.time() * 1000)}-{uuid.uuid4().hex[:6]}"
    desk = ray.remote(num_cpus=0, max_concurrency=10_000)(Desk).remote(folder, start, options.max_cost, spent)
    ray.get(desk.note.remote())
    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.checkpoint_config = CheckpointConfig(
        id_column="place",
        checkpoint_path=folder.inside("checkpoint").uri,
        override_filesystem=folder.filesystem,
        delete_checkpoint_on_success=False,
    )
    try:
        rows = ray.data.read_datasource(RowFiles(found, options.limit), override_num_blocks=len(found))
        rows.repartition(target_num_rows_per_block=ROWS_IN_BLOCK).map_batches(
            Answerer,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=workers, max_concurrent_calls_per_actor=BLOCKS_AT_ONCE),
            fn_constructor_args=(desk, mixture, config, options, _share(options.concurrency, workers)),
            num_cpus=0.5,
        ).write_datasink(LineFiles(output))
    except ray.exceptions.RayError as error:
        raise MoaError(f"Ray stopped the job: {str(error).strip().splitlines()[-1]}") from error
    finally:
        books = ray.get(desk.note.remote(ended=True), timeout=60)
    if not all(each["ended"] for each in before):
        drop_repeated(folder.inside("checkpoint"), output)
    summary = _summary(out, before, books, folder.inside("checkpoint").rows(), time.monotonic() - began)
    folder.write("summary.json", json.dumps(summary, indent=1).encode())
    return summary


def _share(rows: int | None, workers: int) -> int | None:
    if rows is not None and rows < workers:
        raise ConfigError(f"--concurrency {rows} is less than one row for each of {workers} workers; give --workers")
    return None if rows is None else rows // workers


def _counts(results: list[Answered], left_out: int) -> dict[str, int]:
    return {
        "answered": sum(result.error is None for result in results),
        "failed": sum(result.error is not None for result in results),
        "degraded": sum(bool(result.degraded) for result in results),
        "input_tokens": sum(result.usage.input_tokens for result in results),
        "output_tokens": sum(result.usage.output_tokens for result in results),
        "left_out": left_out,
    }


def _summary(
    out: str, before: list[dict[str, Any]], books: dict[str, Any], rows: int, seconds: float
) -> dict[str, Any]:
    """The summary. ``answered_twice``: rows that were in flight at a kill, and were answered and paid for again."""
    starts = [*before, books]
    ended = sum(each["answered"] + each["failed"] for each in starts)
    return {
        "event": "summary",
        "output": out,
        "rows": rows,
        "failed": sum(each["failed"] for each in starts),
        "degraded": sum(each["degraded"] for each in starts),
        "left": books["left_out"],
        "answered_twice": max(0, ended - rows),
        "usage": {name: sum(each[name] for each in starts) for name in ("input_tokens", "output_tokens")},
        "cost": sum(each["cost"] for each in starts),
        "starts": len(starts),
        "seconds": round(seconds, 1),
    }
