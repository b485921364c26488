"""What ways to one answer are worth on recorded answers: best member, votes, mux, central, the found mixture, oracle.

    uv run python benchmarks/aggregation.py [--splits 5] [MATRIX.jsonl.gz …]

Everything is chosen and fitted on one half of the items and read on the other one, over several random halves. Gains are
over the single model that was best on the first half, in points. Without a file, the matrices in ../shared/data/recorded
or $MOA_DATA/recorded are read. No model is called.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from moa.evals.search.ballots import Doubles, panel_of
from moa.evals.search.choice import Members
from moa.evals.search.grid import Grid, grid_of
from moa.evals.search.intervals import clustered, paired
from moa.evals.search.matrix import read_matrix
from moa.evals.search.search import Limits, search
from moa.evals.search.splits import parted
from moa.evals.search.ways import Evidence, Kind, Way, accuracies_of, fit, ranked, single
from moa.evals.search.words import bag_of

STRONGEST = 4


class Table:
    """Rows of figures, collected over splits."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns
        self.rows: dict[str, list[Sequence[float]]] = {}

    def add(self, name: str, *figures: float) -> None:
        self.rows.setdefault(name, []).append(figures)

    def lines(self) -> Iterator[str]:
        width = max(map(len, self.rows))
        yield " " * width + "".join(f"{column:>11}" for column in (*self.columns, "spread"))
        for name, splits in self.rows.items():
            means = np.nanmean(splits, axis=0)
            spread = np.std([split[2] for split in splits]) if len(splits) > 1 else 0.0
            yield f"{name:<{width}}" + "".join(f"{figure:>11.2f}" for figure in (*means, spread))


def measured(path: Path, splits: int) -> None:
    """Print the tables of a matrix."""
    items = read_matrix(path)
    whole = grid_of(items)
    print(f"\n{path.name}: {len(whole)} items, {len(whole.models)} models, {splits} random halves\n")
    ways = Table(("calls", "accuracy", "gain", "low", "high", "task low", "task high"))
    pays = Table(("calls", "accuracy", "gain", "widened %", "quality %", "calls %"))
    for seed in range(splits):
        found = search(items, seed=seed, limits=Limits(STRONGEST))
        first, second = (whole.rows(np.sort(part)) for part in parted(whole, 2, seed))
        there = Evidence(second)
        accuracies = accuracies_of(first, np.arange(len(first)))
        order = ranked(range(len(first.models)), accuracies)
        best = single(second, order[0])
        for name, way in _ways(first, order).items():
            _add(ways, name, way.calls, way.quality(there), best, second)
        chosen = found.found.way
        words = bag_of(second.items, bag_of(first.items).words)
        reached = chosen.quality(Evidence(second, words))
        _add(ways, "found by moa search", chosen.calls, reached, best, second)
        _add(ways, "any member is right", len(whole.owner), second.right.max(1).astype(np.float64), best, second)
        for name, members in {
            "4 strongest": order[:4],
            "6 strongest": order[:6],
            "found members": chosen.members,
        }.items():
            _disagree(pays, name, first, second, members, best)
    print("\n".join([*ways.lines(), "", 'when = "disagree", first = 2, weighted vote', *pays.lines()]))


def _ways(grid: Grid, order: Members) -> Mapping[str, Way]:
    """The fixed ways, fitted to this half; those that make no sense on it are left out."""
    rows, here = np.arange(len(grid)), Evidence(grid)
    few, most = order[:STRONGEST], max(len(grid.columns(model)) for model in order)
    weak = [model for model in order if len(grid.columns(model)) == most][-5:]
    asked: dict[str, tuple[Kind, Members]] = {
        "best member": ("one", order[:1]),
        "vote of all": ("vote", order),
        "weighted vote of all": ("weighted", order),
        f"vote of the {STRONGEST} strongest": ("vote", few),
        f"weighted vote of the {STRONGEST} strongest": ("weighted", few),
        "all samples of the best, vote": ("samples", order[:1]),
        f"all samples of the {STRONGEST} strongest, weighted": ("samples", few),
        f"mux of the {STRONGEST} strongest": ("mux", few),
        "mux of the 5 weakest": ("mux", tuple(weak)),
        "best of the 5 weakest once": ("one", tuple(weak[:1])),
        "best of the 5 weakest, its samples' vote": ("samples", tuple(weak[:1])),
        f"central of the {STRONGEST} strongest": ("central", few),
    }
    fitted = {name: fit(kind, members, here, rows) for name, (kind, members) in asked.items()}
    return {name: way for name, way in fitted.items() if way is not None}


def _add(table: Table, name: str, calls: int, reached: Doubles, best: Doubles, grid: Grid) -> None:
    differences = 100 * (reached - best)
    over = paired(differences)
    by_task = clustered(differences, grid.tasks)
    tasks = (by_task.low, by_task.high) if by_task else (np.nan, np.nan)
    table.add(name, calls, 100 * reached.mean(), over.mean, over.low, over.high, *tasks)


def _disagree(table: Table, name: str, first: Grid, second: Grid, members: Members, best: Doubles) -> None:
    """Two members answer; the others are called where these differ, or where one gives no answer."""
    way = fit("weighted", members, Evidence(first), np.arange(len(first)))
    if way is None:
        return
    columns = [int(second.columns(member)[0]) for member in way.members[:2]]
    agree = panel_of(second, columns).same[0, 1]
    always = way.quality(Evidence(second))
    reached = np.where(agree, second.right[:, columns[0]], always)
    calls = np.where(agree, 2, len(members)).mean()
    kept, saved = 100 * reached.mean() / always.mean(), 100 * calls / len(members)
    gain = 100 * (reached - best).mean()
    table.add(name, calls, 100 * reached.mean(), gain, 100 * (~agree).mean(), kept, saved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("matrices", nargs="*", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    given = parser.parse_args()
    folder = Path(os.environ.get("MOA_DATA", "../shared/data")) / "recorded"
    matrices = given.matrices or sorted(folder.glob("*.jsonl.gz"))
    if not matrices:
        raise SystemExit(f"no matrix: name one, or put them into {folder}")
    for path in matrices:
        measured(path, given.splits)


if __name__ == "__main__":
    main()
