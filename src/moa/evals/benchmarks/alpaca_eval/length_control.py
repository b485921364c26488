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
FEWEST = 100
"""Judged items below which the fit says nothing."""

DRAWS = 500
"""Resamples of an interval."""

AT_ONCE = 100
"""Resamples that are fitted together."""

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
            of the fit, so it is no measure of precision: :func:`resampled` is. None for a single row.
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
    rows, targets, weights = _training(preferences, columns, variants)
    chosen = strength if strength is not None else _cross_validated(rows, targets, weights)
    return predicted(_fitted(rows, targets, weights, chosen), columns[:, 1], chosen)


def _training(preferences: Floats, columns: Floats, variants: Gamed) -> tuple[Floats, Floats, Floats]:
    """Rows, targets and weights of the fit: the gamed baselines, then the system's judged rows."""
    judged = ~np.isnan(preferences)
    rows = np.concatenate([variants.features, columns[judged]])
    targets = np.concatenate([variants.preferences, preferences[judged]])
    return rows, targets, np.where(rows[:, 2] > 0, 1.0, GAMED_WEIGHT)


def predicted(weights: Sequence[float] | Floats, difficulty: Floats, strength: float | None = None) -> LengthControlled:
    """The win rate that weights (length, difficulty, constant) predict on instructions of these difficulties."""
    length, slope, constant = (float(weight) for weight in weights)
    at_equal_length = expit(slope * difficulty + constant) * 100
    rows = len(at_equal_length)
    error = float(at_equal_length.std(ddof=1) / np.sqrt(rows)) if rows > 1 else None
    return LengthControlled(float(at_equal_length.mean()), error, strength, (length, slope, constant))


def strength_of(weights: Sequence[float], preferences: Floats, columns: Floats, variants: Gamed) -> LengthControlled:
    """The fit whose weights are closest to recorded ones, among those with the ten candidates for C."""
    rows, targets, by_row = _training(preferences, columns, variants)
    fits = _all_fitted(rows, targets, np.tile(by_row, (len(STRENGTHS), 1)), np.array(STRENGTHS))
    place = int(np.abs(fits - np.array(weights)).sum(axis=1).argmin())
    return predicted(fits[place], columns[:, 1], STRENGTHS[place])


def resampled(
    preferences: Floats, columns: Floats, variants: Gamed, fit: LengthControlled, counts: NDArray[np.int64]
) -> Floats:
    """The weights of fits to resamples of the items, (draws, 3), with the C of the first fit.

    Args:
        preferences, columns, variants: as in :func:`length_controlled`.
        fit: the fit to all items; each other one starts from its weights.
        counts: how often each item is in each resample, (draws, rows); see :func:`resamples`.
    """
    judged = ~np.isnan(preferences)
    rows, targets, _ = _training(preferences, columns, variants)
    gamed_weights = np.full(len(variants.features), GAMED_WEIGHT)
    strength, start = fit.strength or 1.0, np.array(fit.weights)
    fits = []
    for place in range(0, len(counts), AT_ONCE):
        own = counts[place : place + AT_ONCE, judged].astype(np.float64)
        weights = np.hstack([np.tile(gamed_weights, (len(own), 1)), own])
        fits.append(_all_fitted(rows, targets, weights, np.full(len(own), strength), start, precision=1e-5))
    return np.concatenate(fits)


def resamples(items: int, draws: int | None = None, seed: int = 0) -> NDArray[np.int64]:
    """How often each item is in each of so many resamples with replacement, :data:`DRAWS` by default; (draws, items)."""
    counts: NDArray[np.int64] = np.random.default_rng(seed).multinomial(
        items, np.full(items, 1 / items), size=draws or DRAWS
    )
    return counts


def win_rates(weights: Floats, difficulty: Floats, counts: NDArray[np.int64]) -> Floats:
    """The win rate that each row of weights, (draws, 3), predicts on its own resample of the items; percent, (draws,)."""
    at_equal_length = expit(weights[:, 1:2] * difficulty + weights[:, 2:])
    chances: Floats = 100 * (at_equal_length * counts).sum(axis=1) / counts.sum(axis=1)
    return chances


def against(weights: Floats, others: Floats, difficulty: Floats) -> Floats:
    """The length-controlled win rates of systems against others, percent, (draws,), from the weights of both, (draws, 3).

    ``predict_winrate`` of the original: the mean over the benchmark's instructions.
    """
    gap = weights - others
    chances: Floats = 100 * expit(gap[:, 1:2] * difficulty[~np.isnan(difficulty)] + gap[:, 2:]).mean(axis=1)
    return chances


def ends(values: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of resampled figures (Efron & Tibshirani 1993, chapter 13)."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def is_extreme(raw: float, controlled: float) -> bool:
    """Whether length control moves a win rate so far that its fit has probably failed: ``get_is_extreme_changes`` of the
    original, by ten points and by a quarter of what is possible."""
    return controlled < min(raw - raw / 4, raw - 10) or controlled > max(raw + (100 - raw) / 4, raw + 10)


def expit(margin: Floats) -> Floats:
    """1 / (1 + exp(-margin)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * margin)), dtype=np.float64)


def _cross_validated(rows: Floats, targets: Floats, weights: Floats) -> float:
    """The C with the smallest mean log-loss on held-out rows."""
    fold = (len(rows) - 1 - np.arange(len(rows))) % FOLDS
    kept = np.array([weights * (fold != held) for held in range(FOLDS) for _ in STRENGTHS])
    fits = _all_fitted(rows, targets, kept, np.tile(STRENGTHS, FOLDS))
    losses = np.zeros((FOLDS, len(STRENGTHS)))
    for held, of_fold in enumerate(fits.reshape(FOLDS, len(STRENGTHS), -1)):
        out = fold == held
        for place, fit in enumerate(of_fold):
            chance = np.clip(expit(rows[out] @ fit), 1e-15, 1 - 1e-15)
            loss = targets[out] * np.log(chance) + (1 - targets[out]) * np.log(1 - chance)
            losses[held, place] = -np.mean(weights[out] * loss)
    return STRENGTHS[int(np.argmin(losses.mean(axis=0)))]


def _fitted(rows: Floats, targets: Floats, weights: Floats, strength: float) -> Floats:
    """The weights w, (3,), that minimise |w|_1 + C * sum of weighted log-losses."""
    fitted: Floats = _all_fitted(rows, targets, weights[None], np.array([strength]))[0]
    return fitted


def _all_fitted(
    rows: Floats,
    targets: Floats,
    weights: Floats,
    strengths: Floats,
    start: Floats | None = None,
    precision: float = 1e-9,
) -> Floats:
    """As :func:`_fitted` for each row of ``weights``, (fits, rows), and each C, (fits,): by Newton steps on the smooth part;
    (fits, 3)."""
    features = rows.shape[1]
    products = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)

    def objective(at: Floats) -> Floats:
        margin = at @ rows.T
        softplus = np.maximum(margin, 0.0) + np.log1p(np.exp(-np.abs(margin)))
        losses: Floats = (weights * (softplus - targets * margin)).sum(axis=1)
        return np.asarray(np.abs(at).sum(axis=1) + strengths * losses)

    at = np.tile(np.zeros(features) if start is None else start, (len(weights), 1))
    value = objective(at)
    for _ in range(MOST_STEPS):
        chance = expit(at @ rows.T)
        slope = strengths[:, None] * ((weights * (chance - targets)) @ rows)
        curvature = strengths[:, None] * ((weights * chance * (1 - chance)) @ products)
        step = _steps(at, slope, curvature.reshape(-1, features, features) + 1e-12 * np.eye(features))
        expected = (slope * step).sum(axis=1) + np.abs(at + step).sum(axis=1) - np.abs(at).sum(axis=1)
        share, noise = np.ones(len(weights)), 1e-13 * np.abs(value)
        tried = objective(at + step)
        while (worse := (share > 1e-6) & (tried > value + 1e-4 * share * expected + noise)).any():
            share[worse] /= 2
            tried = objective(at + share[:, None] * step)
        at, value = at + share[:, None] * step, tried
        if np.abs(step).max() < precision:
            break
    return at


def _steps(at: Floats, slope: Floats, curvature: Floats) -> Floats:
    """For each fit the step d that minimises slope·d + d·curvature·d / 2 + |at + d|_1, coordinate by coordinate."""
    step = np.zeros_like(at)
    for _ in range(MOST_SWEEPS):
        before = step.copy()
        for place in range(at.shape[1]):
            own = curvature[:, place, place]
            rest = slope[:, place] + (curvature[:, place] * step).sum(axis=1) - own * step[:, place]
            # The best value of at + d in this coordinate: where the quadratic ends, drawn towards 0 by the penalty.
            centre = at[:, place] - rest / own
            step[:, place] = np.sign(centre) * np.maximum(np.abs(centre) - 1.0 / own, 0.0) - at[:, place]
        if np.abs(step - before).max() < 1e-12:
            break
    return step
