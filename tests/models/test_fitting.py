"""A request in the form that a model takes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.messages import Request, text_of
from moa.models.demands import TOOL_FIELDS
from moa.models.fitting import NEEDED, fit, nearest_effort, text_tokens, tool_calls_in_words
from moa.models.profile import Profile
from tests.fakes.strict import faults

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}

texts = st.sampled_from(["Why?", "Because.", "Be brief."])
contents = st.one_of(
    texts,
    st.lists(
        st.one_of(st.builds(lambda text: {"type": "text", "text": text}, texts), st.just(IMAGE)), min_size=1, max_size=3
    ),
)
plain = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": contents},
    optional={"name": st.just("ann"), "reasoning_content": st.just("Hm."), "metadata": st.just({"a": 1})},
)
called = st.just(
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Blue."},
    ]
)
conversations = st.lists(st.one_of(plain.map(lambda message: [message]), called), min_size=1, max_size=5).map(
    lambda turns: [message for turn in turns for message in turn]
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.sampled_from([0.2, 1]),
    "seed": st.just(7),
    "store": st.booleans(),
    "metadata": st.just({"a": "b"}),
    "reasoning_effort": st.sampled_from(["minimal", "low", "high", "xhigh"]),
    "max_tokens": st.sampled_from([10, 5000]),
    "tools": st.just([{"type": "function", "function": {"name": "look", "strict": True, "parameters": {}}}]),
}
requests = st.builds(
    lambda messages, fields: Request.of({"messages": messages, **fields}),
    conversations,
    st.fixed_dictionaries({}, optional=FIELDS),
)
yes_no = st.sampled_from([True, False, None])
profiles = st.builds(
    Profile,
    refuses=st.sets(
        st.sampled_from(
            [
                "temperature",
                "seed",
                "random_seed",
                "store",
                "messages.name",
                "messages.reasoning_content",
                "tools.function.strict",
            ]
        )
    ).map(frozenset),
    rename=st.sampled_from([{}, {"seed": "random_seed"}, {"max_tokens": "max_completion_tokens"}]),
    only=st.sampled_from([{}, {"temperature": 1}]),
    roles=st.sampled_from([{}, {"developer": "system"}, {"developer": "system", "system": "user"}]),
    images=yes_no,
    parts=yes_no,
    tools=yes_no,
    past_tool_calls=yes_no,
    system=yes_no,
    several_system=yes_no,
    alternates=yes_no,
    ends_with_assistant=yes_no,
    efforts=st.sampled_from([None, (), ("low", "medium", "high"), ("none", "low")]),
    answer_tokens=st.sampled_from([None, 100]),
)


@given(requests, profiles)
def test_what_is_fitted_is_accepted(request: Request, profile: Profile) -> None:
    """A server that refuses all that a profile says it refuses accepts the fitted request; fitting again changes nothing."""
    before = copy.deepcopy(dict(request.body))
    fitted, _ = fit(request, profile)
    assert faults(fitted.body, profile) == []
    assert fit(fitted, profile)[0].body == fitted.body
    assert request.body == before


@given(requests, profiles)
def test_nothing_that_an_answer_depends_on_is_left_out(request: Request, profile: Profile) -> None:
    """Every word of the conversation is still in the fitted one, and so is every field that an answer depends on."""
    fitted, _ = fit(request, profile)
    words = "\n".join(text_of(message) for message in fitted.messages)
    assert all(text_of(message) in words for message in request.messages if isinstance(message["content"], str))
    needed = NEEDED - ({*TOOL_FIELDS} if profile.tools is False else set())
    renamed = {profile.rename.get(name, name) for name in request.body if name in needed}
    assert renamed <= fitted.body.keys()


@given(requests)
def test_what_is_unknown_is_sent_as_it_is(request: Request) -> None:
    """A model of which nothing is known gets the request unchanged."""
    assert fit(request, Profile()) == (request, ())


def test_a_tool_call_and_its_result_become_text() -> None:
    """The call is the assistant's text, and the result the user's, with the tool's name."""
    plain = tool_calls_in_words(
        [
            {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "Blue."}]},
        ]
    )
    assert plain == [
        {"role": "assistant", "content": 'Let me see.\n\n[Called look with {"at": "sky"}]'},
        {"role": "user", "content": [{"type": "text", "text": "[Result of look]"}, {"type": "text", "text": "Blue."}]},
    ]


def test_a_model_that_calls_no_tools_is_sent_none() -> None:
    """The request's tools are left out with a notice, and the calls of the conversation become text."""
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Which colour?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Blue."},
    ]
    tools = [{"type": "function", "function": {"name": "look"}}]
    request = Request.of({"messages": messages, "tools": tools, "tool_choice": "auto", "parallel_tool_calls": False})
    fitted, notices = fit(request, Profile(tools=False))
    assert fitted.body == {"messages": tool_calls_in_words(messages)}
    assert notices == ("calls no tools: the request's tools were not sent to it",)


def test_an_image_is_named_where_it_is_not_seen() -> None:
    """The image becomes the text [image], and a notice says so."""
    request = Request.of([{"role": "user", "content": [{"type": "text", "text": "What is it?"}, IMAGE]}])
    fitted, notices = fit(request, Profile(images=False))
    assert fitted.messages == [{"role": "user", "content": "What is it?\n[image]"}]
    assert notices == ("does not see the image",)


def test_a_word_stands_between_a_tool_and_the_user() -> None:
    """Where a user message may not follow a tool's result; a loop without one is sent as it is."""
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f"}}]}
    loop = [{"role": "user", "content": "a"}, call, {"role": "tool", "tool_call_id": "c", "content": "r"}]
    profile = Profile(user_after_tool=False)
    assert fit(Request.of({"messages": loop}), profile)[0].messages == loop
    fitted, _ = fit(Request.of({"messages": [*loop, {"role": "user", "content": "b"}]}), profile)
    assert [message["role"] for message in fitted.messages] == ["user", "assistant", "tool", "assistant", "user"]


def test_dropped_reasoning_gets_a_space_in_its_place() -> None:
    """Where tool calls must come back with their reasoning; what a client sends back stays."""
    calls = [{"id": "c", "function": {"name": "f"}}]
    result = {"role": "tool", "tool_call_id": "c", "content": "r"}
    for sent, expected in ((None, " "), ("hm", "hm")):
        message = {"role": "assistant", "content": None, "tool_calls": calls, "reasoning_content": sent}
        fitted, _ = fit(
            Request.of({"messages": [{"role": "user", "content": "a"}, message, result]}),
            Profile(reasoning_content=True),
        )
        assert fitted.messages[1]["reasoning_content"] == expected


@pytest.mark.parametrize(
    ("wanted", "taken", "effort"),
    [
        ("minimal", ("low", "medium", "high"), "low"),
        ("xhigh", ("low", "medium", "high"), "high"),
        ("medium", ("low", "high"), "low"),
        ("none", ("none", "high"), "none"),
        ("low", ("none", "high"), "high"),
        ("high", ("none",), None),
        ("high", (), None),
        ("mine", ("low",), None),
    ],
)
def test_the_nearest_effort_is_sent(wanted: str, taken: tuple[str, ...], effort: str | None) -> None:
    """Where a model lacks a value of reasoning_effort, it gets the nearest it has, the lesser of two, but never none."""
    assert nearest_effort(wanted, taken) == effort


def test_a_field_is_left_out_at_any_depth() -> None:
    """A path with ** reaches into every level of a tool's parameters."""
    schema = {"type": "object", "additionalProperties": False, "properties": {"a": {"additionalProperties": False}}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": schema}}]
    request = Request.of({"messages": [{"role": "user", "content": "Why?"}], "tools": tools})
    fitted, _ = fit(request, Profile(refuses=frozenset({"tools.**.additionalProperties"})))
    assert "additionalProperties" not in fitted.json()
    assert fitted.body["tools"][0]["function"]["parameters"]["properties"] == {"a": {}}


@pytest.mark.parametrize("text", ["word  ", "Gespräch, ", "天空是蓝色的", "a" * 40 + " "])
def test_tokens_of_a_very_long_text_are_counted_in_samples(text: str) -> None:
    """A text of the same kind throughout has as many tokens as its parts together."""
    part = text * (300_000 // len(text))
    assert text_tokens(part * 3) == pytest.approx(3 * text_tokens(part), rel=0.001)
