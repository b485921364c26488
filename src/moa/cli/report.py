"""``moa report`` and ``moa bench compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from moa.cli.analyse import sizes
from moa.cli.terminal import one_line, say, tell
from moa.config.config import Config
from moa.errors import ConfigError
from moa.evals.reading.measured import measured, runs_in


def report(paths: Sequence[Path], out: Path, parameters: Sequence[str], *, config: str | None = None) -> int:
    """Write the page and its drawings; say where they are."""
    from moa.evals.reading import report as page

    analyses = [_analysis(path) for path in paths if path.is_file()]
    runs = runs_in(path for path in paths if not path.is_file())
    billions = {**Config(config).parameters, **sizes(parameters)}
    try:
        written = page.write(runs, out, billions=billions, analyses=analyses)
    except OSError as error:
        raise ConfigError(f"{out}: the report cannot be written there: {error.strerror or error}") from None
    for path in written:
        say(one_line(str(path)))
    return 0


def _analysis(path: Path) -> dict[str, object]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: neither a run's folder nor an analysis: {error}") from None
    if not isinstance(told, dict) or told.get("analysis") != "merging":
        raise ConfigError(f"{path}: neither a run's folder nor what moa analyse merge --out wrote")
    return told


def compare(first: Path, second: Path, *, confidence: float = 0.95, as_json: bool = False) -> int:
    """The difference between two runs on the items that both have."""
    from moa.evals.reading.compare import compared

    a, b = measured(first), measured(second)
    difference = compared(a, b, confidence=confidence)
    if as_json:
        named = {"benchmark": a.benchmark, "a": str(first), "b": str(second)}
        say(json.dumps({**named, "systems": [a.name, b.name], "difference": asdict(difference)}, indent=1))
        return 0
    say(one_line(f"{a.benchmark}: {a.name} against {b.name}, {difference.items} items that both have"))
    say(one_line(f"  {a.name}: {difference.a:.2f}    {b.name}: {difference.b:.2f}"))
    ends = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
    say(f"  difference {difference.difference:+.2f}, {confidence:.0%} interval {ends}")
    say(f"  better on {difference.better}, worse on {difference.worse}, even on {difference.even}")
    say("  the interval leaves 0 out" if difference.decided else "  no difference is shown: the interval holds 0")
    if a.result.get("length_controlled_winrate") is not None and b.result.get("length_controlled_winrate") is not None:
        figures = [float(run.result["length_controlled_winrate"]) for run in (a, b)]
        say(
            f"  length-controlled: {figures[0]:.2f} and {figures[1]:.2f}; the difference above is not length-controlled"
        )
    if a.settings.get("judge") != b.settings.get("judge"):
        tell(f"judged by different judges: {a.settings.get('judge')} and {b.settings.get('judge')}")
    return 0
