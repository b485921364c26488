"""Aggregations that select a proposal: by a ranker, or the most central one."""

from __future__ import annotations

from typing import Any

import pytest

from moa import Mixture, Request, Usage, fold
from moa.mixture.events import Selected
from tests.mixture.panels import BODY, events_of, model, prompt_of

pytestmark = pytest.mark.anyio


async def test_select_answers_with_the_proposal_that_the_ranker_names() -> None:
    """The ranker's reply is read as a number and the proposal used word for word; its call is counted."""
    ranker = model("2", "scripted/r", usage=Usage(50, 1))
    mixture = Mixture([[model("one"), model("two, whole", "scripted/b")]], ranker, aggregate="select")
    events = await events_of(mixture)
    answer = fold(events)
    assert answer.text == "two, whole"
    assert answer.calls[-1].role == "ranker"
    assert answer.calls[-1].agent == mixture.plan.seats[-1].agent == "r"
    assert [event.agent for event in events if isinstance(event, Selected)] == ["b"]
    assert "number of that response" in prompt_of(ranker)
    streamed = "".join([delta.text async for delta in mixture.stream(Request.of("Why?"))])
    assert streamed == "two, whole"


@pytest.mark.parametrize("reply", ["neither", "7", "1 or 2", ""])
async def test_when_a_ranker_names_no_proposal_the_most_central_is_the_answer(reply: str) -> None:
    """An unreadable choice falls back to the proposal most like the others, and the answer reports it."""
    proposers = [model("a b c"), model("a b c d", "scripted/b"), model("x y z", "scripted/c")]
    answer = await Mixture([proposers], model(reply, "scripted/r"), aggregate="select").answer("Why?")
    assert answer.text == "a b c"
    assert any("the ranker named no proposal" in reason for reason in answer.degraded)


async def test_central_calls_no_model() -> None:
    """The proposal most like the others is the answer, without an aggregator and without a call for it."""
    proposers = [model("red or blue"), model("it is a cat", "scripted/b"), model("it is a dog", "scripted/c")]
    answer = await Mixture([proposers], aggregate="central").answer("Why?")
    assert answer.text == "it is a cat"
    assert len(answer.calls) == 3
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("aggregate", ["central", "select"])
async def test_a_selected_proposal_that_ends_early_is_an_answer_that_ends_early(aggregate: Any) -> None:
    """Its finish reason is that of a text cut short, streamed or whole, and the answer is degraded."""
    proposer = model("The first half of", finish_reason="length")
    mixture = Mixture([[proposer]], model("1", "scripted/r"), aggregate=aggregate)
    answer = await mixture.answer("Why?")
    assert (answer.text, answer.finish_reason) == ("The first half of", "length")
    assert any("ends early" in reason for reason in answer.degraded)
    assert [delta.finish_reason async for delta in mixture.stream("Why?")][-1] == "length"


async def test_a_selection_writes_when_the_request_has_tools_or_a_format() -> None:
    """No proposal can call a tool, so with tools or a response format the aggregator writes, and a notice reports it."""
    acting = model(
        "", "scripted/l", tool_calls=[{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    )
    answer = await Mixture([[model("p"), model("p", "scripted/b")]], acting, aggregate="central").answer(BODY)
    assert answer.finish_reason == "tool_calls"
    assert answer.tool_calls[0]["function"] == {"name": "look", "arguments": "{}"}
