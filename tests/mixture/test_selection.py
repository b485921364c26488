"""Choosing among texts: the most central one, and a ranker's reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.mixture.selection import chosen, most_central, similarity


def test_the_most_central_text_is_the_one_most_like_the_others() -> None:
    """Two texts that agree outvote one that does not; in a tie the first wins."""
    assert most_central(["it is red", "the answer is forty two", "the answer is forty one"]) == 1
    assert most_central(["same", "same", "same"]) == 0
    assert most_central(["only"]) == 0


def test_no_text_is_an_error() -> None:
    """There is nothing to choose from."""
    with pytest.raises(ValueError, match="no texts"):
        most_central([])


@given(st.lists(st.text(), min_size=1, max_size=6))
def test_any_texts_have_a_most_central_one(texts: list[str]) -> None:
    """Empty texts and texts without a word included."""
    assert 0 <= most_central(texts) < len(texts)


@given(st.text(), st.text())
def test_similarity_is_a_share_and_symmetric(one: str, other: str) -> None:
    """It is between 0 and 1, and the same both ways."""
    assert 0 <= similarity(one, other) <= 1 + 1e-9
    assert similarity(one, other) == pytest.approx(similarity(other, one))


@pytest.mark.parametrize(
    ("reply", "index"),
    [
        ("2", 1),
        (" 3.\n", 2),
        ("Response 1 is best.", 0),
        ("**2**", 1),
        ("2, certainly 2", 1),
        ("1 or 2", None),
        ("4", None),
        ("0", None),
        ("none", None),
        ("", None),
        ("response 12345678901234567890", None),
    ],
)
def test_a_rankers_reply_is_read_when_it_names_one_response(reply: str, index: int | None) -> None:
    """A single number in range is a choice, whatever words surround it; none or two are not."""
    assert chosen(reply, 3) == index


@pytest.mark.parametrize(
    ("texts", "best"),
    [
        (["天气很好，我们去公园。", "水在一百度沸腾，这是常识。", "水在一百度沸腾，这是知识。"], 1),
        (["x > 3", "x < 3", "x < 3"], 1),
        (["C#", "C++", "C++"], 1),
        (["It is 5", "It is -5", "It is -5"], 1),
    ],
)
def test_scripts_without_spaces_signs_and_operators_count(texts: list[str], best: int) -> None:
    """The text that the others are like wins, whatever the script."""
    assert most_central(texts) == best
