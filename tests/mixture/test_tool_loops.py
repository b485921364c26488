"""Proposals that are reused: within a turn's tool calls, or from an earlier run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from moa import Mixture, Scripted, fold
from moa.messages import Reference
from moa.mixture.events import AgentRecalled, AnswerBegan
from moa.mixture.memory import Recent
from moa.schedules import Barrier, EarlyExit, Quorum, Schedule, Staircase
from tests.fakes.virtual_time import run_in_virtual_time
from tests.mixture.panels import model, prompt_of

pytestmark = pytest.mark.anyio


TOOLS = [{"type": "function", "function": {"name": "look"}}]


def tool_step(steps: int, *more: Mapping[str, object]) -> dict[str, object]:
    """A request with so many tool calls since the user's message, and then further messages."""
    made: list[Mapping[str, object]] = [{"role": "user", "content": "What is the weather?"}]
    for number in range(steps):
        call = {"id": f"{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        made.append({"role": "assistant", "content": None, "tool_calls": [call]})
        made.append({"role": "tool", "tool_call_id": f"{number}", "content": f"result {number}"})
    return {"messages": [*made, *more], "tools": TOOLS}


async def test_each_step_of_a_tool_loop_reuses_the_turns_proposals() -> None:
    """Proposers answer a turn once; each later prompt of the aggregator begins with the one before."""
    proposer, last = model("look at the map"), model("fine", "scripted/l")
    mixture = Mixture([[proposer]], last)
    for steps in range(3):
        await mixture.answer(tool_step(steps))
    assert len(proposer.requests) == 1
    first, second, third = (request.messages for request in last.requests)
    assert second[: len(first)] == first
    assert third[: len(second)] == second
    assert "look at the map" in str(first[0])
    events = [event async for event in mixture.run(tool_step(1))]
    began = [event for event in events if isinstance(event, AnswerBegan)]
    assert [(event.recalled, event.references) for event in began] == [(True, (Reference("a", "look at the map"),))]


def test_a_deadline_does_not_cut_short_proposals_that_are_recalled() -> None:
    """In a later step of a tool loop no proposer writes, so a deadline that passes changes nothing."""
    mixture = Mixture([[model("look at the map")]], model("fine", "scripted/l", first_token=9), deadline=5)
    run_in_virtual_time(mixture.answer(tool_step(0)))
    answer = run_in_virtual_time(mixture.answer(tool_step(1)))
    assert (answer.text, answer.degraded) == ("fine", ())


async def test_another_turn_gets_new_proposals() -> None:
    """The next question, another conversation, and the same question asked again are new turns."""
    proposer = model("p")
    mixture = Mixture([[proposer]], model("fine", "scripted/l"))
    await mixture.answer(tool_step(0))
    await mixture.answer(tool_step(0))
    later = ({"role": "assistant", "content": "sunny"}, {"role": "user", "content": "And then?"})
    await mixture.answer(tool_step(1, *later))
    assert len(proposer.requests) == 3


async def test_a_mixture_can_call_its_proposers_at_every_step() -> None:
    """fanout="every" calls them each time; a tool loop whose turn was never kept calls them once."""
    proposer = model("p")
    every = Mixture([[proposer]], model("fine", "scripted/l"), fanout="every")
    for steps in range(3):
        await every.answer(tool_step(steps))
    assert len(proposer.requests) == 3
    forgetful = Mixture([[proposer]], model("fine", "scripted/l"))
    for _ in range(2):
        await forgetful.answer(tool_step(2))
    assert len(proposer.requests) == 4


async def test_without_tools_no_proposals_are_kept() -> None:
    """A turn without tools has no later step, so its proposals are not kept."""
    memory = Recent()
    mixture = Mixture([[model("p")]], model("fine", "scripted/l"), memory=memory)
    await mixture.answer("Why?")
    assert memory._kept == {}
    await mixture.answer(tool_step(0))
    assert len(memory._kept) == 1


async def test_a_run_can_be_given_its_proposals() -> None:
    """A run with proposals calls no proposer, and the aggregator reads the given ones."""
    proposer, last = model("p"), model("fine", "scripted/l")
    mixture = Mixture([[proposer]], last)
    events = [event async for event in mixture.run("Why?", proposals=[Reference("x", "paid for")])]
    assert fold(events).text == "fine"
    assert "paid for" in prompt_of(last)
    assert proposer.requests == []


async def test_a_run_continues_from_the_proposals_of_an_earlier_one() -> None:
    """Agents whose proposals are kept are not called again, all others are; proposals of other mixtures are ignored."""
    one, two, deep, last = model("p1", "s/one"), model("p2", "s/two"), model("p3", "s/deep"), model("fine", "s/last")
    mixture = Mixture([[one, two], [deep]], last)
    kept = [Reference("one", "paid for"), Reference("stranger", "odd"), Reference("deep", " ", layer=2)]
    answer = fold([event async for event in mixture.run("Why?", kept=kept)])
    assert [len(each.requests) for each in (one, two, deep, last)] == [0, 1, 1, 1]
    assert "paid for" in prompt_of(deep)
    assert "odd" not in prompt_of(deep)
    assert answer.text == "fine"
    assert [(call.agent, call.text, call.model) for call in answer.recalled] == [("one", "paid for", "s/one")]
    assert [call.agent for call in answer.proposals] == ["one", "two", "deep"]
    assert len(answer.calls) == 3


@pytest.mark.parametrize("schedule", [Barrier(), Quorum(1), Staircase((4,)), EarlyExit(Barrier())], ids=repr)
async def test_with_every_proposal_kept_only_the_aggregator_is_called(schedule: Schedule) -> None:
    """Under any schedule, also when a fallback has to answer, agents with kept proposals are not called."""
    one, two = model("p1", "s/one"), model("p2", "s/two")
    broken = Scripted("half", name="s/broken", fail_after=0, continuation="prefix")
    spare = model("fine", "s/spare")
    mixture = Mixture([[one], [two]], broken, fallbacks=[spare], schedule=schedule)
    kept = [Reference("one", "an old word"), Reference("two", "a deep word", cut=True, layer=2)]
    events = [event async for event in mixture.run("Why?", kept=kept)]
    assert one.requests == two.requests == []
    assert fold(events).text == "fine"
    assert [event.cut for event in events if isinstance(event, AgentRecalled)] == [False, True]


def test_a_memory_forgets_the_least_recently_used_turn() -> None:
    """It keeps a fixed number of turns."""
    memory = Recent(turns=2)
    for turn in "ab":
        memory.keep(turn, [Reference(turn, turn)])
    memory.recall("a")
    memory.keep("c", [])
    assert [memory.recall(turn) is not None for turn in "abc"] == [True, False, True]


def test_the_memory_of_turns_is_bounded_in_bytes() -> None:
    """The turns used longest ago are forgotten where the proposals take too much; the latest one stays."""
    memory = Recent(megabytes=0.1)
    for number in range(10):
        memory.keep(f"{number}", [Reference("a", "x" * 30_000)])
    assert [number for number in range(10) if memory.recall(f"{number}")] == [7, 8, 9]
    memory.keep("9", [Reference("a", "x" * 200_000)])
    assert [number for number in range(10) if memory.recall(f"{number}")] == [9]
