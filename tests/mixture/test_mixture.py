"""What a mixture does: what each agent reads, events, usage, and wrong input."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from moa import Agent, Cost, Delta, Mixture, Price, Prices, Request, Scripted, Usage
from moa.errors import ConfigError, RequestRejected
from moa.messages import text_of
from moa.mixture.events import AgentDropped, AgentFailed, AgentFinished, RunFinished, RunStarted
from moa.models.cache import Cache, Cached
from tests.fakes.virtual_time import run_in_virtual_time
from tests.mixture.panels import BODY, events_of, model, prompt_of

pytestmark = pytest.mark.anyio


async def test_each_agent_reads_all_answers_of_the_previous_layer() -> None:
    """Layer 2 reads layer 1; the aggregator reads layer 2 and nothing of layer 1."""
    first = [model(f"first {n}", f"scripted/f{n}") for n in range(3)]
    second = [model(f"second {n}", f"scripted/s{n}") for n in range(2)]
    last = model("done", "scripted/last")
    answer = await Mixture([first, second], last).answer("Why?")
    assert answer.text == "done"
    assert [prompt_of(one) for one in first] == ["Why?"] * 3
    for reader in second:
        assert all(f"first {n}" in prompt_of(reader) for n in range(3))
    assert all(f"second {n}" in prompt_of(last) for n in range(2))
    assert "first" not in prompt_of(last)
    assert [(call.agent, call.layer, call.role) for call in answer.calls] == [
        *((f"f{n}", 1, "proposer") for n in range(3)),
        *((f"s{n}", 2, "proposer") for n in range(2)),
        ("last", 3, "aggregator"),
    ]


def test_proposers_of_a_layer_run_concurrently() -> None:
    """A layer takes as long as its slowest agent, not the sum of all."""
    proposers = [model("word " * 10, f"scripted/{n}", first_token=1.0, tokens_per_second=10) for n in range(6)]
    answer = run_in_virtual_time(Mixture([proposers], model("end", first_token=0.5)).answer("Why?"))
    assert answer.duration == pytest.approx(1.0 + 0.9 + 0.5, abs=0.01)
    assert answer.time_to_first_token == pytest.approx(2.4, abs=0.01)
    assert [call.time_to_first_token for call in answer.proposals] == pytest.approx([1.0] * 6)
    assert [call.duration for call in answer.proposals] == pytest.approx([1.9] * 6)


async def test_a_mixture_can_be_a_member_of_another() -> None:
    """A nested mixture proposes its answer, and its calls are part of the outer answer's usage and cost."""
    prices = Prices({"scripted/*": Price(1.0, 2.0)}, free=frozenset())
    usage = Usage(1000, 500)
    inner = Mixture([[model("inner a", usage=usage)]], model("inner answer", usage=usage), name="in", prices=prices)
    last = model("outer answer", "scripted/last", usage=usage)
    answer = await Mixture([[inner, model("plain", "scripted/p", usage=usage)]], last, prices=prices).answer("Why?")
    assert "inner answer" in prompt_of(last)
    assert "plain" in prompt_of(last)
    assert answer.usage == Usage(4000, 2000)
    assert answer.cost.dollars == pytest.approx(4 * 0.002)
    assert [call.agent for call in answer.calls[0].calls] == ["a", "a"]


async def test_without_layers_the_aggregator_gets_the_request_unchanged() -> None:
    """A mixture without proposers adds nothing to the prompt."""
    alone = model("hello")
    assert (await Mixture([], alone).answer("Why?")).text == "hello"
    assert alone.requests[0].body == {"messages": [{"role": "user", "content": "Why?"}]}


async def test_samples_of_one_model_get_different_seeds() -> None:
    """Three agents with one model make three calls, with three seeds that count on from the caller's."""
    sample = model("x")
    mixture = Mixture([[sample, sample, Agent(sample, sampling={"seed": 7})]], model("y", "scripted/last"))
    await mixture.answer({"messages": [{"role": "user", "content": "Why?"}], "seed": 100})
    assert [request.body["seed"] for request in sample.requests] == [101, 102, 7]
    assert [*mixture.layers[0]] == ["a", "a-2", "a-3"]


async def test_several_choices_are_one_and_reported() -> None:
    """A run gives one choice; the server makes several runs of a request with ``n``."""
    mixture = Mixture([[model("x")]], model("y", "scripted/last"))
    answer = await mixture.answer({"messages": [{"role": "user", "content": "Why?"}], "n": 3})
    assert (answer.text, answer.degraded) == (
        "y",
        ("the request has n = 3, and this answer is one choice; run it again for others",),
    )
    assert (await mixture.answer({"messages": [{"role": "user", "content": "Why?"}], "n": 1})).degraded == ()


async def test_each_run_has_seeds_of_its_own(tmp_path: Path) -> None:
    """A model that honours seeds gives other samples in the next run; one whose answers are cached gets the same request."""
    sample = model("x", "scripted/same")
    mixture = Mixture([[sample, sample]], model("y", "scripted/last"))
    await mixture.answer("Why?")
    await mixture.answer("Why?")
    one, two, three, four = (request.body["seed"] for request in sample.requests)
    assert (two - one, four - three) == (1, 1)
    assert one != three
    inner = model("x", "scripted/cached")
    with Cache(tmp_path / "answers.db") as cache:
        cached = Cached(inner, cache)
        await Mixture([[cached, cached]], model("y", "scripted/last")).answer("Why?")
    assert [request.body["seed"] for request in inner.requests] == [1, 2]


async def test_events_are_in_order_and_their_times_never_decrease() -> None:
    """A run starts, its agents start, write and end once, and the run ends."""
    events = await events_of(
        Mixture([[model("one two"), model("x", "scripted/b", finish_reason="length")]], model("end", "scripted/l"))
    )
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert [event.at for event in events] == sorted(event.at for event in events)
    ends = [event.agent for event in events if isinstance(event, (AgentFinished, AgentFailed, AgentDropped))]
    assert sorted(ends) == ["a", "b", "l"]
    assert [(seat.agent, seat.layer, seat.role) for seat in events[0].seats] == [
        ("a", 1, "proposer"),
        ("b", 1, "proposer"),
        ("l", 2, "aggregator"),
    ]


async def test_usage_and_cost_sum_every_call() -> None:
    """Tokens of all calls are counted; a call without a price makes the sum 'at least'; without any price it is None."""
    prices = Prices({"scripted/*": Price(1.0, 1.0)}, free=frozenset())
    usage = Usage(400_000, 100_000, cached_tokens=5)
    known, unknown = model("p", usage=usage), model("q", "mine/b", usage=usage)
    answer = await Mixture([[known, unknown]], model("x", "scripted/l", usage=usage), prices=prices).answer("Why?")
    assert answer.usage == Usage(1_200_000, 300_000, cached_tokens=15)
    assert answer.cost == Cost(1.0, at_least=True)
    assert [call.cost for call in answer.calls] == [Cost(0.5), Cost(None), Cost(0.5)]
    nothing = await Mixture([[unknown]], model("x", "mine/l", usage=usage), prices=prices).answer("Why?")
    assert nothing.cost == Cost(None)


async def test_stream_yields_the_text_of_the_last_agent_alone() -> None:
    """Deltas concatenate to the answer's text; those without text carry the usage and calls so far, the last all of them."""
    mixture = Mixture([[model("p")]], model("one two three", "scripted/l"))
    deltas = [delta async for delta in mixture.stream(Request.of("Why?"))]
    assert "".join(delta.text for delta in deltas) == "one two three"
    assert [delta.text for delta in deltas if delta.text] == ["one ", "two ", "three"]
    assert [len(delta.calls) for delta in deltas if not delta.text] == [1, 1, 2, 2, 2]
    assert deltas[-1].finish_reason == "stop"
    assert deltas[-1].usage is not None
    assert len(deltas[-1].calls) == 2


async def test_concurrent_runs_of_one_mixture_stay_apart() -> None:
    """In fifty concurrent runs of one mixture, each answer carries its own marker through proposals and aggregator."""

    def echo(request: Request) -> str:
        return " ".join(word for word in text_of(request.messages[-1]).split() if word.startswith("marker-"))

    mixture = Mixture(
        [[Scripted(echo, name="scripted/a"), Scripted(echo, name="scripted/b")]], Scripted(echo, name="scripted/l")
    )
    answers = await asyncio.gather(*(mixture.answer(f"say marker-{n}") for n in range(50)))
    assert [answer.text for answer in answers] == [" ".join([f"marker-{n}"] * 3) for n in range(50)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Mixture([], None), "needs an aggregator"),
        (lambda: Mixture([[]], model("x")), "layer 1 is []; expected at least one proposer"),
        (lambda: Mixture(["groq/llama"], model("x")), "layers must be a list of lists"),
        (lambda: Mixture([[model("p")]], model("x"), min_proposals=2), "min_proposals is 2; expected 1 to 1"),
        (lambda: Mixture([[model("p")]], model("x"), deadline=0), "deadline is 0; expected seconds above 0"),
        (
            lambda: Mixture([[model("p")]], model("x"), references="top"),  # type: ignore[arg-type]
            "references is 'top'; expected one of user, system",
        ),
        (lambda: Mixture([["grok/x"]], model("x")), "no provider is called 'grok'; did you mean 'groq'?"),
        (lambda: Mixture([["llama"]], model("x")), "'llama' is not a model name; write provider/name"),
        (lambda: Mixture([["groq/x"]], model("x")), "set the environment variable GROQ_API_KEY"),
        (lambda: Mixture([[{"name": "x"}]], model("x")), "a member needs a model"),
        (lambda: Mixture([[3]], model("x")), "3 is no model, agent or name of one"),  # type: ignore[list-item]
        (lambda: Agent(model("x"), "a>b"), "agent name 'a>b' must not contain"),
    ],
)
def test_a_malformed_mixture_is_refused(build: Callable[[], object], message: str) -> None:
    """Each error names the value, the place and what was expected."""
    with pytest.raises(ConfigError) as caught:
        build()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "question", ["", "  \n", [], [{"content": "x"}], {"model": "x"}, [{"role": "user", "content": 3}], ["x"]]
)
async def test_a_malformed_question_is_refused_before_any_call(question: object) -> None:
    """Nothing is sent for an empty question or malformed messages."""
    proposer = model("p")
    with pytest.raises(RequestRejected):
        await Mixture([[proposer]], model("x", "scripted/l")).answer(question)  # type: ignore[arg-type]
    assert proposer.requests == []


async def test_the_callers_request_is_never_changed() -> None:
    """The body and its messages are the same after a run as before, and later edits do not reach a run."""
    import copy

    body = copy.deepcopy(BODY)
    last = model("{}", "scripted/l")
    await Mixture([[model("p")], [model("q", "scripted/q")]], last, references="system").answer(body)
    assert body == BODY


class Rude:
    """A model that breaks the protocol: it raises an error that is no ModelError."""

    name = "rude/x"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Delta(text="half")
        raise KeyError("oops")


async def test_an_exception_in_a_model_costs_only_its_own_proposal() -> None:
    """A bug in one model is that agent's failure, not the run's."""
    answer = await Mixture([[Rude(), model("good")]], model("fine", "scripted/l")).answer("Why?")
    assert answer.text == "fine"
    assert answer.calls[0].dropped == "rude/x: KeyError: 'oops'"
