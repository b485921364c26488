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


def labels_of(grid: Grid) -> Floats:
    """The quality of each model on each item, of shape (items, models)."""
    return np.stack([grid.right[:, grid.columns(model)].mean(1) for model in range(len(grid.models))], 1)


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over items, from which :func:`expertise` is computed; those of two parts can be added.

    Attributes:
        items: how many.
        words: how many items have each word.
        right: the sum of each model's labels.
        pairs: how many items have two words, of shape (words, words).
        shared: sums of labels over the items with a word, of shape (words, models).
    """

    items: int
    words: Floats
    right: Floats
    pairs: Floats
    shared: Floats

    @staticmethod
    def none(like: Moments) -> Moments:
        """The sums over no item."""
        return Moments(0, *(np.zeros_like(each) for each in (like.words, like.right, like.pairs, like.shared)))

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.items + other.items,
            self.words + other.words,
            self.right + other.right,
            self.pairs + other.pairs,
            self.shared + other.shared,
        )


def moments(bag: Bag, labels: Floats, rows: Index) -> Moments:
    """The sums over these rows."""
    has, right = bag.has[rows], labels[rows]
    return Moments(len(rows), has.sum(0), right.sum(0), has.T @ has, has.T @ right)


def expertise(sums: Moments) -> Expertise:
    """What the models are good at. The figures are rounded, as a moa.toml will hold them."""
    n = sums.items
    means, accuracy = sums.words.astype(np.float64) / n, sums.right.astype(np.float64) / n
    pairs = sums.pairs - n * np.outer(means, means)
    shared = sums.shared - n * np.outer(means, accuracy)
    chosen = _chosen(pairs, shared, min(MOST, n // 10))
    changes = _ridge(pairs, shared, chosen, RIDGE).round(DIGITS)
    return Expertise(chosen, (accuracy - means[chosen] @ changes).round(DIGITS), changes)


def _ridge(pairs: Doubles, shared: Doubles, chosen: Index, ridge: float) -> Doubles:
    return np.asarray(np.linalg.solve(pairs[np.ix_(chosen, chosen)] + ridge * np.eye(len(chosen)), shared[chosen]))


def _chosen(pairs: Doubles, shared: Doubles, most: int) -> Index:
    """The words that explain most, by covariances among words, and of words with labels."""
    sizes = np.sqrt(np.diag(pairs) + RIDGE / 2)
    chosen, left = np.zeros(0, dtype=np.intp), shared
    while len(chosen) < min(most, len(pairs)):
        gains = (left**2).sum(1) / sizes**2
        gains[chosen] = 0
        found: list[int] = []
        for word in np.argsort(-gains, kind="stable")[: 6 * ROUND]:
            alike = np.abs(pairs[word, found]) / (sizes[word] * sizes[found])
            if gains[word] > 0 and not (alike >= ALIKE).any():
                found.append(int(word))
            if len(found) == min(ROUND, most - len(chosen)):
                break
        if not found:
            break
        chosen = np.array([*chosen, *found], dtype=np.intp)
        left = shared - pairs[:, chosen] @ _ridge(pairs, shared, chosen, RIDGE / 3)
    return np.sort(chosen)
