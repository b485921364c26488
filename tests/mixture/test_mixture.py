from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

import pytest

from moa import Agent, Cost, Delta, Mixture, Price, Prices, Request, Scripted, Usage, fold
from moa.errors import AggregatorFailed, ConfigError, DeadlinePassed, KeyRejected, NoProposals, RequestRejected
from moa.messages import Reference, text_of
from moa.mixture.events import (
    AgentDropped,
    AgentFailed,
    AgentFinished,
    AgentRecalled,
    AgentSaid,
    AgentStarted,
    AnswerBegan,
    Event,
    Noticed,
    RunFailed,
    RunFinished,
    RunStarted,
    Selected,
)
from moa.mixture.memory import Recent
from moa.schedules import Barrier, EarlyExit, Quorum, Schedule, Staircase
from tests.fakes.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.anyio


def model(text: str, name: str = "scripted/a", **how: object) -> Scripted:
    return Scripted(text, name=name, **how)  # type: ignore[arg-type]


def asked(of: Scripted, call: int = 0) -> str:
    """All text of one request that a scripted model got."""
    return "\n".join(text_of(message) for message in of.requests[call].messages)


async def events_of(mixture: Mixture, question: str = "Why?") -> list[Event]:
    return [event async for event in mixture.run(question)]


# -- the data flow -----------------------------------------------------------------------------------------------------


async def test_every_agent_of_a_layer_reads_all_answers_of_the_layer_before() -> None:
    """Layer 2 reads layer 1, the aggregator reads layer 2 and nothing of layer 1."""
    first = [model(f"first {n}", f"scripted/f{n}") for n in range(3)]
    second = [model(f"second {n}", f"scripted/s{n}") for n in range(2)]
    last = model("done", "scripted/last")
    answer = await Mixture([first, second], last).answer("Why?")
    assert answer.text == "done"
    assert [asked(one) for one in first] == ["Why?"] * 3
    for reader in second:
        assert all(f"first {n}" in asked(reader) for n in range(3))
    assert all(f"second {n}" in asked(last) for n in range(2))
    assert "first" not in asked(last)
    assert [(call.agent, call.layer, call.role) for call in answer.calls] == [
        *((f"f{n}", 1, "proposer") for n in range(3)),
        *((f"s{n}", 2, "proposer") for n in range(2)),
        ("last", 3, "aggregator"),
    ]


def test_proposers_of_a_layer_run_at_the_same_time() -> None:
    """A layer takes as long as its slowest agent, not the sum of all."""
    proposers = [model("word " * 10, f"scripted/{n}", first_token=1.0, tokens_per_second=10) for n in range(6)]
    answer = run_in_virtual_time(Mixture([proposers], model("end", first_token=0.5)).answer("Why?"))
    assert answer.duration == pytest.approx(1.0 + 0.9 + 0.5, abs=0.01)
    assert answer.time_to_first_token == pytest.approx(2.4, abs=0.01)
    assert [call.time_to_first_token for call in answer.proposals] == pytest.approx([1.0] * 6)
    assert [call.duration for call in answer.proposals] == pytest.approx([1.9] * 6)


async def test_a_mixture_is_a_model_and_may_be_a_member_of_another() -> None:
    """A nested mixture proposes its answer, and its calls are part of the outer answer's usage and cost."""
    prices = Prices({"scripted/*": Price(1.0, 2.0)}, free=frozenset())
    usage = Usage(1000, 500)
    inner = Mixture([[model("inner a", usage=usage)]], model("inner answer", usage=usage), name="in", prices=prices)
    last = model("outer answer", "scripted/last", usage=usage)
    answer = await Mixture([[inner, model("plain", "scripted/p", usage=usage)]], last, prices=prices).answer("Why?")
    assert "inner answer" in asked(last)
    assert "plain" in asked(last)
    assert answer.usage == Usage(4000, 2000)
    assert answer.cost.dollars == pytest.approx(4 * 0.002)
    assert [call.agent for call in answer.calls[0].calls] == ["a", "a"]


async def test_no_layers_is_the_aggregator_alone_with_the_request_as_it_came() -> None:
    """A mixture without proposers adds nothing to the prompt."""
    alone = model("hello")
    assert (await Mixture([], alone).answer("Why?")).text == "hello"
    assert alone.requests[0].body == {"messages": [{"role": "user", "content": "Why?"}]}


async def test_samples_of_one_model_get_seeds_of_their_own() -> None:
    """The same model three times in a layer is asked three times, with three seeds that follow the caller's."""
    sample = model("x")
    mixture = Mixture([[sample, sample, Agent(sample, sampling={"seed": 7})]], model("y", "scripted/last"))
    await mixture.answer({"messages": [{"role": "user", "content": "Why?"}], "seed": 100})
    assert [request.body["seed"] for request in sample.requests] == [101, 102, 7]
    assert [*mixture.layers[0]] == ["a", "a-2", "a-3"]


# -- what reaches whom -------------------------------------------------------------------------------------------------

BODY = {
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:x"}}],
        },
    ],
    "temperature": 0.1,
    "max_tokens": 50,
    "stop": ["END"],
    "response_format": {"type": "json_object"},
    "tools": [
        {
            "type": "function",
            "function": {"name": "look", "description": "Looks  it\nup.", "parameters": {"properties": {"at": {}}}},
        }
    ],
    "vendor_field": {"a": 1},
}


async def test_the_whole_request_reaches_the_aggregator() -> None:
    """Sampling, tools, response format, history, images and vendor fields arrive; the caller's win over the agent's own."""
    last = model("{}", "scripted/last")
    await Mixture(
        [[model("p")]], Agent(last, sampling={"temperature": 0.9, "max_completion_tokens": 9, "top_p": 0.5})
    ).answer(BODY)
    body = last.requests[0].body
    for field in ("temperature", "max_tokens", "stop", "response_format", "tools", "vendor_field"):
        assert body[field] == BODY[field]
    assert body["top_p"] == 0.5
    assert "max_completion_tokens" not in body
    assert body["messages"][:3] == BODY["messages"][:3]  # type: ignore[index]
    assert body["messages"][3]["content"][:2] == BODY["messages"][3]["content"]  # type: ignore[index]


async def test_a_proposer_gets_the_conversation_and_its_own_sampling_wins() -> None:
    """History, images and sampling reach proposers; tools, stop and response format do not, but tools are told in words."""
    proposer = model("p")
    await Mixture(
        [[Agent(proposer, sampling={"temperature": 0.9, "max_completion_tokens": 9})]], model("x", "scripted/l")
    ).answer(BODY)
    body = proposer.requests[0].body
    assert body["messages"][1:] == BODY["messages"][1:]  # type: ignore[index]
    assert body["vendor_field"] == {"a": 1}
    assert (body["temperature"], body["max_completion_tokens"]) == (0.9, 9)
    assert not {"max_tokens", "stop", "response_format", "tools"} & set(body)
    system = body["messages"][0]["content"]
    assert system.startswith("Be brief.")
    assert "- look(at): Looks it up." in system


async def test_a_persona_joins_the_system_message() -> None:
    """A persona is added to the caller's first system message, or stands before all where there is none."""
    proposer = model("p")
    mixture = Mixture([[Agent(proposer, persona="Doubt everything.")]], model("x", "scripted/l"))
    await mixture.answer([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}])
    await mixture.answer("Why?")
    assert proposer.requests[0].messages[0] == {"role": "system", "content": "Be brief.\n\nDoubt everything."}
    assert proposer.requests[1].messages[0] == {"role": "system", "content": "Doubt everything."}


async def test_references_stand_where_the_mixture_says() -> None:
    """After the last user message, so that all before it stays as it was; or in the system message, as in the paper."""
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    for place, at in (("user", 1), ("system", 0)):
        last = model("x", "scripted/l")
        await Mixture([[model("proposal")]], last, references=place, prompt="MERGE:").answer(history)  # type: ignore[arg-type]
        messages = last.requests[0].messages
        assert messages[1 - at] == history[1 - at]
        assert messages[at]["content"].startswith(history[at]["content"] + "\n\nMERGE:\n\n<response 1 ")


async def test_names_are_told_only_when_asked_for() -> None:
    """References are anonymous by default; with anonymous=False each carries its agent's name."""
    shown, hidden = model("x", "scripted/l"), model("x", "scripted/l")
    await Mixture([[model("p", "scripted/famous")]], shown, anonymous=False).answer("Why?")
    await Mixture([[model("p", "scripted/famous")]], hidden).answer("Why?")
    assert "by famous>" in asked(shown)
    assert "famous" not in asked(hidden)


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_a_failed_proposer_is_dropped_and_the_run_goes_on() -> None:
    """Its error never becomes a reference; an event and the answer say what happened."""
    broken = Scripted(KeyRejected("scripted/b", "the key was rejected"), name="scripted/b")
    last = model("fine", "scripted/last")
    events = await events_of(Mixture([[model("good"), broken]], last))
    assert [event.agent for event in events if isinstance(event, AgentFailed)] == ["b"]
    assert "rejected" not in asked(last)
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
async def test_what_is_empty_or_broken_never_becomes_a_reference(proposer: Scripted, reason: str) -> None:
    """An empty proposal, thinking alone, a broken stream, and one without an end are dropped, each with its reason."""
    last = model("fine", "scripted/last")
    answer = await Mixture([[model("good"), proposer]], last).answer("Why?")
    assert answer.text == "fine"
    assert asked(last).count("<response ") == 1
    assert reason in str(answer.calls[1].dropped)


async def test_a_proposal_cut_at_its_own_max_tokens_is_used_and_marked() -> None:
    """A text that ends for want of tokens is a reference, said to be unfinished."""
    last = model("fine", "scripted/last")
    answer = await Mixture([[model("half", finish_reason="length")]], last).answer("Why?")
    assert "(unfinished)>\nhalf\n" in asked(last)
    assert answer.calls[0].cut
    assert answer.degraded == ()


async def test_too_few_usable_proposals_is_one_error_with_every_cause() -> None:
    """The error lists each agent with its reason and keeps the proposals that were paid for."""
    layers = [[model("good"), model("", "scripted/b"), Scripted(ValueError("bad"), name="scripted/c")]]
    last = model("x", "scripted/l")
    with pytest.raises(NoProposals) as caught:
        await Mixture(layers, last, min_proposals=2).answer("Why?")
    assert caught.value.causes == ("b (layer 1): it returned no text", "c (layer 1): scripted/c: ValueError: bad")
    assert "only 1 usable proposals in layer 1, and 2 are needed" in str(caught.value)
    assert caught.value.answer is not None
    assert [call.text for call in caught.value.answer.proposals] == ["good"]
    assert last.requests == []


async def test_a_layer_without_proposals_stops_the_layers_behind_it() -> None:
    """Nobody in layer 2 is asked when layer 1 has nothing to read, and the causes are those of layer 1."""
    behind, last = model("x", "scripted/s"), model("x", "scripted/l")
    with pytest.raises(NoProposals) as caught:
        await Mixture([[model("")], [behind]], last).answer("Why?")
    assert caught.value.causes == ("a (layer 1): it returned no text",)
    assert (behind.requests, last.requests) == ([], [])


async def test_fallbacks_are_tried_in_order() -> None:
    """The first fallback that answers is the answer, and the answer says that it is one."""
    fallbacks = [model("", "scripted/f1"), model("saved", "scripted/f2"), model("never", "scripted/f3")]
    last = Scripted(ConnectionError("gone"), name="scripted/l")
    answer = await Mixture([[model("p")]], last, fallbacks=fallbacks).answer("Why?")
    assert answer.text == "saved"
    assert len(answer.degraded) == 2
    assert "p" in asked(fallbacks[1])
    assert fallbacks[2].requests == []


async def test_an_aggregator_that_breaks_off_is_replaced_where_words_can_be_taken_back() -> None:
    """answer() starts anew with the fallback; stream() has said the words already, and raises."""
    mixture = Mixture(
        [[model("p")]], model("one two three", "scripted/l", fail_after=2), fallbacks=[model("saved", "scripted/f")]
    )
    assert (await mixture.answer("Why?")).text == "saved"
    said = []
    with pytest.raises(AggregatorFailed, match="the connection was lost"):
        async for delta in mixture.stream(Request.of("Why?")):
            said += [delta.text]
    assert "".join(said) == "one two "


async def test_when_all_aggregators_fail_the_proposals_are_kept() -> None:
    """The error lists why each failed, and holds every proposal."""
    last = Scripted(ConnectionError("gone"), name="scripted/l")
    with pytest.raises(AggregatorFailed, match="l: scripted/l: ConnectionError: gone") as caught:
        await Mixture([[model("worth keeping")]], last).answer("Why?")
    assert caught.value.answer is not None
    assert caught.value.answer.proposals[0].text == "worth keeping"


async def test_run_tells_of_a_failure_and_does_not_raise() -> None:
    """The last event of a run without an answer is RunFailed."""
    events = await events_of(Mixture([[model("")]], model("x", "scripted/l")))
    assert isinstance(events[-1], RunFailed)
    assert isinstance(fold(events).error, NoProposals)


# -- cancelling, deadlines, money --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [AgentStarted, AgentSaid, AgentFinished])
async def test_closing_the_run_cancels_every_call_at_once(stage: type[Event]) -> None:
    """Whatever was being written when the iterator closed is cancelled when the close returns."""
    proposers = [model("word " * 50, f"scripted/{n}", tokens_per_second=10 if n else None) for n in range(3)]
    last = model("answer " * 50, "scripted/l", tokens_per_second=10)
    async with aclosing(Mixture([proposers], last).run("Why?")) as events:
        async for event in events:
            if isinstance(event, stage):
                break
    assert [one.running for one in [*proposers, last]] == [0] * 4
    assert sum(one.cancelled for one in proposers) >= 2


async def test_a_cancelled_task_cancels_its_calls() -> None:
    """Cancelling whoever awaits answer() leaves no call running."""
    slow = model("word", first_token=60)
    task = asyncio.create_task(Mixture([[slow, slow]], model("x", "scripted/l")).answer("Why?"))
    await asyncio.sleep(0.01)
    assert slow.running == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (slow.running, slow.cancelled) == (0, 2)


def test_at_the_deadline_the_aggregator_starts_with_what_is_there() -> None:
    """What is written by then is used, marked as unfinished; what has said nothing is dropped and cancelled."""
    quick = model("quick")
    slow = model("slow " * 100, "scripted/slow", tokens_per_second=1)
    silent = model("silent", "scripted/silent", first_token=60)
    last = model("fine", "scripted/l")
    answer = run_in_virtual_time(Mixture([[quick, slow, silent]], last, deadline=5).answer("Why?"))
    assert answer.duration == pytest.approx(5.0)
    assert "\nquick\n" in asked(last)
    assert "(unfinished)>\nslow slow slow" in asked(last)
    assert "silent" not in asked(last)
    assert (slow.running, silent.running, slow.cancelled, silent.cancelled) == (0, 0, 1, 1)
    assert answer.degraded[0] == "proposals were cut short: the 5 s deadline passed"
    assert answer.calls[1].usage is not None
    assert answer.calls[1].usage.estimated


def test_at_the_deadline_the_deepest_layer_that_has_something_is_read() -> None:
    """A second layer that has not begun to speak is passed over for the first."""
    last = model("fine", "scripted/l")
    layers = [[model("early")], [model("late", "scripted/late", first_token=60)]]
    answer = run_in_virtual_time(Mixture(layers, last, deadline=5).answer("Why?"))
    assert "early" in asked(last)
    assert answer.calls[1].dropped == "had produced no text when the 5 s deadline passed"


def test_a_deadline_with_nothing_to_answer_from_is_an_error() -> None:
    """When nobody has written a word by the deadline, there is no answer and the error says why."""
    silent = model("silent", first_token=60)
    with pytest.raises(DeadlinePassed, match="nothing to answer from when the 5 s deadline passed"):
        run_in_virtual_time(Mixture([[silent]], model("x", "scripted/l"), deadline=5).answer("Why?"))


PRICED = Prices({"scripted/*": Price(0.0, 1_000_000.0)}, free=frozenset())  # a dollar a token, prompts free


def test_max_cost_stops_proposers_so_that_the_aggregator_can_be_paid() -> None:
    """Proposals are cut when they and the aggregator's answer would go beyond the limit."""
    talker = model("word " * 400, tokens_per_second=10)
    answer = run_in_virtual_time(
        Mixture([[talker]], model("short answer", "scripted/l"), max_cost=100, prices=PRICED).answer("Why?")
    )
    assert answer.text == "short answer"
    assert answer.cost.dollars is not None
    assert answer.cost.dollars <= 100
    assert any("the cost limit of $100 was near" in reason for reason in answer.degraded)
    assert talker.cancelled == 1


async def test_max_cost_stops_an_aggregator_that_goes_on_and_on() -> None:
    """The answer ends as if its tokens were used up, and says so."""
    answer = await Mixture([[model("p")]], model("word " * 400, "scripted/l"), max_cost=100, prices=PRICED).answer(
        "Why?"
    )
    assert answer.finish_reason == "length"
    assert answer.cost.dollars is not None
    assert 95 <= answer.cost.dollars <= 105
    assert any("was stopped: the cost limit of $100 was reached" in reason for reason in answer.degraded)


async def test_when_nothing_is_left_for_the_aggregator_a_proposal_stands_in() -> None:
    """What was paid for is not lost: the most central proposal is the answer, and the answer says why."""
    burst = model("word " * 20, usage=Usage(10, 99))
    last = model("x", "scripted/l")
    answer = await Mixture([[burst]], last, max_cost=100, prices=PRICED).answer("Why?")
    assert answer.text == "word " * 20
    assert last.requests == []
    assert any("leaves no money for the aggregator" in reason for reason in answer.degraded)


async def test_a_limit_that_cannot_bind_is_said() -> None:
    """A model without a known price cannot be stopped by max_cost while it writes, and a notice names it."""
    events = await events_of(Mixture([[model("p", "mine/a")]], model("x", "mine/b"), max_cost=1))
    notices = [event.message for event in events if isinstance(event, Noticed)]
    assert notices[0].startswith("max_cost cannot stop mine/a while it writes")
    assert len(notices) == 2


# -- aggregation -------------------------------------------------------------------------------------------------------


async def test_select_gives_the_proposal_that_the_ranker_names() -> None:
    """The ranker's reply is read as a number and the proposal given word for word; its call is counted."""
    ranker = model("2", "scripted/r", usage=Usage(50, 1))
    mixture = Mixture([[model("one"), model("two, whole", "scripted/b")]], ranker, aggregate="select")
    events = await events_of(mixture)
    answer = fold(events)
    assert answer.text == "two, whole"
    assert answer.calls[-1].role == "ranker"
    assert [event.agent for event in events if isinstance(event, Selected)] == ["b"]
    assert "number of that response" in asked(ranker)
    said = "".join([delta.text async for delta in mixture.stream(Request.of("Why?"))])
    assert said == "two, whole"


@pytest.mark.parametrize("reply", ["neither", "7", "1 or 2", ""])
async def test_a_ranker_that_names_none_is_replaced_by_the_most_central(reply: str) -> None:
    """An unreadable choice falls back to the proposal most like the others, and the answer says so."""
    proposers = [model("a b c"), model("a b c d", "scripted/b"), model("x y z", "scripted/c")]
    answer = await Mixture([proposers], model(reply, "scripted/r"), aggregate="select").answer("Why?")
    assert answer.text == "a b c"
    assert any("the ranker named no proposal" in reason for reason in answer.degraded)


async def test_central_asks_nobody() -> None:
    """The proposal most like the others is the answer, without an aggregator and without a call for it."""
    proposers = [model("red or blue"), model("it is a cat", "scripted/b"), model("it is a dog", "scripted/c")]
    answer = await Mixture([proposers], aggregate="central").answer("Why?")
    assert answer.text == "it is a cat"
    assert len(answer.calls) == 3
    assert answer.finish_reason == "stop"


async def test_a_selection_writes_when_tools_or_a_format_are_asked_for() -> None:
    """No proposal can call a tool, so with tools or a response format the aggregator writes, and a notice says so."""
    acting = model(
        "", "scripted/l", tool_calls=[{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    )
    answer = await Mixture([[model("p"), model("p", "scripted/b")]], acting, aggregate="central").answer(BODY)
    assert answer.finish_reason == "tool_calls"
    assert answer.tool_calls[0]["function"] == {"name": "look", "arguments": "{}"}


# -- tool loops ---------------------------------------------------------------------------------------------------------


TOOLS = [{"type": "function", "function": {"name": "look"}}]


def tool_step(steps: int, *more: Mapping[str, object]) -> dict[str, object]:
    """A request in which so many tool calls have been made since the user spoke, and then more was said."""
    made: list[Mapping[str, object]] = [{"role": "user", "content": "What is the weather?"}]
    for number in range(steps):
        call = {"id": f"{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        made.append({"role": "assistant", "content": None, "tool_calls": [call]})
        made.append({"role": "tool", "tool_call_id": f"{number}", "content": f"result {number}"})
    return {"messages": [*made, *more], "tools": TOOLS}


async def test_in_a_tool_loop_the_turns_proposals_are_put_back() -> None:
    """Proposers answer a turn once; at every later step the aggregator's prompt begins with what it held before."""
    proposer, last = model("look at the map"), model("fine", "scripted/l")
    mixture = Mixture([[proposer]], last)
    for steps in range(3):
        await mixture.answer(tool_step(steps))
    assert len(proposer.requests) == 1
    first, second, third = (request.messages for request in last.requests)
    assert second[: len(first)] == first
    assert third[: len(second)] == second
    assert "look at the map" in str(first[0])
    events = [event async for event in mixture.run(tool_step(1))]
    began = [event for event in events if isinstance(event, AnswerBegan)]
    assert [(event.recalled, event.references) for event in began] == [(True, (Reference("a", "look at the map"),))]


def test_a_deadline_does_not_cut_short_proposals_that_are_recalled() -> None:
    """In a later step of a tool loop no proposer writes, so a deadline that passes changes nothing."""
    mixture = Mixture([[model("look at the map")]], model("fine", "scripted/l", first_token=9), deadline=5)
    run_in_virtual_time(mixture.answer(tool_step(0)))
    answer = run_in_virtual_time(mixture.answer(tool_step(1)))
    assert (answer.text, answer.degraded) == ("fine", ())


async def test_another_turn_gets_proposals_of_its_own() -> None:
    """The next question, another conversation, and the same question asked again are new turns."""
    proposer = model("p")
    mixture = Mixture([[proposer]], model("fine", "scripted/l"))
    await mixture.answer(tool_step(0))
    await mixture.answer(tool_step(0))
    later = ({"role": "assistant", "content": "sunny"}, {"role": "user", "content": "And then?"})
    await mixture.answer(tool_step(1, *later))
    assert len(proposer.requests) == 3


async def test_a_mixture_can_ask_its_proposers_at_every_step() -> None:
    """fanout="every" asks anew each time; a loop whose turn is not remembered asks once."""
    proposer = model("p")
    every = Mixture([[proposer]], model("fine", "scripted/l"), fanout="every")
    for steps in range(3):
        await every.answer(tool_step(steps))
    assert len(proposer.requests) == 3
    forgetful = Mixture([[proposer]], model("fine", "scripted/l"))
    for _ in range(2):
        await forgetful.answer(tool_step(2))
    assert len(proposer.requests) == 4


async def test_without_tools_nothing_is_remembered() -> None:
    """Nobody comes back to a turn that can call no tool, so its proposals are not kept."""
    memory = Recent()
    mixture = Mixture([[model("p")]], model("fine", "scripted/l"), memory=memory)
    await mixture.answer("Why?")
    assert memory._kept == {}
    await mixture.answer(tool_step(0))
    assert len(memory._kept) == 1


async def test_proposals_that_are_there_already_can_be_given() -> None:
    """A run with proposals asks no proposer, and the aggregator reads those."""
    proposer, last = model("p"), model("fine", "scripted/l")
    mixture = Mixture([[proposer]], last)
    events = [event async for event in mixture.run("Why?", proposals=[Reference("x", "paid for")])]
    assert fold(events).text == "fine"
    assert "paid for" in asked(last)
    assert proposer.requests == []


async def test_a_run_goes_on_from_the_proposals_of_an_earlier_one() -> None:
    """Agents whose proposals are there are not asked again, all others are; those of other mixtures are left out."""
    one, two, deep, last = model("p1", "s/one"), model("p2", "s/two"), model("p3", "s/deep"), model("fine", "s/last")
    mixture = Mixture([[one, two], [deep]], last)
    kept = [Reference("one", "paid for"), Reference("stranger", "odd"), Reference("deep", " ", layer=2)]
    answer = fold([event async for event in mixture.run("Why?", kept=kept)])
    assert [len(each.requests) for each in (one, two, deep, last)] == [0, 1, 1, 1]
    assert "paid for" in asked(deep)
    assert "odd" not in asked(deep)
    assert answer.text == "fine"
    assert [(call.agent, call.text, call.model) for call in answer.recalled] == [("one", "paid for", "s/one")]
    assert [call.agent for call in answer.proposals] == ["one", "two", "deep"]
    assert len(answer.calls) == 3


@pytest.mark.parametrize("schedule", [Barrier(), Quorum(1), Staircase((4,)), EarlyExit(Barrier())], ids=repr)
async def test_with_every_proposal_kept_only_the_aggregator_is_asked(schedule: Schedule) -> None:
    """Under any schedule, also where a fallback has to answer, kept proposals are asked for no second time."""
    one, two = model("p1", "s/one"), model("p2", "s/two")
    broken = Scripted("half", name="s/broken", fail_after=0, continuation="prefix")
    spare = model("fine", "s/spare")
    mixture = Mixture([[one], [two]], broken, fallbacks=[spare], schedule=schedule)
    kept = [Reference("one", "an old word"), Reference("two", "a deep word", cut=True, layer=2)]
    events = [event async for event in mixture.run("Why?", kept=kept)]
    assert one.requests == two.requests == []
    assert fold(events).text == "fine"
    assert [event.cut for event in events if isinstance(event, AgentRecalled)] == [False, True]


def test_a_memory_forgets_the_oldest_turn() -> None:
    """It holds as many turns as it is told, those used last."""
    memory = Recent(turns=2)
    for turn in "ab":
        memory.keep(turn, [Reference(turn, turn)])
    memory.recall("a")
    memory.keep("c", [])
    assert [memory.recall(turn) is not None for turn in "abc"] == [True, False, True]


# -- events and folds --------------------------------------------------------------------------------------------------


async def test_events_come_in_order_with_times_that_never_go_back() -> None:
    """A run starts, its agents start, speak and end once, and the run ends."""
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
    """Tokens of all calls are counted; a part without a price makes the sum 'at least'; no price at all is None."""
    prices = Prices({"scripted/*": Price(1.0, 1.0)}, free=frozenset())
    usage = Usage(400_000, 100_000, cached_tokens=5)
    known, unknown = model("p", usage=usage), model("q", "mine/b", usage=usage)
    answer = await Mixture([[known, unknown]], model("x", "scripted/l", usage=usage), prices=prices).answer("Why?")
    assert answer.usage == Usage(1_200_000, 300_000, cached_tokens=15)
    assert answer.cost == Cost(1.0, at_least=True)
    assert [call.cost for call in answer.calls] == [Cost(0.5), Cost(None), Cost(0.5)]
    nothing = await Mixture([[unknown]], model("x", "mine/l", usage=usage), prices=prices).answer("Why?")
    assert nothing.cost == Cost(None)


async def test_stream_is_the_run_with_only_the_last_agents_words() -> None:
    """Deltas concatenate to the answer's text; the last carries the sum of all usage, the cost and the calls."""
    mixture = Mixture([[model("p")]], model("one two three", "scripted/l"))
    deltas = [delta async for delta in mixture.stream(Request.of("Why?"))]
    assert "".join(delta.text for delta in deltas) == "one two three"
    assert len(deltas) == 4
    assert deltas[-1].finish_reason == "stop"
    assert deltas[-1].usage is not None
    assert len(deltas[-1].calls) == 2


async def test_a_mixture_can_be_run_many_times_at_once_without_mixing_them_up() -> None:
    """Fifty runs at the same time on one mixture: each answer carries its own marker through proposals and aggregate."""

    def echo(request: Request) -> str:
        return " ".join(word for word in text_of(request.messages[-1]).split() if word.startswith("marker-"))

    mixture = Mixture(
        [[Scripted(echo, name="scripted/a"), Scripted(echo, name="scripted/b")]], Scripted(echo, name="scripted/l")
    )
    answers = await asyncio.gather(*(mixture.answer(f"say marker-{n}") for n in range(50)))
    assert [answer.text for answer in answers] == [" ".join([f"marker-{n}"] * 3) for n in range(50)]


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "said"),
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
def test_a_malformed_mixture_says_what_is_wrong(build: Callable[[], object], said: str) -> None:
    """Each error names the value, the place and what was expected."""
    with pytest.raises(ConfigError) as caught:
        build()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "question", ["", "  \n", [], [{"content": "x"}], {"model": "x"}, [{"role": "user", "content": 3}], ["x"]]
)
async def test_a_malformed_question_is_refused_before_anyone_is_asked(question: object) -> None:
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
    """A model that breaks the protocol: it raises something of its own."""

    name = "rude/x"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Delta(text="half")
        raise KeyError("oops")


async def test_a_model_that_raises_anything_costs_only_its_own_proposal() -> None:
    """A bug in one model is that agent's failure, not the run's."""
    answer = await Mixture([[Rude(), model("good")]], model("fine", "scripted/l")).answer("Why?")
    assert answer.text == "fine"
    assert answer.calls[0].dropped == "rude/x: KeyError: 'oops'"
