"""Systems with a score for each item, from runs, sweeps or a matrix of recorded answers: members, and mixtures of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moa.errors import ConfigError, UnknownName
from moa.evals.reading.measured import Measured, runs_in

Scores = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Systems:
    """Systems on the same items.

    Attributes:
        source: where the scores come from, for readers.
        members: by name, the score of each item from 0 to 1.
        mixtures: likewise.
        notes: what a reader should know about them.
    """

    source: str
    members: Scores
    mixtures: Scores
    notes: list[str] = field(default_factory=list)


def systems_in(paths: Sequence[Path], mixtures: Sequence[str] = ()) -> Systems:
    """The systems of one matrix, or of runs of one benchmark.

    Args:
        paths: a file, or runs' folders and folders of runs.
        mixtures: names of systems that are mixtures of the others. Without any, those runs are whose system is no single
            model, unless too few members are left; then all are members.

    Raises:
        ConfigError: the paths cannot be read, mix benchmarks, or share no items.
        UnknownName: a name in ``mixtures`` is of no system.
    """
    files = [path for path in paths if path.is_file()]
    if files and len(paths) > 1:
        raise ConfigError(f"{files[0]} is a matrix; give it alone, or give folders of runs")
    by_name, found_mixtures, source, notes = _from_matrix(files[0]) if files else _from_runs(runs_in(paths))
    for name in mixtures:
        if name not in by_name:
            raise UnknownName("system", name, [*by_name], f"(here are {', '.join(by_name)})")
    chosen = {*mixtures} or found_mixtures
    if len(by_name) - len(chosen) < 2 and not mixtures:
        chosen = set()
    return Systems(
        source,
        {name: scores for name, scores in by_name.items() if name not in chosen},
        {name: scores for name, scores in by_name.items() if name in chosen},
        notes,
    )


def _from_matrix(path: Path) -> tuple[Scores, set[str], str, list[str]]:
    from moa.evals.search.grid import grid_of
    from moa.evals.search.matrix import read_matrix

    grid = grid_of(read_matrix(path))
    columns = {name: grid.columns(place) for place, name in enumerate(grid.models)}
    notes = [f"{name} is left out: it covers too few items" for name in grid.left_out]
    if grid.unlabelled:
        notes.append(f"{grid.unlabelled} items without a label are left out")
    if most := [name for name, own in columns.items() if len(own) > 1]:
        notes.append(f"only the first sample of each member counts; {', '.join(most)} have more")
    scores = {name: [float(value) for value in grid.right[:, own[0]]] for name, own in columns.items()}
    return scores, set(), path.name, notes


def _from_runs(runs: Sequence[Measured]) -> tuple[Scores, set[str], str, list[str]]:
    benchmarks = list(dict.fromkeys(run.benchmark.name for run in runs))
    if len(benchmarks) > 1:
        raise ConfigError(f"these runs are of different benchmarks: {', '.join(benchmarks)}; give runs of one")
    names = [run.name for run in runs]
    shared = [item for item in runs[0].scores if all(item in run.scores for run in runs)]
    metric = runs[0].benchmark.metric
    scores, mixtures = Scores(), set[str]()
    for run in runs:
        name = run.name if names.count(run.name) == 1 else f"{run.name} ({run.folder.name})"
        scores[name] = [(run.scores[item] - metric.low) / (metric.high - metric.low) for item in shared]
        if "model" not in run.settings.get("definition", {"model": ""}):
            mixtures.add(name)
    most = max(len(run.scores) for run in runs)
    notes = [f"{len(shared)} of {most} items have a score of every system"] if len(shared) < most else []
    return scores, mixtures, benchmarks[0], notes
