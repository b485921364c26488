"""The arithmetic of votes."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moa.errors import ConfigError
from moa.mixture.tally import is_mux_settled, is_settled, mux, vote

ANSWERS = st.sampled_from(["a", "b", "c", None])
ACCURACIES = st.one_of(st.none(), st.floats(0.01, 0.99))
MEMBERS = st.lists(st.tuples(ANSWERS, st.sampled_from("xyz"), ACCURACIES), min_size=1, max_size=5)


def test_the_most_frequent_answer_wins_and_a_tie_goes_to_the_first_member() -> None:
    """A member without an answer does not vote."""
    count = vote([None, "b", "a", "a"])
    assert count and (count.winner, count.index, round(count.agreement, 3)) == ("a", 2, 0.667)
    assert count.voters == {"a": (2, 3), "b": (1,)} and count.scores == {"a": 2.0, "b": 1.0}
    tie = vote(["b", "a", "a", "b"])
    assert tie and (tie.winner, tie.index, tie.agreement) == ("b", 0, 0.5)
    assert vote([None, None]) is None and vote([]) is None


def test_a_vote_weighs_the_log_odds_of_its_member() -> None:
    """With two answers seen, 0.9 outweighs two members of 0.6 (2.20 > 0.81), and 0.7 does not outweigh two of 0.62."""
    count = vote(["a", "b", "b"], [0.9, 0.6, 0.6])
    assert count and count.winner == "a"
    assert count.scores == {"a": pytest.approx(math.log(9)), "b": pytest.approx(2 * math.log(1.5))}
    other = vote(["a", "b", "b"], [0.7, 0.62, 0.62])
    assert other and (other.winner, other.index) == ("b", 1)


def test_the_answers_that_are_possible_count_where_they_are_known() -> None:
    """With ten options, the log-odds of a vote grow by log 9."""
    count = vote(["a", "b", "b"], [0.9, 0.6, 0.6], possible=10)
    assert count and count.winner == "b"
    assert count.scores["a"] == pytest.approx(math.log(0.9 * 9 / 0.1))


def test_a_tie_goes_to_the_strongest_member_and_so_does_the_text() -> None:
    """The strongest member of the winners writes the answer, and a member of unknown accuracy counts as the mean."""
    count = vote(["a", "b", "b", "a"], [0.6, 0.7, 0.6, 0.7])
    assert count and (count.winner, count.index) == ("b", 1)
    lone = vote(["a", "b"], [None, 0.8])
    assert lone and lone.winner == "a" and len({*lone.scores.values()}) == 1


def test_no_vote_counts_against_its_answer() -> None:
    """Members that are right less often than not are no evidence against what they agree on."""
    count = vote(["a", "a", "a", "b"], [0.3, 0.3, 0.3, 0.35])
    assert count and count.winner == "a"
    worse_than_chance = vote(["a", "b", "b"], [0.4, 0.1, 0.1], possible=4)
    assert worse_than_chance and worse_than_chance.scores == {"a": pytest.approx(math.log(2)), "b": 0.0}
    all_worse = vote(["a", "b", "b"], [0.2, 0.1, 0.1], possible=4)
    assert all_worse and all_worse.winner == "b"


@pytest.mark.parametrize("weight", [0, 1, -0.5, 1.5, math.nan, math.inf, -math.inf, 1e308, True])
def test_an_accuracy_out_of_range_is_refused(weight: float) -> None:
    """It is a number strictly between 0 and 1."""
    with pytest.raises(ConfigError, match="strictly between 0 and 1"):
        vote(["a"], [weight])


def test_the_smallest_and_the_largest_accuracies_can_be_counted() -> None:
    """Nothing overflows."""
    count = vote(["a", "b", "c"], [5e-324, 1 - 2**-53, 0.5])
    assert count and count.winner == "b" and all(map(math.isfinite, count.scores.values()))


def test_weights_belong_to_answers() -> None:
    """Their number must be the same."""
    with pytest.raises(ValueError, match="2 weights for 1 answers"):
        vote(["a"], [0.5, 0.5])


def test_mux_takes_the_model_that_agrees_most_with_itself() -> None:
    """x gives one answer three times; y gives two of three, although more samples say b in all."""
    answers, models = ["a", "a", "a", "b", "b", "c", "b", "b", None], [*"xxxyyyzzz"]
    count = mux(answers, models)
    assert count and (count.winner, count.index, count.agreement) == ("a", 0, 1.0)
    assert count.scores == {"a": 1.0, "b": pytest.approx(2 / 3), "c": 0.0}
    assert mux([None], ["x"]) is None


def test_ties_of_mux_go_by_accuracy_then_by_all_samples_then_by_place() -> None:
    """An answer that only one model gives loses against one that others give too."""
    answers, models = ["a", "a", "b", "b", "b", "c"], [*"xxyyzz"]
    by_support, by_accuracy = mux(answers, models), mux(answers, models, [0.8, 0.8, 0.6, 0.6, 0.7, 0.7])
    assert by_support and by_support.winner == "b"
    assert by_accuracy and by_accuracy.winner == "a"
    by_place = mux(["b", "b", "a", "a"], [*"xxyy"])
    assert by_place and by_place.winner == "b"


@settings(max_examples=25)
@given(MEMBERS, st.integers(1, 2), st.sampled_from([None, 3]))
def test_a_settled_vote_does_not_change(
    members: list[tuple[str | None, str, float | None]], outstanding: int, possible: int | None
) -> None:
    """Whatever the outstanding members answer, also nothing or something new, the winner of a settled count stays."""
    answers, models, weights = [[*column] for column in zip(*members, strict=True)]
    left = range(max(0, len(answers) - outstanding), len(answers))
    known = [None if index in left else answer for index, answer in enumerate(answers)]
    settled = is_settled(answers, left, weights, possible=possible)
    mux_settled = is_mux_settled(answers, models, left, weights)
    for rest in product(["a", "b", "new", "new 2", None], repeat=len(left)):
        final = [*known[: left.start], *rest]
        if settled:
            now, then = vote(known, weights, possible=possible), vote(final, weights, possible=possible)
            assert now and then and now.winner == then.winner
        if mux_settled:
            now = mux(known, models, weights, absent=left)
            failed = [index for index in left if final[index] is None]
            for absent in ([], failed):
                then = mux(final, models, weights, absent=absent)
                assert now and then and now.winner == then.winner


def test_a_vote_is_settled_as_soon_as_no_rest_can_change_it() -> None:
    """Three of five suffice; two of four may end in a tie, which the first member wins."""
    assert is_settled(["a", "a", "a", None, None], [3, 4])
    assert not is_settled(["a", "b", "a", None, None], [3, 4])
    assert is_settled(["a", "a", None, None], [2, 3])
    assert not is_settled([None, None, "a", "a"], [0, 1])
    assert not is_settled([None, None], [0, 1]) and is_settled(["a", "b"], [])
    assert is_settled(["a", None, None], [1, 2], [0.9, 0.55, 0.55])


def test_mux_is_settled_once_no_other_model_can_agree_more_with_itself() -> None:
    """The most accurate model agrees with itself throughout."""
    answers, models, weights = ["a", "a", "b", None], [*"xxyy"], [0.8, 0.8, 0.6, 0.6]
    assert is_mux_settled(answers, models, [3], weights)
    assert is_mux_settled(answers, models, [2, 3], weights) and not is_mux_settled(answers, models, [2, 3])
    assert not is_mux_settled(answers, models, [1, 3], weights)
