"""Measures a system on a benchmark: opens its folder, runs the benchmark, scores it, and writes ``result.json``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from moa.config.config import Config
from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf
from moa.evals.asking.harness import Measurement, Progress
from moa.evals.asking.journal import summed
from moa.evals.benchmark import Benchmark, Options
from moa.mixture.mixture import Mixture
from moa.models import Model
from moa.prices import Prices


def fetch(benchmark: Benchmark, options: Options, shelf: Shelf) -> list[str]:
    """Download what a run needs, if it is not on this machine, and check it. Not for an event loop: it may take minutes.

    Returns:
        What the user should know of the data before the first call.

    Raises:
        ConfigError: a file cannot be downloaded, or its data cannot be used.
    """
    for file in benchmark.needs(options):
        shelf.path(file)
    return [*benchmark.checked(shelf, options)] if benchmark.checked else []


def judge_of(benchmark: Benchmark, name: str | None, config: Config, needed: bool = True) -> Model | None:
    """The judge of this name, or the benchmark's official judge; None for a benchmark without one.

    Args:
        needed: whether the run needs it: :attr:`Benchmark.judged`.

    Raises:
        ConfigError: there is no such model, or the benchmark takes no judge.
    """
    if benchmark.judge is None or not needed:
        if name is not None:
            raise ConfigError(f"{benchmark.name} has no judge; remove --judge {name}")
        return None
    return config.model(name or benchmark.judge)


def definition_of(system: Model, config: Config) -> Row:
    """What a system consists of: with other members it is another system, even under the same name."""
    if not isinstance(system, Mixture):
        return {"model": system.name}
    listed = asdict(config.described(system.name))
    prompt = hashlib.sha256(system.prompt.encode()).hexdigest()[:12]
    return {**{name: listed[name] for name in ("layers", "aggregators", "settings")}, "prompt": prompt}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """Measures systems on one benchmark, with one judge, one after another.

    Attributes:
        benchmark, options: what to measure.
        shelf: has the files that the benchmark needs; see :func:`fetch`.
        judge: None exactly if the benchmark has none.
        prices: what tokens cost.
        concurrency: concurrent items.
        max_cost: US dollars for each system; None for no limit.
        on_progress: called after each item.
    """

    benchmark: Benchmark
    options: Options
    shelf: Shelf
    judge: Model | None = None
    prices: Prices | None = None
    concurrency: int = 8
    max_cost: float | None = None
    on_progress: Callable[[Progress], None] | None = None

    async def measure(self, system: Model, definition: Row, folder: Path) -> Row:
        """Measure a system in a folder; resumes if the folder holds the same measurement.

        Returns:
            Its result, as in ``result.json``.

        Raises:
            ConfigError: the folder holds another measurement, or a setting is wrong.
            MoaError: no call succeeds.
        """
        identity = {"benchmark": self.benchmark.name, "system": system.name}
        judged_by = {"judge": self.judge.name} if self.judge else {}
        flags = dict.fromkeys(sorted(self.options.flags), True)
        with Measurement(
            folder,
            {**identity, "definition": definition, **judged_by, **flags},
            self.prices,
            concurrency=self.concurrency,
            max_cost=self.max_cost,
            on_progress=self.on_progress,
        ) as measurement:
            before = len(measurement.journal.rows)
            rows, failed = await self.benchmark.measure(measurement, self.shelf, system, self.judge, self.options)
            result: Row = {**identity, **judged_by, "judged": 0, "notes": []}
            if rows:
                result = self.benchmark.scored(rows, self.shelf, str(folder), system.name)[0]
            result |= self._circumstances(measurement, before, failed, result["notes"])
            measurement.save("result.json", result)
            return result

    def _circumstances(self, measurement: Measurement, before: int, failed: int, notes: list[str]) -> Row:
        """What goes with every score: failures, calls, costs. ``before`` is the length of the journal at the start."""
        journal = measurement.journal.rows
        answers = [row for row in journal if row["key"].startswith("answer/")]
        judgments = [row for row in journal if row["key"].startswith("judgment/")]
        notes = [*notes, *([measurement.stopped] if measurement.stopped else [])]
        if failed:
            failures = measurement.folder / "failures.jsonl"
            items = "1 item" if failed == 1 else f"{failed} items"
            notes.append(f"{items} failed (see {failures}); run the same command again to retry")
        return {
            "notes": notes,
            "limit": self.options.limit,
            "unasked": failed,
            "degraded": sum(any(call.get("dropped") for call in row["calls"]) for row in answers),
            "cut_off": sum(row["finish_reason"] == "length" for row in answers),
            "calls": {"now": len(journal) - before, "in_all": len(journal)},
            "cost": asdict(measurement.cost),
            "answers_cost": asdict(summed(answers)),
            **({"judgments_cost": asdict(summed(judgments))} if self.judge else {}),
            "folder": str(measurement.folder),
        }
