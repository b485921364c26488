"""A moderator between layers: the best proposals go on, and the run may end early."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moa import Mixture, Request, Scripted, fold
from moa.errors import ConfigError
from moa.events import AgentDropped, AgentFailed, AgentStarted, AnswerBegan, Event, Moderated, Noticed, RunStarted
from moa.messages import Reference, Usage
from moa.mixture.moderator import verdict_of
from moa.prices import Price, Prices
from moa.schedules import Quorum, Staircase
from moa.store.record import proposals_of
from tests.mixture.panels import model, prompt_of
from tests.mixture.writers import long_text, run

pytestmark = pytest.mark.anyio

FOUR = "abcd"


def four(prefix: str = "by", words: int = 0, **settings: Any) -> list[Scripted]:
    return [
        Scripted(long_text(name, words) if words else f"{prefix} {name}", name=f"x/{name}", **settings) for name in FOUR
    ]


def last(*verdicts: Any, text: str = "merged", **settings: Any) -> Scripted:
    """An aggregator that moderates with these replies, the last one again and again, and else answers."""
    given_ = [*verdicts]

    def answer(request: Request) -> Any:
        if '"done" is true only' not in str(request.messages):
            return text
        return given_.pop(0) if len(given_) > 1 else given_[0]

    return Scripted(answer, name="x/last", **settings)


def best(*numbers: int, done: bool = False) -> str:
    return json.dumps({"best": numbers, "done": done})


async def events_of(of: Mixture, question: Any = "Why?", **settings: Any) -> list[Event]:
    return [event async for event in of.run(question, **settings)]


def read_by(events: Sequence[Event], layer: int, role: str = "proposer") -> list[tuple[str, ...]]:
    started = [event for event in events if isinstance(event, AgentStarted) and event.layer == layer]
    return [event.references for event in started if event.role == role]


async def test_the_best_of_each_layer_go_on() -> None:
    """One call for each layer: every agent of the second reads those kept of the first, the aggregator of the second."""
    aggregator = last(best(4, 2), best(1, 3))
    events = await events_of(Mixture([four(), four()], aggregator, keep=2))
    assert read_by(events, 1, "moderator") == read_by(events, 2, "moderator") == [tuple(FOUR)]
    assert read_by(events, 2) == [("b", "d")] * 4
    assert read_by(events, 3, "aggregator") == [("a", "c")]
    assert [(each.layer, each.kept, each.dropped, each.ends) for each in events if isinstance(each, Moderated)] == [
        (1, ("b", "d"), ("a", "c"), False),
        (2, ("a", "c"), ("b", "d"), False),
    ]
    assert len(aggregator.requests) == 3


async def test_a_dropped_proposal_has_not_failed_and_degrades_nothing() -> None:
    """Its call says why it is no reference; a run that continues this one does not write it again."""
    events = await events_of(Mixture([four()], last(best(2, 3)), keep=2))
    answer = fold(events)
    assert (answer.text, answer.degraded) == ("merged", ())
    assert not [event for event in events if isinstance(event, AgentFailed | AgentDropped)]
    dropped = {call.agent: call.dropped for call in answer.calls if call.dropped}
    assert dropped == dict.fromkeys("ad", "last (moderator) kept other proposals")
    assert [call.agent for call in answer.proposals] == ["b", "c"]
    assert {reference.agent for reference in proposals_of(answer)} == {*FOUR}


async def test_every_agent_has_a_seat_and_every_token_counts() -> None:
    """The moderator is known from the first event, and its usage and cost are the run's."""
    prices = Prices({"x/last": Price(1.0, 1.0)}, free=frozenset({"y"}))
    aggregator = last(best(1), usage=Usage(100, 10))
    members = [Scripted(f"by {name}", name=f"y/{name}") for name in FOUR]
    events = await events_of(Mixture([members], aggregator, keep=1, prices=prices))
    assert isinstance(events[0], RunStarted)
    seats = {(seat.layer, seat.agent, seat.role) for seat in events[0].seats}
    assert {(each.layer, each.agent, each.role) for each in events if isinstance(each, AgentStarted)} == seats
    assert fold(events).cost.dollars == pytest.approx(220e-6)


async def test_the_moderator_may_end_the_run() -> None:
    """The answer is made from the kept proposals; the layers after are skipped, are not called, and degrade nothing."""
    later = four("later")
    aggregator = last(best(1, 2, done=True))
    events = await events_of(Mixture([four(), later, later], aggregator, keep=2))
    answer = fold(events)
    assert (answer.text, answer.degraded) == ("merged", ())
    assert not any(each.requests for each in later)
    assert [[each.agent for each in event.references] for event in events if isinstance(event, AnswerBegan)] == [
        ["a", "b"]
    ]
    assert "the moderator ends the run after layer 1; the others are skipped" in [
        event.message for event in events if isinstance(event, Noticed)
    ]


async def test_after_the_last_layer_there_is_nothing_to_end() -> None:
    """``done`` changes nothing there."""
    events = await events_of(Mixture([four()], last(best(1, 2, done=True)), keep=2))
    assert [event.ends for event in events if isinstance(event, Moderated)] == [False]
    assert fold(events).degraded == ()


@pytest.mark.parametrize(
    "reply", ["All are good.", "", "{}", best(9), best(), "[]", "1, 2 and 3", RuntimeError("gone")]
)
async def test_where_it_does_not_choose_all_go_on(reply: Any) -> None:
    """A notice says so."""
    events = await events_of(Mixture([four(), four()], last(reply), keep=2))
    assert read_by(events, 2) == [tuple(FOUR)] * 4
    answer = fold(events)
    assert answer.text == "merged"
    assert [
        line for line in answer.degraded if line.startswith("all proposals of layer 1 go on, since the moderator did")
    ]


@pytest.mark.parametrize("keep", [4, 5])
async def test_where_no_more_are_usable_than_go_on_there_is_no_call(keep: int) -> None:
    """K of the layer's size or above; and a layer of which so few are left."""
    aggregator = last(best(1))
    await Mixture([four()], aggregator, keep=keep).answer("Why?")
    gone = [Scripted(RuntimeError("gone"), name=f"x/{name}") for name in "ab"]
    await Mixture([[*gone, model("c", "x/c")]], aggregator, keep=1).answer("Why?")
    assert len(aggregator.requests) == 2


async def test_fewer_kept_than_min_proposals_are_enough() -> None:
    """``min_proposals`` counts what proposers wrote, not what the moderator left."""
    answer = await Mixture([four(), four()], last(best(3)), keep=1, min_proposals=3).answer("Why?")
    assert (answer.text, answer.degraded) == ("merged", ())


async def test_with_subsets_and_all_layers() -> None:
    """A subset is drawn from those that go on; with all layers, what was dropped does not come back."""
    events = await events_of(Mixture([four()], last(best(1, 2, 3)), keep=3, reads=2, rounds=2))
    assert all(len(names) == 2 and "d" not in names for names in read_by(events, 2))
    layers = [four(), four(), four()]
    events = await events_of(Mixture(layers, last(best(1, 2), best(3, 4), best(1, 4)), keep=2, reads="all-layers"))
    assert read_by(events, 3) == [("a", "b", "c", "d")] * 4
    assert read_by(events, 4, "aggregator") == [("a", "b", "c", "d", "a", "d")]


async def test_an_aggregation_that_selects_chooses_from_the_whole_last_layer() -> None:
    """There, the moderator stands between the layers of proposers alone."""
    aggregator = last(best(1, 2), text="3")
    events = await events_of(Mixture([four(), four("second")], aggregator, aggregate="select", keep=2))
    assert fold(events).text == "second c"
    assert len([event for event in events if isinstance(event, Moderated)]) == 1


def test_it_waits_for_whole_proposals_under_every_schedule() -> None:
    """A staircase waits, and says so; a quorum's moderator chooses among those that were in time."""
    slow = [Scripted(long_text(name, 100), name=f"x/{name}", tokens_per_second=50) for name in FOUR]
    aggregator = last(best(2, 3))
    events, answer = run(Mixture([slow], aggregator, keep=2, schedule=Staircase((8,))))
    assert (answer.text, len(aggregator.requests)) == ("merged", 2)
    waits = "this request cannot be answered incrementally; waiting for all proposals"
    assert waits in [event.message for event in events if isinstance(event, Noticed)]
    late = [*four()[:3], Scripted("late", name="x/d", first_token=60.0)]
    events, answer = run(Mixture([late, four()], last(best(1, 3)), keep=2, schedule=Quorum(3)))
    assert read_by(events, 2) == [("a", "c")] * 4


def test_a_deadline_ends_the_moderation() -> None:
    """All proposals so far are what the answer is made from."""
    aggregator = last(Scripted(best(1), first_token=60.0))
    answer = run(Mixture([four(), four()], aggregator, keep=2, deadline=10))[1]
    assert (answer.text, aggregator.cancelled) == ("merged", 1)
    assert answer.duration == pytest.approx(10, abs=0.1)


async def test_money_for_the_answer_comes_first() -> None:
    """Where the limit does not pay for the moderator and the answer, all go on."""
    prices = Prices({f"x/{name}": Price(10.0, 10.0) for name in (*FOUR, "last")})
    aggregator = last(best(1))
    answer = await Mixture([four(words=300)], aggregator, keep=1, max_cost=0.045, prices=prices).answer("Why?")
    assert (answer.text, len(aggregator.requests)) == ("merged", 1)
    assert [line for line in answer.degraded if "the cost limit of $0.045 leaves no money for it" in line]


async def test_cancelling_during_the_moderation_cancels_its_call() -> None:
    """No call is left, and none begins."""
    slow = last(Scripted(best(1), first_token=3600.0))
    later = four()
    async with Mixture([four(), later], slow, keep=2).run("Why?") as running:
        async for event in running:
            if isinstance(event, AgentStarted) and event.role == "moderator":
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                break
    assert (slow.running, len(slow.requests)) == (0, 1)
    assert not any(each.requests for each in later)


async def test_kept_proposals_are_moderated_like_others() -> None:
    """Those of an earlier run may be dropped, and are then no proposals of the answer."""
    kept = [Reference(name, f"by {name}", layer=1) for name in FOUR]
    answer = fold(await events_of(Mixture([four()], last(best(2)), keep=1), kept=kept))
    assert [call.agent for call in answer.proposals] == ["b"]
    assert {reference.agent for reference in proposals_of(answer)} == {*FOUR}


async def test_a_turn_keeps_what_went_on() -> None:
    """While tool calls continue, the moderator is not called again."""
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    asked: list[Any] = [{"role": "user", "content": "Why?"}]
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    results: list[Any] = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]
    aggregator = last(best(2, 4))
    mixture = Mixture([four()], aggregator, keep=2)
    await mixture.answer({"messages": asked, "tools": tools})
    await mixture.answer({"messages": [*asked, *results], "tools": tools})
    assert ["tools" in request.body for request in aggregator.requests] == [False, True, True]
    assert "by b" in prompt_of(aggregator, 2)
    assert "by a" not in prompt_of(aggregator, 2)


async def test_nested_mixtures_have_moderators_of_their_own() -> None:
    """As a member, and as a mixture that moderates."""
    inner = Mixture([four()], last(best(1)), keep=1, name="inner")
    assert (await Mixture([[inner, model("other")]], model("end", "x/end")).answer("Why?")).text == "end"
    outer = Mixture([four()], Mixture([[model("m")]], last(best(2)), name="in"), keep=1)
    events = await events_of(outer)
    assert [event.kept for event in events if isinstance(event, Moderated)] == [("b",)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"keep": 0}, "keep is 0; expected a number of proposals from 1"),
        ({"keep": True}, "keep is True; expected a number of proposals from 1"),
        ({"keep": 2, "aggregator": None, "aggregate": "central"}, "needs an aggregator, which moderates: keep is 2"),
        ({"keep": 2, "layers": []}, "keep is 2, but there are no layers whose proposals could be kept"),
    ],
)
def test_a_wrong_value_is_named(fields: dict[str, Any], expected: str) -> None:
    """A mistake is an error when the mixture is made."""
    with pytest.raises(ConfigError) as caught:
        Mixture(**{"layers": [four()], "aggregator": model("end"), **fields})
    assert expected in str(caught.value)


def test_what_proposals_depend_on_includes_the_moderator() -> None:
    """The aggregator, too, where it moderates."""
    one, two = (Mixture([four(), four()], model("end", f"x/{name}"), keep=2) for name in "yz")
    assert one.proposal_identity != two.proposal_identity
    assert Mixture([four(), four()], model("end", "x/y")).proposal_identity != one.proposal_identity


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (best(3, 1), ({0, 2}, False)),
        (f"```json\n{best(1, 2, done=True)}\n```", ({0, 1}, True)),
        ('{"best": ["response 2", "4"], "done": "true"}', ({1, 3}, True)),
        (best(1, 2, 3), ({0, 1}, False)),
        (best(2, 2), ({1}, False)),
        ('{"best": 3}', ({2}, False)),
        ("2 and 4", ({1, 3}, False)),
        ("[1, 4]", ({0, 3}, False)),
        ("Response 2 is best", None),
        ('{"best": [0, 7]}', None),
        ('{"best": null, "done": true}', None),
        ("", None),
    ],
)
def test_a_tolerant_reader_finds_the_choice(reply: str, expected: Any) -> None:
    """JSON, with words or a fence around it, or exactly as many numbers as go on."""
    assert verdict_of(reply, 4, 2) == expected


POINT = st.none() | st.floats() | st.integers(-9, 9) | st.text(max_size=5)


@settings(max_examples=50)
@given(
    st.text(max_size=30) | (POINT | st.lists(POINT, max_size=4)).map(lambda value: json.dumps({"best": value})),
    st.integers(1, 5),
)
def test_no_reply_raises(reply: str, keep: int) -> None:
    """Whatever it holds, the choice is of proposals that exist."""
    verdict = verdict_of(reply, 5, keep)
    assert verdict is None or (verdict[0] <= {*range(5)} and 1 <= len(verdict[0]) <= keep)
