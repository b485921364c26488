from __future__ import annotations

import pytest

from moa import Mixture, Scripted
from moa.messages import Request, text_of
from moa.mixture.events import AgentDropped
from moa.schedules import Quorum
from tests.mixture.writers import long_text, run, writer


def test_a_quorum_does_not_wait_for_slow_agents() -> None:
    """Once enough proposals are usable and the grace has passed, the other calls are cancelled, billed and reported."""
    slow = writer("slow", words=4000)
    last = writer("answer")
    layers = [[writer("p"), writer("q", words=220), slow]]
    events, answer = run(Mixture(layers, last, schedule=Quorum(2, grace=1.0)))
    assert answer.time_to_first_token == pytest.approx(0.5 + 219 / 20 + 1.0 + 0.5, abs=0.01)
    assert (slow.running, slow.cancelled) == (0, 1)
    dropped = [event for event in events if isinstance(event, AgentDropped)]
    assert [(event.agent, event.reason) for event in dropped] == [("slow", "2 usable proposals were ready without it")]
    assert dropped[0].usage.output_tokens > 100
    assert "slow0" not in text_of(last.requests[0].messages[0])


def test_the_grace_ends_when_all_agents_have_ended() -> None:
    """The run does not sit out a grace that no agent needs."""
    _, answer = run(Mixture([[writer("p"), writer("q", words=210)]], writer("answer"), schedule=Quorum(1, grace=60)))
    assert answer.time_to_first_token == pytest.approx(0.5 + 209 / 20 + 0.5, abs=0.01)
    assert len(answer.proposals) == 2


def test_a_quorum_waits_for_required_agents() -> None:
    """It waits for each agent that it requires, unless that agent fails."""
    slow = writer("slow", words=400)
    _, answer = run(Mixture([[writer("p"), slow]], writer("answer"), schedule=Quorum(1, require=["slow"])))
    assert len(answer.proposals) == 2
    broken = writer("slow", fail_after=5)
    _, answer = run(Mixture([[writer("p"), broken]], writer("answer"), schedule=Quorum(1, require=["slow"])))
    assert len(answer.proposals) == 1


def test_a_quorum_starts_at_its_deadline() -> None:
    """With too few usable proposals by then, it takes those there are, or waits for the first one."""
    _, answer = run(
        Mixture([[writer("p", words=40), writer("q", words=4000)]], writer("answer"), schedule=Quorum(2, deadline=5))
    )
    assert answer.time_to_first_token == pytest.approx(5.5, abs=0.01)
    assert answer.degraded == ("q (layer 1) was dropped: the layer's 5 s deadline passed",)
    _, late = run(Mixture([[writer("p"), writer("q")]], writer("answer"), schedule=Quorum(2, deadline=1)))
    assert late.text == long_text("answer")


def test_a_hedge_repeats_a_call_that_is_silent() -> None:
    """After the given seconds a second call is made; the first to send anything is kept, the other is cancelled."""
    requests: list[Request] = []

    def slow_once(request: Request) -> Scripted:
        requests.append(request)
        return Scripted("spoken", first_token=30.0 if len(requests) == 1 else 0.5, tokens_per_second=20)

    model = Scripted(slow_once, name="scripted/p")
    _, answer = run(Mixture([[model, writer("q", words=20)]], writer("answer"), schedule=Quorum(2, hedge=2.0)))
    assert answer.time_to_first_token == pytest.approx(2.0 + 0.5 + 0.5, abs=0.01)
    assert answer.calls[0].text == "spoken"
    assert (model.running, model.cancelled, len(requests)) == (0, 1, 2)
    assert answer.calls[0].usage is not None
    assert answer.calls[0].usage.input_tokens == 2


def test_a_hedge_survives_the_failure_of_either_call() -> None:
    """If the first call fails, the second one still counts; the agent fails only if both do."""
    calls = iter([Scripted(OSError("gone"), first_token=3.0), Scripted("spoken", first_token=2.0)])
    model = Scripted(lambda request: next(calls), name="scripted/p")
    _, answer = run(Mixture([[model]], writer("answer"), schedule=Quorum(1, hedge=2.0)))
    assert answer.calls[0].text == "spoken"
    dead = Scripted(OSError("gone"), name="scripted/d", first_token=3.0)
    _, answer = run(Mixture([[dead, writer("p")]], writer("answer"), schedule=Quorum(1, hedge=2.0)))
    assert "gone" in str(answer.calls[0].dropped)
