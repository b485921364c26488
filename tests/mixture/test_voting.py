"""Aggregations that count answers: vote and mux."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from moa import Mixture, Scripted, fold
from moa.errors import ConfigError, NoProposals, UpstreamFailed
from moa.events import AgentDropped, AgentStarted, AgentVoted, Event, Noticed, Selected, VotesCounted
from moa.messages import Answer, Reference
from moa.mixture.aggregation import Aggregate, Mux, Vote
from moa.mixture.codec import encoded_event, events_of
from moa.schedules import Barrier, EarlyExit, Quorum, Schedule, Staircase
from moa.store.figures import run_object
from tests.mixture.writers import long_text, run

SCHEDULES = [Barrier(), Barrier(warm=True), Quorum(4), Staircase(), EarlyExit(Barrier())]


def member(name: str, text: str | Exception, after: float = 0.5, **options: Any) -> Scripted:
    return Scripted(text, name=f"x/{name}", first_token=after, **options)


def members(*texts: str, late: Sequence[int] = ()) -> list[Scripted]:
    """Members called m0, m1, …; the late ones take a minute."""
    return [member(f"m{at}", text, 60.0 if at in late else 0.5) for at, text in enumerate(texts)]


def counted(events: list[Event]) -> VotesCounted:
    return next(event for event in events if isinstance(event, VotesCounted))


def answered(layer: Sequence[Any], aggregate: Any = "vote", **settings: Any) -> tuple[list[Event], Answer]:
    return run(Mixture([layer], aggregate=aggregate, **settings))


def test_the_most_frequent_answer_is_the_answer() -> None:
    """Spellings of one answer count together, and the first member that gave it is quoted."""
    events, answer = answered(
        members("The answer is 41.", r"So it is 42. The answer is 42.", "42.0", "x = 42", "I do not know.")
    )
    assert answer.text == "So it is 42. The answer is 42."
    assert answer.agreement == pytest.approx(3 / 5) and not answer.degraded
    votes = {event.agent: event.answer for event in events if isinstance(event, AgentVoted)}
    assert votes == {"m0": "41", "m1": "42", "m2": "42", "m3": "x=42", "m4": "i do not know"}
    first, *others = counted(events).clusters
    assert (first.answer, first.score, first.agents) == ("42", 3.0, ("m1", "m2", "m3")) and len(others) == 2
    assert next(event.reason for event in events if isinstance(event, Selected)) == "3 of 5 votes for 42"


def test_weights_are_found_by_name_and_by_model() -> None:
    """One member of 0.9 outweighs two of 0.6."""
    layer = [*members("A", "B", "B")]
    _, answer = answered(layer, Vote(weights={"m0": 0.9, "x/m1": 0.6, "x/m2": 0.6}))
    assert answer.text == "A" and answer.agreement == pytest.approx(1 / 3)
    _, answer = answered(layer, Vote(weights={"x/m0": 0.6}))
    assert answer.text == "B"


def test_options_of_a_question_count_as_possible_answers() -> None:
    """So a member of 0.9 does not outweigh two of 0.6 among four options, and an option's text is its letter."""
    question = "Which?\nA) red\nB) green\nC) blue\nD) black"
    mixture = Mixture([members("red", "(B)", "green")], aggregate=Vote(weights={"m0": 0.9, "m1": 0.7, "m2": 0.7}))
    events, answer = run(mixture, question)
    assert answer.text == "(B)" and [cluster.answer for cluster in counted(events).clusters] == ["B", "A"]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("aggregate", ["vote", "mux"])
def test_a_count_ends_once_the_rest_cannot_change_it(schedule: Schedule, aggregate: str) -> None:
    """Under every schedule; the rest is skipped, which degrades nothing."""
    layer = [member("a", "42"), member("a", "42"), member("a", "42"), member("b", "41", 60), member("b", "42", 60)]
    weights = {"x/a": 0.8, "x/b": 0.6}
    events, answer = answered(layer, Vote(weights) if aggregate == "vote" else Mux(weights), schedule=schedule)
    assert answer.text == "42" and answer.agreement == 1.0 and answer.degraded == ()
    assert answer.duration is not None and answer.duration < 10
    assert [event.skipped for event in events if isinstance(event, AgentDropped)] == [True, True]
    assert any(isinstance(event, Noticed) and "cannot change the answer" in event.message for event in events)


def test_a_count_waits_for_those_that_can_change_it() -> None:
    """Two of four may end in a tie, which the first member wins; a unit that others name differently may split a cluster."""
    _, answer = answered(members("1", "2", "2", "1", late=[0]))
    assert answer.text == "1" and answer.duration is not None and answer.duration > 50
    _, answer = answered(members("18", "$18", "20", "€18", late=[3]))
    assert answer.duration is not None and answer.duration > 50


def test_a_count_needs_min_proposals() -> None:
    """Even where it is decided before."""
    _, answer = answered(members("1", "1", "1", "1", "1", late=[3, 4]), min_proposals=4)
    assert answer.duration is not None and answer.duration > 50
    with pytest.raises(NoProposals):
        Mixture([[member("a", UpstreamFailed("x/a", "down"))]], aggregate="vote").ask("Why?")


def test_failures_and_the_deadline_leave_the_votes_there_are() -> None:
    """A text that was cut short votes only with an answer that it has marked."""
    layer = [member("f", UpstreamFailed("x/f", "down")), *members("5", "5", "6", late=[2])]
    _, answer = answered(layer)
    assert (answer.text, answer.agreement) == ("5", 1.0) and len(answer.degraded) == 1
    cut = member("slow", r"Since \boxed{7} and so on " + long_text("w", 400), 0.5, tokens_per_second=10.0)
    early = member("early", "The answer is 7 or maybe " + long_text("w", 400), 0.5, tokens_per_second=10.0)
    _, answer = answered([cut, early, member("quick", "8")], deadline=5)
    assert answer.agreement == 0.5 and answer.text.startswith("Since")


def test_prose_goes_to_the_aggregator() -> None:
    """With a notice, whatever the schedule; without an aggregator the most central proposal is the answer."""
    texts = [f"{long_text(name, 60)}.\nThat is what I think about it." for name in "abc"]
    last = Scripted("merged", name="x/last")
    events, answer = run(Mixture([members(*texts)], last, aggregate="vote", schedule=Staircase()))
    assert answer.text == "merged" and answer.agreement is None and not answer.degraded
    assert any(
        isinstance(event, Noticed) and "cannot be compared; the aggregator writes" in event.message for event in events
    )
    assert any(isinstance(event, Noticed) and "waiting for all proposals" in event.message for event in events)
    events, answer = answered(members(*texts))
    assert answer.text in texts and answer.agreement is None
    assert any(isinstance(event, Noticed) and "the most central proposal" in event.message for event in events)


def test_an_aggregator_that_is_a_member_too_is_an_aggregator() -> None:
    """It is not taken for the stand-in of a mixture without one."""
    texts = [f"{long_text(name, 60)}.\nThat is what I think about it." for name in "ab"]
    layer = members(*texts)
    events, _ = run(Mixture([layer], layer[0], aggregate="vote"))
    assert [event.role for event in events if isinstance(event, AgentStarted)] == ["proposer", "proposer", "aggregator"]


def test_mux_takes_the_model_that_agrees_most_with_itself() -> None:
    """Its samples are the members of the same model and persona."""
    layer = [member("a", text) for text in ("7", "7", "7")] + [member("b", text) for text in ("8", "8", "9", "8")]
    events, answer = answered(layer, "mux")
    assert (answer.text, answer.agreement) == ("7", 1.0)
    assert {cluster.answer: round(cluster.score, 2) for cluster in counted(events).clusters} == {
        "7": 1,
        "8": 0.75,
        "9": 0,
    }
    same = member("c", "5")
    split = [*layer[:2], {"model": same}, {"model": same, "temperature": 1.0}, {"model": same, "persona": "a poet"}]
    _, answer = answered([*split, member("a", "9")], Mux({"x/c": 0.9, "x/a": 0.5}))
    assert (answer.text, answer.agreement) == ("5", 1.0)


def test_proposals_that_come_with_the_question_are_counted() -> None:
    """Also those of agents that the mixture does not have."""
    mixture = Mixture([members("1", "2")], aggregate=Vote({"m0": 0.9}))
    given = [Reference("m0", "5"), Reference("someone", "6"), Reference("someone", "6")]
    answer = mixture.ask("Why?", proposals=given)
    assert answer.text == "6" and answer.agreement == pytest.approx(2 / 3)
    answer = mixture.ask("Why?", kept=[Reference("m1", "1")])
    assert (answer.text, answer.agreement) == ("1", 1.0) and len(answer.calls) <= 1


def test_requests_with_tools_are_written() -> None:
    """No proposal can call a tool, so nothing is counted."""
    last = Scripted("merged", name="x/last")
    body = {
        "messages": [{"role": "user", "content": "Why?"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    _, answer = run(Mixture([members("1", "1")], last, aggregate="vote"), body)
    assert answer.text == "merged" and answer.agreement is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"m0": 1.0}, "the weight of 'm0' is 1.0; expected a number strictly between 0 and 1"),
        ({"m0": float("nan")}, "the weight of 'm0' is nan"),
        ({"x/m9": 0.5}, "weights names 'x/m9', which is no proposer and no proposer's model; did you mean"),
    ],
)
def test_weights_are_checked(weights: dict[str, float], message: str) -> None:
    """The message names the key and what is expected."""
    with pytest.raises(ConfigError, match=message):
        Mixture([members("1", "2")], aggregate=Vote(weights))


def test_weights_are_a_part_of_the_identity() -> None:
    """Of the answers', not of the proposals'."""
    ways: list[Aggregate] = ["vote", "mux", Vote({"m0": 0.6}), Vote({"m0": 0.7}), Mux({"m0": 0.7})]
    mixtures = [Mixture([members("1", "2")], aggregate=way) for way in ways]
    assert len({mixture.traits.identity for mixture in mixtures}) == len(ways)
    assert len({mixture.proposal_identity for mixture in mixtures}) == 1


def test_a_saved_run_has_the_votes_and_the_agreement() -> None:
    """Lines of JSON hold them, and so does the moa object of an answer; where nothing was counted, the field is left out."""
    events, answer = answered(members("42", "42", "41"))
    read = fold(events_of([encoded_event(event) for event in events]))
    assert read.agreement == answer.agreement and run_object(read)["agreement"] == pytest.approx(2 / 3)
    _, plain = run(Mixture([members("1", "2")], Scripted("3", name="x/last")))
    assert "agreement" not in run_object(plain)
