"""Win rates from AlpacaEval's judgments as on the official leaderboard, with the figures that show how far to trust them.

Source: https://github.com/tatsu-lab/alpaca_eval/tree/cd543a149df89434d8a54582c0151c0b945c3d20/src/alpaca_eval/metrics;
the figures have the names of the leaderboard's columns. ``length_control`` has the length-controlled win rate.

Quirks of the original: a preference of 0 is an old notation for a draw; the win rate leaves out judgments without a
preference, and counts them; the discrete win rate counts a draw as half a win.

Different here:
- The original takes a row's place in the file for the number of its instruction, so its length-controlled figure of a file
  with fewer rows than instructions rests on other instructions' difficulties. Here the text decides; the result notes it.
- Judgments of other instructions count in the win rate, and not in the length-controlled one.
- ``lc_standard_error`` is the leaderboard's column, and too small by far; the interval comes from refitting to resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf
from moa.evals.benchmarks.alpaca_eval.controlled import length_controlled, loaded
from moa.evals.benchmarks.alpaca_eval.judging import BASELINE, GAMED, RECONSTRUCTED
from moa.evals.benchmarks.alpaca_eval.judgments import Judged, columns_of, known_texts
from moa.evals.metric import Metric

WIN_RATE = Metric("win rate", "win_rate", "standard_error", 0, 100, unit="%")
BOTH_ORDERS = Metric("win rate of both orders", "swap_win_rate", "swap_standard_error", 0, 100, unit="%")


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
    texts = known_texts(shelf)
    places = {text: place for place, text in enumerate(texts)}
    return [_scored(key, of_system, texts, places, shelf) for key, of_system in systems.items()]


def _scored(
    key: tuple[Any, ...], rows: Sequence[Row], texts: Sequence[str], places: Mapping[str, int], shelf: Shelf
) -> Row:
    system, baseline, annotator = key
    judged = columns_of(rows, texts, places)
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
        **WIN_RATE.spread([100 * preference for preference in valid]),
        "n_wins": sum(preference > 0.5 for preference in valid),
        "n_wins_base": sum(preference < 0.5 for preference in valid),
        "n_draws": sum(preference == 0.5 for preference in valid),
        "discrete_win_rate": 100 * mean(_discrete(preference) for preference in valid) if valid else None,
        "length_controlled_winrate": None,
        "length_controlled_winrate_low": None,
        "length_controlled_winrate_high": None,
        "lc_standard_error": None,
        "order": _by_order(judged),
        "avg_length": _mean(judged.lengths),
        "baseline_avg_length": _mean(judged.baseline_lengths),
        "notes": notes,
        **_both_orders(rows),
    }
    if judged.foreign:
        some = "1 judgment is" if judged.foreign == 1 else f"{judged.foreign} judgments are"
        notes.append(
            f"{some} of instructions that are not AlpacaEval's: counted, but not in the length-controlled win rate"
        )
    if valid:
        result |= length_controlled(system, baseline, annotator, judged, shelf, len(texts), notes)
        raw, controlled = result["win_rate"], result["length_controlled_winrate"]
        if controlled is not None and loaded().is_extreme(raw, controlled):
            notes.append(
                f"the length-controlled win rate ({controlled:.1f} %) is very different from the win rate ({raw:.1f} %), "
                "which may be a sign that its fit has failed"
            )
    return result


def _both_orders(rows: Sequence[Row]) -> Row:
    """The mean win rate of both orders, and how often both gave the same verdict; nothing without ``--swap``."""
    pairs = [
        (row["preference"], row["moa"]["swapped"]) for row in rows if row.get("moa", {}).get("swapped") is not None
    ]
    known = [(one, other) for one, other in pairs if one is not None]
    if not known:
        return {}
    values = [100 * ((one + other) / 2 - 1) for one, other in known]
    same = [(one > 1.5) == (other > 1.5) and (one < 1.5) == (other < 1.5) for one, other in known]
    return {
        "swapped": len(known),
        BOTH_ORDERS.field: mean(values),
        **BOTH_ORDERS.spread(values),
        "consistency": 100 * mean(same),
    }


def _discrete(preference: float) -> float:
    return 0.5 if preference == 0.5 else float(preference > 0.5)


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return mean(known) if known else None


def _by_order(judged: Judged) -> Row:
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


def _from_fits(rows: Sequence[Row], shelf: Shelf) -> list[Row]:
    """The predictions of recorded fits; nothing else is known of these systems."""
    lc = loaded()
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
