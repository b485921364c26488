"""Measures of similarity, checked against their libraries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.evals.paper.similarity import TfIdf, bleu, levenshtein, similarities, tokens

SACREBLEU = [
    ("a", "a b", (0.367879, 0.367879, 0.367879)),
    ("a b", "a", (0.5, 0.5, 0.5)),
    ("a b c d", "a b x d", (0.39685, 0.353553, 0.353553)),
    ("x y z", "a b c", (0, 0, 0)),
    ("", "a", (0, 0, 0)),
    ("a", "", (0, 0, 0)),
]
"""Answer, proposal, and what sacrebleu 2.6.0 gives for 3, 4 and 5 as the longest n-gram, with effective order."""


@pytest.mark.parametrize(("answer", "proposal", "expected"), SACREBLEU)
def test_bleu_is_that_of_sacrebleu(answer: str, proposal: str, expected: tuple[float, ...]) -> None:
    """Smoothing, brevity and short texts included."""
    found = bleu([answer], [proposal])
    assert [float(found[order][0, 0]) for order in (3, 4, 5)] == pytest.approx(expected, abs=1e-6)


def test_tokens_are_those_of_mteval_13a() -> None:
    """Each mark is a token, except points and commas in numbers; entities are decoded; line breaks are spaces."""
    text = "It's 3.14, not 1,000 - e.g. &lt;b&gt; (x-1)\nend."
    expected = "It's 3.14 , not 1,000 - e . g . < b > ( x-1 ) end ."
    assert tokens(text) == expected.split()


@given(
    st.lists(st.text("ab c.", max_size=20), min_size=1, max_size=3), st.lists(st.text("ab c.", max_size=20), min_size=1)
)
def test_pairs_do_not_influence_each_other(answers: list[str], proposals: list[str]) -> None:
    """A pair has the same similarity alone as among others; a text has similarity 1 to itself."""
    together = bleu(answers, proposals)
    for row, answer in enumerate(answers):
        for column, proposal in enumerate(proposals):
            alone = bleu([answer], [proposal])
            for order in (3, 4, 5):
                value = together[order][row, column]
                assert value == pytest.approx(alone[order][0, 0])
                assert 0 <= value <= 1 + 1e-12
                if answer == proposal and tokens(answer):
                    assert value == pytest.approx(1)


def test_tf_idf_weights_rare_words_more() -> None:
    """Words of all texts count little; unknown words do not count; an empty text is similar to none."""
    measure = TfIdf(["the cat sat", "the dog sat", "the bird flew"])
    found = measure(["the cat", "the dog", ""], ["the cat sat", "the bird zebra"])
    assert found[0, 0] > found[1, 0] > 0
    assert found[1, 1] == pytest.approx(measure(["the dog"], ["the bird"])[0, 0])
    assert found[2].tolist() == [0, 0]
    # scikit-learn 1.9: TfidfVectorizer().fit(these three), cosine of the first two
    assert measure(["the cat sat"], ["the dog sat"])[0, 0] == pytest.approx(0.481120, abs=1e-5)


def test_levenshtein_is_relative_to_the_longer_text() -> None:
    """1 - edits / length."""
    assert levenshtein(["kitten", ""], ["sitting", ""]).tolist() == [[pytest.approx(4 / 7), 0], [0, 1]]


def test_all_measures_have_one_shape() -> None:
    """(answers, proposals) for each."""
    found = similarities(["one two three", "four"], ["one two", "three", "four five"], TfIdf(["one two"]))
    assert [*found] == ["BLEU-3", "BLEU-4", "BLEU-5", "TF-IDF", "Levenshtein"]
    assert all(matrix.shape == (2, 3) and np.isfinite(matrix).all() for matrix in found.values())
