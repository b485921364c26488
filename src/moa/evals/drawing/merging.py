"""The report's section on ``moa analyse merge``: does the aggregator pick or merge?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from moa.evals.drawing import plots
from moa.evals.drawing.page import Page, number, with_error
from moa.evals.drawing.sections import NORMAL

Bars = dict[str, list[plots.Bar]]
"""Bars by their name in the legend."""


def section(page: Page, analyses: Sequence[Mapping[str, Any]]) -> None:
    """A table for each analysis, and all correlations, with their excess over the controls, in two plots.

    Args:
        page: what to draw on.
        analyses: what ``moa analyse merge --out`` wrote.
    """
    page.heading("Does the aggregator pick or merge?")
    page.text(
        "Spearman's correlation within each prompt between the quality of the proposals and the answer's similarity to "
        "them. The answers of models that saw no proposal correlate as well; only the excess over them counts."
    )
    correlations: Bars = {}
    excess: Bars = {}
    for analysis in analyses:
        name = str(analysis["system"])
        rows = [_row(name, each, correlations, excess) for each in analysis["correlations"]]
        controls = [
            heading
            for control in analysis["correlations"][0]["controls"]
            for heading in (control, f"excess over {control}")
        ]
        page.heading(name, 3)
        page.text(
            f"{analysis['prompts']} prompts, {analysis['proposals']:.1f} proposals each; "
            f"{analysis['copied']:.1%} of answers copy one. The most similar proposal is the best one in "
            f"{analysis['closest_is_best']:.1%}, by chance in {1 / analysis['proposals']:.1%}.",
            "dim",
        )
        page.table(["similarity", "rho ± standard error", *controls], rows)
    if correlations:
        drawing = plots.intervals(correlations, "mean rank correlation", zero=0)
        page.drawing("merging", drawing, "With 95 % intervals.")
    if excess:
        caption = "Excess over a control that saw no proposals, with bootstrap intervals."
        page.drawing("merging-excess", plots.intervals(excess, "excess correlation", zero=0), caption)


def _row(name: str, correlation: Mapping[str, Any], correlations: Bars, excess: Bars) -> list[str]:
    """A row of the table of a system; its bars are added to those of the plots."""
    rho, measure = correlation["rho"], str(correlation["measure"])
    error = correlation["standard_error"]
    row = [measure, with_error(rho, error, 3)]
    if not math.isnan(rho):
        bar = plots.Bar(measure, rho, rho - NORMAL * error, rho + NORMAL * error)
        correlations.setdefault(name, []).append(bar)
    for control, value in correlation["controls"].items():
        row.append(number(value, 3))
        gap = correlation["excess"].get(control)
        row.append(f"{gap['difference']:+z.3f} ({gap['low']:+z.3f} to {gap['high']:+z.3f})" if gap else "-")
        if gap:
            bar = plots.Bar(measure, gap["difference"], gap["low"], gap["high"])
            excess.setdefault(f"{name} over {control}", []).append(bar)
    return row
