"""Aggregations, above all those that a user writes as a function."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

from moa import Mixture, Request, Scripted, fold
from moa.errors import AggregatorFailed, ConfigError
from moa.messages import Reference
from moa.mixture.aggregation import Aggregation, Running
from moa.mixture.events import AgentFailed, AgentStarted, Event, RunStarted, Selected

pytestmark = pytest.mark.anyio

LAYER = [Scripted("so 42", name="x/ann"), Scripted("41", name="x/bob"), Scripted("it is 42", name="x/cat")]
BROKEN = [*LAYER[:2], Scripted("half", name="x/cut", finish_reason="length")]


def vote(request: Request, proposals: Sequence[Reference]) -> str:
    """The last word that most proposals end with."""
    return Counter(proposal.text.split()[-1] for proposal in proposals).most_common(1)[0][0]


def longest(request: Request, proposals: Sequence[Reference]) -> int:
    """The index of the longest proposal."""
    return max(range(len(proposals)), key=lambda index: len(proposals[index].text))


async def longest_later(request: Request, proposals: Sequence[Reference]) -> int:
    await asyncio.sleep(0)
    return longest(request, proposals)


async def events_of(mixture: Mixture) -> list[Event]:
    return [event async for event in mixture.run("Why?")]


async def test_a_function_writes_the_answer() -> None:
    """A returned text is the answer; the function appears among the calls and costs nothing."""
    answer = await Mixture([LAYER], aggregate=vote).answer("Why?")
    assert (answer.text, answer.finish_reason, answer.degraded) == ("42", "stop", ())
    call = answer.calls[-1]
    assert (call.agent, call.layer, call.model, call.role) == ("vote", 2, "python/vote", "aggregator")
    assert call.cost is not None
    assert call.cost.dollars == 0


@pytest.mark.parametrize(
    "function",
    [longest, longest_later, partial(longest), lambda request, proposals: 2],
    ids=["function", "coroutine", "partial", "lambda"],
)
async def test_a_function_picks_a_proposal(function: Any) -> None:
    """A returned index selects that proposal, word for word; the function may be sync, async, a partial or a lambda."""
    events = await events_of(Mixture([LAYER], aggregate=function))
    assert [(event.agent, event.layer, event.text) for event in events if isinstance(event, Selected)] == [
        ("cat", 1, "it is 42")
    ]
    assert fold(events).text == "it is 42"


async def test_every_agent_that_starts_has_a_seat() -> None:
    """The function's seat is known from the first event, so that a display can draw it."""
    events = await events_of(Mixture([LAYER], aggregate=vote))
    assert isinstance(events[0], RunStarted)
    seats = {(seat.agent, seat.layer, seat.model, seat.role) for seat in events[0].seats}
    started = {(each.agent, each.layer, each.model, each.role) for each in events if isinstance(each, AgentStarted)}
    assert started == seats


async def test_a_function_sees_the_request_and_whole_proposals() -> None:
    """It gets the caller's request, and each proposal's agent, text, layer and whether it was cut short."""
    seen: list[object] = []

    def look(request: Request, proposals: Sequence[Reference]) -> int:
        seen.extend([request.messages[-1]["content"], *proposals])
        return 0

    await Mixture([LAYER, BROKEN], aggregate=look).answer("Why?")
    read = [
        Reference("ann", "so 42", layer=2),
        Reference("bob", "41", layer=2),
        Reference("cut", "half", cut=True, layer=2),
    ]
    assert seen == ["Why?", *read]


async def test_a_ranker_function_picks_in_place_of_the_aggregator() -> None:
    """With aggregate="select" a ranker function chooses; the aggregator, if there is one, is not called."""
    judge = Scripted("1", name="x/judge")
    answer = await Mixture([LAYER], judge, aggregate="select", ranker=longest).answer("Why?")
    assert answer.text == "it is 42"
    assert (answer.calls[-1].agent, answer.calls[-1].role, answer.calls[-1].text) == ("longest", "ranker", "")
    assert judge.requests == []
    assert (await Mixture([LAYER], aggregate="select", ranker=longest_later).answer("Why?")).text == "it is 42"


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (3, "it returned the index 3; expected 0 to 2"),
        (-1, "it returned the index -1; expected 0 to 2"),
        (None, "it returned None; expected a text or the index of a proposal"),
        (True, "it returned True; expected a text or the index of a proposal"),
        (1.5, "it returned 1.5; expected a text or the index of a proposal"),
        (" \n", "it returned an empty text"),
    ],
)
async def test_a_wrong_return_value_is_one_clear_error(returned: Any, reason: str) -> None:
    """The error names the function, the value and what was expected; the proposals are kept."""

    def odd(request: Request, proposals: Sequence[Reference]) -> Any:
        return returned

    with pytest.raises(AggregatorFailed) as caught:
        await Mixture([LAYER], aggregate=odd).answer("Why?")
    assert str(caught.value) == f"the aggregator failed; odd: python/odd: {reason}"
    assert caught.value.answer is not None
    assert len(caught.value.answer.proposals) == 3


async def test_a_ranker_must_return_an_index() -> None:
    """A text is no choice among proposals."""
    ranker: Any = vote
    with pytest.raises(AggregatorFailed) as caught:
        await Mixture([LAYER], aggregate="select", ranker=ranker).answer("Why?")
    reason = "python/vote: it returned '42'; expected the index of a proposal"
    assert str(caught.value) == f"the ranker failed; vote: {reason}"


async def test_an_error_in_a_function_is_one_clear_error(caplog: pytest.LogCaptureFixture) -> None:
    """The run fails with the function's error as its cause, and the log holds the traceback."""

    async def broken(request: Request, proposals: Sequence[Reference]) -> str:
        raise ValueError("no tests found")

    events = await events_of(Mixture([LAYER], aggregate=broken))
    assert [str(event.error) for event in events if isinstance(event, AgentFailed)] == [
        "python/broken: ValueError: no tests found"
    ]
    error = fold(events).error
    assert isinstance(error, AggregatorFailed)
    assert isinstance(error.__cause__, ValueError)
    assert "Traceback" in caplog.text


async def test_a_blocking_function_does_not_stop_other_runs() -> None:
    """A sync function runs in a thread: other tasks continue while it blocks."""
    release = threading.Event()

    def block(request: Request, proposals: Sequence[Reference]) -> int:
        assert release.wait(10)
        return 0

    blocked = asyncio.create_task(Mixture([LAYER], aggregate=block).answer("Why?"))
    assert (await Mixture([LAYER], aggregate=vote).answer("Why?")).text == "42"
    assert not blocked.done()
    release.set()
    assert (await blocked).text == "so 42"


async def test_closing_a_run_cancels_an_async_function() -> None:
    """An async function is cancelled like any call."""
    ended: list[str] = []

    async def endless(request: Request, proposals: Sequence[Reference]) -> int:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("cancelled")
        return 0

    async with aclosing(Mixture([LAYER], aggregate=endless).run("Why?")) as run:
        async for event in run:
            if isinstance(event, AgentStarted) and event.agent == "endless":
                break
    assert ended == ["cancelled"]


async def test_with_tools_the_aggregator_writes_in_place_of_a_function() -> None:
    """A function cannot call tools, so the aggregator answers, or the first proposer where there is no aggregator."""
    body = {"messages": [{"role": "user", "content": "Why?"}], "tools": [{"type": "web_search"}]}
    acting = Scripted("acts", name="x/acts")
    assert (await Mixture([LAYER], acting, aggregate=vote).answer(body)).text == "acts"
    assert (await Mixture([LAYER], aggregate=vote).answer(body)).text == "so 42"


async def test_a_mixture_with_a_function_can_be_a_member_of_another() -> None:
    """Nested, its answer is a proposal, whether the function wrote or picked it."""
    members = [Mixture([LAYER], aggregate=vote, name="vote"), Mixture([LAYER], aggregate=longest, name="longest")]
    answer = await Mixture([members], Scripted("done", name="x/last")).answer("Why?")
    assert [proposal.text for proposal in answer.proposals] == ["42", "it is 42"]


async def test_an_aggregation_of_ones_own_may_be_a_class() -> None:
    """A subclass that defines a name and answer() can call models, select and give notices."""

    class First(Aggregation):
        name = "first"
        needs_aggregator = False

        async def answer(self, run: Running, proposals: Sequence[Reference]) -> None:
            run.notice("the first is good enough")
            run.select(proposals[0], "it came first")

    events = await events_of(Mixture([LAYER], aggregate=First()))
    assert fold(events).text == "so 42"


class Judge:
    def __call__(self, request: Request, proposals: Sequence[Reference]) -> int:
        return 1


async def test_an_object_that_can_be_called_is_a_function() -> None:
    """Its class's name is the agent's."""
    answer = await Mixture([LAYER], aggregate=Judge()).answer("Why?")
    assert (answer.text, answer.calls[-1].agent) == ("41", "Judge")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aggregate": Judge}, "the aggregator Judge is a class; pass an instance: Judge(…)"),
        ({"aggregate": len}, "the aggregator len must take two arguments: the request and the proposals"),
        ({"aggregate": vote, "layers": []}, "needs an aggregator"),
        ({"aggregator": LAYER[0], "ranker": longest}, "a ranker needs aggregate='select', not 'synthesize'"),
        (
            {"aggregate": "best"},
            "aggregate is 'best'; expected one of synthesize, select, central, vote, mux, or a function",
        ),
        ({"aggregate": 3}, "aggregate is 3; expected one of synthesize, select, central, vote, mux, or a function"),
    ],
)
def test_a_wrong_aggregation_is_refused_when_the_mixture_is_made(settings: dict[str, Any], message: str) -> None:
    """The error names the value and what was expected."""
    with pytest.raises(ConfigError) as caught:
        Mixture(**{"layers": [LAYER], **settings})
    assert message in str(caught.value)


@pytest.mark.parametrize("error", [StopIteration("x"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_function_that_raises_anything_at_all_fails_only_its_run(error: BaseException) -> None:
    """asyncio gives some exceptions a meaning of its own; from a function they are errors like any other."""

    def broken(request: Request, proposals: Sequence[Reference]) -> str:
        raise error

    mixture = Mixture([[Scripted("one")]], aggregate=broken)
    with pytest.raises(AggregatorFailed, match=type(error).__name__):
        mixture.ask("Why?")
    assert Mixture([], Scripted("next")).ask("Why?").text == "next"
