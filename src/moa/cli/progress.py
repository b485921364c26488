"""The progress of downloads and measurements on standard error: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moa.cli.terminal import notify, seconds

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from moa.batch.progress import Progress as Batch
    from moa.evals.asking.tally import Progress

BETWEEN_LINES = 15.0
"""Seconds between lines, where no bar can be drawn."""


class Display:
    """Shows progress; see :func:`display`."""

    def __init__(self, bars: Bars | None) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._last_line = time.monotonic()

    def downloading(self, name: str, done: int, total: int) -> None:
        """Bytes of a file; ``total`` is 0 if unknown."""
        self._show(f"downloading {name}", done, total, f"{done / 1e6:.1f} MB")

    def measuring(self, progress: Progress) -> None:
        """Items of a measurement."""
        left = "" if progress.seconds_left is None else f", {seconds(progress.seconds_left)} left"
        figures = f"{progress.done} done, {progress.failed} failed, {progress.cost}{left}"
        self._show("measuring", progress.done + progress.failed, progress.total, figures)

    def reading(self, rows: int) -> None:
        """Rows of a batch that have been read before the first call."""
        self._show("reading rows", rows, 0, "")

    def batch(self, progress: Batch) -> None:
        """Rows of a batch."""
        left = "" if progress.seconds_left is None else f", {seconds(progress.seconds_left)} left"
        rate = f"{progress.tokens_per_second:,.0f} tokens/s"
        failed = f"{progress.failed:,} failed, " if progress.failed else ""
        rows = f"{progress.answered:,} of {progress.rows:,} rows, " if self._bars is None else ""
        figures = f"{rows}{failed}{progress.in_flight} in flight, {rate}, {progress.cost}{left}"
        self._show("answering", progress.answered, progress.rows, figures)

    def _show(self, name: str, done: int, total: int, figures: str) -> None:
        if self._bars is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total or None, figures="")
            self._bars.update(self._tasks[name], completed=done, total=total or None, figures=figures)
        elif time.monotonic() - self._last_line > BETWEEN_LINES or (total and done == total):
            self._last_line = time.monotonic()
            notify(f"{name}: {figures}")


@contextmanager
def display() -> Iterator[Display]:
    """A display; its bars disappear at the end."""
    if not sys.stderr.isatty():
        yield Display(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Bars(*columns, console=Console(file=sys.stderr), transient=True) as bars:
        yield Display(bars)
