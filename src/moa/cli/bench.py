"""``moa bench NAME``: measure a mixture on a benchmark, or score existing judgments."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from moa.cli.progress import Display, display
from moa.cli.session import Session
from moa.cli.shared_options import SharedOptions
from moa.cli.terminal import clean, notify, one_line, write
from moa.config.names import is_single_model
from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf, read_rows
from moa.evals.benchmark import Benchmark, Options
from moa.evals.forecast import forecast
from moa.evals.measuring import Measuring, Silent, definition_of, fetch, fetch_spare, judge_of
from moa.evals.metric import Figure
from moa.evals.reading.measured import run_result, run_settings
from moa.evals.series import Series
from moa.messages import Cost
from moa.models import Model

FOLDER = Path("moa-bench")
"""The default folder of runs: ``moa-bench/BENCHMARK/MIXTURE``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of ``moa bench`` alone.

    Attributes:
        judgments: a file to score; no model is called.
        answers: a run's folder, whose answers are judged in place of new ones.
        repeat: how often the system answers each item.
        dry_run: only forecast.
        file: the user's own items.
        flags: the benchmark's flags that are set.
        matrix: a file of recorded answers that gains the system's.
    """

    judgments: Path | None = None
    answers: Path | None = None
    repeat: int = 1
    dry_run: bool = False
    file: Path | None = None
    flags: frozenset[str] = frozenset()
    matrix: Path | None = None


def bench(benchmark: Benchmark, shared: SharedOptions, wanted: Wanted) -> int:
    """Measure, forecast or score, and print the results.

    Returns:
        0 if there is a score or a forecast, 1 if there is none.
    """
    if shared.limit and shared.sample:
        raise ConfigError("give --limit or --sample, not both")
    options = Options(shared.limit, wanted.flags, wanted.file, shared.sample, shared.seed)
    judgments = wanted.judgments
    if judgments is not None:
        calling = (shared.mixture, shared.judge, shared.out, shared.limit, shared.sample, wanted.file, wanted.answers)
        if any(calling) or shared.max_cost is not None or wanted.repeat > 1 or wanted.dry_run or wanted.matrix:
            raise ConfigError(
                "--judgments calls no model; remove --mixture, --judge, --out, --limit, --sample, --max-cost, --repeat, "
                "--answers, --dry-run, --matrix and FILE"
            )
        with _shelf(benchmark, options, shared, beside=judgments.parent) as (shelf, _):
            name = re.sub(r"(\.jsonl?|\.gz)+$", "", judgments.name)
            results = benchmark.scored(read_rows(judgments), shelf, str(judgments), name)
    else:
        if wanted.answers is not None:
            options = _of_answered(wanted.answers, options, benchmark, shared, wanted)
        with ready(benchmark, options, shared) as work:
            if wanted.dry_run:
                return asyncio.run(_forecast(work, shared, wanted))
            results = [asyncio.run(_measured(work, shared, wanted))]
        if wanted.matrix is not None:
            _record(wanted.matrix, Path(results[0]["folder"]))
    if shared.as_json:
        write(json.dumps({"benchmark": benchmark.name, "results": results}, indent=2, ensure_ascii=False))
    else:
        write("\n\n".join("\n".join(in_words(benchmark, result)) for result in results))
    return 0 if any(result.get("judged") != 0 for result in results) else 1


def _record(path: Path, folder: Path) -> None:
    """Write a run's answers into a matrix; its repetitions are further samples."""
    from moa.evals.reading.measured import measured
    from moa.evals.reading.recorded import record

    runs = [measured(each) for each in (folder, *sorted(folder.glob("repeat-*")))]
    count = record(path, runs)
    notify(f"{path}: the answers of {one_line(runs[0].name)} are in the matrix, which has {count} items")


def _of_answered(
    answers: Path, options: Options, benchmark: Benchmark, shared: SharedOptions, wanted: Wanted
) -> Options:
    """The options of a run whose answers are judged again: its own items, unless others are given."""
    if shared.mixture is not None or wanted.repeat > 1:
        raise ConfigError("--answers calls no system; remove --mixture and --repeat")
    settings, result = run_settings(answers), run_result(answers)
    if settings.get("benchmark") != benchmark.name:
        raise ConfigError(f"{answers} is a run of {settings.get('benchmark')}, not of {benchmark.name}")
    flags = {flag.name for flag in benchmark.flags if settings.get(flag.name)} | options.flags
    given = options.limit or options.sample
    own = (result.get("limit"), result.get("sample"), result.get("seed", 0))
    limit, sample, seed = (options.limit, options.sample, options.seed) if given else own
    return Options(limit, frozenset(flags), options.file, sample, seed)


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

    def judges(self, shared: SharedOptions, here: Session) -> list[Model | None]:
        """The judges, one at least; None where the run needs none."""
        names: list[str | None] = [*dict.fromkeys(shared.judge or ())] or [None]
        return [judge_of(self.benchmark, name, here.config, self.judged) for name in names]

    def measuring(self, shared: SharedOptions, here: Session) -> list[Measuring]:
        """What measures systems with the models of a configuration, one for each judge."""
        return [
            Measuring(
                benchmark=self.benchmark,
                options=self.options,
                shelf=self.shelf,
                judge=judge,
                prices=here.config.prices,
                concurrency=shared.concurrency,
                judge_concurrency=shared.judge_concurrency,
                max_cost=shared.max_cost,
                on_progress=self.display.measuring,
                on_notice=notify,
            )
            for judge in self.judges(shared, here)
        ]


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


async def _measured(work: Ready, shared: SharedOptions, wanted: Wanted) -> Row:
    async with Session(shared.config) as here:
        series = Series(work.measuring(shared, here), wanted.repeat)
        if (answers := wanted.answers) is not None:
            settings = run_settings(answers)
            system: Model = Silent(str(settings["system"]), answers)
            judge = folder_name(series.by_judge[0].judge.name if series.by_judge[0].judge else "again")
            folder = shared.out or answers.with_name(f"{answers.name}-judged-by-{judge}")
            return await series.measure(system, settings["definition"], folder, answers)
        system = _system(here, shared.mixture)
        return await series.measure(system, definition_of(system, here.config), _folder(work, shared, system))


async def _forecast(work: Ready, shared: SharedOptions, wanted: Wanted) -> int:
    async with Session(shared.config) as here:
        if wanted.answers is not None:
            system: Model = Silent(str(run_settings(wanted.answers)["system"]), wanted.answers)
        else:
            system = _system(here, shared.mixture)
        folder = wanted.answers or _folder(work, shared, system)
        judges = [judge for judge in work.judges(shared, here) if judge is not None]
        prices = here.config.prices
        found = await forecast(work.benchmark, work.shelf, work.options, system, judges, prices, folder, wanted.repeat)
    if shared.as_json:
        named = {"benchmark": work.benchmark.name, "system": system.name, "judges": [judge.name for judge in judges]}
        write(json.dumps({**named, "forecast": asdict(found)}, indent=2))
        return 0
    write(one_line(f"{work.benchmark.name}: {system.name}; nothing was called"))
    free = wanted.answers is not None
    answering = "none: the answers are there" if free else f"{found.answers}, by {found.agents} calls of models"
    total = found.judgments_cost if free else found.answers_cost + found.judgments_cost
    lines = {"items": str(found.items), "answers": answering}
    if judges:
        lines["judgments"] = f"{found.judgments}, by {', '.join(judge.name for judge in judges)}"
    parts = ([] if free else [f"answers {found.answers_cost}"]) + (
        [f"judgments {found.judgments_cost}"] if judges else []
    )
    lines["cost, about"] = f"{total} ({', '.join(parts)})"
    for name, text in lines.items():
        write(f"  {name:<31}{clean(text)}")
    for line in found.assumptions:
        write(f"  assumed: {one_line(line)}")
    return 0


def _folder(work: Ready, shared: SharedOptions, system: Model) -> Path:
    return shared.out or FOLDER / work.name / folder_name(system.name.removeprefix("moa/"))


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
    for figure in _series(benchmark, result):
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


def _series(benchmark: Benchmark, result: Row) -> Iterator[Figure]:
    """The figures of several runs, and of several judges."""
    metric = benchmark.metric
    if repeats := result.get("repeats"):
        if repeats.get(metric.field) is not None:
            yield Figure(f"{metric.name}, {repeats['runs']} runs", metric.figure(repeats).text)
        scores = ", ".join(f"{score:.2f}" for score in repeats["scores"])
        spread = repeats["standard_deviation_of_runs"]
        yield Figure("each run", scores + ("" if spread is None else f" (standard deviation {spread:.2f})"), part=True)
    for judge in result.get("judges", ())[1:]:
        text = metric.figure(judge).text if judge.get(metric.field) is not None else "-"
        yield Figure(f"by {judge['judge']}", f"{text}, judged {judge['judged']}, failed {judge['failed'] or 0}")
    for pair in result.get("agreement", ()):
        if pair["same"] is not None:
            kappa = "undefined" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
            text = f"the same on {pair['same']:.1f} % of {pair['items']} items, kappa {kappa}"
            yield Figure(f"{pair['a']} and {pair['b']}", text, part=True)
