"""The length-controlled figures of a system, and of one against another, from its judgments.

:mod:`~moa.evals.benchmarks.alpaca_eval.length_control` has the model, which needs numpy; this module decides whether it
may be fitted, and how far to trust it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf
from moa.evals.benchmarks.alpaca_eval.judging import BASELINE, FITS, GAMED, RECONSTRUCTED
from moa.evals.benchmarks.alpaca_eval.judgments import Judged, columns_of, known_texts
from moa.evals.metric import Metric

CONTROLLED = Metric("length-controlled win rate", "length_controlled_winrate", "", 0, 100, unit="%")

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
"""The official judge's name in the original's files."""


@dataclass(frozen=True, slots=True)
class _Controllable:
    """What the fit of a system needs: preferences in [0, 1], features, and the gamed baselines with the difficulties."""

    index: list[int]
    preferences: Any
    columns: Any
    variants: Any

    def only(self, wanted: Sequence[int]) -> _Controllable:
        """These instructions, in this order."""
        rows = [self.index.index(index) for index in wanted]
        return _Controllable([*wanted], self.preferences[rows], self.columns[rows], self.variants)


def _controllable(judged: Judged, shelf: Shelf, notes: list[str], instructions: int = 0) -> _Controllable | None:
    """The features of a system's judgments, or None and a note with the reason."""
    try:
        lc = loaded()
        stand_in = None if shelf.here(GAMED) else shelf.here(RECONSTRUCTED)
        variants = lc.gamed(shelf.rows(RECONSTRUCTED if stand_in else GAMED))
    except ConfigError as error:
        notes.append(f"no length control: {error}")
        return None
    if stand_in:
        notes.append("length control with a reconstruction of the gamed baselines; their real file is df_gamed.csv")
    own = judged.only(range(len(judged.index) - judged.foreign))
    whole = max(instructions, len(variants.difficulty))
    if len(own.index) < whole:
        notes.append(
            f"{len(own.index)} of {whole} instructions: the official code takes a row's place for its instruction, so its "
            "length-controlled figure of such a file is another one"
        )
    missing = any(map(math.isnan, own.lengths + own.baseline_lengths))
    if missing or not own.index or max(own.index) >= len(variants.difficulty):
        notes.append("no length control: answers' lengths or instructions are missing")
        return None
    difficulty = variants.difficulty[own.index]
    columns = lc.features(lc.floats(own.baseline_lengths), lc.floats(own.lengths), difficulty)
    return _Controllable(own.index, lc.floats(own.preference) - 1, columns, variants)


def length_controlled(
    system: str,
    baseline: str | None,
    annotator: str | None,
    judged: Judged,
    shelf: Shelf,
    instructions: int,
    notes: list[str],
) -> Row:
    """The length-controlled figures, or no figures and a note with the reason."""
    if system == baseline:
        return {CONTROLLED.field: 50.0, "lc_standard_error": 0.0}
    data = _controllable(judged, shelf, notes, instructions)
    if data is None:
        return {}
    lc = loaded()
    preferences, columns, variants = data.preferences, data.columns, data.variants
    fit = lc.length_controlled(preferences, columns, variants)
    found: Row = {"length_control": {"C": fit.strength, "weights": fit.weights, "chosen_by": "cross-validation"}}
    official = baseline in (None, BASELINE) and annotator in (None, ANNOTATOR)
    known = sum(not math.isnan(preference) for preference in preferences)
    if known < lc.FEWEST:
        notes.append(f"no length-controlled win rate: its fit to {known} items says nothing; it takes {lc.FEWEST}")
    elif not any(fit.weights):
        notes.append("no length-controlled win rate: all weights of its fit are 0, so it says nothing")
    else:
        counts = lc.resamples(len(preferences))
        drawn = lc.resampled(preferences, columns, variants, fit, counts)
        low, high = lc.ends(lc.win_rates(drawn, columns[:, 1], counts))
        found |= {CONTROLLED.field: fit.win_rate, "lc_standard_error": fit.standard_error}
        found |= {f"{CONTROLLED.field}_low": low, f"{CONTROLLED.field}_high": high}
        if not official:
            judge = f"{annotator or 'its judge'} against {baseline or BASELINE}"
            notes.append(
                f"length control is calibrated on gpt-4-1106-preview's judgments against {BASELINE}; for {judge} it is "
                "an approximation"
            )
    if official and (weights := recorded(shelf).get(system)):
        again = lc.strength_of(weights, preferences, columns, variants)
        found["recorded_fit"] = {
            "weights": weights,
            "C": again.strength,
            "length_controlled_winrate": lc.predicted(weights, variants.difficulty).win_rate,
            "length_controlled_winrate_fitted_at_C": again.win_rate,
        }
    return found


def contrast(first: Sequence[Row], second: Sequence[Row], shelf: Shelf, confidence: float) -> Row:
    """The length-controlled comparison of two systems, on the instructions that both have.

    Both systems are fitted again to each resample of the instructions. ``difference`` is that of the two length-controlled
    win rates; ``head_to_head`` is the win rate of the first against the second that their weights predict, as
    ``predict_winrate`` of the original does.

    Raises:
        ConfigError: there are too few instructions, or something that the fits need is missing.
    """
    texts = known_texts(shelf)
    places = {text: place for place, text in enumerate(texts)}
    lc = loaded()
    judged = [columns_of(rows, texts, places) for rows in (first, second)]
    has = [
        {index for index, value in zip(one.index, one.preference, strict=True) if not math.isnan(value)}
        for one in (own.only(range(len(own.index) - own.foreign)) for own in judged)
    ]
    shared = sorted(has[0] & has[1])
    if len(shared) < lc.FEWEST:
        raise ConfigError(
            f"no length-controlled difference: {len(shared)} shared items are too few; it takes {lc.FEWEST}"
        )
    notes: list[str] = []
    both = [_controllable(one, shelf, notes) for one in judged]
    if both[0] is None or both[1] is None:
        raise ConfigError(notes[-1])
    counts = lc.resamples(len(shared))
    figures, weights = [], []
    for one in (both[0].only(shared), both[1].only(shared)):
        fit = lc.length_controlled(one.preferences, one.columns, one.variants)
        drawn = lc.resampled(one.preferences, one.columns, one.variants, fit, counts)
        figures.append((fit, lc.win_rates(drawn, one.columns[:, 1], counts)))
        weights.append(drawn)
    (a, of_a), (b, of_b) = figures
    low, high = lc.ends(of_a - of_b, confidence)
    difficulty = both[0].variants.difficulty
    ahead = lc.ends(lc.against(weights[0], weights[1], difficulty), confidence)
    head = float(lc.against(lc.floats(a.weights)[None], lc.floats(b.weights)[None], difficulty)[0])
    return {
        "items": len(shared),
        "difference": a.win_rate - b.win_rate,
        "difference_low": low,
        "difference_high": high,
        "head_to_head": head,
        "head_to_head_low": ahead[0],
        "head_to_head_high": ahead[1],
    }


def loaded() -> ModuleType:
    """The module ``length_control``, which needs numpy; raises ConfigError with what to install."""
    try:
        from moa.evals.benchmarks.alpaca_eval import length_control
    except ImportError:
        raise ConfigError("it needs numpy: pip install 'mixture-of-agents[evals]'") from None
    return length_control


def recorded(shelf: Shelf) -> dict[str, tuple[float, float, float]]:
    """The official fits by system; empty if their file is not available."""
    rows = shelf.rows(FITS) if shelf.here(FITS) else []
    length, difficulty, constant = loaded().WEIGHT_NAMES
    return {row[""]: (float(row[length]), float(row[difficulty]), float(row[constant])) for row in rows}
