"""when = "disagree": the first members of the first layer, and the others only where those differ."""

from __future__ import annotations

from typing import Any

import pytest

from moa import Mixture, Scripted
from moa.errors import ConfigError, UpstreamFailed
from moa.events import AgentSkipped, AnswerBegan, Event, Noticed
from moa.messages import Answer
from moa.schedules import Barrier, EarlyExit, Quorum, Schedule, Staircase
from tests.mixture.panels import BODY
from tests.mixture.writers import run, writer


def layer(*texts: str | Scripted) -> list[Scripted]:
    """Members called m0, m1, …"""
    return [
        text if isinstance(text, Scripted) else Scripted(text, name=f"x/m{number}") for number, text in enumerate(texts)
    ]


def asked(answer: Answer) -> list[str]:
    """The agents that were called, in order."""
    return [call.agent for call in answer.calls]


def disagreeing(members: list[Scripted], **settings: Any) -> Mixture:
    return Mixture([members], Scripted("merged", name="x/last"), when="disagree", **settings)


def answered(mixture: Mixture, question: Any = "Why?") -> tuple[list[Event], Answer]:
    return run(mixture, question)


@pytest.mark.parametrize("schedule", [Barrier(), Quorum(3), Staircase(), Barrier(warm=True), EarlyExit(Barrier())])
def test_the_others_are_not_called_where_the_first_agree(schedule: Schedule) -> None:
    """Their proposal is the answer at once; the others are skipped, and nothing is degraded."""
    deeper = Scripted("deeper", name="x/deeper")
    members = layer("It is 42.", "it is **42**", "never", "never")
    last = Scripted("merged", name="x/last")
    events, answer = answered(Mixture([members, [deeper]], last, when="disagree", schedule=schedule))
    assert (asked(answer), answer.degraded) == (["m0", "m1"], ())
    assert answer.text in ("It is 42.", "it is **42**")
    assert [event.agent for event in events if isinstance(event, AgentSkipped)] == ["m2", "m3", "deeper"]
    assert any(isinstance(event, Noticed) and "m0 and m1 agree" in event.message for event in events)
    assert not (deeper.requests or last.requests)


@pytest.mark.parametrize("schedule", [Barrier(), Quorum(3), Staircase(), Barrier(warm=True)])
def test_all_are_called_where_the_first_differ(schedule: Schedule) -> None:
    """The first are not called again, and the aggregator reads everybody."""
    members = [*layer("It is 42.", "It is 41."), writer("c"), writer("d")]
    events, answer = answered(disagreeing(members, schedule=schedule))
    assert asked(answer)[:4] == ["m0", "m1", "c", "d"] and answer.text == "merged"
    began = next(event for event in events if isinstance(event, AnswerBegan))
    assert len(began.references) >= 3
    assert [len(each.requests) for each in members] == [1] * 4


def test_first_says_how_many_are_compared() -> None:
    """Two that agree are not enough where three are compared."""
    _, answer = answered(disagreeing(layer("42", "42", "41", "42"), first=3))
    assert asked(answer) == ["m0", "m1", "m2", "m3", "last"]
    _, answer = answered(disagreeing(layer("42", "42", "42", "41"), first=3))
    assert asked(answer) == ["m0", "m1", "m2"]


def test_a_member_without_a_proposal_is_replaced() -> None:
    """By the next: one that failed, one that was cut short, one that stays silent."""
    failing = Scripted(UpstreamFailed("x/f", "down"), name="x/f")
    cut = Scripted("42", name="x/cut", finish_reason="length")
    silent = Scripted("42", name="x/silent", first_token=500)
    for bad in (failing, cut, silent):
        _, answer = answered(disagreeing([*layer("42"), bad, Scripted("42", name="x/next"), *layer("0")[:1]]))
        assert asked(answer) == ["m0", bad.name[2:], "next"]
        assert answer.text == "42"
    assert answer.degraded == (
        "silent (layer 1) was dropped: it was silent for 60 s after the others of its layer had ended",
    )


def test_all_are_called_where_too_few_are_left_to_compare() -> None:
    """One proposal alone agrees with nobody; the aggregator writes."""
    down = [Scripted(UpstreamFailed(f"x/f{number}", "down"), name=f"x/f{number}") for number in range(2)]
    _, answer = answered(disagreeing([*down, *layer("42")]))
    assert asked(answer) == ["f0", "f1", "m0", "last"]


def test_an_aggregation_without_a_call_gives_the_answer() -> None:
    """It gets the proposals that agree."""
    seen: list[int] = []

    def longest(request: object, proposals: Any) -> int:
        seen.append(len(proposals))
        return 1

    _, answer = answered(Mixture([layer("42", "**42**", "41")], aggregate=longest, when="disagree"))
    assert (answer.text, seen) == ("**42**", [2])


def test_the_aggregator_writes_from_what_agrees_where_the_request_needs_it_to() -> None:
    """A request with tools gets a written answer; the others are skipped all the same."""
    last = Scripted("merged", name="x/last")
    _, answer = answered(Mixture([layer("42", "42", "41")], last, when="disagree"), BODY)
    assert asked(answer) == ["m0", "m1", "last"] and answer.text == "merged"
    assert str(last.requests[0].messages).count("<response ") == 2


def test_the_deadline_ends_the_comparison() -> None:
    """Members that were not called are not waited for."""
    members = [writer("a", words=400), writer("b", words=400), *layer("42")]
    _, answer = answered(disagreeing(members, deadline=1.0))
    assert asked(answer) == ["a", "b", "last"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first": 1}, "first is 1; expected 2 or more"),
        ({"first": 3}, "first is 3, but the first layer has 3"),
        ({"schedule": Quorum(2)}, "a quorum of 2 is reached"),
        ({"when": "always", "first": 2}, "first is 2, which applies to when"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    """The error names the key and its value."""
    with pytest.raises(ConfigError, match=message):
        Mixture([layer("1", "2", "3")], Scripted("x"), **{"when": "disagree", **settings})
