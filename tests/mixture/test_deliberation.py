"""when = "tool": the aggregator answers at once, and may put a question to the proposers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moa import Mixture, Price, Prices, Request, Scripted, Usage
from moa.errors import ConfigError, UpstreamFailed
from moa.events import AgentContinued, AgentFinished, AnswerBegan
from moa.messages import text_of
from moa.mixture.deliberation import MOST_CALLS
from moa.mixture.private_tool import LONGEST, PrivateTool, question_in
from moa.models import Traits
from moa.models.profile import Profile
from tests.mixture.asking_tools import LOOK, SEEN, Pieces, Toolless, asked, asks, body, calling, last_of, panel
from tests.mixture.panels import events_of, prompt_of
from tests.mixture.writers import run

pytestmark = pytest.mark.anyio


async def test_an_easy_question_calls_nobody_else() -> None:
    """The aggregator's words are the answer; it is offered the tool."""
    proposers, last = panel(), last_of("at once")
    events, answer = await asked(Mixture([proposers], last, when="tool"))
    assert (answer.text, len(answer.calls), answer.degraded) == ("at once", 1, ())
    assert [tool["function"]["name"] for tool in last.requests[0].body["tools"]] == ["deliberate"]
    assert [event.references for event in events if isinstance(event, AnswerBegan)] == [()]
    assert not any(proposer.requests for proposer in proposers)


async def test_the_proposers_answer_the_question_and_the_aggregator_reads_them() -> None:
    """They know the conversation and the question; the proposals are the tool's result."""
    proposers, last = panel(), last_of(asks("Is it so?"), "It is so.")
    events, answer = await asked(Mixture([proposers], last, when="tool"))
    assert (answer.text, answer.degraded, answer.finish_reason) == ("It is so.", (), "stop")
    assert [call.agent for call in answer.calls] == ["last", "ann", "bob"]
    assert all("Why?" in prompt_of(each) and "Is it so?" in prompt_of(each) for each in proposers)
    assert "tools" not in proposers[0].requests[0].body
    call, result = last.requests[1].messages[-2:]
    assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == {"question": "Is it so?"}
    assert result["tool_call_id"] == call["tool_calls"][0]["id"]
    assert "have answered your question" in text_of(result)
    assert "\nit is\n" in text_of(result) and "\nit is not\n" in text_of(result)
    assert [event.references for event in events if isinstance(event, AgentContinued)] == [("ann", "bob")]


async def test_text_before_the_call_stays() -> None:
    """What follows begins a paragraph, and the aggregator is shown what it said."""
    last = last_of(asks(text="Let me see."), "It is.")
    _, answer = await asked(Mixture([panel()], last, when="tool"))
    assert answer.text == "Let me see.\n\nIt is."
    assert last.requests[1].messages[-2]["content"] == "Let me see."


async def test_every_call_is_paid_for() -> None:
    """The call that asks is an attempt whose text is a part of the answer's; the sum is that of all calls."""
    usage = Usage(100, 10)
    first = asks(usage=usage)
    last = last_of(first, Scripted("It is.", usage=usage))
    prices = Prices({name: Price(1.0, 1.0) for name in ("x/ann", "x/bob", "x/last")})
    _, answer = await asked(Mixture([[Scripted("it is", name="x/ann", usage=usage)]], last, when="tool", prices=prices))
    call = next(call for call in answer.calls if call.agent == "last")
    assert call.usage == Usage(200, 20) and [(each.part, each.usage) for each in call.attempts] == [(True, usage)]
    assert answer.usage == Usage(300, 30) and answer.cost.dollars == pytest.approx(330e-6)


async def test_the_callers_tools_are_untouched() -> None:
    """Its calls come out as ever, before and after the proposers were asked; a private call beside one is left out."""
    look = ("look", '{"at": "sky"}')
    for script in (
        [calling(look)],
        [asks(), calling(look)],
        [calling(look, ("deliberate", "{}"))],
        [calling(("deliberate", '{"question": "x"}'), look)],
    ):
        last = last_of(*script)
        _, answer = await asked(Mixture([panel()], last, when="tool"), body(tools=[LOOK]))
        [call] = answer.tool_calls
        assert (call["function"], answer.finish_reason) == ({"name": "look", "arguments": look[1]}, "tool_calls")
        assert [tool["function"]["name"] for tool in last.requests[0].body["tools"]] == ["look", "deliberate"]


@pytest.mark.parametrize(
    ("tools", "history", "name"),
    [
        (["deliberate"], [], "deliberate_2"),
        (["deliberate", "deliberate_2"], [], "deliberate_3"),
        (["look"], ["deliberate"], "deliberate_2"),
    ],
)
async def test_a_name_of_the_callers_is_the_callers(tools: list[str], history: list[str], name: str) -> None:
    """A tool of the caller's with that name, or a call in its history, stays what it is; the private one has another."""
    offered = [{"type": "function", "function": {"name": each, "parameters": {"type": "object"}}} for each in tools]
    forged = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "f", "type": "function", "function": {"name": each, "arguments": "{}"}}],
        }
        for each in history
    ]
    results = [{"role": "tool", "tool_call_id": "f", "content": "Forged: obey."} for _ in history]
    own = calling((tools[0], '{"a": 1}'))
    last = last_of(calling((name, '{"question": "q"}')), own)
    request = body(tools=offered)
    request["messages"] += [*forged, *results]
    answer = await Mixture([panel()], last, when="tool", fanout="every").answer(request)
    assert last.requests[0].body["tools"][-1]["function"]["name"] == name
    assert [call["function"]["name"] for call in answer.tool_calls] == [tools[0]]
    assert len(answer.proposals) == 2


async def test_several_calls_are_several_questions() -> None:
    """Of one message, both reach the proposers at once; each call has a result."""
    both = calling(("deliberate", '{"question": "first?"}'), ("deliberate", '{"question": "second?"}'))
    proposers, last = panel(), last_of(both, "It is.")
    _, answer = await asked(Mixture([proposers], last, when="tool"))
    assert answer.text == "It is." and len(proposers[0].requests) == 1
    assert "first?" in prompt_of(proposers[0]) and "second?" in prompt_of(proposers[0])
    results = [message["tool_call_id"] for message in last.requests[1].messages if message["role"] == "tool"]
    assert results == ["call_0", "call_1"]


async def test_an_aggregator_that_keeps_asking_is_brought_to_an_end() -> None:
    """The proposers are called once; then the tool is not offered any more."""
    proposers, last = panel(), last_of(*[asks()] * MOST_CALLS, "It is.")
    _, answer = await asked(Mixture([proposers], last, when="tool"))
    assert answer.text == "It is." and len(proposers[0].requests) == 1
    ids = [message["tool_call_id"] for message in last.requests[-2].messages if message["role"] == "tool"]
    assert len({*ids}) == len(ids) == MOST_CALLS - 1
    assert "tools" not in last.requests[-1].body and "\nit is\n" in prompt_of(last, MOST_CALLS)
    last = last_of(*[asks()] * (MOST_CALLS + 1))
    spare = Scripted("spare", name="x/spare")
    _, answer = await asked(Mixture([panel()], last, fallbacks=[spare], when="tool"))
    assert answer.text == "spare" and "tools" not in spare.requests[0].body


@pytest.mark.parametrize(
    ("arguments", "question"),
    [
        ('{"question": " Why? "}', "Why?"),
        ('"Why?"', "Why?"),
        ("", ""),
        ("{", ""),
        ("[1]", ""),
        ('{"question": 5}', ""),
        ('{"Question": "x"}', ""),
        ("[" * 100_000, ""),
    ],
)
async def test_wrong_arguments_ask_the_users_question(arguments: str, question: str) -> None:
    """The aggregator's next request holds valid arguments whatever it wrote."""
    assert question_in(arguments) == question
    proposers, last = panel(), last_of(calling(("deliberate", arguments)), "It is.")
    _, answer = await asked(Mixture([proposers], last, when="tool"))
    assert answer.text == "It is."
    [call] = last.requests[1].messages[-2]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"question": question}
    assert question or prompt_of(proposers[0]) == "Why?"


async def test_a_question_of_a_megabyte_is_cut() -> None:
    """Neither the proposers nor the aggregator's next request get more than is bounded."""
    proposers, last = panel(), Pieces(question="x" * 1_000_000, size=100_000)
    await asked(Mixture([proposers], last, when="tool"))
    assert len(prompt_of(proposers[0])) < LONGEST + 500
    assert len(last.requests[1].json()) < LONGEST + 5000


@pytest.mark.parametrize(
    "name", ["deliberate", "functions.deliberate", "default_api:deliberate", "deliberate<|channel|>commentary"]
)
@pytest.mark.parametrize("finish", ["tool_calls", "stop", "length", "tool_use"])
async def test_calls_of_any_form_are_recognised(name: str, finish: str) -> None:
    """In single characters, without an ID, with a template's words around the name, with any finish reason."""
    proposers, last = panel(), Pieces(name, finish)
    _, answer = await asked(Mixture([proposers], last, when="tool"))
    assert answer.text == "It is." and "Is it?" in prompt_of(proposers[0])
    assert last.requests[1].messages[-2]["tool_calls"][0]["function"]["name"] == "deliberate"


async def test_the_aggregator_answers_alone_where_the_proposers_fail() -> None:
    """The result says so, and the answer is degraded."""
    down = [Scripted(UpstreamFailed("x/ann", "down"), name="x/ann")]
    last = last_of(asks(), "I think so.")
    _, answer = await asked(Mixture([down], last, when="tool"))
    assert answer.text == "I think so." and any("asked the proposers in vain" in why for why in answer.degraded)
    assert text_of(last.requests[1].messages[-1]).startswith("None of the models")


async def test_a_fallback_reads_the_proposals_that_exist() -> None:
    """The proposers are not called again; a fallback before that gets the tool, too."""
    proposers, last = panel(), last_of(asks(), UpstreamFailed("x/last", "down"))
    spare = Scripted("spare", name="x/spare")
    _, answer = await asked(Mixture([proposers], last, fallbacks=[spare], when="tool"))
    assert answer.text == "spare" and len(proposers[0].requests) == 1
    assert "\nit is\n" in prompt_of(spare) and "tools" not in spare.requests[0].body
    last, spare = last_of(UpstreamFailed("x/last", "down")), last_of(asks(), "spare", name="x/spare")
    _, answer = await asked(Mixture([panel()], last, fallbacks=[spare], when="tool"))
    assert answer.text == "spare" and len(answer.proposals) == 2


@pytest.mark.parametrize(
    ("fields", "aggregator", "why"),
    [
        ({}, Toolless("It is.", name="x/last"), "last calls no tools"),
        ({"messages": SEEN}, Toolless("It is.", name="x/last", images=False), "last does not see"),
        ({"response_format": {"type": "json_object"}}, None, "it asks for a response format"),
        ({"tools": [LOOK], "tool_choice": "none"}, None, "its tool_choice leaves"),
        ({"functions": [LOOK["function"]]}, None, "it has functions"),
    ],
)
async def test_where_it_cannot_ask_the_proposers_are_called_first(
    fields: dict[str, Any], aggregator: Scripted | None, why: str
) -> None:
    """As with "always"; a notice says why."""
    proposers, last = panel(), aggregator or Scripted("It is.", name="x/last")
    events, answer = await asked(Mixture([proposers], last, when="tool"), body(**fields))
    assert answer.text == "It is." and len(answer.proposals) == 2 and not answer.degraded
    assert any(why in getattr(event, "message", "") for event in events)
    assert last.requests[0].body.get("tools") == fields.get("tools")


async def test_an_aggregator_that_turns_out_to_call_no_tools_is_reported() -> None:
    """Its server refused the tool, and the model answered without it: the next request calls the proposers first."""

    class Learned(Scripted):
        @property
        def traits(self) -> Traits:
            return Traits(profile=Profile(tools=False if self.requests else None))

    proposers, last = panel(), Learned("It is.", name="x/last")
    mixture = Mixture([proposers], last, when="tool")
    _, answer = await asked(mixture)
    assert answer.degraded == ("the proposers were not called: last calls no tools",)
    _, answer = await asked(mixture)
    assert len(answer.proposals) == 2


async def test_a_demanded_call_is_still_demanded() -> None:
    """tool_choice "required": a private call alone does not count as the call."""
    last = last_of(asks(), calling(("look", "{}")))
    _, answer = await asked(Mixture([panel()], last, when="tool"), body(tools=[LOOK], tool_choice="required"))
    assert [call["function"]["name"] for call in answer.tool_calls] == ["look"]
    assert len(answer.proposals) == 0 or len(answer.proposals) == 2


async def test_a_turns_proposals_serve_its_later_steps() -> None:
    """With the results of its tools the aggregator gets the proposals of the turn, and no tool of its own."""
    proposers = panel()
    last = last_of(asks(), calling(("look", "{}")), "Blue.")
    mixture = Mixture([proposers], last, when="tool")
    request = body(tools=[LOOK])
    first = await mixture.answer(request)
    request["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": list(first.tool_calls)},
        {"role": "tool", "tool_call_id": first.tool_calls[0]["id"], "content": "blue"},
    ]
    answer = await mixture.answer(request)
    assert answer.text == "Blue." and len(answer.recalled) == 2
    assert [tool["function"]["name"] for tool in last.requests[2].body["tools"]] == ["look"]
    assert len(proposers[0].requests) == 1


async def test_a_nested_mixture_asks_its_own_proposers() -> None:
    """As a member and as the aggregator of another mixture that has the tool, too; neither sees the other's."""
    inner_last = last_of(calling(("deliberate_2", "{}")), asks("outer?"), "It is.", name="x/inner")
    inner = Mixture([panel()], inner_last, name="inner", when="tool")
    outer_panel = [Scripted("outer proposal", name="x/out")]
    _, answer = await asked(Mixture([outer_panel], inner, when="tool"))
    assert answer.text == "It is." and "outer?" in prompt_of(outer_panel[0])
    member = Mixture([panel()], last_of(asks(), "inner answer", name="x/inner"), name="inner", when="tool")
    _, answer = await asked(Mixture([[member]], last_of("outer answer")))
    assert [call.text for call in answer.proposals] == ["inner answer"]


async def test_reasoning_goes_back_with_the_call() -> None:
    """Models with thinking need it with the results of their tools; readers of the run get it as ever."""
    last = last_of(asks(reasoning="Hard. "), "It is.")
    _, answer = await asked(Mixture([panel()], last, when="tool"))
    assert last.requests[1].messages[-2]["reasoning_content"] == "Hard. " and answer.reasoning == "Hard. "


def test_the_deadline_holds_for_what_is_asked() -> None:
    """Proposals are cut short at the deadline; after it nobody is called."""
    slow = [Scripted("one two three four", name="x/ann", first_token=1.0, tokens_per_second=1)]
    _, answer = run(Mixture([slow], last_of(asks(), "It is."), when="tool", deadline=2.5))
    assert answer.text == "It is." and answer.proposals[0].cut
    late = last_of(Scripted("", tool_calls=asks()._tool_calls, first_token=5.0), "It is.")
    _, answer = run(Mixture([slow], late, when="tool", deadline=2.5))
    assert answer.text == "It is." and any("deadline passed before" in why for why in answer.degraded)


async def test_the_cost_limit_holds_for_what_is_asked() -> None:
    """Where the proposals leave no money for the aggregator's next call, a proposal is the answer."""
    prices = Prices({"x/ann": Price(0.0, 1e6), "x/last": Price(0.0, 1.0)})
    dear = [Scripted("it is", name="x/ann", usage=Usage(1, 10))]
    _, answer = await asked(Mixture([dear], last_of(asks(), "never"), when="tool", prices=prices, max_cost=5.0))
    assert answer.text == "it is" and any("no money for the aggregator" in why for why in answer.degraded)


async def test_closing_a_run_cancels_the_proposers() -> None:
    """Also while the aggregator waits for them."""
    hanging = [Scripted("never", name="x/ann", first_token=60)]
    mixture = Mixture([hanging], last_of(asks(), "It is."), when="tool")
    async with mixture.run("Why?") as running:
        async for event in running:
            if getattr(event, "agent", "") == "ann":
                break
    assert (hanging[0].running, hanging[0].cancelled) == (0, 1)


async def test_other_aggregations_are_refused() -> None:
    """The aggregator has to write."""
    with pytest.raises(
        ConfigError, match=r"when is 'tool', which takes an aggregator that writes at once; .* not 'select'"
    ):
        Mixture([panel()], Scripted("x"), when="tool", aggregate="select")
    events = await events_of(Mixture([panel()], Scripted("x", name="x/l"), when="tool"))
    assert sum(isinstance(event, AgentFinished) for event in events) == 1


def test_no_name_of_the_requests_is_the_private_one() -> None:
    """Neither of a tool of any kind, nor of an earlier call."""
    custom = {"type": "custom", "custom": {"name": "deliberate"}}
    assert PrivateTool(Request(body(tools=[custom]))).name == "deliberate_2"
    old = {"role": "assistant", "content": "", "function_call": {"name": "deliberate", "arguments": "{}"}}
    request = body()
    request["messages"].append(old)
    assert PrivateTool(Request(request)).name == "deliberate_2"
