"""Which questions a model is good at, by their words: a ridge regression of its labels on a few words.

The words are chosen for all models together, in rounds: those that explain most of what is left to explain and do not say
the same as one another (orthogonal matching pursuit; Tropp & Gilbert 2007). So a question's template, subject or language
is found from the question alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moa.evals.search.ballots import Doubles
from moa.evals.search.grid import Floats, Grid, Index
from moa.evals.search.matrix import Item
from moa.mixture.calibration import BOUND
from moa.mixture.words import words_of

__all__ = ["Bag", "Expertise", "asked", "bag_of", "expertise"]

MOST = 150
"""How many words are kept at most."""

RARE, COMMON = 0.006, 0.7
"""Shares of the questions: a word in fewer, or in more, is not considered."""

RIDGE, ROUND, ALIKE = 10.0, 10, 0.5
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Bag:
    """Which words stand in which question: ``has`` is of shape (items, words)."""

    words: tuple[str, ...]
    has: Floats


@dataclass(frozen=True, slots=True)
class Expertise:
    """What each model is good at.

    Attributes:
        words: columns of the bag.
        accuracy: of each model, on a question without any of these words.
        changes: what a word adds to the accuracy of a model, of shape (words, models).
    """

    words: Index
    accuracy: Doubles
    changes: Doubles

    def expected(self, bag: Bag, rows: Index) -> Doubles:
        """The expected accuracies, of shape (rows, models)."""
        linear = self.accuracy + bag.has[np.ix_(rows, self.words)] @ self.changes
        return np.clip(linear, BOUND, 1 - BOUND)


def asked(item: Item) -> str:
    """The question as a model sees it, with its options."""
    return "\n".join((item.question, *item.options))


def bag_of(items: Sequence[Item], kept: Sequence[str] | None = None) -> Bag:
    """The words of all questions that are neither rare nor everywhere, or these words."""
    words = [frozenset(words_of(asked(item))) for item in items]
    if kept is None:
        kept = _usual(words)
    place = {word: index for index, word in enumerate(kept)}
    has = np.zeros((len(items), len(kept)), np.float32)
    for row, each in enumerate(words):
        has[row, [place[word] for word in each if word in place]] = 1
    return Bag(tuple(kept), has)


def _usual(words: Sequence[frozenset[str]]) -> list[str]:
    counts = Counter(word for each in words for word in each)
    lowest, highest = max(3.0, RARE * len(words)), COMMON * len(words)
    return sorted(word for word, count in counts.items() if lowest <= count <= highest)


def expertise(grid: Grid, bag: Bag, rows: Index) -> Expertise:
    """What the models are good at, from these rows. The figures are rounded, as a moa.toml will hold them."""
    labels = np.stack([grid.right[np.ix_(rows, grid.columns(m))].mean(1) for m in range(len(grid.models))], 1)
    chosen = _chosen(bag.has[rows], labels.astype(np.float32), min(MOST, len(rows) // 10))
    has = bag.has[np.ix_(rows, chosen)]
    means, accuracy = has.mean(0), labels.mean(0)
    centred = has - means
    changes = np.linalg.solve(centred.T @ centred + RIDGE * np.eye(len(chosen)), centred.T @ (labels - accuracy))
    changes = changes.round(DIGITS)
    return Expertise(chosen, (accuracy - means @ changes).round(DIGITS), changes)


def _chosen(has: Floats, labels: Floats, most: int) -> Index:
    centred, left = has - has.mean(0), labels - labels.mean(0)
    target = left
    sizes = np.sqrt((centred**2).sum(0) + RIDGE / 2)
    chosen: list[int] = []
    while len(chosen) < min(most, has.shape[1]):
        gains = ((centred.T @ left) ** 2).sum(1) / sizes**2
        gains[chosen] = -1
        candidates = np.argsort(-gains, kind="stable")[: 6 * ROUND]
        candidates = candidates[gains[candidates] > 0]
        likeness = np.abs(centred[:, candidates].T @ centred[:, candidates]) / np.outer(
            sizes[candidates], sizes[candidates]
        )
        found: list[int] = []
        for place in range(len(candidates)):
            if all(likeness[place, other] < ALIKE for other in found):
                found.append(place)
        if not found:
            break
        chosen += [int(column) for column in candidates[found[: min(ROUND, most - len(chosen))]]]
        picked = centred[:, chosen]
        left = target - picked @ np.linalg.solve(picked.T @ picked + RIDGE / 3 * np.eye(len(chosen)), picked.T @ target)
    return np.array(sorted(chosen), dtype=np.intp)
