"""A part of a search's questions is asked again: do its models still answer as well, and for the same price?

Notable decisions:
- The same questions are compared, then and now, by the exact sign test on those whose answers changed from right to wrong
  or back. A model that is sampled differs from itself; only what is unlikely by chance counts as a change.
- Each day's check keeps its answers in a folder of its own, so that a check that was stopped continues, and the next one
  asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from moa.config.config import Config
from moa.errors import ConfigError
from moa.evals.asking.harness import Measurement
from moa.evals.asking.tally import Progress
from moa.evals.proportion import at_most
from moa.evals.search.live.answers import Answers
from moa.evals.search.live.candidate import Candidate
from moa.evals.search.live.members import Member, members_of
from moa.evals.search.live.parts import parted
from moa.evals.search.live.trial import Outcome, Trials
from moa.evals.tasks.task import Task

UNLIKELY = 0.05
"""The probability below which a change counts as more than chance."""

DEARER = 0.2
"""The relative change of a price that is reported."""


async def recheck(
    config: Config,
    folder: Path,
    before: Mapping[str, Any],
    tasks: Sequence[Task],
    *,
    items: int,
    spend: float | None,
    concurrency: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Ask again, and compare.

    Args:
        config: opens the models.
        folder: the search's.
        before: its ``result.json``.
        tasks: its questions.
        items: how many of them to ask, at most; those of the confirmation part first.
        spend: US dollars; None for no limit.
        concurrency: concurrent calls.
        on_progress: called after each call.

    Returns:
        ``systems``: the mixture, the best single model and the members, each with its figures then and now; ``changes``:
        what changed, in words; ``still_right``; ``notes``; ``spent``.

    Raises:
        ConfigError: nothing can be compared.
    """
    asked = before["asked"]
    members, left_out = members_of(config, asked["models"], asked["mixture"])
    by_name = {member.name: member for member in members}
    found, best = (candidate_of(before["chosen"][name]) for name in ("found", "best"))
    needed = list(dict.fromkeys([*found.names, *best.names]))
    if missing := [name for name in [*needed, found.aggregator] if name and name not in by_name]:
        raise ConfigError(f"{missing[0]} cannot be asked any more: {left_out.get(missing[0], 'it is not configured')}")
    searched, confirming = parted(tasks, asked["seed"], folder / "parts.json")
    chosen = [*confirming, *searched][:items]
    systems = list(dict.fromkeys([found, best, *(Candidate(((name, 1),)) for name in needed)]))
    with Measurement(folder, {"search": "questions"}, config.prices, concurrency=concurrency, max_cost=0.0) as kept:
        then = await _outcomes(config, by_name, needed, kept, systems, chosen, asked["samples"])
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    with Measurement(
        folder / "checks" / today,
        {"search": "check"},
        config.prices,
        concurrency=concurrency,
        max_cost=spend,
        on_progress=on_progress,
    ) as measurement:
        now = await _outcomes(config, by_name, needed, measurement, systems, chosen, asked["samples"])
        spent, stopped = measurement.cost.dollars, measurement.stopped
    rows = [row for system in systems if (row := _compared(system, then[system], now[system]))]
    if not rows:
        raise ConfigError(f"no question has an answer from then and from now; {stopped or 'search again'}")
    changes = [line for row in rows for line in _changes(row)]
    shared = [each for each in now[best] if each in now[found]]
    won = sum(now[found][each].right > now[best][each].right for each in shared)
    lost = sum(now[found][each].right < now[best][each].right for each in shared)
    behind = won < lost and at_most(won, won + lost, 0.5) < UNLIKELY
    if behind:
        changes.append(
            f"{best.label} alone is better now: it solves {lost} questions that the mixture misses, and misses {won}"
        )
    fell = any(row["p"] < UNLIKELY and row["lost"] > row["won"] for row in rows if row["label"] == found.label)
    notes = [stopped.replace("--max-cost", "--spend")] if stopped else []
    return {
        "systems": rows,
        "changes": changes,
        "still_right": not behind and not fell,
        "notes": notes,
        "spent": spent,
        "folder": str(folder),
    }


def candidate_of(row: Mapping[str, Any]) -> Candidate:
    """The candidate in a search's ``result.json``."""
    return Candidate(
        tuple((str(name), int(samples)) for name, samples in row["panel"]),
        row["way"],
        row["aggregator"],
        tuple((str(name), float(weight)) for name, weight in row["weights"]),
        tuple((str(name), value) for name, value in row["settings"]),
    )


async def _outcomes(
    config: Config,
    members: Mapping[str, Member],
    needed: Sequence[str],
    measurement: Measurement,
    systems: Sequence[Candidate],
    tasks: Sequence[Task],
    samples: int,
) -> dict[Candidate, dict[str, Outcome]]:
    """The outcomes of each system by question, as far as the measurement may ask."""
    answers = Answers(measurement, samples)
    await answers.ask([members[name] for name in needed], tasks)
    complete = [task for task in tasks if task.id in answers.complete]
    trials = Trials(config, members, answers)
    await trials.each(systems, complete)
    return {
        system: {task.id: known for task in complete if (known := trials.outcome(system, task)) is not None}
        for system in systems
    }


def _compared(system: Candidate, then: Mapping[str, Outcome], now: Mapping[str, Outcome]) -> dict[str, Any] | None:
    shared = [each for each in now if each in then]
    if not shared:
        return None
    won = sum(now[each].right > then[each].right for each in shared)
    lost = sum(now[each].right < then[each].right for each in shared)
    one_sided = at_most(min(won, lost), won + lost, 0.5) if won + lost else 1.0
    return {
        "label": system.label,
        "items": len(shared),
        "before": fmean(then[each].right for each in shared),
        "now": fmean(now[each].right for each in shared),
        "won": won,
        "lost": lost,
        "p": min(1.0, 2 * one_sided),
        "cost_before": _mean([then[each].dollars for each in shared]),
        "cost_now": _mean([now[each].dollars for each in shared]),
        "seconds_before": fmean(then[each].seconds for each in shared),
        "seconds_now": fmean(now[each].seconds for each in shared),
    }


def _changes(row: Mapping[str, Any]) -> list[str]:
    """What changed in a system, in words."""
    lines = []
    if row["p"] < UNLIKELY:
        way = "better" if row["won"] > row["lost"] else "worse"
        lines.append(
            f"{row['label']} is {way} than then: {row['before']:.1%} then, {row['now']:.1%} now (p = {row['p']:.3f})"
        )
    then, now = row["cost_before"], row["cost_now"]
    if then is not None and now is not None and abs(now - then) > DEARER * max(then, 1e-12):
        lines.append(f"{row['label']}: an answer cost ${then:.4g} then, and costs ${now:.4g} now")
    return lines


def _mean(costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return fmean(known) if known and len(known) == len(costs) else None
