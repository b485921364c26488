"""What refusals say, in the words of the servers that gave them. Each is quoted by the public report beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moa.errors import CallRejected
from moa.messages import Request
from moa.models.lessons import lesson_of
from moa.models.profile import Profile
from moa.models.refusals import refused

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
QUESTION: dict[str, Any] = {"role": "user", "content": "What is it?"}
SEEN = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, IMAGE]}
PARTS = {"role": "user", "content": [{"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral"}}]}
THOUGHT = {"role": "assistant", "content": "a1", "reasoning_content": "Hm."}
CALLED = [
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]},
    {"role": "tool", "tool_call_id": "c", "content": "r"},
]
EXTRA = "Extra inputs are not permitted"


def lesson(refusal: object, status: int = 400, messages: list[Any] | None = None, **fields: Any) -> Profile | None:
    """The lesson of a refusal of this request."""
    error = refused("here/m", status, "refused", refusal)
    error.refusal = refusal if isinstance(refusal, str) else json.dumps(refusal)
    found = lesson_of(error, Request.of({"messages": messages or [QUESTION], **fields}))
    return found.profile if found else None


def openai(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error of OpenAI's API. https://platform.openai.com/docs/guides/error-codes"""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def forbidden(*locs: list[Any]) -> dict[str, Any]:
    """A pydantic error, as Mistral and FastAPI servers give it. https://github.com/Gitlawb/openclaude/issues/739"""
    return {"detail": [{"type": "extra_forbidden", "loc": loc, "msg": EXTRA, "input": False} for loc in locs]}


FIELDS = [
    # OpenAI: https://github.com/BerriAI/litellm/issues/16090
    (openai("Unsupported value: 'temperature' does not support 0.2 with this model.", "temperature"), {"temperature"}),
    (openai("Unsupported parameter: 'top_p' is not supported with this model.", "top_p"), {"top_p"}),
    (openai("Unrecognized request argument supplied: store"), {"store"}),
    # Mistral
    (forbidden(["body", "store"], ["body", "reasoning_effort"]), {"store", "reasoning_effort"}),
    # vLLM, whose message holds a Python list: https://github.com/vllm-project/vllm/issues/9873
    (
        {"message": f"[{{'type': 'extra_forbidden', 'loc': ('body', 'store'), 'msg': '{EXTRA}', 'input': True}}]"},
        {"store"},
    ),
    # Gemini: https://github.com/Vali-98/ChatterUI/issues/227
    (
        [{"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}}],
        {"seed"},
    ),
    # xAI: https://github.com/acedergren/opencode-oci-provider
    ({"code": "x", "error": "Model grok-4 does not support parameter presencePenalty."}, {"presence_penalty"}),
    ("Model does not support parameter reasoningEffort", {"reasoning_effort"}),
    # Groq: https://github.com/tashfeenahmed/freellmapi/issues/1070
    (openai("property 'store' is unsupported"), {"store"}),
    # serde, in Rust servers: the list of known fields names nothing that was refused
    ("unknown field `store`, expected one of `model`, `messages`, `temperature`, `seed` at line 1 column 9", {"store"}),
    # Anthropic
    ({"error": {"type": "invalid_request_error", "message": f"store: {EXTRA}"}}, {"store"}),
    # Cohere
    ({"message": "invalid request: unsupported parameter(s): metadata"}, {"metadata"}),
    # Cohere's compatibility API: https://github.com/davidmigloz/ai_clients_dart/issues/26
    ({"id": "3", "message": "unprocessable entity: metadata is not supported"}, {"metadata"}),
    # Gemini
    (openai("Penalty is not enabled for models/gemini-2.5-flash"), {"presence_penalty"}),
    # Anthropic
    (openai("temperature: range: 0..1"), {"temperature"}),
    # Moonshot: https://github.com/countbot-ai/CountBot/issues/61
    (openai("invalid temperature: only 1 is allowed for this model"), {"temperature"}),
    # Anthropic, from Opus 4.7 on: https://github.com/UKGovernmentBEIS/inspect_ai/issues/3721
    (
        {"error": {"type": "invalid_request_error", "message": "`temperature` is deprecated for this model."}},
        {"temperature"},
    ),
]
BODY: dict[str, Any] = {
    "temperature": 0.2,
    "top_p": 0.5,
    "store": True,
    "metadata": {"a": "b"},
    "seed": 1,
    "presence_penalty": 0.1,
    "reasoning_effort": "low",
}


@pytest.mark.parametrize(("refusal", "refused"), FIELDS)
def test_a_field_that_a_refusal_names_is_left_out(refusal: object, refused: set[str]) -> None:
    """The fields that it names, and no others."""
    assert lesson(refusal, **BODY) == Profile(refuses=frozenset(refused))


def test_a_refusal_of_tools_as_a_whole_means_their_strictness() -> None:
    """It names no field inside the tools. https://github.com/OpenCoworkAI/open-cowork/issues/232"""
    tools = [{"type": "function", "function": {"name": "f", "strict": False, "parameters": {"type": "object"}}}]
    found = lesson(openai("400 invalid value for parameter 'tools'"), tools=tools)
    assert found == Profile(refuses=frozenset({"tools.function.strict"}))


MESSAGES = [
    # Groq
    (
        openai(
            "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property "
            "'reasoning_content' is unsupported)]"
        ),
        [QUESTION, THOUGHT, QUESTION],
        "messages.reasoning_content",
    ),
    (
        forbidden(["body", "messages", 1, "assistant", "reasoning_content"]),
        [QUESTION, THOUGHT],
        "messages.reasoning_content",
    ),
    (
        openai("Unknown parameter: 'messages[0].metadata'.", "messages[0].metadata"),
        [{**QUESTION, "metadata": {}}],
        "messages.metadata",
    ),
    ("messages.0.content.0.cache_control: Extra inputs are not permitted", [PARTS], "messages.content.cache_control"),
]


@pytest.mark.parametrize(("refusal", "messages", "path"), MESSAGES)
def test_a_field_of_a_message_is_left_out(refusal: object, messages: list[Any], path: str) -> None:
    """A field inside the messages is named by its path, without the place of the message."""
    assert lesson(refusal, messages=messages) == Profile(refuses=frozenset({path}))


def test_a_field_of_a_tool_is_left_out() -> None:
    """Also at any depth of its parameters. Gemini: https://github.com/googleapis/python-genai/issues/1815"""
    schema = {"type": "object", "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}]
    strict = openai("Unknown parameter: 'tools[0].function.strict'.", "tools[0].function.strict")
    assert lesson(strict, tools=tools) == Profile(refuses=frozenset({"tools.function.strict"}))
    gemini = (
        "Unknown name \"additionalProperties\" at 'tools[0].function_declarations[0].parameters': Cannot find field."
    )
    assert lesson(gemini, tools=tools) == Profile(refuses=frozenset({"tools.**.additionalProperties"}))


OTHERS = [
    # DeepSeek: https://github.com/earendil-works/pi/issues/1048
    (
        "messages[0].role: unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`",
        [{"role": "developer", "content": "Be brief."}, QUESTION],
        Profile(roles={"developer": "system"}),
    ),
    # OpenAI's o1-mini: https://portkey.ai/error-library/unsupported-value-error-10543
    (
        "Unsupported value: 'messages[0].role' does not support 'developer' with this model.",
        [{"role": "developer", "content": "Be brief."}, QUESTION],
        Profile(roles={"developer": "system"}),
    ),
    # Gemma, at Google and at llama.cpp
    (
        "Developer instruction is not enabled for models/gemma-3-27b-it",
        [{"role": "system", "content": "Be brief."}, QUESTION],
        Profile(system=False),
    ),
    ("System role not supported", [{"role": "system", "content": "Be brief."}, QUESTION], Profile(system=False)),
    # Qwen's chat template
    (
        "System message must be at the beginning.",
        [QUESTION, {"role": "system", "content": "Be brief."}],
        Profile(several_system=False),
    ),
    # Mistral's and Llama 2's chat templates
    (
        "Conversation roles must alternate user/assistant/user/assistant/...",
        [QUESTION, QUESTION],
        Profile(alternates=True),
    ),
    (
        "Conversation roles must alternate user/assistant/user/assistant/...",
        [{"role": "system", "content": "Be brief."}, QUESTION],
        Profile(system=False),
    ),
    # Perplexity
    (
        "After the (optional) system message(s), user and assistant roles should be alternating.",
        [QUESTION, QUESTION],
        Profile(alternates=True),
    ),
    # Anthropic from 4.6: https://github.com/strands-agents/sdk-python/issues/1694
    (
        "This model does not support assistant message prefill. The conversation must end with a user message.",
        [QUESTION, {"role": "assistant", "content": "It is"}],
        Profile(ends_with_assistant=False),
    ),
    (
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
        [QUESTION, {"role": "assistant", "content": "It is"}],
        Profile(ends_with_assistant=False),
    ),
    # Images: DeepSeek, OpenAI, Groq, OpenRouter
    ("unknown variant `image_url`, expected `text`", [SEEN], Profile(images=False)),
    ("Invalid content type. image_url is only supported by certain models.", [SEEN], Profile(images=False)),
    ("messages[0].content must be a string", [SEEN], Profile(images=False)),
    ("No endpoints found that support image input", [SEEN], Profile(images=False)),
    ("'messages[0].content' must be a string", [PARTS], Profile(parts=False)),
    # Bedrock's Converse (our own reading of its ValidationException)
    (
        "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
        [QUESTION, *CALLED],
        Profile(past_tool_calls=False),
    ),
    (
        "Requests which include `tool_use` or `tool_result` blocks must define tools",
        [QUESTION, *CALLED],
        Profile(past_tool_calls=False),
    ),
]


@pytest.mark.parametrize(("refusal", "messages", "expected"), OTHERS)
def test_a_refusal_of_a_message_says_in_which_form_it_is_taken(
    refusal: str, messages: list[Any], expected: Profile
) -> None:
    """Roles, system messages, turns, images and past tool calls have another form each."""
    status = 404 if "No endpoints" in refusal else 400
    assert lesson({"error": {"message": refusal}}, status, messages) == expected


def test_limits_of_the_answer() -> None:
    """The other name of max_tokens, or the longest answer, is taken from the refusal."""
    newer = openai(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "max_tokens",
    )
    assert lesson(newer, max_tokens=50) == Profile(rename={"max_tokens": "max_completion_tokens"})
    older = forbidden(["body", "max_completion_tokens"])
    assert lesson(older, max_completion_tokens=50) == Profile(rename={"max_completion_tokens": "max_tokens"})
    longest = openai(
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens", "max_tokens"
    )
    assert lesson(longest, max_tokens=100_000) == Profile(answer_tokens=16384)
    deepseek = "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"
    assert lesson(deepseek, max_tokens=100_000) == Profile(answer_tokens=8192)
    anthropic = "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens for claude-sonnet-4"
    assert lesson(anthropic, max_tokens=100_000) == Profile(answer_tokens=64000)
    groq = (
        "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the context"
    )
    assert lesson(groq, max_tokens=100_000) == Profile(answer_tokens=8192)


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
LOOP = [QUESTION, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c", "content": "r"}]


@pytest.mark.parametrize(
    "message",
    [
        # https://github.com/NousResearch/hermes-agent/pull/17341, https://github.com/abhigyanpatwari/GitNexus/issues/43
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "Missing `reasoning_content` field in the assistant message at message index 2.",
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2",
    ],
)
def test_reasoning_that_must_come_back_is_learned(message: str) -> None:
    """A server that thinks between tool calls wants its reasoning with them."""
    assert lesson(openai(message), messages=LOOP, user="ann") == Profile(reasoning_content=True)


def test_an_order_of_messages_is_learned() -> None:
    """Mistral wants a word of the assistant between a tool and the user, which is no refusal of the field ``user``."""
    refusal = {"object": "error", "message": "Unexpected role 'user' after role 'tool'", "code": "3230"}
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert lesson(refusal, messages=[*LOOP, QUESTION], user="ann", tools=tools) == Profile(user_after_tool=False)


def test_the_longest_answer_of_groq_is_no_matter_of_the_context() -> None:
    """Its refusal of ``max_tokens`` mentions the context window."""
    said = (
        "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the "
        "`context_window` for this model"
    )
    assert lesson(openai(said), max_tokens=100_000) == Profile(answer_tokens=8192)


def test_the_efforts_of_a_model() -> None:
    """The values that a refusal lists are the ones that the model takes."""
    message = "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model."
    refusal = openai(f"{message} Supported values are: 'low', 'medium', and 'high'.", "reasoning_effort")
    assert lesson(refusal, reasoning_effort="minimal") == Profile(efforts=("low", "medium", "high"))
    ollama = 'invalid reasoning value: "xhigh" (must be "high", "medium", "low", or "none")'
    assert lesson(openai(ollama), reasoning_effort="xhigh") == Profile(efforts=("none", "low", "medium", "high"))
    unknown = openai("Unrecognized request argument supplied: reasoning_effort")
    assert lesson(unknown, reasoning_effort="low") == Profile(refuses=frozenset({"reasoning_effort"}))


def test_a_refused_value_is_a_lesson_for_this_call_alone() -> None:
    """Another value of the field may be fine."""
    error = CallRejected("here/m", "400: temperature must be at most 1", status=400)
    found = lesson_of(error, Request.of({"messages": [QUESTION], "temperature": 1.5}))
    assert found is not None
    assert not found.lasting
    assert found.profile == Profile(refuses=frozenset({"temperature"}))


def test_a_refusal_that_names_nothing() -> None:
    """First go the fields that no answer depends on, then those that steer it."""
    vague = {"error": {"message": "Invalid request"}}
    assert lesson(vague, **BODY) == Profile(refuses=frozenset({"store", "metadata"}))
    assert lesson(vague, temperature=0.2) == Profile(refuses=frozenset({"temperature"}))
    assert lesson(vague) is None


NOT_ABOUT_FIELDS = [
    (400, "The response was filtered due to the prompt triggering content management policy."),
    (404, "The model `m` does not exist"),
    (400, "Credit balance is too low"),
    (401, "Unsupported parameter: 'temperature'"),
    (429, "Unsupported parameter: 'temperature'"),
]


@pytest.mark.parametrize(("status", "message"), NOT_ABOUT_FIELDS)
def test_other_refusals_teach_nothing(status: int, message: str) -> None:
    """What no other form of the request could avoid is the caller's to read."""
    assert lesson({"error": {"message": message}}, status, temperature=0.2, store=True) is None


NEEDED_FIELDS: dict[str, Any] = {
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "response_format": {"type": "json_object"},
    "stop": ["END"],
    "messages": None,
}


@pytest.mark.parametrize("name", NEEDED_FIELDS)
def test_what_an_answer_depends_on_is_never_left_out(name: str) -> None:
    """A refusal of tools, a response format, a stop sequence or the messages is the caller's to read."""
    fields = {} if name == "messages" else {name: NEEDED_FIELDS[name]}
    found = lesson(openai(f"Unsupported parameter: '{name}' is not supported with this model.", name), **fields)
    assert found is None or name not in found.refuses


def test_the_size_of_a_context_is_learned() -> None:
    """A refusal of a prompt that is too long says how long it may be."""
    refusal = openai("This model's maximum context length is 4096 tokens.", "messages", "context_length_exceeded")
    assert lesson(refusal) == Profile(context_tokens=4096)
