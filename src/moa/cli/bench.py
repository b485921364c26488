"""``moa bench``: a benchmark asked of a mixture, or scored from judgments that are there already."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from moa.cli import ask
from moa.cli.terminal import clean, one_line, say, seconds, tell
from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf, read_rows
from moa.evals.asking.harness import Progress, Run
from moa.evals.asking.journal import summed
from moa.evals.benchmarks import flask, mt_bench
from moa.evals.benchmarks.alpaca_eval import judging as alpaca_eval
from moa.messages import Cost
from moa.mixture.mixture import Mixture
from moa.models import Model

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

BENCHMARKS: dict[str, ModuleType] = {module.NAME: module for module in (alpaca_eval, mt_bench, flask)}
FOLDER = Path("moa-bench")
"""Where runs are kept that are given no folder: ``moa-bench/BENCHMARK/MIXTURE``."""

BETWEEN_LINES = 15.0
"""Seconds between lines about progress where no bar can be drawn."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user asked for; see ``moa bench --help``."""

    benchmark: str
    mixture: str | None = None
    judge: str | None = None
    judgments: Path | None = None
    data: Path | None = None
    out: Path | None = None
    limit: int | None = None
    max_cost: float | None = None
    concurrency: int = 8
    as_json: bool = False
    config: str | None = None
    hard: bool = False


def bench(wanted: Wanted) -> int:
    """Measure or score, and print the results; 0 when there is a score, 1 when there is none."""
    with _shelved(wanted) as (shelf, show):
        if wanted.judgments:
            if wanted.mixture or wanted.judge or wanted.out or wanted.limit or wanted.max_cost is not None:
                raise ConfigError(
                    "--judgments asks nobody: leave --mixture, --judge, --out, --limit and --max-cost away"
                )
            results = _scored(wanted.benchmark, read_rows(wanted.judgments), shelf, wanted.judgments)
        else:
            results = [asyncio.run(_measured(wanted, Asking(wanted, shelf, show)))]
    if wanted.as_json:
        say(json.dumps({"benchmark": wanted.benchmark, "results": results}, indent=2, ensure_ascii=False))
    else:
        say("\n\n".join("\n".join(described(result)) for result in results))
    return 0 if any(result.get("judged") != 0 for result in results) else 1


def _scored(name: str, rows: Sequence[Row], shelf: Shelf, path: Path) -> list[Row]:
    """A result for every system in judgments; ``path`` names the system where they do not."""
    try:
        if name == alpaca_eval.NAME:
            from moa.evals.benchmarks.alpaca_eval import win_rates

            return win_rates.score(rows, shelf)
        if name == mt_bench.NAME:
            return mt_bench.score(rows, shelf)
        return flask.score(rows, shelf, re.sub(r"(\.jsonl?|\.gz)+$", "", path.name))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: not in a shape that is known: {type(error).__name__} {error}") from error


@contextmanager
def _shelved(wanted: Wanted) -> Iterator[tuple[Shelf, _Show]]:
    """The benchmark's files, and who tells how things go."""
    benchmark = BENCHMARKS[wanted.benchmark]
    with _progress() as show:
        licences = {file.benchmark: benchmark.LICENCE for file in benchmark.NEEDS}
        beside = wanted.judgments.parent if wanted.judgments else None
        yield Shelf(wanted.data, beside=beside, licences=licences, on_notice=tell, on_fetching=show.fetching), show


@contextmanager
def asking(wanted: Wanted) -> Iterator[Asking]:
    """Ready to ask: the benchmark's files are here."""
    with _shelved(wanted) as (shelf, show):
        yield Asking(wanted, shelf, show)


class Asking:
    """Measures systems on one benchmark, each in a folder of its own."""

    def __init__(self, wanted: Wanted, shelf: Shelf, show: _Show) -> None:
        self.wanted, self.shelf, self.show = wanted, shelf, show
        self.benchmark = BENCHMARKS[wanted.benchmark]
        for file in self.benchmark.NEEDS:
            # Now, and not in the event loop: it may take minutes, and must be interrupted at once.
            shelf.path(file)

    async def measure(self, here: ask.Opened, system: Model, definition: Row, folder: Path) -> Row:
        """The system's result; ``definition`` says what it is made of."""
        wanted = self.wanted
        judge = here.config.model(wanted.judge or self.benchmark.JUDGE)
        settings = {
            "benchmark": wanted.benchmark,
            "system": system.name,
            "definition": definition,
            "judge": judge.name,
            **({"hard": True} if wanted.hard else {}),
        }
        with Run(
            folder,
            settings,
            here.config.prices,
            concurrency=wanted.concurrency,
            max_cost=wanted.max_cost,
            on_progress=self.show.asking,
        ) as run:
            options = {"hard": True} if wanted.hard else {}
            before = len(run.journal.rows)
            judged, failed = await self.benchmark.measure(run, self.shelf, system, judge, wanted.limit, **options)
            empty = {
                "benchmark": wanted.benchmark,
                "system": system.name,
                "judge": judge.name,
                "judged": 0,
                "notes": [],
            }
            result: Row = _scored(wanted.benchmark, judged, self.shelf, folder)[0] if judged else empty
            notes = result["notes"] + ([run.stopped] if run.stopped else [])
            if failed:
                notes.append(f"{failed} could not be asked: {folder / 'failures.jsonl'}; the same command tries again")
            answers = [row for row in run.journal.rows if row["key"].startswith("answer/")]
            judgments = [row for row in run.journal.rows if row["key"].startswith("judgment/")]
            result |= {
                "notes": notes,
                "limit": wanted.limit,
                "unasked": failed,
                "degraded": sum(any(call.get("dropped") for call in row["calls"]) for row in answers),
                "cut_off": sum(row["finish_reason"] == "length" for row in answers),
                "calls": {"now": len(run.journal.rows) - before, "in_all": len(run.journal.rows)},
                "cost": asdict(run.cost),
                "answers_cost": asdict(summed(answers)),
                "judgments_cost": asdict(summed(judgments)),
                "folder": str(folder),
            }
            run.save("result.json", result)
            return result


async def _measured(wanted: Wanted, asking: Asking) -> Row:
    async with ask.opened(wanted.config) as here:
        system = _system(here, wanted.mixture)
        folder = wanted.out or FOLDER / wanted.benchmark / re.sub(r"[^\w.-]+", "-", system.name.removeprefix("moa/"))
        return await asking.measure(here, system, _definition(here, system), folder)


def _system(here: ask.Opened, name: str | None) -> Model:
    """The mixture, or the single model as it is; what ``auto`` is, is told."""
    name = name or here.config.default
    return here.config.model(name) if "/" in name and not name.startswith("moa/") else here.mixture(name)


def _definition(here: ask.Opened, system: Model) -> Row:
    """What the system is made of: with other members it is another system, whatever its name."""
    if not isinstance(system, Mixture):
        return {"model": system.name}
    listed = here.config.described(system.name)
    told = asdict(listed)
    return {
        "layers": told["layers"],
        "aggregators": told["aggregators"],
        "settings": told["settings"],
        "prompt": hashlib.sha256(system.prompt.encode()).hexdigest()[:12],
    }


# -- results in words -------------------------------------------------------------------------------------------------


def described(result: Row) -> Iterator[str]:
    """A result, line by line."""
    against = f" against {result['baseline']}" if result.get("baseline") else ""
    judged_by = f", judged by {result['judge']}" if result.get("judge") else ""
    date = f", {result['date']}" if result.get("date") else ""
    yield one_line(f"{result['benchmark']}: {result['system']}{against}{judged_by}{date}")
    for name, figure in _figures(result):
        yield f"  {name:<31}{clean(figure)}"
    for note in result.get("notes", ()):
        yield f"  note: {one_line(note)}"


def _figures(result: Row) -> Iterator[tuple[str, str]]:
    def figure(key: str, error: str = "", unit: str = "") -> str:
        deviation = f" ± {result[error]:.2f}" if result.get(error) is not None else ""
        return f"{result[key]:.2f}{deviation}{unit}"

    if result.get("length_controlled_winrate") is not None:
        yield "length-controlled win rate", figure("length_controlled_winrate", "lc_standard_error", " %")
    if recorded := result.get("recorded_fit"):
        again = recorded["length_controlled_winrate_fitted_at_C"]
        official = recorded["length_controlled_winrate"]
        yield "  by the recorded fit", f"{official:.2f} %; fitted anew at its C = {recorded['C']:.4g}: {again:.2f} %"
    if result.get("win_rate") is not None:
        counts = f"{result['n_wins']} won, {result['n_wins_base']} lost, {result['n_draws']} drawn"
        yield "win rate", f"{figure('win_rate', 'standard_error', ' %')} ({counts})"
        for name, key in (("  shown second", "baseline_first"), ("  shown first", "system_first")):
            order = result["order"][key]
            if order["judged"]:
                yield name, f"{order['win_rate']:.2f} % of {order['judged']}"
    if result.get("score") is not None:
        yield "score", figure("score", "standard_error")
    for turn in ("first_turn", "second_turn"):
        if result.get(turn) is not None:
            yield f"  {turn.replace('_', ' ')}", figure(turn)
    for group in ("categories", "skills", "domains", "difficulties"):
        for name, row in result.get(group, {}).items():
            count = f" ({row['grades']} grades)" if "grades" in row else ""
            yield f"  {one_line(name)}", f"{row['score']:.2f}{count}" if row["score"] is not None else "-"
    if "judged" in result:
        yield "judged", f"{result['judged']}, failed {result.get('failed', 0)}"
    if result.get("degraded") or result.get("cut_off"):
        some = f"{result['degraded']} made without some of the agents, {result['cut_off']} cut off"
        yield "answers", some
    if result.get("avg_length"):
        baseline = result.get("baseline_avg_length")
        yield (
            "mean length",
            f"{result['avg_length']:.0f} characters" + (f", baseline {baseline:.0f}" if baseline else ""),
        )
    if "cost" in result:
        asking, judging = Cost(**result["answers_cost"]), Cost(**result["judgments_cost"])
        yield "cost", f"{Cost(**result['cost'])} (answers {asking}, judgments {judging})"
        yield "calls", f"{result['calls']['now']} now, {result['calls']['in_all']} in all"
        yield "kept in", result["folder"]


# -- progress ---------------------------------------------------------------------------------------------------------


class _Show:
    """Tells how a run goes on standard error: as a bar on a terminal, now and then as a line elsewhere."""

    def __init__(self, bars: Bars | None) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._told = time.monotonic()

    def fetching(self, name: str, done: int, total: int) -> None:
        self._tell(f"fetching {name}", done, total, f"{done / 1e6:.1f} MB")

    def asking(self, progress: Progress) -> None:
        left = "" if progress.seconds_left is None else f", {seconds(progress.seconds_left)} left"
        told = f"{progress.done} done, {progress.failed} failed, {progress.cost}{left}"
        self._tell("asking", progress.done + progress.failed, progress.total, told)

    def _tell(self, name: str, done: int, total: int, told: str) -> None:
        if self._bars is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total or None, told="")
            self._bars.update(self._tasks[name], completed=done, total=total or None, told=told)
        elif time.monotonic() - self._told > BETWEEN_LINES or (total and done == total):
            self._told = time.monotonic()
            tell(f"{name}: {told}")


@contextmanager
def _progress() -> Iterator[_Show]:
    if not sys.stderr.isatty():
        yield _Show(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    with Bars(*columns, console=Console(file=sys.stderr), transient=True) as bars:
        yield _Show(bars)
