"""``moa search QUESTIONS``: members answer, mixtures of their answers are tried, and the best is confirmed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moa.cli.bench import folder_name
from moa.cli.progress import Display, display
from moa.cli.session import Session
from moa.cli.tables import table
from moa.cli.terminal import notify, one_line, write
from moa.errors import ConfigError
from moa.evals.asking.data import Row
from moa.evals.asking.harness import Measurement
from moa.evals.search.live import result as results
from moa.evals.search.live.answers import Answers
from moa.evals.search.live.finding import AT_ONCE, ROUNDS, Search
from moa.evals.search.live.members import Member, members_of
from moa.evals.search.live.parts import parted
from moa.evals.search.live.prices import Forecaster
from moa.evals.search.live.scores import Limits
from moa.evals.search.live.trial import Trials
from moa.evals.tasks import checks
from moa.evals.tasks.reading import Tasks
from moa.evals.tasks.task import Task

FOLDER = Path("moa-search")
"""The default folder of searches: ``moa-search/QUESTIONS``."""

BAR = 20
"""Characters of a bar that is 100 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of a search."""

    questions: Path
    models: Sequence[str] = ()
    mixture: str | None = None
    limits: Limits
    samples: int = 1
    seed: int = 0
    limit: int | None = None
    concurrency: int = 8
    out: Path | None = None
    name: str = "found"
    writes: bool = False
    dry_run: bool = False
    as_json: bool = False
    config: str | None = None

    @property
    def folder(self) -> Path:
        return self.out or FOLDER / folder_name(self.questions.name.split(".")[0])


def search(wanted: Wanted) -> int:
    """Search, and print what was found.

    Raises:
        ConfigError: the questions or the members are wrong, or the money does not suffice.
    """
    tasks = questions(wanted.questions, wanted.limit)
    try:
        with display() as shown:
            return asyncio.run(_search(wanted, tasks, shown))
    except KeyboardInterrupt:
        notify(f"stopped; the answers so far are in {wanted.folder}, and the same command continues from there")
        raise


def questions(path: Path, limit: int | None = None) -> list[Task]:
    """The questions of a file, each with a check that needs no judge.

    Raises:
        ConfigError: the file cannot be used, or a question has no answer to check.
    """
    tasks = Tasks(path, limit)
    for notice in tasks.notices:
        notify(notice)
    listed = list(tasks)
    judged = [task.id for task in listed if checks.CHECKS[task.check].judged]
    if judged:
        raise ConfigError(
            f"{path}: {len(judged)} questions need a judge, the first is {judged[0]}; a search needs answers that can be "
            "checked: give them an answer, or remove them"
        )
    if len(listed) < 2:
        raise ConfigError(f"{path}: a search needs at least two questions: one to search on, and one to confirm")
    return listed


async def _search(wanted: Wanted, tasks: list[Task], shown: Display) -> int:
    async with Session(wanted.config) as here:
        members, left_out = members_of(here.config, wanted.models, wanted.mixture)
        for name, why in left_out.items():
            notify(f"{one_line(name)} is left out: {one_line(why)}")
        settings = {"search": "questions"}
        with Measurement(
            wanted.folder,
            settings,
            here.config.prices,
            concurrency=wanted.concurrency,
            max_cost=wanted.limits.spend,
            on_progress=shown.measuring,
        ) as measurement:
            answers = Answers(measurement, wanted.samples, wanted.limits.spend is not None, left_out=dict(left_out))
            by_name = {member.name: member for member in members}
            searched, confirming = parted(tasks, wanted.seed, wanted.folder / "parts.json")
            forecaster = Forecaster(here.config.prices, by_name, answers, tasks)
            forecast = _forecast(forecaster, by_name, wanted, len(searched), len(confirming))
            if wanted.dry_run:
                _print_forecast(forecast, wanted)
                return 0
            if wanted.limits.spend is None and any(row["dollars"] != 0 for row in forecast):
                raise ConfigError("these models cost money; say how much the search may spend with --spend DOLLARS")
            trials = Trials(here.config, by_name, answers)
            finding = await Search(trials, by_name, searched, confirming, wanted.limits, notify).run()
            found = results.as_object(finding, by_name, confirming)
            found |= {"analysis": "search", "spent": measurement.cost.dollars, "asked": _asked(wanted, members)}
            measurement.save("result.json", found)
    return _show(found, wanted, Path(here.config.path or "moa.toml"))


def _asked(wanted: Wanted, members: Sequence[Member]) -> Row:
    """What a later check of the result needs to know."""
    return {
        "questions": str(wanted.questions.resolve()),
        "limit": wanted.limit,
        "models": list(wanted.models),
        "mixture": wanted.mixture,
        "samples": wanted.samples,
        "seed": wanted.seed,
        "spend": wanted.limits.spend,
        "members": [member.name for member in members],
    }


def _forecast(
    forecaster: Forecaster, members: dict[str, Member], wanted: Wanted, searched: int, confirming: int
) -> list[Row]:
    rows: list[Row] = []
    for step, items in (("members answer the search part", searched), ("members answer the rest, at most", confirming)):
        found = forecaster.asking([*members], items, wanted.samples)
        unknown = ", ".join(found.unknown)
        rows.append(
            {"step": step, "calls": found.calls, "dollars": None if unknown else found.dollars, "unknown": unknown}
        )
    per_call = [forecaster.call(name, [*members]) for name in members]
    known = [cost for cost in per_call if cost is not None]
    calls = ROUNDS * AT_ONCE * searched
    dollars = max(known) * calls if len(known) == len(per_call) else None
    rows.append({"step": "races of mixtures, at most", "calls": calls, "dollars": dollars, "unknown": ""})
    return rows


def _print_forecast(rows: list[Row], wanted: Wanted) -> None:
    if wanted.as_json:
        write(json.dumps({"forecast": rows, "spend": wanted.limits.spend}, indent=2))
        return
    shown = [
        {
            **row,
            "dollars": "unknown" if row["dollars"] is None else f"{row['dollars']:.4f}",
            "unknown": row["unknown"] or None,
        }
        for row in rows
    ]
    table(shown)
    write("votes, mux and central call nothing; answers are assumed to have 400 tokens until there are some")
    if wanted.limits.spend is not None:
        write(f"whatever this forecast says, no call begins that would exceed --spend {wanted.limits.spend:g}")


def _show(found: Row, wanted: Wanted, config: Path) -> int:
    for name, why in found["left_out"].items():
        notify(f"{one_line(name)} is left out: {one_line(why)}")
    for note in found["notes"]:
        notify(one_line(note))
    block = results.block(found, wanted.name)
    page = _report(found, wanted.folder)
    is_mixture = "model" not in found["found"]
    if wanted.writes and is_mixture:
        results.write(config, block, wanted.name)
        notify(f"written to {config} as moa/{wanted.name}")
    if wanted.as_json:
        write(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    write(block)
    table([_front_row(each) for each in found["front"]])
    if page:
        write(f"report: {one_line(str(page))}")
    if is_mixture and not wanted.writes:
        write(f"to use it, put the block into {one_line(str(config))}: the same command with --write does")
    return 0


def _front_row(each: Row) -> Row:
    bar = "█" * round(BAR * each["searched"])
    gain = None if each["gain"] is None else f"{100 * each['gain']:+z.1f}"
    return {
        "$ an answer": f"{each['cost']:.4g}",
        "seconds": f"{each['seconds']:.1f}",
        "right": f"{each['searched']:.1%}",
        "": bar,
        "confirmed": None if each["accuracy"] is None else f"{each['accuracy']:.1%}",
        "gain": gain,
        "candidate": each["label"],
    }


def _report(found: Row, folder: Path) -> Path | None:
    """Write the page and its drawings; None without matplotlib."""
    from moa.evals.reading import report

    try:
        return report.write([], folder / "report", analyses=[found])[0]
    except ConfigError as error:
        notify(f"no report: {error}")
    except OSError as error:
        notify(f"no report: {folder} cannot be written: {error.strerror or error}")
    return None
