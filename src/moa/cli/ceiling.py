"""``moa analyse ceiling``: how good a mixture of these members can be, from runs, sweeps or a recorded matrix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from moa.cli.tables import table
from moa.cli.terminal import notify, one_line, write
from moa.errors import ConfigError
from moa.evals.asking.data import Row
from moa.evals.reading.ceiling import Ceiling, Pair, ceiling_of
from moa.evals.reading.systems import Systems, systems_in

MOST_PAIRS = 5
"""Pairs of members that are printed."""

FEW = 30
"""Items below which the figures come with a warning."""


def ceiling(
    paths: Sequence[Path], mixtures: Sequence[str], *, passes: float, out: Path | None = None, as_json: bool = False
) -> int:
    """Print what the members know together and what the mixtures reach; see :mod:`moa.evals.reading.ceiling`."""
    systems = systems_in(paths, mixtures)
    found = ceiling_of(systems.members, systems.mixtures, passes=passes)
    result = {"analysis": "ceiling", "source": systems.source, **asdict(found), "notes": systems.notes}
    if out:
        try:
            out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{out}: the analysis cannot be written there: {error.strerror or error}") from None
    if as_json:
        write(json.dumps(result))
        return 0
    _in_words(found, systems)
    if out:
        write(f"saved in {one_line(str(out))}; to plot it: moa report {one_line(str(out))}")
    return 0


def _in_words(found: Ceiling, systems: Systems) -> None:
    write(one_line(f"{systems.source}: {found.items} items, {len(found.members)} members"))
    best = found.members[0]
    table([*_systems(found)])
    interval = f"95 % interval {found.low:.1%} to {found.high:.1%}"
    write(f"all fail together: {found.failing} items, {found.share:.1%} ({interval})")
    order = ", ".join(f"{name} {score:.1%}" for name, score in found.steps)
    write(one_line(f"the oracle as members join: {order}"))
    write("members that complement each other most:")
    table([_pair(pair) for pair in found.pairs[:MOST_PAIRS]])
    if not found.reached:
        room = found.oracle - best.score
        write(one_line(f"a mixture that chooses among their answers can exceed {best.name} by at most {room:.1%}"))
    for note in systems.notes:
        notify(note)
    if found.items < FEW:
        notify(f"only {found.items} items: too few to conclude anything")


def _systems(found: Ceiling) -> list[Row]:
    best = found.members[0].score
    rows: list[Row] = [
        {
            "system": each.name,
            "score": f"{each.score:.1%}",
            "over the best": _points(each.score - best) if place else "",
        }
        | {"solved by it alone": f"{each.alone:.1%}"}
        for place, each in enumerate(found.members)
    ]
    for each in found.reached:
        way = "" if each.captured is None else f"{each.captured:.0%}"
        gains = {"over the best": _points(each.gain), "regret": _points(each.regret), "of the way": way}
        rows.append({"system": each.name, "score": f"{each.score:.1%}", **gains})
    oracle = {"system": "oracle", "score": f"{found.oracle:.1%}", "over the best": _points(found.oracle - best)}
    return [*rows, oracle]


def _pair(pair: Pair) -> Row:
    return {
        "pair": f"{pair.first} + {pair.second}",
        "oracle": f"{pair.oracle:.1%}",
        "over the better": _points(pair.gain),
        "rescued": "" if pair.rescued is None else f"{pair.rescued:.1%}",
        "failures correlate": "" if pair.together is None else f"{pair.together:+z.2f}",
    }


def _points(share: float) -> str:
    return f"{100 * share:+z.1f}"
