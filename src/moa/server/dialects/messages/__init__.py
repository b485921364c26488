"""Anthropic's Messages API: ``POST /v1/messages``.

https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from moa.messages import Request
from moa.models.demands import check_choice
from moa.models.fitting import prompt_tokens
from moa.server.body import MoaOptions, OpenObject, Tokens, checked, object_of, refusing
from moa.server.dialects.conversation import paired
from moa.server.dialects.dialect import Dialect, ParsedRequest
from moa.server.dialects.functions import Tools
from moa.server.dialects.messages.blocks import choice_of, messages_of, tools_of
from moa.server.dialects.messages.encoder import MessagesEncoder, messages_error
from moa.server.history import cleaned

ALIAS = "claude-moa-"
"""Begins the names of mixtures for Claude Code, which lists no models whose names begin otherwise."""

BUDGETS = ((4096, "low"), (16384, "medium"))
"""``thinking.budget_tokens`` below each of these is that effort; from the last on it is ``high``."""


class Thinking(OpenObject):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


class OutputConfig(OpenObject):
    effort: str | None = None
    format: dict[str, Any] | None = None


class MessagesBody(OpenObject):
    """An Anthropic request. Blocks and tools that no model here understands are passed over."""

    model: Annotated[str, Field(min_length=1, description="moa/NAME, claude-moa-NAME, or provider/name.")]
    messages: list[dict[str, Any]] = Field(description="The conversation.", min_length=1)
    system: str | list[dict[str, Any]] | None = None
    max_tokens: Tokens | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    moa: MoaOptions | None = None


def read_messages(body: Mapping[str, Any]) -> ParsedRequest:
    """A request from its body.

    Raises:
        Refusal: 400; with the field in ``param``.
    """
    given, tools, request = _read(body)
    options = given.moa or MoaOptions()
    thinking = given.thinking is not None and given.thinking.type != "disabled" and given.thinking.display != "omitted"
    # Only the first event of a stream reports the estimate.
    estimate = prompt_tokens(request) if given.stream else 0
    encoder = MessagesEncoder(given.model, estimate, tools, thinking=thinking, explain=options.explain)
    return ParsedRequest(
        model=unaliased(given.model),
        request=request,
        encoder=encoder,
        stream=bool(given.stream),
        progress=options.progress if thinking else False,
        explain=options.explain,
        usage=options.usage,
        small=options.small,
        panel=options.panel,
    )


def unaliased(model: str) -> str:
    """The name of a model; an alias stands for the mixture of that name."""
    return f"moa/{model.removeprefix(ALIAS)}" if model.startswith(ALIAS) else model


def _read(body: Mapping[str, Any]) -> tuple[MessagesBody, Tools, Request]:
    with refusing():
        given = checked(MessagesBody, body)
        tools = tools_of(given.tools or ())
        return given, tools, cleaned(Request.owned(_chat_body(given, tools)))


def _chat_body(given: MessagesBody, tools: Tools) -> dict[str, Any]:
    """The request as a body of Chat Completions."""
    choice = choice_of(given.tool_choice, tools)
    if tools.functions or not given.tools:
        check_choice({"tools": tools.functions, "tool_choice": choice})
    one_at_a_time = (given.tool_choice or {}).get("disable_parallel_tool_use") is True
    return {
        "messages": paired(messages_of(given.messages, given.system, tools)),
        "max_tokens": given.max_tokens,
        "temperature": given.temperature,
        "top_p": given.top_p,
        "top_k": given.top_k,
        "stop": given.stop_sequences or None,
        "tools": tools.functions,
        "tool_choice": choice if tools.functions else None,
        "parallel_tool_calls": False if one_at_a_time and tools.functions else None,
        "response_format": _response_format(given),
        "reasoning_effort": _effort(given),
    }


def _response_format(given: MessagesBody) -> dict[str, Any] | None:
    form = given.output_format or (given.output_config and given.output_config.format)
    if not form or form.get("type") != "json_schema":
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": form.get("schema"), "strict": True}}


def _effort(given: MessagesBody) -> str | None:
    if given.output_config and given.output_config.effort:
        return given.output_config.effort
    budget = given.thinking and given.thinking.budget_tokens
    if not budget:
        return None
    return next((effort for most, effort in BUDGETS if budget < most), "high")


MESSAGES = Dialect(
    path="/v1/messages",
    name="messages",
    tag="messages",
    summary="Create a message",
    body=MessagesBody,
    read=lambda data: read_messages(object_of(data)),
    error=messages_error,
    counting=("/v1/messages/count_tokens", lambda tokens: {"input_tokens": tokens}),
)
