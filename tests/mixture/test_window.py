"""An aggregator that reads its references some at a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from moa import Mixture, Request, Scripted, fold
from moa.errors import ConfigError
from moa.events import AgentStarted, Event, Noticed
from moa.mixture.aggregation import Synthesize
from moa.mixture.prompts import ANALYSED
from moa.models import Traits
from moa.models.profile import Profile
from moa.prices import Price, Prices
from moa.schedules import Staircase
from tests.mixture.panels import model, prompt_of
from tests.mixture.writers import long_text, run

pytestmark = pytest.mark.anyio

NAMES = "ABCDEFG"


def proposers(count: int = 7, words: int = 1, **settings: Any) -> list[Scripted]:
    return [Scripted(long_text(name, words), name=f"x/{name}", **settings) for name in NAMES[:count]]


class Small(Scripted):
    """An aggregator with a context of so many tokens, which counts its answers: ``merged 1``, ``merged 2``, …"""

    def __init__(self, context: int | None = None, **settings: Any) -> None:
        super().__init__(lambda request: f"merged {len(self.requests)}", name="x/last", **settings)
        self.context = context

    @property
    def traits(self) -> Traits:
        return replace(super().traits, profile=Profile(context_tokens=self.context))


def windowed(last: Any, window: int | None = 3, count: int = 7, words: int = 1, **settings: Any) -> Mixture:
    return Mixture([proposers(count, words)], last, aggregate=Synthesize(window=window), **settings)


async def events_of(of: Mixture, question: Any = "Why?") -> list[Event]:
    return [event async for event in of.run(question)]


async def test_references_are_read_some_at_a_time_and_the_answer_is_carried_on() -> None:
    """Seven in threes are three calls: 3; the answer and 3; the answer and 1. Only the last one's text is the answer."""
    last = Small()
    events = await events_of(windowed(last))
    answer = fold(events)
    started = [event for event in events if isinstance(event, AgentStarted) and event.layer == 2]
    assert [(each.agent, each.role, each.references) for each in started] == [
        ("last (step 1)", "step", ("A", "B", "C")),
        ("last (step 2)", "step", ("last (step 1)", "D", "E", "F")),
        ("last", "aggregator", ("last (step 2)", "G")),
    ]
    assert (answer.text, answer.degraded, len(answer.calls)) == ("merged 3", (), 10)
    assert "merged 1" in prompt_of(last, 1)
    assert "A0" not in prompt_of(last, 1)


@pytest.mark.parametrize(
    ("count", "window", "calls"), [(7, 7, 1), (7, 9, 1), (1, 1, 1), (6, 3, 2), (7, 1, 7), (4, 3, 2)]
)
async def test_there_are_no_more_calls_than_needed(count: int, window: int, calls: int) -> None:
    """N proposals, W at a time, are N / W calls, rounded up."""
    last = Small()
    await windowed(last, window, count).answer("Why?")
    assert len(last.requests) == calls


async def test_only_the_last_step_streams_and_counts_as_the_answer() -> None:
    """Deltas of steps are not the answer's; their tokens and dollars count."""
    last = Small()
    prices = Prices({"x/last": Price(1.0, 1.0)})
    mixture = windowed(last, prices=prices)
    deltas = [delta async for delta in mixture.stream(Request({"messages": [{"role": "user", "content": "Why?"}]}))]
    assert "".join(delta.text for delta in deltas) == "merged 3"
    assert len(deltas[-1].calls) == 10
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.input_tokens > sum(request.tokens for request in last.requests)


async def test_a_tool_call_is_the_last_steps() -> None:
    """Steps get what proposers get: the tools in words; the last call gets the tools."""
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    last = Small()
    await windowed(last).answer({"messages": [{"role": "user", "content": "Why?"}], "tools": tools, "temperature": 0.3})
    assert ["tools" in request.body for request in last.requests] == [False, False, True]
    assert all(request.body["temperature"] == 0.3 for request in last.requests)
    assert "look()" in prompt_of(last)


async def test_proposals_that_do_not_fit_are_read_in_steps_by_itself() -> None:
    """Four of 2,000 tokens and a context of 6,000: as many as fit are read first, whole, and a notice says so."""
    last = Small(6000)
    events = await events_of(windowed(last, None, 4, 900))
    answer = fold(events)
    assert (answer.text, answer.degraded) == (f"merged {len(last.requests)}", ())
    assert 2 <= len(last.requests) <= 3
    assert not any("characters left out" in str(request.messages) for request in last.requests)
    read = "\n".join(str(request.messages) for request in last.requests)
    assert all(long_text(name, 900) in read for name in "ABCD")
    notice = next(event.message for event in events if isinstance(event, Noticed))
    assert notice.startswith("the proposals do not fit the context of x/last: it reads ")


@pytest.mark.parametrize("context", [None, 100_000])
async def test_proposals_that_fit_are_read_at_once(context: int | None) -> None:
    """Nor does an unknown context cause steps."""
    last = Small(context)
    events = await events_of(windowed(last, None, 4, 900))
    assert len(last.requests) == 1
    assert not [event for event in events if isinstance(event, Noticed)]


async def test_where_not_even_two_fit_they_are_shortened() -> None:
    """Steps would shorten them, too."""
    last = Small(2500)
    answer = await windowed(last, None, 4, 2000).answer("Why?")
    assert len(last.requests) == 1
    assert [line for line in answer.degraded if "proposals shortened" in line]


async def test_a_step_that_fails_is_made_by_a_fallback() -> None:
    """The aggregator fails, its fallback merges the first window, and the aggregator is tried again for the next."""
    last = Scripted([RuntimeError("gone"), "two", "three"], name="x/last")
    second = Scripted("one", name="x/second")
    answer = await windowed(last, fallbacks=[second]).answer("Why?")
    assert (answer.text, len(second.requests)) == ("three", 1)
    assert "one" in prompt_of(last, 1)


async def test_a_step_that_nobody_can_make_loses_no_proposal() -> None:
    """The answer is written from everything that is left, at once."""
    last = Scripted(["one", RuntimeError("gone"), "end"], name="x/last")
    answer = await windowed(last).answer("Why?")
    assert answer.text == "end"
    assert all(text in prompt_of(last, 2) for text in ("one", "D0", "E0", "F0", "G0"))
    assert [line for line in answer.degraded if line.startswith("the rest of the proposals is read at once: ")]


def test_a_deadline_ends_the_steps() -> None:
    """A step in flight is dropped, and the answer is written from all that is left."""
    last = Small(first_token=6.0)
    answer = run(windowed(last, deadline=10))[1]
    assert (answer.text, len(last.requests), last.cancelled) == ("merged 3", 3, 1)
    assert answer.duration == pytest.approx(16, abs=0.1)
    assert "the rest of the proposals is read at once: the 10 s deadline passed" in answer.degraded


async def test_money_for_the_answer_comes_first() -> None:
    """Where the limit does not pay for a step and the answer, there is no step."""
    prices = Prices({f"x/{name}": Price(10.0, 10.0) for name in (*NAMES, "last")})
    last = Small()
    answer = await windowed(last, words=300, max_cost=0.07, prices=prices).answer("Why?")
    assert (answer.text, len(last.requests)) == ("merged 1", 1)
    assert [line for line in answer.degraded if "the cost limit of $0.07 leaves no money for it" in line]


async def test_cancelling_during_a_step_cancels_its_call() -> None:
    """No further call is made."""
    slow = Small(first_token=3600.0)
    async with windowed(slow).run("Why?") as running:
        async for event in running:
            if isinstance(event, AgentStarted) and event.role == "step":
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                break
    assert (slow.running, len(slow.requests)) == (0, 1)


def test_it_waits_for_whole_proposals_under_every_schedule() -> None:
    """A staircase waits, and says so."""
    last = Small()
    slow = [Scripted(long_text(name, 100), name=f"x/{name}", tokens_per_second=50) for name in NAMES[:4]]
    events, answer = run(Mixture([slow], last, aggregate=Synthesize(window=2), schedule=Staircase((8,))))
    assert (answer.text, len(last.requests)) == ("merged 2", 2)
    waits = "this request cannot be answered incrementally; waiting for all proposals"
    assert waits in [event.message for event in events if isinstance(event, Noticed)]


async def test_an_analysis_is_of_what_the_last_step_reads() -> None:
    """Its numbers are those of the responses in the answer's prompt."""

    def answer(request: Request) -> str:
        return '{"consensus": ["so"]}' if "one JSON object" in str(request.messages) else "merged"

    last = Scripted(answer, name="x/last")
    mixture = Mixture([proposers()], last, aggregate=Synthesize(analysis=True, window=4))
    assert (await mixture.answer("Why?")).analysis
    step, analysis, final = (prompt_of(last, call) for call in range(3))
    assert "A0" in step
    assert "A0" not in analysis
    assert "G0" in analysis
    assert ANALYSED in final


async def test_a_nested_mixture_reads_in_steps_too() -> None:
    """As a member, only its last step is its proposal."""
    outer = Mixture([[windowed(Small()), model("other")]], model("end", "x/end"))
    answer = await outer.answer("Why?")
    assert [call.text for call in answer.proposals] == ["merged 3", "other"]


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "4"])
def test_a_wrong_value_is_named(value: Any) -> None:
    """A window has at least one proposal."""
    with pytest.raises(ConfigError, match=r"window is .*; expected a number of proposals from 1"):
        Synthesize(window=value)
