"""``moa report`` and ``moa bench compare``."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import asdict
from pathlib import Path

from moa.cli.terminal import notify, one_line, write
from moa.config.config import Config
from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf, read_rows
from moa.evals.reading.cost import sizes
from moa.evals.reading.measured import Measured, measured, runs_in


def report(paths: Sequence[Path], out: Path, parameters: Sequence[str], *, config: str | None = None) -> int:
    """Write the page and its drawings, and print their paths."""
    from moa.evals.reading import report as page

    analyses = [_analysis(path, page.SECTIONS) for path in paths if path.is_file()]
    runs = runs_in(path for path in paths if not path.is_file())
    billions = {**Config(config).parameters, **sizes(parameters)}
    try:
        written = page.write(runs, out, billions=billions, analyses=analyses)
    except OSError as error:
        raise ConfigError(f"{out}: the report cannot be written there: {error.strerror or error}") from None
    for path in written:
        write(one_line(str(path)))
    return 0


def _analysis(path: Path, known: Container[str]) -> dict[str, object]:
    try:
        analysis = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: neither a run's folder nor an analysis: {error}") from None
    if not isinstance(analysis, dict) or analysis.get("analysis") not in known:
        raise ConfigError(f"{path}: neither a run's folder nor a file of moa analyse … --out")
    return analysis


def compare(
    first: Path, second: Path, *, confidence: float = 0.95, data: Path | None = None, as_json: bool = False
) -> int:
    """Print the difference between two runs on the items that both have."""
    from moa.evals.reading.compare import compared

    a, b = measured(first), measured(second)
    difference = compared(a, b, confidence=confidence)
    contrast, why_not = _contrast(a, b, confidence, data)
    if as_json:
        runs = {"benchmark": a.benchmark.name, "a": str(first), "b": str(second)}
        also = {"controlled": contrast} if contrast else {}
        write(json.dumps({**runs, "systems": [a.name, b.name], "difference": asdict(difference), **also}, indent=1))
        return 0
    level = f"{confidence:.0%} confidence interval"
    write(one_line(f"{a.benchmark.name}: {a.name} against {b.name}, {difference.items} items that both have"))
    write(f"  {one_line(a.name)}: {difference.a:.2f}    {one_line(b.name)}: {difference.b:.2f}")
    ends = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
    write(f"  difference {difference.difference:+.2f}, {level} {ends}")
    write(f"  better on {difference.better}, worse on {difference.worse}, equal on {difference.even}")
    write("  the interval excludes 0" if difference.decided else "  no difference is shown: the interval contains 0")
    if (controlled := a.benchmark.controlled) and contrast:
        low, high = contrast["difference_low"], contrast["difference_high"]
        write(f"  {controlled.name}: difference {contrast['difference']:+.2f}, {level} [{low:+.2f}, {high:+.2f}]")
        low, high = contrast["head_to_head_low"], contrast["head_to_head_high"]
        head = f"{contrast['head_to_head']:.2f} %, {level} [{low:.2f}, {high:.2f}]"
        write(f"  length-controlled win rate of {one_line(a.name)} against {one_line(b.name)}: {head}")
    elif why_not:
        write(f"  {one_line(why_not)}")
    judges = [run.settings.get("judge") for run in (a, b)]
    if judges[0] != judges[1]:
        notify(f"the runs have different judges, and so different scales: {judges[0]} and {judges[1]}")
    return 0


def _contrast(a: Measured, b: Measured, confidence: float, data: Path | None) -> tuple[Row, str]:
    """The difference of the controlled scores, if the benchmark has them; else empty, and why it has none."""
    if a.benchmark.contrast is None:
        return {}, ""
    rows = [read_rows(run.folder / "judgments.jsonl") for run in (a, b)]
    try:
        return a.benchmark.contrast(rows[0], rows[1], Shelf(data, on_notice=notify), confidence), ""
    except ConfigError as error:
        return {}, str(error)
