"""How similar an answer is to a proposal: BLEU, TF-IDF cosine, Levenshtein (arXiv 2406.04692, section 3.3 and appendix).

The paper names the measures without their details. These are the usual ones, each checked against its library:

- BLEU: sentence-level, the answer against one proposal, mteval-13a tokens, exponential smoothing, effective order; the value
  of ``sacrebleu.BLEU(max_ngram_order=n, effective_order=True)``, from 0 to 1. This code counts n-grams once for all orders
  and all pairs of a prompt.
  https://github.com/mjpost/sacrebleu, smoothing "exp": Chen & Cherry 2014, https://aclanthology.org/W14-3346
- TF-IDF: words of two letters or more in lower case, smooth inverse document frequencies over all given texts, cosine; as
  scikit-learn's ``TfidfVectorizer()`` with its defaults.
- Levenshtein: 1 - edits / the longer text's length, in characters (rapidfuzz).
"""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Measure = Callable[[Sequence[str], Sequence[str]], Matrix]
"""Answers and proposals to one prompt -> similarities in [0, 1], of shape (answers, proposals)."""

ORDERS = (3, 4, 5)

_APART = str.maketrans({mark: f" {mark} " for mark in '!"#$%&()*+/:;<=>?@[\\]^_`{|}~'})
_DOT_BEFORE = re.compile(r"([^0-9])([.,])")
_DOT_AFTER = re.compile(r"([.,])([^0-9])")
_DASH = re.compile(r"([0-9])(-)")


def tokens(text: str) -> list[str]:
    """Words and punctuation as in mteval-v13a.pl: each mark is a token, except inside numbers and words.

    https://github.com/mjpost/sacrebleu/blob/master/sacrebleu/tokenizers/tokenizer_re.py
    """
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in line:
        line = re.sub("&(?:quot|amp|lt|gt);", lambda entity: html.unescape(entity[0]), line)
    line = f" {line} ".translate(_APART)
    line = _DOT_AFTER.sub(r" \1 \2", _DOT_BEFORE.sub(r"\1 \2 ", line))
    return _DASH.sub(r"\1 \2 ", line).split()


def bleu(answers: Sequence[str], proposals: Sequence[str], orders: Iterable[int] = ORDERS) -> dict[int, Matrix]:
    """BLEU of each answer (the hypothesis) against each proposal (its one reference), by longest n-gram.

    Returns:
        order -> similarities in [0, 1], of shape (answers, proposals).
    """
    highest = max(orders)
    texts = [tokens(text) for text in [*answers, *proposals]]
    matches, totals = _matches(texts, len(answers), highest)
    lengths = np.array([len(text) for text in texts[: len(answers)]], dtype=float)[:, None]
    reference_lengths = np.array([len(text) for text in texts[len(answers) :]], dtype=float)[None, :]
    brevity = np.exp(np.minimum(0.0, 1 - reference_lengths / np.maximum(lengths, 1)))
    logs = np.zeros((highest, *matches.shape[1:]))
    halvings = np.zeros(matches.shape[1:])
    for order in range(highest):
        missed = matches[order] == 0
        halvings += missed
        found = np.where(missed, 0.5**halvings, matches[order])
        logs[order] = np.log(found / np.maximum(totals[order][:, None], 1))
    results = {}
    for order in orders:
        # A text of fewer words than the order counts with the orders that it has.
        reached = np.maximum(1, np.minimum(order, lengths))
        counted = np.arange(1, highest + 1)[:, None, None] <= reached
        scores = brevity * np.exp((logs * counted).sum(axis=0) / reached)
        results[order] = np.where(matches.any(axis=0), scores, 0.0)
    return results


def _matches(texts: Sequence[Sequence[str]], answers: int, highest: int) -> tuple[Matrix, Matrix]:
    """Clipped n-gram matches, (orders, answers, proposals), and the number of n-grams of each answer, (orders, answers)."""
    numbers: dict[str, int] = {}
    words = np.array([numbers.setdefault(word, len(numbers)) for text in texts for word in text], dtype=np.int64)
    lengths = [len(text) for text in texts]
    owner, ends = np.repeat(np.arange(len(texts)), lengths), np.cumsum(lengths)
    matches = np.zeros((highest, answers, len(texts) - answers))
    totals = np.zeros((highest, answers))
    # The start of each n-gram, and its number among the different n-grams of its order.
    starts, grams = np.arange(len(words)), words
    for order in range(highest):
        if order:
            # Extend each (n-1)-gram by a word, except those that would reach into the next text.
            longer = np.flatnonzero(starts + order < ends[owner[starts]])
            starts, grams = starts[longer], grams[longer] * len(numbers) + words[starts[longer] + order]
        if not len(grams):
            break
        _, grams = np.unique(grams, return_inverse=True)
        width = int(grams.max()) + 1
        counts = np.bincount(owner[starts] * width + grams, minlength=len(texts) * width).reshape(len(texts), width)
        totals[order] = counts[:answers].sum(axis=1)
        for number in range(answers):
            matches[order, number] = np.minimum(counts[number], counts[answers:]).sum(axis=1)
    return matches, totals


class TfIdf:
    """Cosines of TF-IDF vectors, with the document frequencies of the given texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        seen: Counter[str] = Counter()
        count = 0
        for text in texts:
            seen.update(set(_words(text)))
            count += 1
        self._weights = {word: math.log((1 + count) / (1 + often)) + 1 for word, often in seen.items()}

    def __call__(self, answers: Sequence[str], proposals: Sequence[str]) -> Matrix:
        """A :data:`Measure`; words outside the given texts do not count."""
        ours, theirs = [self._vector(text) for text in answers], [self._vector(text) for text in proposals]
        return np.array(
            [[sum(w * other[word] for word, w in one.items() if word in other) for other in theirs] for one in ours]
        ).reshape(len(ours), len(theirs))

    def _vector(self, text: str) -> dict[str, float]:
        counts = Counter(word for word in _words(text) if word in self._weights)
        vector = {word: often * self._weights[word] for word, often in counts.items()}
        norm = math.sqrt(sum(weight * weight for weight in vector.values()))
        return {word: weight / norm for word, weight in vector.items()}


def _words(text: str) -> list[str]:
    return re.findall(r"\b\w\w+\b", text.lower())


def levenshtein(answers: Sequence[str], proposals: Sequence[str]) -> Matrix:
    """A :data:`Measure`: 1 - edits / the longer text's length."""
    from rapidfuzz.distance import Levenshtein

    return np.array(
        [[Levenshtein.normalized_similarity(answer, proposal) for proposal in proposals] for answer in answers]
    ).reshape(len(answers), len(proposals))


def similarities(answers: Sequence[str], proposals: Sequence[str], tf_idf: TfIdf) -> Mapping[str, Matrix]:
    """All measures for one prompt: ``BLEU-3``, ``BLEU-4``, ``BLEU-5``, ``TF-IDF``, ``Levenshtein``."""
    return {
        **{f"BLEU-{order}": scores for order, scores in bleu(answers, proposals).items()},
        "TF-IDF": tf_idf(answers, proposals),
        "Levenshtein": levenshtein(answers, proposals),
    }
