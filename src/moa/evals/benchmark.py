"""What a benchmark is: one object, from which its command, its measurements, comparisons and report sections are made.

To add one, write ``benchmarks/NAME.py`` with a ``BENCHMARK`` and register it in :data:`moa.evals.benchmarks.ALL`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from moa.errors import ConfigError
from moa.evals.asking.data import File, Row, Shelf
from moa.evals.asking.harness import Measurement
from moa.evals.drawing import sections
from moa.evals.drawing.page import Page
from moa.evals.metric import Figure, Metric
from moa.evals.sampling import chosen
from moa.models import Model

Item = TypeVar("Item")

JUDGE = "openai/gpt-5.4"
"""The judge by default. OpenAI shut down the official ones (gpt-4, gpt-4-0613, gpt-4-1106-preview) on 2026-10-23:
https://developers.openai.com/api/docs/deprecations. Like them, it takes a temperature unless it reasons, and it does not
reason by default: :mod:`moa.models.openai_facts`."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A switch that one benchmark adds to its command: ``--NAME``. ``help`` fits 45 characters."""

    name: str
    help: str


@dataclass(frozen=True, slots=True)
class Options:
    """Which items are measured, the names of the benchmark's flags that are set, and the user's own file with items.

    ``limit``: only the first so many. ``sample``: only so many, drawn with ``seed``; see :func:`moa.evals.sampling.chosen`.
    """

    limit: int | None = None
    flags: frozenset[str] = frozenset()
    file: Path | None = None
    sample: int | None = None
    seed: int = 0

    def chosen(self, items: Sequence[Item], stratum: Callable[[Item], object]) -> list[Item]:
        """The items to measure; ``stratum`` gives the part of the benchmark that an item belongs to."""
        return chosen(items, self.limit, self.sample, self.seed, stratum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark.

    Attributes:
        name: its command, and the name in a run's files: ``mt-bench``.
        title: its heading in a report: ``MT-Bench``.
        about: one sentence for ``moa bench --help``.
        licence: one sentence about its data, shown before the first download.
        judge: the judge by default, as ``provider/name``; None if the benchmark scores answers without a judge.
        official: the judge of the published scores, where it is another one.
        judging: the fields of the judge's requests, as far as the judge takes them.
        metric: its score, in whose units :attr:`grade` returns those of an item.
        controlled: a score of a whole run that comes before ``metric`` wherever a result has it.
        contrast: from the judgments of two runs, the difference of their controlled scores: ``difference``, ``low``,
            ``high``, and any other figures. Takes both, the files and the confidence level. Raises ConfigError if there is
            none.
        needs: the files that a run with these options reads; they are downloaded before the first call.
        spare: files that only some figures need; they are downloaded if that succeeds.
        trial: has the judge of a measurement grade a stand-in answer, before the system answers anything. Returns what the
            reply lacks; empty if it has a verdict. Raises MoaError if the call fails, ConfigError for data in which an item
            lacks something. Its calls have keys that begin with ``judgment/trial``.
        measure: has the system answer and, with a judge, the judge grade. Takes the measurement, the files, the system, the
            judge (None exactly if the run needs none) and the options. Calls of the system have keys that begin with
            ``answer/``, calls of the judge ``judgment/``. Writes rows of ``answers`` and ``judgments``, and returns the
            judgments with the number of items that failed.
        score: from judgments, own or published, a result for each system: ``benchmark``, ``system``, ``judged``, ``failed``,
            ``notes``, the metric's fields, and any other figures. The last argument names the system for rows
            that do not. Raises ConfigError for rows of another benchmark.
        grade: from a judgment, its item and the item's scores; no score if the judgment failed.
        figures: the figures of a result in words, before those that every result has; None for the metric alone.
        section: draws the systems' names and results into a report; None draws the metric alone.
        flags: the switches it adds to its command.
        takes_file: whether its command takes a file with items, as :attr:`Options.file`.
        checked: reads the data of a run before the first call; returns what the user should know of it, and raises
            ConfigError for data that cannot be used. None if the benchmark checks nothing.
        judged: whether a run needs the judge; None if every run does, or none.
    """

    name: str
    title: str
    about: str
    licence: str
    judge: str | None
    metric: Metric
    controlled: Metric | None = None
    needs: Callable[[Options], Sequence[File]]
    measure: Callable[[Measurement, Shelf, Model, Model | None, Options], Awaitable[tuple[list[Row], int]]]
    score: Callable[[Sequence[Row], Shelf, str], list[Row]]
    grade: Callable[[Row], tuple[str, list[float]]]
    figures: Callable[[Row], Iterable[Figure]] | None = None
    section: Callable[[Page, Sequence[str], Sequence[Row]], None] | None = None
    flags: tuple[Flag, ...] = ()
    takes_file: bool = False
    checked: Callable[[Shelf, Options], Iterable[str]] | None = None
    judged: Callable[[Shelf, Options], bool] | None = None
    official: str | None = None
    judging: Mapping[str, Any] = field(default_factory=dict)
    spare: tuple[File, ...] = ()
    trial: Callable[[Measurement, Shelf, Model, Options], Awaitable[str]] | None = None
    contrast: Callable[[Sequence[Row], Sequence[Row], Shelf, float], Row] | None = None

    def scored(self, rows: Sequence[Row], shelf: Shelf, source: str, system: str = "") -> list[Row]:
        """As :attr:`score`; errors name the source of the rows.

        Raises:
            ConfigError: the rows are no judgments of this benchmark.
        """
        try:
            return self.score(rows, shelf, system)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"{source}: unknown format: {type(error).__name__} {error}") from error

    def described(self, result: Row) -> Iterable[Figure]:
        """The benchmark's own figures of a result, in words."""
        if self.figures is not None:
            return self.figures(result)
        return [] if result.get(self.metric.field) is None else [self.metric.figure(result)]

    def draw(self, page: Page, names: Sequence[str], results: Sequence[Row]) -> None:
        """Draw the benchmark's section of a report."""
        if self.section is not None:
            self.section(page, names, results)
            return
        columns = {self.metric.label: sections.score(self.metric), "judged": sections.count("judged")}
        sections.scores(page, names, results, {**columns, "failed": sections.failed})
        caption = "Scores with 95 % intervals."
        sections.intervals(page, self.name, names, results, {"": self.metric}, self.metric.label, caption)
