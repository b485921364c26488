from __future__ import annotations

from typing import Any

import pytest

from moa import Mixture, Scripted
from moa.errors import ConfigError
from moa.messages import Request, text_of
from moa.mixture.events import AgentDropped
from moa.schedules import EarlyExit, Quorum, Schedule
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


def test_a_deadline_counts_from_the_start_of_its_layer() -> None:
    """A second layer has its whole deadline, however long the first one took."""
    first = [writer("a", pace=200 / 8), writer("b", pace=200 / 8)]
    second = [writer("c", pace=100), writer("d", pace=200 / 3), writer("e", words=4000)]
    layers = [first, second]
    events, answer = run(Mixture(layers, writer("answer"), schedule=Quorum(3, deadline=9)))
    assert [call.agent for call in answer.proposals if call.layer == 2] == ["c", "d"]
    dropped = [event for event in events if isinstance(event, AgentDropped)]
    assert [(event.agent, event.reason) for event in dropped] == [("e", "the layer's 9 s deadline passed")]
    assert dropped[0].at == pytest.approx(8.5 + 9, abs=0.2)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Quorum(3), "usable is 3, but the largest layer has 2 proposers"),
        (Quorum(1, require=["typo"]), "require names 'typo'; the proposers are p, q"),
        (EarlyExit(Quorum(3)), "usable is 3"),
    ],
)
def test_a_quorum_that_its_layers_cannot_reach_is_refused(schedule: Schedule, expected: str) -> None:
    """The error names the mixture, the value and what is possible."""
    with pytest.raises(ConfigError, match=expected):
        Mixture([[writer("p"), writer("q")]], writer("answer"), schedule=schedule)


@pytest.mark.parametrize("arguments", [{"usable": 0}, {"usable": 1, "grace": -1}, {"usable": 1, "deadline": -2}])
def test_a_quorum_with_figures_out_of_range_is_refused(arguments: dict[str, Any]) -> None:
    """Counts start at 1 and times at 0."""
    with pytest.raises(ValueError, match="not"):
        Quorum(**arguments)
