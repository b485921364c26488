from __future__ import annotations

import json
from dataclasses import replace

import pytest

from moa import Cost, Delta, Mixture, Scripted, Staircase, fold
from moa.errors import RateLimited
from moa.messages import Reference
from moa.mixture.events import AgentSaid, Event, RunStarted, RunStopped, as_json, encoded_event, event_of

pytestmark = pytest.mark.anyio


async def told(mixture: Mixture) -> list[Event]:
    return [event async for event in mixture.run("Why?")]


async def test_every_event_is_a_line_of_json() -> None:
    """All kinds of events of a run become plain data, without empty fields."""
    failing = Scripted(RateLimited("s/b", "slow down", retry_after=3), name="s/b")
    last = Scripted("fine", name="s/l", reasoning="hm")
    lines = [json.loads(json.dumps(as_json(event))) for event in await told(Mixture([[Scripted("p"), failing]], last))]
    assert [line["event"] for line in lines][:3] == ["run_started", "agent_started", "agent_started"]
    assert lines[-1]["event"] == "run_finished"
    failed = next(line for line in lines if line["event"] == "agent_failed")
    assert failed["error"] == "s/b: slow down"
    said = [line for line in lines if line["event"] == "agent_said" and line["agent"] == "l"]
    assert [{key: line.get(key) for key in ("reasoning", "text")} for line in said] == [
        {"reasoning": "hm", "text": None},
        {"reasoning": None, "text": "fine"},
    ]


def runs() -> dict[str, Mixture]:
    """Mixtures whose runs have every kind of event in them."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    inner = Mixture([[Scripted("deep", name="s/x")]], Scripted("inner", name="s/y"), name="inner")
    failing = Scripted(RateLimited("s/b", "slow down", retry_after=3), name="s/b")
    return {
        "answered": Mixture(
            [[Scripted("p", reasoning="hm"), failing, inner], [Scripted("q", name="s/q")]], Scripted("fine", name="s/l")
        ),
        "tools": Mixture([], Scripted("", name="s/l", tool_calls=[call])),
        "selected": Mixture([[Scripted("one"), Scripted("two", name="s/b")]], aggregate="central"),
        "failed": Mixture([[failing]], Scripted("fine", name="s/l")),
        "staircase": Mixture(
            [[Scripted("some words to read " * 20, tokens_per_second=1000)]],
            Scripted("more words " * 40, name="s/l", continuation="prefix"),
            schedule=Staircase((8, 16)),
        ),
        "dropped": Mixture(
            [[Scripted(" "), Scripted("q", name="s/q")]], Scripted("fine", name="s/l", finish_reason="length")
        ),
    }


@pytest.mark.parametrize("kind", runs())
async def test_a_run_read_from_its_lines_is_the_same_run(kind: str) -> None:
    """Events written as lines of JSON and read again fold into the same answer, with every call, token and second."""
    events = [event async for event in runs()[kind].run("Why?", kept=[Reference("q", "kept", cut=True, layer=2)])]
    lines = [encoded_event(event) for event in events]
    assert [json.loads(line) for line in lines] == [json.loads(json.dumps(as_json(event))) for event in events]
    again = [event_of(json.loads(line)) for line in lines]
    assert [type(event) for event in again] == [type(event) for event in events]
    before, after = fold(events), fold(again)
    assert str(after.error) == str(before.error)
    assert replace(after, error=None) == replace(before, error=None)


def test_a_line_that_is_no_event_is_refused() -> None:
    """Whatever is not an event of this version is an error that shows it, not a half-read event."""
    for line in (
        {},
        {"event": "agent_slept", "at": 1},
        {"event": "agent_said", "at": 1},
        {"event": "noticed", "at": 1},
    ):
        with pytest.raises(ValueError, match="no event of a run"):
            event_of(line)


def test_a_stopped_run_has_a_length() -> None:
    """What was stopped took as long as it ran."""
    began = RunStarted(at=1.0, run_id="r", mixture="m", schedule="Barrier()", started=0.0, seats=())
    assert fold([began, RunStopped(at=3.5)]).duration == 2.5


async def test_a_fold_can_be_read_at_any_time() -> None:
    """Folding the first events gives the answer as far as it had come."""
    events = await told(Mixture([[Scripted("one two")]], Scripted("three four", name="s/l")))
    halfway = next(n for n, event in enumerate(events) if isinstance(event, AgentSaid) and event.agent == "l")
    assert fold([]).text == ""
    assert fold(events[: halfway + 1]).text == "three "
    assert fold(events[: halfway + 1]).duration is None
    assert fold(events).text == "three four"


def test_costs_add_up_honestly() -> None:
    """What is not known is never 0: a sum with an unknown part says 'at least', one of unknown parts is unknown."""
    assert Cost(1.0) + Cost(0.5) == Cost(1.5)
    assert Cost(1.0) + Cost(None) == Cost(1.0, at_least=True)
    assert Cost(1.0, at_least=True) + Cost(1.0) == Cost(2.0, at_least=True)
    assert Cost(None) + Cost(None) == Cost(None)
    assert [str(Cost(*fields)) for fields in ((0.0,), (None,), (0.01234,), (0.000012,), (2.5, True))] == [
        "$0",
        "cost unknown",
        "$0.0123",
        "$0.000012",
        "at least $2.5000",
    ]


def test_a_delta_that_only_counts_does_not_speak() -> None:
    """Bookkeeping is no word of the answer."""
    assert not Delta(finish_reason="stop").speaks
    assert Delta(extra={"logprobs": {}}).speaks
