"""``moa bench list``: the benchmarks, and what each needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from moa.cli.tables import table
from moa.cli.terminal import write
from moa.evals.asking.data import FOLDER_VARIABLE, Shelf
from moa.evals.benchmark import Benchmark, Options
from moa.evals.benchmarks import ALL


def bench_list(data: Path | None, *, as_json: bool = False) -> int:
    """Print the benchmarks with their judges and files."""
    shelf = Shelf(data)
    if as_json:
        rows = [
            {"name": each.name, "about": each.about, "judge": each.judge, "needs": [*_needs(each, shelf)]}
            for each in ALL
        ]
        write(json.dumps({"benchmarks": rows}, indent=1, ensure_ascii=False))
        return 0
    table([{"benchmark": each.name, "about": each.about, "needs": "; ".join(_needs(each, shelf))} for each in ALL])
    write()
    write(f"A copy of your own is found in DIR/BENCHMARK/ with --data DIR, or with {FOLDER_VARIABLE}=DIR.")
    return 0


def _needs(benchmark: Benchmark, shelf: Shelf) -> Iterator[str]:
    """What a run needs, and whether it is on this machine."""
    files = benchmark.needs(Options())
    if benchmark.takes_file and not files:
        yield "FILE"
    missing = [file for file in files if shelf.here(file) is None]
    if files and not missing:
        yield "files: here"
    if downloads := [file for file in missing if file.url]:
        yield f"files: downloads {len(downloads)}"
    for file in missing:
        if not file.url:
            yield f"your copy of {file.names[0]}" + (", or FILE" if benchmark.takes_file else "")
    if benchmark.judge is not None:
        yield "a judge" + (" for rows that say so" if benchmark.judged else "")
