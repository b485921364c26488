from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from moa import Mixture, Scripted, Staircase, fold
from moa.analysis import Analysis
from moa.answers import Attempt, Call, Cost, Delta, Reference, Usage
from moa.errors import AggregatorFailed, NoProposals, RateLimited, RunError
from moa.mixture.codec import as_json, decoded_event, encoded_event, event_of, events_of
from moa.mixture.events import (
    EVENTS,
    AgentContinued,
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentRecalled,
    AgentSaid,
    AgentSkipped,
    AgentSpent,
    AgentStarted,
    AgentVoted,
    Analysed,
    AnswerBegan,
    Cluster,
    Event,
    Moderated,
    Noticed,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    Seat,
    Selected,
    VotesCounted,
)

USAGE, COST = Usage(30, 12, 4, 5), Cost(0.25)
SPENT = (
    '"usage":{"input_tokens":30,"output_tokens":12,"cached_tokens":4,"reasoning_tokens":5,"estimated":false},'
    '"cost":{"dollars":0.25,"at_least":false}'
)
INNER = Call("x", 1, "s/x", text="deep", usage=Usage(3, 2, estimated=True), cost=Cost(None), started=0.0, duration=1.0)
INNER_LINE = (
    '{"agent":"x","layer":1,"model":"s/x","role":"proposer","text":"deep","reasoning":"","finish_reason":null,'
    '"usage":{"input_tokens":3,"output_tokens":2,"cached_tokens":0,"reasoning_tokens":0,"estimated":true},'
    '"cost":{"dollars":null,"at_least":false},"started":0.0,"time_to_first_token":null,"duration":1.0,"dropped":null,'
    '"cut":false,"calls":[],"attempts":[],"answers":false}'
)
FAILED_ATTEMPT = Attempt("s/p: slow down", Usage(), Cost())
TOOL = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def started(**fields: Any) -> RunStarted:
    return RunStarted(at=1.0, run_id="ab12", mixture="moa/trio", schedule="Barrier()", started=1700000000.5, **fields)


def said(role: str = "proposer", **fields: Any) -> AgentSaid:
    return AgentSaid(at=1.5, agent="p", layer=1, delta=Delta(**fields), role=role)


P: dict[str, Any] = {"at": 2.0, "agent": "p", "layer": 1}
S: dict[str, Any] = {"usage": USAGE, "cost": COST}

LINES: list[tuple[Event, str]] = [
    (
        started(seats=(Seat(agent="p", layer=1, model="s/p", role="proposer"),)),
        (
            '{"event":"run_started","at":1.0,"run_id":"ab12","mixture":"moa/trio","schedule":"Barrier()",'
            '"started":1700000000.5,"seats":[{"agent":"p","layer":1,"model":"s/p","role":"proposer"}]}'
        ),
    ),
    (
        started(),
        (
            '{"event":"run_started","at":1.0,"run_id":"ab12","mixture":"moa/trio","schedule":"Barrier()",'
            '"started":1700000000.5}'
        ),
    ),
    (
        AgentStarted(model="s/p", role="aggregator", references=("p", "q"), **P),
        (
            '{"event":"agent_started","at":2.0,"agent":"p","layer":1,"model":"s/p","role":"aggregator",'
            '"references":["p","q"]}'
        ),
    ),
    (
        AgentStarted(model="s/p", role="proposer", **P),
        '{"event":"agent_started","at":2.0,"agent":"p","layer":1,"model":"s/p","role":"proposer"}',
    ),
    (
        AgentContinued(references=("q",), **P),
        '{"event":"agent_continued","at":2.0,"agent":"p","layer":1,"references":["q"]}',
    ),
    (AgentContinued(**P), '{"event":"agent_continued","at":2.0,"agent":"p","layer":1}'),
    (said(text="one "), '{"event":"agent_said","at":1.5,"agent":"p","layer":1,"text":"one "}'),
    (said(), '{"event":"agent_said","at":1.5,"agent":"p","layer":1}'),
    (
        said(text='Größe\u2028"你好"\n😀'),
        (
            r'{"event":"agent_said","at":1.5,"agent":"p","layer":1,'
            r'"text":"Gr\u00f6\u00dfe\u2028\"\u4f60\u597d\"\n\ud83d\ude00"}'
        ),
    ),
    (said(text="half \ud83d"), r'{"event":"agent_said","at":1.5,"agent":"p","layer":1,"text":"half \ud83d"}'),
    (said(reasoning="hm"), '{"event":"agent_said","at":1.5,"agent":"p","layer":1,"reasoning":"hm"}'),
    (
        said(
            text="x",
            tool_calls=(TOOL,),
            finish_reason="tool_calls",
            calls=(INNER,),
            extra={"logprobs": {"content": [], "seed": 2**70}},
            **S,
        ),
        (
            '{"event":"agent_said","at":1.5,"agent":"p","layer":1,"text":"x","tool_calls":[{"index":0,"id":"1",'
            r'"type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}],"finish_reason":"tool_calls",'
            f'{SPENT},"calls":[{INNER_LINE}],"extra":{{"logprobs":{{"content":[],"seed":1180591620717411303424}}}}}}'
        ),
    ),
    (
        said("aggregator", text="one "),
        '{"event":"agent_said","at":1.5,"agent":"p","layer":1,"role":"aggregator","text":"one "}',
    ),
    (
        AgentSpent(attempt=FAILED_ATTEMPT, calls=(INNER,), **P, **S),
        (
            f'{{"event":"agent_spent","at":2.0,"agent":"p","layer":1,{SPENT},"attempt":{{"reason":"s/p: slow down",'
            '"usage":{"input_tokens":0,"output_tokens":0,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},'
            f'"cost":{{"dollars":0.0,"at_least":false}},"calls":[],"part":false}},"calls":[{INNER_LINE}]}}'
        ),
    ),
    (
        AgentFinished(finish_reason="stop", **P, **S),
        f'{{"event":"agent_finished","at":2.0,"agent":"p","layer":1,"finish_reason":"stop",{SPENT}}}',
    ),
    (
        AgentFinished(finish_reason=None, cut="its max_tokens were used up", calls=(INNER,), **P, **S),
        (
            f'{{"event":"agent_finished","at":2.0,"agent":"p","layer":1,{SPENT},'
            f'"cut":"its max_tokens were used up","calls":[{INNER_LINE}]}}'
        ),
    ),
    (
        AgentFailed(error=RateLimited("s/b", "slow down", retry_after=3), **P, **S),
        f'{{"event":"agent_failed","at":2.0,"agent":"p","layer":1,"error":"s/b: slow down",{SPENT}}}',
    ),
    (
        AgentFailed(error=NoProposals("too few", ["a: slow down"]), calls=(INNER,), **P, **S),
        (
            '{"event":"agent_failed","at":2.0,"agent":"p","layer":1,"error":"too few","causes":["a: slow down"],'
            f'{SPENT},"calls":[{INNER_LINE}]}}'
        ),
    ),
    (
        AgentDropped(reason="too late", **P, **S),
        f'{{"event":"agent_dropped","at":2.0,"agent":"p","layer":1,"reason":"too late",{SPENT}}}',
    ),
    (
        AgentSkipped(reason="two agree", **P),
        '{"event":"agent_skipped","at":2.0,"agent":"p","layer":1,"reason":"two agree"}',
    ),
    (
        AgentRecalled(model="s/p", text="kept", **P),
        '{"event":"agent_recalled","at":2.0,"agent":"p","layer":1,"model":"s/p","text":"kept","cut":false}',
    ),
    (
        AgentRecalled(model="s/p", text="kept", cut=True, **P),
        '{"event":"agent_recalled","at":2.0,"agent":"p","layer":1,"model":"s/p","text":"kept","cut":true}',
    ),
    (
        AgentVoted(answer="42", **P),
        '{"event":"agent_voted","at":2.0,"agent":"p","layer":1,"answer":"42"}',
    ),
    (
        VotesCounted(at=2.0, way="vote", clusters=(Cluster(answer="42", score=2.0, agents=("p", "q")),), agreement=1.0),
        (
            '{"event":"votes_counted","at":2.0,"way":"vote","clusters":[{"answer":"42","score":2.0,"agents":["p","q"]}],'
            '"agreement":1.0}'
        ),
    ),
    (
        AnswerBegan(at=2.5, references=(Reference("q", "two", True, 2),)),
        (
            '{"event":"answer_began","at":2.5,"references":[{"agent":"q","text":"two","cut":true,"layer":2}],'
            '"recalled":false}'
        ),
    ),
    (AnswerBegan(at=2.5, references=(), recalled=True), '{"event":"answer_began","at":2.5,"recalled":true}'),
    (
        Moderated(kept=("a",), dropped=("b",), **P),
        '{"event":"moderated","at":2.0,"agent":"p","layer":1,"kept":["a"],"dropped":["b"],"ends":false}',
    ),
    (
        Analysed(analysis=Analysis(consensus=("a",)), **P),
        (
            '{"event":"analysed","at":2.0,"agent":"p","layer":1,"analysis":{"consensus":["a"],"contradictions":[],'
            '"partial_coverage":[],"unique_points":[],"blind_spots":[]}}'
        ),
    ),
    (
        Selected(text="one", reason="chosen by l", **P),
        '{"event":"selected","at":2.0,"agent":"p","layer":1,"text":"one","reason":"chosen by l"}',
    ),
    (Noticed(at=3.0, message="careful"), '{"event":"noticed","at":3.0,"message":"careful","degrades":false}'),
    (
        Noticed(at=3.0, message="careful", degrades=True),
        '{"event":"noticed","at":3.0,"message":"careful","degrades":true}',
    ),
    (RunFinished(at=4.0), '{"event":"run_finished","at":4.0}'),
    (
        RunFailed(at=4.0, error=AggregatorFailed("the aggregator failed", ["l: slow down"])),
        '{"event":"run_failed","at":4.0,"error":"the aggregator failed","causes":["l: slow down"]}',
    ),
    (RunFailed(at=4.0, error=RunError("no answer")), '{"event":"run_failed","at":4.0,"error":"no answer"}'),
    (RunStopped(at=4.0), '{"event":"run_stopped","at":4.0}'),
]
"""Events of every kind with the lines that earlier versions kept of them."""

names = pytest.mark.parametrize(
    ("event", "line"), LINES, ids=[f"{number}-{type(event).__name__}" for number, (event, _) in enumerate(LINES)]
)


def test_every_kind_of_event_has_an_example() -> None:
    """No kind of event is missing from the examples of this file."""
    assert {type(event) for event, _ in LINES} == {*EVENTS.values()}


@names
def test_an_event_is_written_as_this_line(event: Event, line: str) -> None:
    """The line holds the fields that it always held, in ASCII, and as_json gives the same data."""
    written = encoded_event(event)
    assert json.loads(written) == json.loads(line) == as_json(event)
    assert written.isascii() and b"\n" not in written


def test_a_nested_call_of_an_earlier_version_is_read() -> None:
    """Versions before reported neither the attempts of a nested call nor whether it answers."""
    line = encoded_event(AgentFinished(calls=(INNER,), **P, **S)).decode()
    read = decoded_event(line.replace(',"attempts":[],"answers":false', ""))
    assert isinstance(read, AgentFinished) and read.calls == (INNER,)


@names
def test_a_kept_line_is_read(event: Event, line: str) -> None:
    """A line of an earlier version becomes its event again; of an error, its text and its causes are left."""
    for read in (decoded_event(line), decoded_event(line.encode()), event_of(json.loads(line))):
        assert type(read) is type(event)
        if isinstance(read, AgentFailed | RunFailed) and isinstance(event, AgentFailed | RunFailed):
            assert str(read.error) == str(event.error)
            assert json.loads(encoded_event(read)) == json.loads(line)
        else:
            assert read == event


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[]",
        "1",
        '{"event":"agent_slept","at":1}',
        '{"event":"agent_said","at":1}',
        '{"event":"noticed","at":1}',
        "{",
    ],
)
def test_a_line_that_is_not_an_event_is_refused(line: str) -> None:
    """A malformed event is a ValueError, not a half-read event."""
    with pytest.raises(ValueError, match=r"not an event of a run|Expecting property name"):
        decoded_event(line)


def test_a_field_of_a_newer_version_is_ignored() -> None:
    """A run kept by a newer version can be read."""
    assert decoded_event('{"event":"run_finished","at":4.0,"mood":"good"}') == RunFinished(at=4.0)
    assert decoded_event('{"event":"agent_said","at":1.5,"agent":"p","layer":1,"text":"x","mood":1}') == said(text="x")


def runs() -> dict[str, Mixture]:
    """Mixtures whose runs hold events of every kind."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    inner = Mixture([[Scripted("deep", name="s/x")]], Scripted("inner", name="s/y"), name="inner")
    failing = Scripted(RateLimited("s/b", "slow down", retry_after=3), name="s/b")
    inner_failing = Mixture([[failing]], Scripted("inner", name="s/y"), name="inner")
    return {
        "answered": Mixture(
            [[Scripted("p", reasoning="hm"), failing, inner, inner_failing], [Scripted("q", name="s/q")]],
            Scripted("fine", name="s/l"),
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


@pytest.mark.anyio
@pytest.mark.parametrize("kind", runs())
async def test_a_run_read_from_its_lines_is_the_same_run(kind: str) -> None:
    """Lines of a run, with or without the roles that earlier versions left out, fold into the same answer."""
    events = [event async for event in runs()[kind].run("Why?", kept=[Reference("q", "kept", cut=True, layer=2)])]
    lines = [encoded_event(event) for event in events]
    old = [line.replace(b'"role":"aggregator",', b"") if b'"agent_said"' in line else line for line in lines]
    again = [*events_of(lines)]
    assert [type(event) for event in again] == [type(event) for event in events]
    assert [encoded_event(event) for event in events_of(old)] == lines
    expected = fold(events)
    for answer in (fold(again), fold(decoded_event(line) for line in old)):
        assert str(answer.error) == str(expected.error)
        assert replace(answer, error=None) == replace(expected, error=None)
