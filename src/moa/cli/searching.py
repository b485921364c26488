"""The work of ``moa search``, and what it prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from moa.cli.tables import table
from moa.cli.terminal import notify, one_line, write
from moa.errors import ConfigError

if TYPE_CHECKING:
    from moa.evals.search.intervals import Interval
    from moa.evals.search.search import Point, Search


def recorded(
    path: Path,
    confirm: Path | None,
    *,
    members: int,
    cost: float | None,
    seconds: float | None,
    seed: int,
    as_json: bool,
) -> int:
    """Search in recorded answers. Gives exit code 0."""
    try:
        from moa.evals.search.search import Limits, search
    except ModuleNotFoundError as error:
        raise ConfigError(f"moa search needs {error.name}: pip install 'mixture-of-agents[evals]'") from None
    from moa.evals.search.matrix import read_matrix

    limits = Limits(members, cost, seconds)
    others = None if confirm is None else read_matrix(confirm)
    found = search(read_matrix(path), others, limits=limits, seed=seed)
    for note in notes(found):
        notify(note)
    if as_json:
        write(json.dumps(as_object(found), indent=2, ensure_ascii=False))
    else:
        write("\n".join(block(found)))
        table([_row(point) for point in found.front])
    return 0


def notes(found: Search) -> Iterator[str]:
    """What a reader has to know about the data."""
    if found.grid.left_out:
        names = ", ".join(one_line(name) for name in found.grid.left_out)
        yield f"left out, because they answered too few of the questions: {names}"
    if found.grid.unlabelled:
        yield f"left out, because they have no label: {found.grid.unlabelled} questions"
    layers = found.found.table.get("layers", [[found.found.table.get("model", "")]])
    bare = sorted({name for layer in layers for name in layer if "/" not in name})
    if bare:
        yield f"write the provider before these names in moa.toml, as in provider/{bare[0]}: {', '.join(bare)}"


def as_object(found: Search) -> dict[str, Any]:
    """The result as one JSON object; accuracies, gains and bounds are from 0 to 1, costs in US dollars."""
    return {
        "found": found.found.table,
        "confirmation": _figures(found, found.found) | {"best_model": found.best.table["model"]},
        "tried": found.tried,
        "front": [{"found": point.table} | _figures(found, point) for point in found.front],
        "search": {"items": found.searched, "gain": found.expected},
    }


def _figures(found: Search, point: Point) -> dict[str, Any]:
    by_task = point.by_task
    return {
        "items": found.confirmed,
        "best": found.best.accuracy,
        "accuracy": point.accuracy,
        "gain": point.gain.mean,
        "low": point.gain.low,
        "high": point.gain.high,
        "low_by_task": by_task and by_task.low,
        "high_by_task": by_task and by_task.high,
        "way": point.way.kind,
        "calls": point.calls,
        "cost": point.cost,
        "seconds": point.seconds,
    }


def block(found: Search) -> Iterator[str]:
    """A block for moa.toml with the figures as comments, or that one model is best."""
    point, items = found.found, f"{found.confirmed} questions that the search did not see"
    if "model" in point.table:
        yield f"One model is best: {point.table['model']}, {point.accuracy:.1%} on {items}."
        yield f"No mixture of the {found.tried} that were tried promised more."
        return
    gain = point.gain
    best = f"{found.best.table['model']}, {found.best.accuracy:.1%}"
    yield f"# {point.accuracy:.1%} on {items}; the best single model: {best}"
    yield f"# gain {_points(gain)} over questions"
    if point.by_task is not None:
        yield f"# clustered by task: {_points(point.by_task)}"
    yield f"# {found.tried} mixtures were tried on {found.searched} other questions"
    yield toml({"mixtures": {"found": point.table}})
    yield ""


def toml(table: dict[str, Any]) -> str:
    """A table as TOML, each array on one line."""
    return _BREAK.sub(
        lambda gap: {"[": "[", "]": "]"}.get(gap[0].strip(",\n ") or ",", ", "), tomli_w.dumps(table)
    ).strip()


_BREAK = re.compile(r"\[\n *|,\n *\]|,\n +")
"""Line breaks inside an array; a string of TOML holds none."""


def _points(gain: Interval) -> str:
    return f"{100 * gain.mean:+.1f} points, 95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}"


def _row(point: Point) -> dict[str, Any]:
    names = point.table.get("layers", [[point.table.get("model")]])[0]
    return {
        "calls": point.calls,
        "way": point.way.kind,
        "accuracy": f"{point.accuracy:.1%}",
        "gain": f"{100 * point.gain.mean:+.1f}",
        "low": f"{100 * point.gain.low:+.1f}",
        "high": f"{100 * point.gain.high:+.1f}",
        "dollars": None if point.cost is None else f"{point.cost:.4f}",
        "seconds": None if point.seconds is None else f"{point.seconds:.1f}",
        "models": ", ".join(names),
    }
