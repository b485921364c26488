"""Selecting a proposal instead of writing an answer.

There are two ways: to read a ranker's choice from its reply (the paper's LLM-ranker baseline, arXiv 2406.04692 section 3.3),
and to take the most central proposal, the one most like the others, which needs no call. An answer that several samples
agree on is right more often than a single sample (self-consistency, arXiv 2203.11171, and minimum-Bayes-risk decoding).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from moa.mixture.words import words_of


def most_central(texts: Sequence[str]) -> int:
    """The index of the text with the highest mean similarity to the others; in a tie, the first.

    Raises:
        ValueError: there are no texts.
    """
    if not texts:
        raise ValueError("no texts to choose from")
    grams = [_grams(text) for text in texts]
    scores = [sum(_cosine(mine, other) for j, other in enumerate(grams) if j != i) for i, mine in enumerate(grams)]
    return max(range(len(texts)), key=lambda i: (scores[i], -i))


def similarity(one: str, other: str) -> float:
    """The cosine of the counts of words and word pairs, from 0 (nothing shared) to 1 (the same words in the same order)."""
    return _cosine(_grams(one), _grams(other))


def _grams(text: str) -> Counter[tuple[str, ...]]:
    words = words_of(text)
    return Counter([*((word,) for word in words), *pairwise(words)])


def _cosine(one: Counter[tuple[str, ...]], other: Counter[tuple[str, ...]]) -> float:
    if len(one) > len(other):
        one, other = other, one
    shared = sum(count * other[gram] for gram, count in one.items() if gram in other)
    norm = math.sqrt(sum(n * n for n in one.values()) * sum(n * n for n in other.values()))
    return shared / norm if norm else 0.0


def chosen(reply: str, count: int) -> int | None:
    """The index, from 0, of the response that a ranker's reply names among ``count`` responses numbered from 1.

    The reply should be a number alone. In a sentence, a number counts if it is the only one in range. Otherwise None.
    """
    numbers = {int(digits) for digits in re.findall(r"\d+", reply) if len(digits) < 9 and 1 <= int(digits) <= count}
    return numbers.pop() - 1 if len(numbers) == 1 else None
