from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.mixture.seam import Restarted, Seam

WORDS = st.lists(
    st.sampled_from(["alpha", "beta,", "gamma", "delta.", "42", "e", "zeta-eta", "```", "\n\n", "- item"]), min_size=1
)


def feed(seam: Seam, text: str, size: int, *, whole_words: bool = False) -> None:
    """Feed a text in packets of so many characters."""
    for at in range(0, len(text), size):
        seam.feed(text[at : at + size], whole_words=whole_words)


def written(*pieces: str, exact: bool = True, size: int = 3) -> str:
    """The text published from pieces of which each but the last is stopped."""
    seam = Seam()
    for piece in pieces[:-1]:
        seam.join(exact=exact)
        feed(seam, piece, size, whole_words=True)
    seam.join(exact=exact)
    feed(seam, pieces[-1], size)
    seam.end()
    return seam.text


@given(st.text(), st.integers(1, 9))
def test_one_piece_is_published_as_it_is(text: str, size: int) -> None:
    """Without a seam nothing changes, whatever the packets."""
    assert written(text, size=size) == text


@given(st.lists(st.integers(0, 10_000), min_size=30, max_size=60, unique=True), st.data(), st.integers(1, 9))
def test_a_text_stopped_anywhere_and_continued_exactly_is_complete(
    numbers: list[int], data: st.DataObject, size: int
) -> None:
    """Stopping discards the partial word; a model that continues from the published text writes that word again."""
    text = " ".join(f"word{number}" for number in numbers)
    stop = data.draw(st.integers(20, len(text) - 20))
    seam = Seam()
    seam.join(exact=True)
    feed(seam, text[:stop], size, whole_words=True)
    begun = seam.text
    assert text.startswith(begun)
    assert not begun or text[len(begun)] == " "
    seam.join(exact=True)
    feed(seam, text[len(begun) :], size)
    seam.end()
    assert seam.text == text


@given(st.lists(st.integers(0, 10_000), min_size=30, max_size=60, unique=True), st.data())
def test_a_repetition_at_a_seam_is_removed(numbers: list[int], data: st.DataObject) -> None:
    """A model may repeat its last words, or the whole text; each word is published once."""
    text = " ".join(f"word{number}" for number in numbers)
    seam = Seam()
    seam.join(exact=False)
    feed(seam, text[: len(text) // 2], 3, whole_words=True)
    begun = seam.text
    again = data.draw(st.sampled_from([0, *(at for at in range(len(begun) - 20) if begun[at - 1] == " ")]))
    if again and len(begun) - again > 240:
        again = len(begun) - 230
    seam.join(exact=False)
    feed(seam, text[again:], 3)
    seam.end()
    assert seam.text == text


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
def test_pieces_that_do_not_continue_exactly_are_joined(first: str, second: str, whole: str) -> None:
    """The seam adds a missing space, none before a comma, keeps a line break, and opens no block of code twice."""
    assert written(first, second, exact=False) == whole


@pytest.mark.parametrize(
    ("piece", "published", "at_the_end"),
    [
        ("The sky is", "", " The sky is"),
        ("The sky is blue because", "", ""),
        ("The sky is blue because of the air. So it", " So it", " So it"),
        ("because", "", " because"),
        ("because of the air. So it", " So it", " So it"),
        ("So it", " So it", " So it"),
        (", too", ", too", ", too"),
    ],
)
def test_a_piece_is_held_back_until_it_is_clear(piece: str, published: str, at_the_end: str) -> None:
    """A piece that may still repeat the text publishes nothing until it differs, or has ended."""
    seam = Seam()
    seam.feed("The sky is blue because of the air.", whole_words=False)
    seam.join(exact=False)
    begun = seam.feed(piece, whole_words=False)
    assert (begun, begun + seam.end()) == (published, at_the_end)


def test_a_different_text_cannot_be_joined() -> None:
    """Restarted is raised as soon as the text differs, and no character of the new text is published."""
    seam = Seam()
    seam.join(exact=False)
    feed(seam, "The sky is blue because of the air above us all", 4, whole_words=True)
    seam.join(exact=False)
    with pytest.raises(Restarted):
        feed(seam, "The sky is blue because of the sea below", 4)
    assert seam.text == "The sky is blue because of the air above us"


@given(WORDS, WORDS, st.booleans())
def test_any_two_pieces_join_or_raise(one: list[str], other: list[str], exact: bool) -> None:
    """Published text never changes."""
    seam = Seam()
    seam.join(exact=exact)
    feed(seam, " ".join(one), 2, whole_words=True)
    begun = seam.text
    seam.join(exact=exact)
    try:
        feed(seam, " ".join(other), 2)
        seam.end()
    except Restarted:
        pass
    assert seam.text.startswith(begun)


CELLS = "<td>0.00</td><td>0.00</td>"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (CELLS, CELLS + "</tr>"),
        (CELLS, "<td>0.00</td></tr>"),
        ("We will, we will rock you.\n", "We will, we will rock you.\nSinging."),
        ("m = [[0, 0, 0, 0, 0, 0, 0,", " 0, 0, 0, 0, 0, 0, 0],"),
        ("x = compute(value)\n", "x = compute(value)\nprint(x)"),
        ("天空是蓝色的，", "天空是蓝色的，因为空气"),
        ("|a|b|\n|-|-|\n|0.000|0.000|0.000|\n", "|0.000|0.000|0.000|\n|0.000|0.000|0.000|"),
        ("ha ha", " ha ha ha ha ha ha ha ha ha"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_an_exact_continuation_keeps_what_it_repeats(first: str, second: str, size: int) -> None:
    """Cells, rows, refrains and equal lines of code stay: the model continues its own text to the letter."""
    seam = Seam()
    seam.feed(first, whole_words=False)
    seam.join(exact=True)
    feed(seam, second, size)
    seam.end()
    assert seam.text == first + second


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ("Total\n\n|0.00|0.00|0.00|\n|", "|0.00|0.00|0.00|\n|9|", "Total\n\n|0.00|0.00|0.00|\n|0.00|0.00|0.00|\n|9|"),
        ("A song:\n\nRow, row, row your boat,\nRow", "Row, row, row your boat,\nGently", None),
        ("m = [[0, 0, 0, 0, 0, 0, 0, 0", "0, 0, 0, 0, 0, 0, 0],", "m = [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],"),
        ("T: <td>0.00</td> <td>0.00</td> <", "<td>0.00</td> <td>0.00</td> </tr>", None),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_continuation_keeps_rows_and_lines_that_repeat(first: str, second: str, whole: str | None, size: int) -> None:
    """Also a model that does not continue to the letter may repeat a line, or what its text repeats anyway."""
    whole = whole or first.rpartition("\n" if "Row" in first else " ")[0] + ("\n" if "Row" in first else " ") + second
    assert written(first, second, exact=False, size=size) == whole


def test_a_restart_is_recognised_in_both_modes() -> None:
    """A model that repeats its whole text adds the rest; one that differs after a long beginning has started over."""
    begun = "The sky is blue because of the air above us all"
    for exact in (True, False):
        assert written(begun + " an", begun + " and below.", exact=exact) == begun + " and below."
        with pytest.raises(Restarted):
            written(begun, "The sky is blue because of the sea.", exact=exact)


@pytest.mark.parametrize("exact", [True, False])
def test_a_text_that_was_ended_is_not_repeated(exact: bool) -> None:
    """After a piece that its model had ended, a full repetition of any length adds nothing but its rest."""
    for second, whole in [("Paris.", "Paris."), ("Paris. On the Seine.", "Paris. On the Seine.")]:
        seam = Seam()
        seam.feed("Paris.", whole_words=True)
        seam.end()
        seam.join(exact=exact)
        feed(seam, second, 2)
        seam.end()
        assert seam.text == whole


CODE = "```python\ndef f(x):\n    if x:\n        y = 1\n"


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        (CODE, "        z = 2\n```", CODE + "        z = 2\n```"),
        (CODE + "        z", "        z = 2\n```", CODE + "        z = 2\n```"),
        (CODE + "        z", "z = 2\n```", CODE + "        z = 2\n```"),
        (CODE + "        z", "\n        z = 2\n```", CODE + "        z = 2\n```"),
        (CODE + "    }", "}\n```", CODE + "    }\n```"),
        (CODE, "```\n\nThat is all.", CODE + "```\n\nThat is all."),
        (CODE + "        z", "```python\n        z = 2\n```", CODE + "        z = 2\n```"),
        ("```\nx = 1\nprint(a, %", "%d\n```", "```\nx = 1\nprint(a, %d\n```"),
        ("```\nx = 1 % 2\ny = 1 %", "% 2\n```", "```\nx = 1 % 2\ny = 1 % 2\n```"),
        ("````md\n```js\nx\n", "```\n````", "````md\n```js\nx\n```\n````"),
        ("- one\n  - tw", "  - two", "- one\n  - two"),
        ("- one\n\n", "\n- two", "- one\n\n- two"),
        ("天空是蓝", "蓝色的。", "天空是蓝色的。"),
        ("用 Python 写", "写代码", "用 Python 写代码"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_lines_of_code_and_lists_stay_lines(first: str, second: str, whole: str, size: int) -> None:
    """Line breaks and indentation between two pieces are kept, no block of code is opened twice, none is invented."""
    assert written(first, second, exact=False, size=size) == whole


@pytest.mark.parametrize("text", ["One two\n" + "\n" * 20_000, "x" * 20_000, " " * 20_000, "天" * 20_000])
@pytest.mark.parametrize("exact", [True, False])
def test_a_flood_of_one_character_takes_linear_time(text: str, exact: bool) -> None:
    """20,000 characters, one by one, cost no more than a few comparisons each."""
    seam = Seam()
    seam.feed("The sky is", whole_words=False)
    begun = time.process_time()
    seam.join(exact=exact)
    feed(seam, text, 1, whole_words=True)
    seam.end()
    assert time.process_time() - begun < 5
    assert seam.text.strip().endswith(text.strip())


@pytest.mark.parametrize(
    ("ended", "second", "whole"),
    [
        ("```", "\n\n```python\nx", "```\n\n```python\nx"),
        ("1", "10 are left", "1 10 are left"),
        ("巴黎。", "巴黎。在法国", "巴黎。在法国"),
    ],
)
def test_a_longer_word_is_no_repetition(ended: str, second: str, whole: str) -> None:
    """A piece that begins with the same characters repeats a short text only up to the end of a word."""
    seam = Seam()
    seam.feed(ended, whole_words=False)
    seam.end()
    seam.join(exact=len(ended) == 3 and ended[0] == "`")
    feed(seam, second, 2)
    seam.end()
    assert seam.text == whole


@pytest.mark.parametrize(
    ("ended", "second", "whole"),
    [
        ("# Roads\n\nThe bridge holds.", "The bridge holds.", "# Roads\n\nThe bridge holds."),
        ("# Roads\n\nThe bridge holds.", "The bridge holds.\n\nSo go.", "# Roads\n\nThe bridge holds.\n\nSo go."),
        ("小结\n\n这座桥可以承受四十二吨的重量。", "这座桥可以承受四十二吨的重量。所以安全。", None),
    ],
)
def test_the_last_line_of_a_text_that_was_ended_is_not_repeated(ended: str, second: str, whole: str | None) -> None:
    """A model that ended its text with a line, and begins its next piece with the same line, repeats itself."""
    seam = Seam()
    seam.feed(ended, whole_words=False)
    seam.end()
    seam.join(exact=False)
    feed(seam, second, 2)
    seam.end()
    assert seam.text == (whole or ended + "所以安全。")


def test_several_lines_that_are_repeated_are_removed() -> None:
    """A text may repeat a short line of its own, but hardly all of its last lines at the very place where it stopped."""
    lines = "".join(f"Line {number} of the answer, which is different from all others.\n" for number in range(3))
    assert written(f"Title\n\n{lines}Line", f"{lines}And so on.", exact=False) == f"Title\n\n{lines}And so on."


def test_an_empty_piece_keeps_the_line_break_before_it() -> None:
    """White space behind the last whole word was held back; the next piece with text still gets it."""
    seam = Seam()
    feed(seam, "# Title\n\nOne", 3, whole_words=True)
    assert seam.text == "# Title"
    seam.join(exact=True)
    seam.end()
    seam.join(exact=False)
    feed(seam, "One two", 3)
    seam.end()
    assert seam.text == "# Title\n\nOne two"
