"""``moa bench NAME``: measure a mixture on a benchmark, or score existing judgments."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moa.cli.progress import Display, display
from moa.cli.session import Session
from moa.cli.shared_options import SharedOptions
from moa.cli.terminal import clean, notify, one_line, write
from moa.config.names import is_single_model
from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf, read_rows
from moa.evals.benchmark import Benchmark, Options
from moa.evals.measuring import Measuring, definition_of, fetch, fetch_spare, judge_of
from moa.evals.metric import Figure
from moa.messages import Cost
from moa.models import Model

FOLDER = Path("moa-bench")
"""The default folder of runs: ``moa-bench/BENCHMARK/MIXTURE``."""


def bench(
    benchmark: Benchmark,
    shared: SharedOptions,
    judgments: Path | None,
    flags: frozenset[str],
    file: Path | None = None,
) -> int:
    """Measure or score, and print the results.

    Returns:
        0 if there is a score, 1 if there is none.
    """
    options = Options(shared.limit, flags, file)
    if judgments is not None:
        if any((shared.mixture, shared.judge, shared.out, shared.limit, file)) or shared.max_cost is not None:
            raise ConfigError(
                "--judgments calls no model; remove --mixture, --judge, --out, --limit, --max-cost and FILE"
            )
        with _shelf(benchmark, options, shared, beside=judgments.parent) as (shelf, _):
            name = re.sub(r"(\.jsonl?|\.gz)+$", "", judgments.name)
            results = benchmark.scored(read_rows(judgments), shelf, str(judgments), name)
    else:
        with ready(benchmark, options, shared) as work:
            results = [asyncio.run(_measured(work, shared))]
    if shared.as_json:
        write(json.dumps({"benchmark": benchmark.name, "results": results}, indent=2, ensure_ascii=False))
    else:
        write("\n\n".join("\n".join(in_words(benchmark, result)) for result in results))
    return 0 if any(result.get("judged") != 0 for result in results) else 1


@dataclass(frozen=True, slots=True)
class Ready:
    """A benchmark whose files are on this machine."""

    benchmark: Benchmark
    options: Options
    shelf: Shelf
    display: Display

    @property
    def name(self) -> str:
        """The folder of its runs: the benchmark's name, and that of the user's file."""
        file = self.options.file
        return (
            self.benchmark.name if file is None else folder_name(f"{self.benchmark.name}-{file.name.partition('.')[0]}")
        )

    @property
    def judged(self) -> bool:
        """Whether the run needs the judge."""
        return self.benchmark.judged is None or self.benchmark.judged(self.shelf, self.options)

    def measuring(self, shared: SharedOptions, here: Session) -> Measuring:
        """What measures systems with the models of a configuration."""
        return Measuring(
            benchmark=self.benchmark,
            options=self.options,
            shelf=self.shelf,
            judge=judge_of(self.benchmark, shared.judge, here.config, self.judged),
            prices=here.config.prices,
            concurrency=shared.concurrency,
            max_cost=shared.max_cost,
            on_progress=self.display.measuring,
            on_notice=notify,
        )


@contextmanager
def ready(benchmark: Benchmark, options: Options, shared: SharedOptions) -> Iterator[Ready]:
    """Download the files that a measurement needs. Enter before the event loop starts, so that Ctrl-C works at once."""
    with _shelf(benchmark, options, shared) as (shelf, shown):
        for line in fetch(benchmark, options, shelf):
            notify(line)
        fetch_spare(benchmark, shelf)
        yield Ready(benchmark, options, shelf, shown)


@contextmanager
def _shelf(
    benchmark: Benchmark, options: Options, shared: SharedOptions, beside: Path | None = None
) -> Iterator[tuple[Shelf, Display]]:
    with display() as shown:
        licences = {file.benchmark: benchmark.licence for file in benchmark.needs(options)}
        on_fetching = shown.downloading
        yield Shelf(shared.data, beside=beside, licences=licences, on_notice=notify, on_fetching=on_fetching), shown


async def _measured(work: Ready, shared: SharedOptions) -> Row:
    async with Session(shared.config) as here:
        system = _system(here, shared.mixture)
        folder = shared.out or FOLDER / work.name / folder_name(system.name.removeprefix("moa/"))
        definition = definition_of(system, here.config)
        return await work.measuring(shared, here).measure(system, definition, folder)


def _system(here: Session, name: str | None) -> Model:
    """The mixture, or the single model without a mixture around it."""
    name = name or here.config.default
    return here.config.model(name) if is_single_model(name) else here.mixture(name)


def folder_name(name: str) -> str:
    """A name as the name of a folder."""
    return re.sub(r"[^\w.-]+", "-", name)


# -- results in words -------------------------------------------------------------------------------------------------


def in_words(benchmark: Benchmark, result: Row) -> Iterator[str]:
    """A result, line by line."""
    against = f" against {result['baseline']}" if result.get("baseline") else ""
    judged_by = f", judged by {result['judge']}" if result.get("judge") else ""
    date = f", {result['date']}" if result.get("date") else ""
    yield one_line(f"{result['benchmark']}: {result['system']}{against}{judged_by}{date}")
    for figure in (*benchmark.described(result), *_circumstances(benchmark, result)):
        name = f"{'  ' if figure.part else ''}{one_line(figure.name)}"
        yield f"  {name:<31}{clean(figure.text)}"
    for note in result.get("notes", ()):
        yield f"  note: {one_line(note)}"


def _circumstances(benchmark: Benchmark, result: Row) -> Iterator[Figure]:
    """The figures that every result has."""
    if "judged" in result:
        counts = f"{result['judged']}, failed {result.get('failed', 0)}"
        by_check = benchmark.judge is None or (benchmark.judged is not None and not result.get("judge"))
        yield Figure("scored" if by_check else "judged", counts)
    if result.get("degraded") or result.get("cut_off"):
        yield Figure("answers", f"{result['degraded']} without some of the agents, {result['cut_off']} cut off")
    if result.get("avg_length"):
        baseline = result.get("baseline_avg_length")
        compared = f", baseline {baseline:.0f}" if baseline else ""
        yield Figure("mean length", f"{result['avg_length']:.0f} characters{compared}")
    if "cost" in result:
        parts = [f"answers {Cost(**result['answers_cost'])}"]
        if "judgments_cost" in result:
            parts.append(f"judgments {Cost(**result['judgments_cost'])}")
        yield Figure("cost", f"{Cost(**result['cost'])} ({', '.join(parts)})")
        yield Figure("calls", f"{result['calls']['now']} now, {result['calls']['in_all']} in total")
        yield Figure("folder", result["folder"])
