from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.mixture.seam import Restarted, Seam

WORDS = st.lists(
    st.sampled_from(["alpha", "beta,", "gamma", "delta.", "42", "e", "zeta-eta", "```", "\n\n", "- item"]), min_size=1
)


def fed(seam: Seam, text: str, size: int, *, whole_words: bool = False) -> None:
    for at in range(0, len(text), size):
        seam.feed(text[at : at + size], whole_words=whole_words)


def written(*pieces: str, exact: bool = True, size: int = 3) -> str:
    """Pieces of which all but the last are stopped, and the last comes to its end."""
    seam = Seam()
    for piece in pieces[:-1]:
        seam.join(exact=exact)
        fed(seam, piece, size, whole_words=True)
    seam.join(exact=exact)
    fed(seam, pieces[-1], size)
    seam.end()
    return seam.said


@given(st.text(), st.integers(1, 9))
def test_one_piece_is_published_as_it_is(text: str, size: int) -> None:
    """Without a seam nothing is changed, whatever the packets."""
    assert written(text, size=size) == text


@given(st.lists(st.integers(0, 10_000), min_size=30, max_size=60, unique=True), st.data(), st.integers(1, 9))
def test_a_text_stopped_anywhere_and_continued_to_the_letter_is_whole(
    numbers: list[int], data: st.DataObject, size: int
) -> None:
    """Stopping gives up the broken word; a model that goes on from the published text makes it whole again."""
    text = " ".join(f"word{number}" for number in numbers)
    stop = data.draw(st.integers(20, len(text) - 20))
    seam = Seam()
    seam.join(exact=True)
    fed(seam, text[:stop], size, whole_words=True)
    begun = seam.said
    assert text.startswith(begun)
    assert not begun or text[len(begun)] == " "
    seam.join(exact=True)
    fed(seam, text[len(begun) :], size)
    seam.end()
    assert seam.said == text


@given(st.lists(st.integers(0, 10_000), min_size=30, max_size=60, unique=True), st.data())
def test_what_is_repeated_at_a_seam_is_trimmed(numbers: list[int], data: st.DataObject) -> None:
    """A model that says its last words again, or all of them, is not heard twice."""
    text = " ".join(f"word{number}" for number in numbers)
    seam = Seam()
    seam.join(exact=False)
    fed(seam, text[: len(text) // 2], 3, whole_words=True)
    begun = seam.said
    again = data.draw(st.sampled_from([0, *(at for at in range(len(begun) - 20) if begun[at - 1] == " ")]))
    if again and len(begun) - again > 240:
        again = len(begun) - 230
    seam.join(exact=False)
    fed(seam, text[again:], 3)
    seam.end()
    assert seam.said == text


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ("One two three fo", "four five", "One two three four five"),
        ("One two three. ", "Four", "One two three. Four"),
        ("One two thr", "three, four", "One two three, four"),
        ("One two th", ", three", "One two, three"),
        ("# Title\n\nOne two\n- th", "- three", "# Title\n\nOne two\n- three"),
        ("One two th", "  three", "One two  three"),
        (
            "Use this:\n\n```python\nx = 1\ny = ",
            "```python\ny = 2\n```",
            "Use this:\n\n```python\nx = 1\ny =\ny = 2\n```",
        ),
        ("Use this:\n\n```python\nx = 1\nprin", "print(x)\n```", "Use this:\n\n```python\nx = 1\nprint(x)\n```"),
    ],
)
def test_pieces_that_do_not_continue_to_the_letter_are_joined_with_care(first: str, second: str, whole: str) -> None:
    """A space where one is missing, none before a comma, the line break that was there, and no fence opened twice."""
    assert written(first, second, exact=False) == whole


def test_a_text_that_begins_anew_and_differently_cannot_be_joined() -> None:
    """It is said as soon as it is clear, and nothing of the new beginning is published."""
    seam = Seam()
    seam.join(exact=False)
    fed(seam, "The sky is blue because of the air above us all", 4, whole_words=True)
    seam.join(exact=False)
    with pytest.raises(Restarted):
        fed(seam, "The sky is blue because of the sea below", 4)
    assert seam.said == "The sky is blue because of the air above us"


@given(WORDS, WORDS, st.booleans())
def test_any_two_pieces_join_or_say_that_they_cannot(one: list[str], other: list[str], exact: bool) -> None:
    """Nothing of what was published is ever taken back."""
    seam = Seam()
    seam.join(exact=exact)
    fed(seam, " ".join(one), 2, whole_words=True)
    begun = seam.said
    seam.join(exact=exact)
    try:
        fed(seam, " ".join(other), 2)
        seam.end()
    except Restarted:
        pass
    assert seam.said.startswith(begun)
