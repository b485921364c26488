"""OpenAI's Responses API: ``POST /v1/responses``.

https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from moa.messages import Request
from moa.models.demands import check_choice
from moa.server.body import MoaOptions, OpenObject, Tokens, checked, object_of, refusing
from moa.server.dialects.conversation import paired
from moa.server.dialects.dialect import Dialect, ParsedRequest
from moa.server.dialects.functions import Tools
from moa.server.dialects.responses.encoder import NAMES, ResponsesEncoder
from moa.server.dialects.responses.items import REFERRED, messages_of
from moa.server.dialects.responses.tools import choice_of, tools_of
from moa.server.failures import Refusal, openai_error
from moa.server.history import cleaned

SAME = (
    "temperature",
    "top_p",
    "top_logprobs",
    "parallel_tool_calls",
    "user",
    "seed",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
)
"""Fields that Chat Completions has under the same name."""

ECHOED: Mapping[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""Fields that a response repeats from its request, and their defaults."""


class Reasoning(OpenObject):
    effort: str | None = None


class TextFormat(OpenObject):
    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ResponsesBody(OpenObject):
    """A Responses request. Items and tools that no model here understands are passed over."""

    model: Annotated[str, Field(min_length=1, description="moa/NAME, or provider/name.")]
    input: str | list[dict[str, Any]] = Field(description="A question, or the items of the conversation.")
    instructions: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    max_output_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextFormat | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    previous_response_id: str | None = None
    background: bool | None = None
    moa: MoaOptions | None = None


def read_responses(body: Mapping[str, Any]) -> ParsedRequest:
    """A request from its body.

    Raises:
        Refusal: 400; with the field in ``param``.
    """
    with refusing("input"):
        given = checked(ResponsesBody, body)
        tools = tools_of(given.tools or ())
        request = cleaned(Request.owned(_chat_body(body, given, tools)))
    options = given.moa or MoaOptions()
    echo = {name: default if body.get(name) is None else body[name] for name, default in ECHOED.items()}
    encoder = ResponsesEncoder(given.model, echo, tools, explain=options.explain)
    return ParsedRequest(
        model=given.model,
        request=request,
        encoder=encoder,
        stream=bool(given.stream),
        progress=options.progress,
        explain=options.explain,
        usage=options.usage,
        small=options.small,
        panel=options.panel,
        previous=given.previous_response_id or "",
        refers=_refers(request.messages),
        accepted=(lambda: encoder.unfinished("in_progress")) if given.background and not given.stream else None,
    )


def responses_error(refusal: Refusal) -> bytes:
    """The body of an error response, which names the field as this API does."""
    return openai_error(refusal.about(NAMES))


def _chat_body(body: Mapping[str, Any], given: ResponsesBody, tools: Tools) -> dict[str, Any]:
    """The request as a body of Chat Completions."""
    choice = choice_of(given.tool_choice, tools)
    if tools.functions or not given.tools:
        check_choice({"tools": tools.functions, "tool_choice": choice})
    messages = messages_of(given.input, given.instructions, tools)
    logprobs = "message.output_text.logprobs" in (given.include or ()) or None
    fields: dict[str, Any] = {
        "messages": messages if given.previous_response_id or _refers(messages) else paired(messages),
        "max_completion_tokens": given.max_output_tokens,
        "tools": tools.functions,
        "tool_choice": choice if tools.functions else None,
        "response_format": _response_format(given.text),
        "verbosity": given.text and given.text.verbosity,
        "reasoning_effort": given.reasoning and given.reasoning.effort,
        "logprobs": logprobs,
        **{name: body.get(name) for name in SAME},
    }
    if not logprobs:
        fields["top_logprobs"] = None
    return fields


def _refers(messages: Sequence[Mapping[str, Any]]) -> bool:
    return any(REFERRED in message for message in messages)


def _response_format(text: TextFormat | None) -> dict[str, Any] | None:
    form = text and text.format
    if not form or form.get("type") == "text":
        return None
    if form.get("type") != "json_schema":
        return form
    return {"type": "json_schema", "json_schema": {name: value for name, value in form.items() if name != "type"}}


RESPONSES = Dialect(
    path="/v1/responses",
    name="responses",
    tag="responses",
    summary="Create a response",
    body=ResponsesBody,
    read=lambda data: read_responses(object_of(data)),
    error=responses_error,
    counting=(
        "/v1/responses/input_tokens",
        lambda tokens: {"object": "response.input_tokens", "input_tokens": tokens},
    ),
)
