"""Failures, cancelling, deadlines and cost limits of a run."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from moa import Mixture, Price, Prices, Request, Scripted, Usage, fold
from moa.errors import AggregatorFailed, DeadlinePassed, KeyRejected, NoProposals
from moa.mixture.events import (
    AgentFailed,
    AgentFinished,
    AgentSaid,
    AgentStarted,
    Event,
    Noticed,
    RunFailed,
)
from tests.fakes.virtual_time import run_in_virtual_time
from tests.fakes.waiting import holds
from tests.mixture.panels import events_of, model, prompt_of

pytestmark = pytest.mark.anyio


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_a_failed_proposer_is_dropped_and_the_run_continues() -> None:
    """Its error never becomes a reference; an event and the answer report it."""
    broken = Scripted(KeyRejected("scripted/b", "the key was rejected"), name="scripted/b")
    last = model("fine", "scripted/last")
    events = await events_of(Mixture([[model("good"), broken]], last))
    assert [event.agent for event in events if isinstance(event, AgentFailed)] == ["b"]
    assert "rejected" not in prompt_of(last)
    answer = fold(events)
    assert answer.text == "fine"
    assert answer.degraded == ("b (layer 1) failed: scripted/b: the key was rejected",)
    assert [call.dropped for call in answer.calls] == [None, "scripted/b: the key was rejected", None]


@pytest.mark.parametrize(
    ("proposer", "reason"),
    [
        (model("", "scripted/b"), "it returned no text"),
        (model(" \n ", "scripted/b"), "it returned no text"),
        (
            model("", "scripted/b", reasoning="hm", finish_reason="length"),
            "it hit max_tokens while reasoning and returned no text",
        ),
        (model("half an ans", "scripted/b", fail_after=2), "the connection was lost"),
        (model("half", "scripted/b", finish_reason=None), "its stream ended without a finish reason"),
    ],
)
async def test_an_empty_or_broken_proposal_never_becomes_a_reference(proposer: Scripted, reason: str) -> None:
    """An empty proposal, reasoning alone, a broken stream, and one without a finish reason are dropped with a reason."""
    last = model("fine", "scripted/last")
    answer = await Mixture([[model("good"), proposer]], last).answer("Why?")
    assert answer.text == "fine"
    assert prompt_of(last).count("<response ") == 1
    assert reason in str(answer.calls[1].dropped)


async def test_a_proposal_cut_at_its_max_tokens_is_used_and_marked() -> None:
    """A text that hit max_tokens is a reference, marked as unfinished."""
    last = model("fine", "scripted/last")
    answer = await Mixture([[model("half", finish_reason="length")]], last).answer("Why?")
    assert "(unfinished)>\nhalf\n" in prompt_of(last)
    assert answer.calls[0].cut
    assert answer.degraded == ()


async def test_too_few_usable_proposals_are_one_error_with_every_cause() -> None:
    """The error lists each agent with its reason and keeps the proposals, which are paid for."""
    layers = [[model("good"), model("", "scripted/b"), Scripted(ValueError("bad"), name="scripted/c")]]
    last = model("x", "scripted/l")
    with pytest.raises(NoProposals) as caught:
        await Mixture(layers, last, min_proposals=2).answer("Why?")
    assert caught.value.causes == ("b (layer 1): it returned no text", "c (layer 1): scripted/c: ValueError: bad")
    assert "only 1 usable proposals in layer 1, and 2 are needed" in str(caught.value)
    assert caught.value.answer is not None
    assert [call.text for call in caught.value.answer.proposals] == ["good"]
    assert last.requests == []


async def test_a_layer_without_proposals_stops_the_later_layers() -> None:
    """No agent of layer 2 is called when layer 1 has no proposal, and the causes are those of layer 1."""
    behind, last = model("x", "scripted/s"), model("x", "scripted/l")
    with pytest.raises(NoProposals) as caught:
        await Mixture([[model("")], [behind]], last).answer("Why?")
    assert caught.value.causes == ("a (layer 1): it returned no text",)
    assert (behind.requests, last.requests) == ([], [])


async def test_fallbacks_are_tried_in_order() -> None:
    """The answer comes from the first fallback that succeeds, and reports each failure before it."""
    fallbacks = [model("", "scripted/f1"), model("saved", "scripted/f2"), model("never", "scripted/f3")]
    last = Scripted(ConnectionError("gone"), name="scripted/l")
    answer = await Mixture([[model("p")]], last, fallbacks=fallbacks).answer("Why?")
    assert answer.text == "saved"
    assert len(answer.degraded) == 2
    assert "p" in prompt_of(fallbacks[1])
    assert fallbacks[2].requests == []


async def test_an_aggregator_that_breaks_off_is_replaced_unless_its_text_is_streamed() -> None:
    """answer() starts again with the fallback; stream() has yielded the text already, and raises."""
    mixture = Mixture(
        [[model("p")]], model("one two three", "scripted/l", fail_after=2), fallbacks=[model("saved", "scripted/f")]
    )
    assert (await mixture.answer("Why?")).text == "saved"
    received = []
    with pytest.raises(AggregatorFailed, match="the connection was lost"):
        async for delta in mixture.stream(Request.of("Why?")):
            received += [delta.text]
    assert "".join(received) == "one two "


async def test_when_all_aggregators_fail_the_proposals_are_kept() -> None:
    """The error lists why each failed, and holds every proposal."""
    last = Scripted(ConnectionError("gone"), name="scripted/l")
    with pytest.raises(AggregatorFailed, match="l: scripted/l: ConnectionError: gone") as caught:
        await Mixture([[model("worth keeping")]], last).answer("Why?")
    assert caught.value.answer is not None
    assert caught.value.answer.proposals[0].text == "worth keeping"


async def test_run_reports_a_failure_and_does_not_raise() -> None:
    """The last event of a run without an answer is RunFailed."""
    events = await events_of(Mixture([[model("")]], model("x", "scripted/l")))
    assert isinstance(events[-1], RunFailed)
    assert isinstance(fold(events).error, NoProposals)


# -- cancelling, deadlines, money --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [AgentStarted, AgentSaid, AgentFinished])
async def test_closing_the_run_cancels_every_call(stage: type[Event]) -> None:
    """When closing returns, every call that was in flight is cancelled."""
    proposers = [model("word " * 50, f"scripted/{n}", tokens_per_second=10 if n else None) for n in range(3)]
    last = model("answer " * 50, "scripted/l", tokens_per_second=10)
    async with aclosing(Mixture([proposers], last).run("Why?")) as events:
        async for event in events:
            if isinstance(event, stage):
                break
    assert [one.running for one in [*proposers, last]] == [0] * 4
    assert sum(one.cancelled for one in proposers) >= 2


async def test_a_cancelled_task_cancels_its_calls() -> None:
    """Cancelling the task that awaits answer() leaves no call in flight."""
    slow = model("word", first_token=60)
    task = asyncio.create_task(Mixture([[slow, slow]], model("x", "scripted/l")).answer("Why?"))
    await holds(lambda: slow.running == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (slow.running, slow.cancelled) == (0, 2)


def test_at_the_deadline_the_aggregator_starts_with_the_proposals_so_far() -> None:
    """Text so far is used, marked as unfinished; a proposer without text is dropped and cancelled."""
    quick = model("quick")
    slow = model("slow " * 100, "scripted/slow", tokens_per_second=1)
    silent = model("silent", "scripted/silent", first_token=60)
    last = model("fine", "scripted/l")
    answer = run_in_virtual_time(Mixture([[quick, slow, silent]], last, deadline=5).answer("Why?"))
    assert answer.duration == pytest.approx(5.0)
    assert "\nquick\n" in prompt_of(last)
    assert "(unfinished)>\nslow slow slow" in prompt_of(last)
    assert "silent" not in prompt_of(last)
    assert (slow.running, silent.running, slow.cancelled, silent.cancelled) == (0, 0, 1, 1)
    assert answer.degraded[0] == "proposals were cut short: the 5 s deadline passed"
    assert answer.calls[1].usage is not None
    assert answer.calls[1].usage.estimated


def test_at_the_deadline_the_deepest_layer_with_a_proposal_is_read() -> None:
    """A second layer without any text is passed over for the first."""
    last = model("fine", "scripted/l")
    layers = [[model("early")], [model("late", "scripted/late", first_token=60)]]
    answer = run_in_virtual_time(Mixture(layers, last, deadline=5).answer("Why?"))
    assert "early" in prompt_of(last)
    assert answer.calls[1].dropped == "had produced no text when the 5 s deadline passed"


def test_a_deadline_without_any_proposal_is_an_error() -> None:
    """When no proposer has written a word by the deadline, there is no answer and the error gives the reason."""
    silent = model("silent", first_token=60)
    with pytest.raises(DeadlinePassed, match="nothing to answer from when the 5 s deadline passed"):
        run_in_virtual_time(Mixture([[silent]], model("x", "scripted/l"), deadline=5).answer("Why?"))


PRICED = Prices({"scripted/*": Price(0.0, 1_000_000.0)}, free=frozenset())  # a dollar a token, prompts free


def test_max_cost_stops_proposers_to_leave_money_for_the_aggregator() -> None:
    """Proposals are cut when they and the aggregator's answer would exceed the limit."""
    talker = model("word " * 400, tokens_per_second=10)
    answer = run_in_virtual_time(
        Mixture([[talker]], model("short answer", "scripted/l"), max_cost=100, prices=PRICED).answer("Why?")
    )
    assert answer.text == "short answer"
    assert answer.cost.dollars is not None
    assert answer.cost.dollars <= 100
    assert any("the cost limit of $100 was near" in reason for reason in answer.degraded)
    assert talker.cancelled == 1


async def test_max_cost_stops_an_aggregator_that_writes_too_much() -> None:
    """The answer ends as if it had hit max_tokens, and reports the limit."""
    answer = await Mixture([[model("p")]], model("word " * 400, "scripted/l"), max_cost=100, prices=PRICED).answer(
        "Why?"
    )
    assert answer.finish_reason == "length"
    assert answer.cost.dollars is not None
    assert 95 <= answer.cost.dollars <= 105
    assert any("was stopped: the cost limit of $100 was reached" in reason for reason in answer.degraded)


async def test_without_money_for_the_aggregator_a_proposal_is_the_answer() -> None:
    """Nothing paid for is lost: the most central proposal is the answer, and the answer gives the reason."""
    burst = model("word " * 20, usage=Usage(10, 99))
    last = model("x", "scripted/l")
    answer = await Mixture([[burst]], last, max_cost=100, prices=PRICED).answer("Why?")
    assert answer.text == "word " * 20
    assert last.requests == []
    assert any("leaves no money for the aggregator" in reason for reason in answer.degraded)


async def test_a_notice_names_models_that_max_cost_cannot_stop() -> None:
    """A model without a known price cannot be stopped by max_cost while it writes."""
    events = await events_of(Mixture([[model("p", "mine/a")]], model("x", "mine/b"), max_cost=1))
    notices = [event.message for event in events if isinstance(event, Noticed)]
    assert notices[0].startswith("max_cost cannot stop mine/a while it writes")
    assert len(notices) == 2
