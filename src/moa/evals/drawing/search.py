"""The report's section on ``moa search``: what was found, the front of quality against dollars and seconds, the members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moa.evals.drawing import plots
from moa.evals.drawing.page import Page, number


def section(page: Page, analyses: Sequence[Mapping[str, Any]]) -> None:
    """What each search found.

    Args:
        page: what to draw on.
        analyses: the ``result.json`` of searches.
    """
    for place, found in enumerate(analyses, 1):
        suffix = "" if len(analyses) == 1 else f"-{place}"
        confirmed = found["confirmation"]
        page.heading("Which mixture, for these questions")
        page.text(f"Found: {confirmed['label']}")
        page.text(_confirmation(found), "dim")
        for note in [*found["notes"], *(f"{name} is left out: {why}" for name, why in found["left_out"].items())]:
            page.text(note, "note")
        page.heading("Quality against price", 3)
        headings = ["candidate", "calls", "$ an answer", "seconds", "search part, %", "confirmation, %"]
        page.table([*headings, "gain, points", "95 % interval"], [_row(each) for each in found["front"]])
        page.text("The front was chosen on the search part; only figures of the confirmation part are unbiased.", "dim")
        _plot(page, f"search-dollars{suffix}", found, "cost", "US dollars an answer")
        _plot(page, f"search-seconds{suffix}", found, "seconds", "seconds an answer")
        page.heading("Members", 3)
        page.table(
            ["member", "search part, %", "$ an answer", "seconds"],
            [
                [name, _percent(each["accuracy"]), _dollars(each["cost"]), number(each["seconds"], 1)]
                for name, each in found["search"]["members"].items()
            ],
        )
        if found["left_early"]:
            page.heading("Left their race early", 3)
            page.table(["candidate", "why"], [[label, why] for label, why in found["left_early"].items()])


def _confirmation(found: Mapping[str, Any]) -> str:
    confirmed = found["confirmation"]
    text = f"{found['tried']} candidates were tried on {found['search']['items']} questions."
    if confirmed["accuracy"] is None:
        return f"{text} None was confirmed."
    if "model" in found["found"] or confirmed["label"] == confirmed["best_model"]:
        return f"{text} One model is best: {confirmed['accuracy']:.1%} on {confirmed['items']} other questions."
    return (
        f"{text} On {confirmed['items']} other questions: {confirmed['accuracy']:.1%}; the best single model, "
        f"{confirmed['best_model']}, {confirmed['best']:.1%}. Gain {100 * confirmed['gain']:+z.1f} points, 95 % interval "
        f"{100 * confirmed['low']:+z.1f} to {100 * confirmed['high']:+z.1f}."
    )


def _plot(page: Page, name: str, found: Mapping[str, Any], axis: str, label: str) -> None:
    points = [
        plots.Point(str(each["label"]), each[axis], 100 * each["searched"])
        for each in [*found["front"], *_singles(found)]
        if each.get(axis) is not None
    ]
    if len(points) > 1 and any(point.cost for point in points):
        best = [place for place, _ in enumerate(found["front"][: len(points)])] if axis == "cost" else []
        best = sorted(best, key=lambda place: points[place].cost)
        page.drawing(name, plots.front(points, best, label, "right answers, % of the search part"), f"Against {label}.")


def _singles(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    shown = {each["label"] for each in found["front"]}
    return [
        {"label": name, "cost": each["cost"], "seconds": each["seconds"], "searched": each["accuracy"]}
        for name, each in found["search"]["members"].items()
        if name not in shown
    ]


def _row(each: Mapping[str, Any]) -> list[str]:
    interval = "-" if each["gain"] is None else f"{100 * each['low']:+z.1f} to {100 * each['high']:+z.1f}"
    gain = "-" if each["gain"] is None else f"{100 * each['gain']:+z.1f}"
    figures = [_percent(each["searched"]), "-" if each["accuracy"] is None else _percent(each["accuracy"])]
    return [
        each["label"],
        str(each["calls"]),
        _dollars(each["cost"]),
        number(each["seconds"], 1),
        *figures,
        gain,
        interval,
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _dollars(cost: float | None) -> str:
    return "unknown" if cost is None else f"{cost:.4g}"
