"""The win rate if both answers were equally long: AlpacaEval's ``length_controlled_v1``.

A logistic model without an intercept explains the judge's preferences, soft labels in [0, 1], by three features: the
hyperbolic tangent of the length difference (baseline minus system, in its own standard deviations), the difficulty of the
instruction, and a constant for the system. It then predicts the preference with the first feature at 0.

Sources:
- Dubois, Galambosi, Liang, Hashimoto 2024, https://arxiv.org/abs/2404.04475
- https://github.com/tatsu-lab/alpaca_eval/blob/cd543a149df89434d8a54582c0151c0b945c3d20/src/alpaca_eval/metrics/glm_winrate.py
- the objective of its solver: https://www.csie.ntu.edu.tw/~cjlin/papers/liblinear.pdf, section 2 (L1, logistic loss)

Quirks of the original, kept because the leaderboard depends on them:
- The model is also trained on two variants of the baseline, one deliberately concise and one verbose, with weight 0.1. Their
  constant is 0; they show the model the effect of length alone.
- The standard deviation is that of a sample (n - 1), over all rows, also those without a judgment.
- Folds are dealt in turn from the last row to the first, in the order [gamed, system], without shuffling.
- A fold's score is the weighted log-loss divided by the number of rows, not by their weight.
- The win rate's mean is over all rows, also those without a judgment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STRENGTHS: tuple[float, ...] = tuple(float(strength) for strength in np.logspace(-4, 4, 10))
"""The ten candidates for C, the weight of the data against the penalty."""

FOLDS = 5
GAMED_WEIGHT = 0.1
MOST_STEPS, MOST_SWEEPS = 100, 500
WEIGHT_NAMES = ("np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)")
"""The columns of the recorded fits: length, difficulty, constant."""


@dataclass(frozen=True, slots=True)
class Gamed:
    """Judgments of the gamed baselines, one row each. ``features`` is (rows, 3) as in :func:`features`; preferences are
    those for the gamed variant, in [0, 1]. ``difficulty`` is (instructions,), by index."""

    features: Floats
    preferences: Floats
    difficulty: Floats


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """A length-controlled win rate.

    Attributes:
        win_rate: percent, 0 to 100.
        standard_error: of the predictions' mean in percentage points, as on the leaderboard. It does not include the error
            of the fit. None for a single row.
        strength: the C of the fit; None for recorded weights.
        weights: of length, difficulty and the constant.
    """

    win_rate: float
    standard_error: float | None
    strength: float | None
    weights: tuple[float, float, float]


def floats(values: Sequence[float]) -> Floats:
    """The values as an array, (rows,)."""
    return np.array(values, dtype=np.float64)


def gamed(rows: Sequence[Mapping[str, str]]) -> Gamed:
    """The gamed baselines from the rows of ``df_gamed.csv``; raises KeyError or ValueError for other rows."""
    difficulty: dict[int, float] = {}
    for row in rows:
        difficulty.setdefault(int(row["index"]), float(row["instruction_difficulty"]))
    known = [row for row in rows if row["preference"] not in ("", "nan")]
    columns = [
        (
            np.tanh(float(row["std_delta_len"])),
            float(row["instruction_difficulty"]),
            float(row["not_gamed_baseline"].strip().lower() in ("true", "1", "1.0")),
        )
        for row in known
    ]
    by_index = np.full(max(difficulty) + 1, np.nan)
    by_index[list(difficulty)] = list(difficulty.values())
    return Gamed(np.array(columns), np.array([float(row["preference"]) for row in known]), by_index)


def features(baseline_lengths: Floats, lengths: Floats, difficulty: Floats) -> Floats:
    """(rows, 3): squashed length difference, difficulty, 1. Lengths are characters, (rows,), difficulty likewise."""
    difference = baseline_lengths - lengths
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    # Without spread the original divides by 0 and gives no figure; here, there is no length difference to control for.
    squashed = np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)
    return np.column_stack([squashed, difficulty, np.ones(len(difference))])


def length_controlled(
    preferences: Floats, columns: Floats, variants: Gamed, strength: float | None = None
) -> LengthControlled:
    """Fit, and predict at equal length.

    Args:
        preferences: for the system, in [0, 1], NaN without a judgment; (rows,).
        columns: as :func:`features` returns them; (rows, 3).
        variants: the gamed baselines.
        strength: C; None to choose it by cross-validation.
    """
    judged = ~np.isnan(preferences)
    rows = np.concatenate([variants.features, columns[judged]])
    targets = np.concatenate([variants.preferences, preferences[judged]])
    weights = np.where(rows[:, 2] > 0, 1.0, GAMED_WEIGHT)
    chosen = strength if strength is not None else _cross_validated(rows, targets, weights)
    return predicted(_fitted(rows, targets, weights, chosen), columns[:, 1], chosen)


def predicted(weights: Sequence[float] | Floats, difficulty: Floats, strength: float | None = None) -> LengthControlled:
    """The win rate that weights (length, difficulty, constant) predict on instructions of these difficulties."""
    length, slope, constant = (float(weight) for weight in weights)
    at_equal_length = expit(slope * difficulty + constant) * 100
    rows = len(at_equal_length)
    error = float(at_equal_length.std(ddof=1) / np.sqrt(rows)) if rows > 1 else None
    return LengthControlled(float(at_equal_length.mean()), error, strength, (length, slope, constant))


def strength_of(weights: Sequence[float], preferences: Floats, columns: Floats, variants: Gamed) -> LengthControlled:
    """The fit whose weights are closest to recorded ones, among those with the ten candidates for C."""
    fits = [length_controlled(preferences, columns, variants, strength) for strength in STRENGTHS]
    return min(fits, key=lambda fit: float(np.abs(np.array(fit.weights) - np.array(weights)).sum()))


def expit(margin: Floats) -> Floats:
    """1 / (1 + exp(-margin)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * margin)), dtype=np.float64)


def _cross_validated(rows: Floats, targets: Floats, weights: Floats) -> float:
    """The C with the smallest mean log-loss on held-out rows."""
    fold = (len(rows) - 1 - np.arange(len(rows))) % FOLDS
    losses = np.zeros((FOLDS, len(STRENGTHS)))
    for held in range(FOLDS):
        out = fold == held
        for place, strength in enumerate(STRENGTHS):
            fit = _fitted(rows[~out], targets[~out], weights[~out], strength)
            chance = np.clip(expit(rows[out] @ fit), 1e-15, 1 - 1e-15)
            loss = targets[out] * np.log(chance) + (1 - targets[out]) * np.log(1 - chance)
            losses[held, place] = -np.mean(weights[out] * loss)
    return STRENGTHS[int(np.argmin(losses.mean(axis=0)))]


def _fitted(rows: Floats, targets: Floats, weights: Floats, strength: float) -> Floats:
    """The weights w, (3,), that minimise |w|_1 + C * sum of weighted log-losses, by Newton steps on the smooth part."""

    def objective(at: Floats) -> float:
        margin = rows @ at
        return float(np.abs(at).sum() + strength * np.sum(weights * (np.logaddexp(0.0, margin) - targets * margin)))

    at = np.zeros(rows.shape[1])
    value = objective(at)
    for _ in range(MOST_STEPS):
        chance = expit(rows @ at)
        slope = strength * (rows.T @ (weights * (chance - targets)))
        curvature = strength * ((rows.T * (weights * chance * (1 - chance))) @ rows) + 1e-12 * np.eye(len(at))
        step = _step(at, slope, curvature)
        expected = float(slope @ step + np.abs(at + step).sum() - np.abs(at).sum())
        share = 1.0
        while share > 1e-6 and objective(at + share * step) > value + 1e-4 * share * expected:
            share /= 2
        at = at + share * step
        value = objective(at)
        if np.abs(step).max() < 1e-9:
            break
    return at


def _step(at: Floats, slope: Floats, curvature: Floats) -> Floats:
    """The step d that minimises slope·d + d·curvature·d / 2 + |at + d|_1, coordinate by coordinate."""
    step = np.zeros_like(at)
    for _ in range(MOST_SWEEPS):
        before = step.copy()
        for place in range(len(at)):
            own = float(curvature[place, place])
            rest = float(slope[place] + curvature[place] @ step) - own * float(step[place])
            # The best value of at + d in this coordinate: where the quadratic ends, drawn towards 0 by the penalty.
            centre = float(at[place]) - rest / own
            step[place] = np.sign(centre) * max(abs(centre) - 1.0 / own, 0.0) - at[place]
        if np.abs(step - before).max() < 1e-12:
            break
    return step
