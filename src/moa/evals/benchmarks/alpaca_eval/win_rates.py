"""Win rates from AlpacaEval's judgments as on the official leaderboard, with the figures that show how far to trust them.

Source: https://github.com/tatsu-lab/alpaca_eval/tree/cd543a149df89434d8a54582c0151c0b945c3d20/src/alpaca_eval/metrics;
the figures have the names of the leaderboard's columns. ``length_control`` has the length-controlled win rate.

Quirks of the original: a preference of 0 is an old notation for a draw; the win rate leaves out judgments without a
preference, and counts them; the discrete win rate counts a draw as half a win.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from types import ModuleType
from typing import Any

from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf
from moa.evals.benchmarks.alpaca_eval.judging import (
    BASELINE,
    FITS,
    GAMED,
    INSTRUCTIONS,
    OUTPUTS,
    RECONSTRUCTED,
    instructions,
    is_switched,
    weighted,
)
from moa.evals.metric import standard_error


@dataclass(slots=True)
class _Judged:
    """Judgments of one system as columns of equal length; NaN and None for unknown values."""

    preference: list[float] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    baseline_lengths: list[float] = field(default_factory=list)
    switched: list[bool | None] = field(default_factory=list)


def score(rows: Sequence[Row], shelf: Shelf, system: str = "") -> list[Row]:
    """A result for every combination of system, baseline and judge.

    Args:
        rows: as in the original's ``annotations.json``, or with ``index``, ``len_1`` and ``len_2`` in place of the texts;
            or a row of weights for each system, as in its recorded fits.
        shelf: has the instructions' difficulty and order, and the gamed baselines.
        system: not used; the rows name it.

    Raises:
        ConfigError: the rows are no judgments of AlpacaEval.
    """
    if rows and "instruction_difficulty" in rows[0] and "generator_2" not in rows[0]:
        return _from_fits(rows, shelf)
    missing = [row for row in rows if "generator_2" not in row]
    if missing or not rows:
        raise ConfigError(
            f"expected judgments of AlpacaEval, with generator_2; found {[*missing[0]] if missing else 'none'}"
        )
    systems: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        systems.setdefault((row["generator_2"], row.get("generator_1"), row.get("annotator")), []).append(row)
    known = instructions(shelf) if shelf.here(OUTPUTS) else shelf.rows(INSTRUCTIONS) if shelf.here(INSTRUCTIONS) else []
    texts = [row["instruction"] for row in known]
    places = {text: place for place, text in enumerate(texts)}
    return [_scored(key, of_system, texts, places, shelf) for key, of_system in systems.items()]


def _scored(
    key: tuple[Any, ...], rows: Sequence[Row], texts: Sequence[str], places: Mapping[str, int], shelf: Shelf
) -> Row:
    system, baseline, annotator = key
    judged = _columns(rows, texts, places)
    valid = [preference - 1 for preference in judged.preference if not math.isnan(preference)]
    notes = []
    verdicts = [row for row in rows if row.get("moa", {}).get("weighted") is False]
    if verdicts or (any(valid) and set(valid) <= {0.0, 0.5, 1.0} and set(valid) != {0.5}):
        some = f"{len(verdicts) or len(valid)} of {len(judged.preference)}"
        notes.append(f"the judge gave no log-probabilities for {some}: verdicts, not weighted preferences")
    result: Row = {
        "benchmark": "alpaca-eval",
        "system": system,
        "baseline": baseline,
        "judge": annotator,
        "date": max((row["moa"]["date"] for row in rows if row.get("moa", {}).get("date")), default=None),
        "judged": len(valid),
        "failed": len(judged.preference) - len(valid),
        "win_rate": 100 * mean(valid) if valid else None,
        "standard_error": standard_error([100 * preference for preference in valid]),
        "n_wins": sum(preference > 0.5 for preference in valid),
        "n_wins_base": sum(preference < 0.5 for preference in valid),
        "n_draws": sum(preference == 0.5 for preference in valid),
        "discrete_win_rate": 100 * mean(_discrete(preference) for preference in valid) if valid else None,
        "length_controlled_winrate": None,
        "lc_standard_error": None,
        "order": _by_order(judged),
        "avg_length": _mean(judged.lengths),
        "baseline_avg_length": _mean(judged.baseline_lengths),
        "notes": notes,
    }
    if valid:
        result |= _length_controlled(system, baseline, judged, shelf, notes)
    return result


def _columns(rows: Sequence[Row], texts: Sequence[str], places: Mapping[str, int]) -> _Judged:
    """The rows as columns; an instruction with two judgments counts once, with the last that did not fail."""
    found: dict[int, tuple[float, float, float, bool | None]] = {}
    for place, row in enumerate(rows):
        text = row.get("instruction")
        index = row.get("index", row.get("moa", {}).get("index"))
        index = int(index) if index is not None else places.get(text, place) if text is not None else place
        text = text if text is not None else texts[index] if 0 <= index < len(texts) else None
        switched = row.get("is_switched_outputs")
        switched = is_switched(text) if switched is None and text is not None else switched
        preference = preference_of(row, switched)
        if math.isnan(preference) and index in found:
            continue
        found[index] = (preference, _length(row, "2"), _length(row, "1"), switched)
    ordered = sorted(found.items())
    return _Judged(
        [row[0] for _, row in ordered],
        [index for index, _ in ordered],
        [row[1] for _, row in ordered],
        [row[2] for _, row in ordered],
        [row[3] for _, row in ordered],
    )


def preference_of(row: Row, switched: bool | None) -> float:
    """The preference, 1 to 2, a draw as 1.5; NaN if the judgment failed.

    A row without a preference that has the judge's log-probabilities is read from these, if it is known whether the order
    of the answers was ``switched``.
    """
    try:
        preference = float(row["preference"])
    except (KeyError, TypeError, ValueError):
        preference = math.nan
        if row.get("preference") is None and isinstance(row.get("raw_completion"), dict) and switched is not None:
            content = (row["raw_completion"].get("logprobs") or {}).get("content") or [{}]
            tokens = {one["token"]: one["logprob"] for one in content[0].get("top_logprobs", ())}
            shown_second = weighted(tokens)
            if shown_second is not None:
                preference = 3 - shown_second if switched else shown_second
    if preference == 0:
        return 1.5
    return preference if 1 <= preference <= 2 else math.nan


def _length(row: Row, which: str) -> float:
    text = row.get(f"output_{which}")
    length = len(text) if isinstance(text, str) else row.get(f"len_{which}")
    return math.nan if length is None else float(length)


def _discrete(preference: float) -> float:
    return 0.5 if preference == 0.5 else float(preference > 0.5)


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return mean(known) if known else None


def _by_order(judged: _Judged) -> Row:
    """Judgments and win rate with the system shown second (``baseline_first``) and first (``system_first``)."""
    order: Row = {}
    for name, wanted in (("baseline_first", False), ("system_first", True)):
        values = [
            preference - 1
            for preference, switched in zip(judged.preference, judged.switched, strict=True)
            if switched is wanted and not math.isnan(preference)
        ]
        order[name] = {"judged": len(values), "win_rate": 100 * mean(values) if values else None}
    return order


def _length_controlled(system: str, baseline: str | None, judged: _Judged, shelf: Shelf, notes: list[str]) -> Row:
    """The length-controlled figures, or no figures and a note with the reason."""
    if system == baseline:
        return {"length_controlled_winrate": 50.0, "lc_standard_error": 0.0}
    try:
        lc = _length_control()
        stand_in = None if shelf.here(GAMED) else shelf.here(RECONSTRUCTED)
        variants = lc.gamed(shelf.rows(RECONSTRUCTED if stand_in else GAMED))
    except ConfigError as error:
        notes.append(f"no length control: {error}")
        return {}
    if stand_in:
        notes.append("length control with a reconstruction of the gamed baselines; their real file is df_gamed.csv")
    if any(map(math.isnan, judged.lengths + judged.baseline_lengths)) or max(judged.index) >= len(variants.difficulty):
        notes.append("no length control: answers' lengths or instructions are missing")
        return {}
    difficulty = variants.difficulty[judged.index]
    columns = lc.features(lc.floats(judged.baseline_lengths), lc.floats(judged.lengths), difficulty)
    preferences = lc.floats(judged.preference) - 1
    fit = lc.length_controlled(preferences, columns, variants)
    found: Row = {
        "length_controlled_winrate": fit.win_rate,
        "lc_standard_error": fit.standard_error,
        "length_control": {"C": fit.strength, "weights": fit.weights, "chosen_by": "cross-validation"},
    }
    if recorded := _recorded(shelf).get(system):
        again = lc.strength_of(recorded, preferences, columns, variants)
        found["recorded_fit"] = {
            "weights": recorded,
            "C": again.strength,
            "length_controlled_winrate": lc.predicted(recorded, variants.difficulty).win_rate,
            "length_controlled_winrate_fitted_at_C": again.win_rate,
        }
    return found


def _length_control() -> ModuleType:
    """The module ``length_control``, which needs numpy; raises ConfigError with what to install."""
    try:
        from moa.evals.benchmarks.alpaca_eval import length_control
    except ImportError:
        raise ConfigError("it needs numpy: pip install 'mixture-of-agents[evals]'") from None
    return length_control


def _recorded(shelf: Shelf) -> dict[str, tuple[float, float, float]]:
    """The official fits by system; empty if their file is not available."""
    rows = shelf.rows(FITS) if shelf.here(FITS) else []
    length, difficulty, constant = _length_control().WEIGHT_NAMES
    return {row[""]: (float(row[length]), float(row[difficulty]), float(row[constant])) for row in rows}


def _from_fits(rows: Sequence[Row], shelf: Shelf) -> list[Row]:
    """The predictions of recorded fits; nothing else is known of these systems."""
    lc = _length_control()
    variants = lc.gamed(shelf.rows(GAMED if shelf.here(GAMED) or not shelf.here(RECONSTRUCTED) else RECONSTRUCTED))
    results = []
    for row in rows:
        fit = lc.predicted([float(row[name]) for name in lc.WEIGHT_NAMES], variants.difficulty)
        results.append(
            {
                "benchmark": "alpaca-eval",
                "system": row[""],
                "baseline": BASELINE,
                "length_controlled_winrate": fit.win_rate,
                "lc_standard_error": fit.standard_error,
                "length_control": {"C": None, "weights": fit.weights, "chosen_by": "a recorded fit"},
                "notes": ["from a recorded fit, without judgments"],
            }
        )
    return results
