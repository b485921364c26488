"""Agents that stream nothing: how long a run waits for them, and what it reports. In virtual time, and over real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from moa import Config, Mixture, Scripted, fold
from moa.errors import ConfigError
from moa.events import AgentDropped, AgentStarted, Event, Noticed
from moa.messages import Reference
from moa.mixture.run import Run
from tests.fakes.upstream import Upstream, comment, pause, say, sequence
from tests.fakes.virtual_time import run_in_virtual_time
from tests.mixture.writers import run, writer


def silent(name: str, seconds: float = 1e6) -> Scripted:
    """A model that says nothing for so many seconds."""
    return writer(name, words=5, first=seconds)


def drops_of(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.agent, event.reason) for event in events if isinstance(event, AgentDropped)]


def test_a_silent_proposer_is_dropped_a_minute_after_the_others() -> None:
    """When all others of its layer have ended, a silent proposer has 60 s more; then it is dropped and reported."""
    slow = silent("slow")
    events, answer = run(Mixture([[writer("p"), writer("q", words=400), slow]], writer("answer")))
    ended = 0.5 + 399 / 20
    assert answer.time_to_first_token == pytest.approx(ended + 60 + 0.5, abs=0.01)
    reason = "it was silent for 60 s after the others of its layer had ended"
    assert drops_of(events) == [("slow", reason)]
    assert answer.degraded == (f"slow (layer 1) was dropped: {reason}",)
    assert (slow.running, slow.cancelled, len(answer.proposals)) == (0, 1, 2)


@pytest.mark.parametrize("first", [65.0, 75.0])
def test_a_proposer_that_begins_in_time_is_read_to_its_end(first: float) -> None:
    """One word within the 60 s, also of reasoning, and the run waits for the rest however long it takes."""
    thinker = Scripted("Rome", name="scripted/slow", reasoning="hm " * 100, first_token=first, tokens_per_second=0.5)
    _, answer = run(Mixture([[writer("p", words=400), thinker]], writer("answer")))
    assert [proposal.text for proposal in answer.proposals][1] == "Rome"
    assert answer.degraded == ()


def test_several_silent_proposers_are_dropped_together() -> None:
    """Two that are silent do not protect each other."""
    events, _ = run(Mixture([[writer("p"), silent("one"), silent("two")]], writer("answer")))
    assert sorted(agent for agent, _ in drops_of(events)) == ["one", "two"]


@pytest.mark.parametrize(
    "mixture",
    [
        Mixture([[silent("slow", 500)]], writer("answer")),
        Mixture([[writer("p", fail_after=0), silent("slow", 500)]], writer("answer")),
        Mixture([[writer("p"), silent("slow", 500)]], writer("answer"), min_proposals=2),
        Mixture([[writer("p"), silent("slow", 500)]], writer("answer"), patience=None),
        Mixture([[writer("p"), silent("slow", 500)]], writer("answer"), patience=600),
        Mixture([[writer("p"), Mixture([[silent("inner", 500)]], writer("last"), name="slow")]], writer("answer")),
    ],
    ids=["alone", "the other failed", "both are needed", "no limit", "a longer limit", "a mixture"],
)
def test_a_proposer_that_is_needed_or_may_be_silent_is_waited_for(mixture: Mixture) -> None:
    """Nothing is dropped for its silence where too few proposals would be left, or where silence means nothing."""
    events, answer = run(mixture)
    assert drops_of(events) == []
    assert answer.time_to_first_token and answer.time_to_first_token > 500


def test_the_silence_of_a_deeper_layer_counts_from_its_own_calls() -> None:
    """Proposals of an earlier run are no reason to drop an agent of their layer before it is called."""

    async def collect() -> list[Event]:
        mixture = Mixture([[silent("first", 300)], [writer("kept"), silent("second", 30)]], writer("answer"))
        return [event async for event in mixture.run("Why?", kept=[Reference("kept", "text", layer=2)])]

    events = run_in_virtual_time(collect())
    assert drops_of(events) == []
    assert "second" in [event.agent for event in events if isinstance(event, AgentStarted)]


@pytest.mark.parametrize("patience", [60, 5])
def test_a_notice_reports_the_silence_of_the_aggregator(patience: float) -> None:
    """The agent that answers is waited for as long as its endpoint allows; after a minute of silence, one notice."""
    events, answer = run(Mixture([[writer("p")]], silent("answer", 590), patience=patience))
    notices = [event for event in events if isinstance(event, Noticed)]
    assert [event.message for event in notices] == [f"answer has been silent for {patience} s; still waiting for it"]
    started = next(event.at for event in events if isinstance(event, AgentStarted) and event.role == "aggregator")
    assert notices[0].at == pytest.approx(started + patience)
    assert (answer.degraded, answer.text) == ((), "answer0 answer1 answer2 answer3 answer4")


def test_patience_must_be_above_zero() -> None:
    """A mixture without any patience is refused."""
    with pytest.raises(ConfigError, match="patience is 0; expected seconds above 0"):
        Mixture([[writer("p")]], writer("answer"), patience=0)


@pytest.mark.anyio
async def test_limits_of_silence_in_a_moa_toml(upstream: Upstream, tmp_path: Path) -> None:
    """Over real sockets: a call that is silent too long is made once, and patience drops the agent before."""
    processing = sequence([comment("keep-alive") + pause(0.02)] * 1000)
    upstream.script("quick", say("An answer."))
    upstream.script("slow", processing)
    upstream.script("last", say("The answer."))
    (tmp_path / "moa.toml").write_text(f"""
        [endpoints.up]
        base_url = "{upstream.base_url}"
        timeouts = {{ first_token = 0.4 }}
        [mixtures.patient]
        layers = [["up/quick", "up/slow"]]
        aggregator = "up/last"
        [mixtures.hasty]
        layers = [["up/quick", "up/slow"]]
        aggregator = "up/last"
        patience = 0.1
    """)
    async with Config(tmp_path / "moa.toml") as config:
        for name, reason in (("patient", "failed: up/slow: no token for 0.4 s"), ("hasty", "silent for 0.1 s")):
            run: Run = config.mixture(name).run("Why?")
            answer = fold([event async for event in run])
            assert answer.text == "The answer."
            assert reason in answer.degraded[0]
    assert len(upstream.calls("slow")) == 2
