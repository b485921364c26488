"""The report's section on ``moa analyse ceiling``: what the members know together, and what mixtures make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moa.evals.drawing import plots
from moa.evals.drawing.page import Page, number

MOST_PAIRS = 10
"""Pairs of members in the table."""


def section(page: Page, analyses: Sequence[Mapping[str, Any]]) -> None:
    """Tables and a plot for each analysis.

    Args:
        page: what to draw on.
        analyses: what ``moa analyse ceiling --out`` wrote.
    """
    page.heading("What the members know together")
    page.text(
        "An item that every member fails is lost to every mixture that chooses among its members' answers. The oracle "
        "chooses the best answer to every item; regret is how far a mixture stays behind it."
    )
    for place, found in enumerate(analyses, 1):
        page.heading(str(found["source"]), 3)
        page.text(
            f"{found['items']} items. All {len(found['members'])} members fail {found['failing']} of them together: "
            f"{found['share']:.1%}, 95 % interval {found['low']:.1%} to {found['high']:.1%} (Clopper and Pearson). "
            f"The oracle scores {found['oracle']:.1%}.",
            "dim",
        )
        page.table(
            ["system", "score, %", "regret", "over the best member", "of the way to the oracle"], _systems(found)
        )
        names = [str(name) for name, _ in found["steps"]]
        heights = [100 * height for _, height in found["steps"]]
        levels = {"best member": 100 * found["members"][0]["score"]}
        levels |= {str(each["name"]): 100 * each["score"] for each in found["reached"]}
        caption = "The oracle as members join: each is the one that raises it most. Dashed: what is reached."
        drawing = plots.steps(names, heights, levels, "oracle, % of items")
        page.drawing("ceiling" if len(analyses) == 1 else f"ceiling-{place}", drawing, caption)
        page.heading("Which members complement each other", 3)
        headings = ["pair", "oracle, %", "over the better one", "failures of the first that the second solves, %"]
        pairs = found["pairs"][:MOST_PAIRS]
        page.table([*headings, "correlation of failures"], map(_pair, pairs))


def _systems(found: Mapping[str, Any]) -> list[list[str]]:
    best = found["members"][0]["score"]
    rows = [
        [str(each["name"]), _percent(each["score"]), "", _points(each["score"] - best), ""] for each in found["members"]
    ]
    for each in found["reached"]:
        way = "-" if each["captured"] is None else f"{each['captured']:.0%}"
        rows.append([str(each["name"]), _percent(each["score"]), _points(each["regret"]), _points(each["gain"]), way])
    return [*rows, ["oracle", _percent(found["oracle"]), "", _points(found["oracle"] - best), ""]]


def _pair(pair: Mapping[str, Any]) -> list[str]:
    rescued = "-" if pair["rescued"] is None else _percent(pair["rescued"])
    name = f"{pair['first']} + {pair['second']}"
    return [name, _percent(pair["oracle"]), _points(pair["gain"]), rescued, number(pair["together"])]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(share: float) -> str:
    return f"{100 * share:+z.1f}"
