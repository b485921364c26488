"""What calls cost that gave no answer reaches the run's events, its answer and its record."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from moa import Mixture, Scripted
from moa.answers import Answer, Cost, Usage
from moa.errors import ModelError, RateLimited, RunError, UpstreamFailed
from moa.events import AgentSpent
from moa.models.retries import Retried
from moa.prices import Price, Prices
from moa.schedules import Barrier, Staircase
from tests.fakes.virtual_time import run_in_virtual_time

PRICES = Prices({"scripted/*": Price(1e6, 1e6)}, free=frozenset())  # a dollar a token
USAGE = Usage(10, 5)


def model(name: str, text: str = "text", **settings: Any) -> Scripted:
    return Scripted(text, name=f"scripted/{name}", usage=USAGE, **settings)


def failing(name: str, kind: type[ModelError] = RateLimited) -> Scripted:
    return Scripted(kind(f"scripted/{name}", "no"), name=f"scripted/{name}")


async def left_after_5_seconds(mixture: Mixture) -> Answer:
    async with mixture.run("Why is the sky blue?") as run:
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                async for _ in run:
                    pass
    return run.estimated_answer


def test_a_nested_mixture_that_fails_leaves_its_proposals_and_their_cost() -> None:
    """The outer run has the inner calls with their text, and pays for them."""
    inner = Mixture([[model("paid", "paid for")]], failing("broken"), name="inner", prices=PRICES)
    outer = Mixture([[inner, model("b")]], model("z"), prices=PRICES)
    answer = outer.ask("Why?")
    assert answer.cost == Cost(45.0) and answer.usage.input_tokens == 30
    call = answer.calls[0]
    assert call.dropped and [each.text for each in call.calls] == ["paid for", ""]
    assert call.cost == Cost(15.0)


def test_a_nested_mixture_that_is_given_up_leaves_what_it_has_spent() -> None:
    """Its finished proposals are known; its call in flight is estimated."""
    inner = Mixture([[model("a")]], model("slow", first_token=60), name="inner", prices=PRICES)
    outer = Mixture([[inner, model("b")]], model("z"), deadline=5, prices=PRICES)
    answer = run_in_virtual_time(outer.answer("Why?"))
    call = answer.calls[0]
    assert [(each.agent, each.usage and each.usage.estimated) for each in call.calls] == [("a", False), ("slow", True)]
    assert call.usage and call.usage.input_tokens > 10 and call.cost and call.cost.dollars and call.cost.dollars > 15


def test_a_cancelled_run_counts_the_attempts_and_the_calls_inside_a_nested_mixture() -> None:
    """An attempt that failed, and a proposal of a nested mixture, are paid for, whether or not the caller reads on."""
    failing_first = Scripted(
        [UpstreamFailed("scripted/t", "busy"), Scripted("late", first_token=60)], name="scripted/t"
    )
    inner = Mixture([[model("a")]], model("slow", first_token=60), name="inner", prices=PRICES)
    mixture = Mixture([[Retried(failing_first, wait_initial=0, wait_jitter=0), inner]], model("z"), prices=PRICES)
    retried, nested = run_in_virtual_time(left_after_5_seconds(mixture)).calls
    assert retried.usage == Usage(10, 0, estimated=True) and retried.cost == Cost(10.0)
    assert [attempt.reason for attempt in retried.attempts] == ["scripted/t: busy"]
    assert nested.cost and nested.cost.dollars and nested.cost.dollars > 15


@pytest.mark.parametrize(("kind", "tokens"), [(RateLimited, 0), (UpstreamFailed, 110)])
def test_a_refused_warming_call_is_not_billed(kind: type[ModelError], tokens: int) -> None:
    """A call that warms a cache is an attempt like any other."""
    failure = kind("scripted/z", "no")
    aggregator = Scripted([failure, "done"], name="scripted/z", usage=USAGE)
    layers = [[model("fast"), model("slow", first_token=3)]]
    mixture = Mixture(layers, aggregator, schedule=Barrier(warm=True), prices=PRICES)
    call = run_in_virtual_time(mixture.answer("Why?")).calls[-1]
    assert [attempt.reason for attempt in call.attempts] == ["it warmed the prompt cache"]
    assert call.usage and call.usage.input_tokens >= tokens + 10 and call.usage.estimated is bool(tokens)


def test_a_warming_call_counts_where_its_agent_is_not_called_afterwards() -> None:
    """It is a call of its own, marked as dropped."""
    slow = model("slow", first_token=60)
    mixture = Mixture([[model("fast"), slow]], model("z"), schedule=Barrier(warm=True), prices=PRICES)
    calls = run_in_virtual_time(left_after_5_seconds(mixture)).calls
    warmed = next(call for call in calls if call.agent == "z")
    assert warmed.dropped and warmed.usage == USAGE and warmed.cost == Cost(15.0)


def test_a_nested_mixture_is_neither_warmed_nor_hedged() -> None:
    """That would call all of its agents a second time."""
    agents = [model("a"), model("b")]
    inner = Mixture([[agents[0]]], agents[1], name="inner")
    fast = [model("fast"), model("slow", first_token=3)]
    run_in_virtual_time(Mixture([fast, [inner]], model("z"), schedule=Barrier(warm=True)).answer("Why?"))
    assert [len(agent.requests) for agent in agents] == [1, 1]


def test_a_run_that_fails_counts_the_proposers_that_still_write() -> None:
    """They are closed before the run's last event, and their cost is estimated."""
    slow = Scripted("w " * 200, name="scripted/slow", tokens_per_second=10)
    mixture = Mixture(
        [[slow]],
        Scripted(RateLimited("scripted/z", "no"), name="scripted/z", continuation="prefix"),
        schedule=Staircase((2,), (8,)),
        prices=PRICES,
    )

    async def fails() -> Answer:
        try:
            await mixture.answer("Why?")
        except RunError as error:
            assert error.answer
            return error.answer
        raise AssertionError

    answer = run_in_virtual_time(fails())
    assert [call.usage and call.usage.estimated for call in answer.calls] == [True, False]
    assert answer.cost.dollars


def test_pieces_of_a_staircase_are_events_with_their_cost() -> None:
    """Each piece that another call continues is reported when it ends."""
    slow = model("slow", "w " * 200, tokens_per_second=20)
    writer = Scripted("answer " * 60, name="scripted/z", continuation="prefix", tokens_per_second=10)
    mixture = Mixture([[slow]], writer, schedule=Staircase((4, 32), (8, 24)), prices=PRICES)

    async def spent() -> list[AgentSpent]:
        return [event async for event in mixture.run("Why?") if isinstance(event, AgentSpent)]

    events = run_in_virtual_time(spent())
    assert len(events) == 2 and {event.attempt and event.attempt.reason for event in events} == {
        "another call continues its text"
    }
    assert events[0].cost.dollars and events[1].cost.dollars and events[0].cost.dollars < events[1].cost.dollars
