"""Measures a system on a benchmark: opens its folder, runs the benchmark, scores it, and writes ``result.json``."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from moa.config.config import Config
from moa.config.tables import MixtureTable
from moa.errors import ConfigError, MoaError, ModelError
from moa.evals.asking.data import Row, Shelf
from moa.evals.asking.harness import Measurement
from moa.evals.asking.journal import summed
from moa.evals.asking.judge import TRIAL, Judge, excerpt
from moa.evals.asking.tally import Progress
from moa.evals.benchmark import Benchmark, Options
from moa.evals.definition import digest
from moa.messages import Delta, Request
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


def fetch_spare(benchmark: Benchmark, shelf: Shelf) -> None:
    """Download the files that only some figures need, as far as that succeeds; the result notes what is missing."""
    for file in benchmark.spare:
        with suppress(ConfigError):
            shelf.path(file)


def judge_of(benchmark: Benchmark, name: str | None, config: Config, needed: bool = True) -> Model | None:
    """The judge of this name, or the benchmark's official judge; None for a benchmark or a run without one.

    Args:
        needed: whether the run needs it, as far as that depends on its data: :attr:`Benchmark.judged`.

    Raises:
        ConfigError: there is no such model, or the benchmark takes no judge.
    """
    if not needed:
        return None
    if benchmark.judge is None:
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


def as_before(definition: Row, folder: Path) -> Row:
    """The definition that the run in a folder has, if it is this one as an earlier version wrote it: without fields that
    came later and have their default, or with fields that are gone. Else this one."""
    definition = json.loads(json.dumps(definition))
    try:
        before = json.loads((folder / "run.json").read_text(encoding="utf-8"))["definition"]
    except (OSError, ValueError, KeyError, TypeError):
        return definition
    if not isinstance(before, dict):
        return definition
    now, then = ({**each, **each.get("settings", {})} for each in (definition, before))
    defaults = {name: field.default for name, field in MixtureTable.model_fields.items()}
    same = all(now[name] == value for name, value in then.items() if name in now and name != "settings")
    new = all(value == defaults.get(name, value) or not value for name, value in now.items() if name not in then)
    return before if same and new else definition


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
        on_notice: called with each remark about the data or the judge.
        judge_concurrency: concurrent calls of the judge; None: as many as items.
    """

    benchmark: Benchmark
    options: Options
    shelf: Shelf
    judge: Model | None = None
    prices: Prices | None = None
    concurrency: int = 8
    max_cost: float | None = None
    on_progress: Callable[[Progress], None] | None = None
    on_notice: Callable[[str], None] | None = None
    judge_concurrency: int | None = None

    async def measure(self, system: Model, definition: Row, folder: Path, answers: Path | None = None) -> Row:
        """Measure a system in a folder; resumes if the folder holds the same measurement.

        Returns:
            Its result, as in ``result.json``.

        Args:
            system: the system.
            definition: what it consists of, as ``run.json`` records it.
            folder: the folder.
            answers: the folder of a measurement whose answers are judged in place of new ones.

        Raises:
            ConfigError: the folder holds another measurement, or a setting is wrong.
            MoaError: no call succeeds, or the judge fails before an answer is paid for.
        """
        identity = {"benchmark": self.benchmark.name, "system": system.name}
        judged_by = {"judge": self.judge.name} if self.judge else {}
        flags = dict.fromkeys(sorted(self.options.flags), True)
        definition = as_before(definition, folder)
        with Measurement(
            folder,
            {**identity, "definition": definition, **judged_by, **flags},
            self.prices,
            concurrency=self.concurrency,
            judge_concurrency=self.judge_concurrency,
            max_cost=self.max_cost,
            about=self._about(system),
            on_progress=self.on_progress,
            on_notice=self.on_notice,
        ) as measurement:
            if answers is not None:
                measurement.reuse(answers)
            before = len(measurement.journal.rows)
            judge = None if self.judge is None else Judge.of(self.judge)
            await self._try(measurement, judge)
            rows, failed = await self.benchmark.measure(measurement, self.shelf, system, judge, self.options)
            result: Row = {**identity, **judged_by, "judged": 0, "notes": []}
            if rows:
                result = self.benchmark.scored(rows, self.shelf, str(folder), system.name)[0]
            result |= self._circumstances(measurement, before, failed, rows, result["notes"])
            measurement.save("result.json", result)
            return result

    async def _try(self, measurement: Measurement, judge: Judge | None) -> None:
        """Call the judge once, before anything else is paid for; not where it has judged in this folder before.

        Raises:
            MoaError: the call failed.
        """
        if judge is None or self.benchmark.trial is None:
            return
        if any(row["key"].startswith("judgment/") for row in measurement.journal.rows if not is_trial(row)):
            return
        try:
            lacks = await self.benchmark.trial(measurement, self.shelf, judge, self.options)
        except ConfigError:
            raise
        except MoaError as error:
            raise MoaError(f"the judge failed before any answer was paid for: {error}") from error
        if lacks:
            measurement.notice(f"the judge {judge.name} gave no verdict on a stand-in answer: {lacks}")

    def _about(self, system: Model) -> Row:
        """What ``run.json`` records besides the settings: versions, what the system is, the data's digests, how the judge is
        called."""
        files = self.benchmark.needs(self.options)
        parameters = {} if self.judge is None else {"judge_parameters": self.benchmark.judging}
        return {
            **parameters,
            "versions": {"moa": version("mixture-of-agents"), "python": platform.python_version()},
            "identity": digest(system),
            "data": {file.names[0]: self.shelf.digest(file) for file in files},
        }

    def _circumstances(
        self, measurement: Measurement, before: int, failed: int, rows: Sequence[Row], notes: list[str]
    ) -> Row:
        """What goes with every score: failures, calls, costs. ``before`` is the length of the journal at the start."""
        journal = measurement.journal.rows
        answers = [row for row in journal if row["key"].startswith("answer/")]
        reused = sum(1 for row in journal if row.get("reused"))
        judgments = [row for row in journal if row["key"].startswith("judgment/")]
        notes = [*notes, *measurement.notices, *([measurement.stopped] if measurement.stopped else [])]
        reasons: Counter[str] = Counter(row["moa"]["why_not"] for row in rows if row.get("moa", {}).get("why_not"))
        if reasons:
            why, often = reasons.most_common(1)[0]
            notes.append(
                f"{reasons.total()} judgments have no verdict, {often} of them because: {why}{_example(rows, why)}"
            )
        if failed:
            failures = measurement.folder / "failures.jsonl"
            items = "1 item" if failed == 1 else f"{failed} items"
            errors = (measurement.reasons - reasons).most_common(1)
            commonest = f"; most often: {errors[0][0]}" if errors else ""
            notes.append(f"{items} failed (see {failures}{commonest}); run the same command again to retry")
        return {
            "notes": notes,
            "limit": self.options.limit,
            **({"data": _digest_of(self.options.file)} if self.options.file else {}),
            **({"sample": self.options.sample, "seed": self.options.seed} if self.options.sample else {}),
            **(
                {"reasons": dict((measurement.reasons | reasons).most_common(5))}
                if measurement.reasons | reasons
                else {}
            ),
            "unasked": failed,
            "degraded": sum(any(call.get("dropped") for call in row["calls"]) for row in answers),
            "cut_off": sum(row["finish_reason"] == "length" for row in answers),
            "calls": {"now": len(journal) - before, "in_all": len(journal) - reused},
            **({"reused": reused} if reused else {}),
            "cost": asdict(measurement.cost),
            "answers_cost": asdict(summed(answers)),
            **({"judgments_cost": asdict(summed(judgments))} if self.judge else {}),
            "folder": str(measurement.folder),
        }


def _digest_of(file: Path) -> Row:
    """The SHA-256 of a user's file. A run may continue with a corrected file, so its result says which one it is of."""
    with file.open("rb") as content:
        return {file.name: hashlib.file_digest(content, "sha256").hexdigest()}


def is_trial(row: Row) -> bool:
    """Whether a row of a journal is a call that only tried the judge."""
    return str(row["key"]).startswith(TRIAL)


def _example(rows: Sequence[Row], why: str) -> str:
    """What the judge said in a judgment that failed for this reason."""
    about = next((row for row in rows if row.get("moa", {}).get("why_not") == why), {})
    said = excerpt(str(about.get("judgment") or about.get("review") or about.get("moa", {}).get("said") or ""))
    return f" («{said}»)" if said else ""


class Silent:
    """A system that is not called: its answers are those of an earlier run.

    Args:
        name: the system's name.
        run: the run's folder.
    """

    def __init__(self, name: str, run: Path) -> None:
        self.name, self._run = name, run

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Raises ModelError: the run has no answer to the request."""
        raise ModelError(self.name, f"{self._run} has no answer to this item, or to another text of it")
        yield Delta()
