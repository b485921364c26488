"""Mixtures as models of the ``inspect_ai`` framework, for all of its tasks: ``--model moa/NAME``.

::

    pip install 'mixture-of-agents[inspect]'
    inspect eval inspect_evals/gsm8k --model moa/lite --limit 20
    inspect eval … --model moa/lite -M file=other.toml            # default: the moa.toml that moa itself uses

The framework loads this module through the entry point ``inspect_ai``; nothing else imports it.
https://inspect.aisi.org.uk/extensions.html#model-apis

Notable decisions:
- ``moa/NAME`` is a mixture as in ``moa ask -m NAME``, or a single model as ``moa/provider/name``, for comparison.
- The task's generation settings are part of the request and reach the aggregator, as with any other client.
- The usage is the sum over all agents. A cost is reported only if it is complete. The metadata has each call.
- Mixtures retry and cache by themselves, so the framework does not retry.
"""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    Content,
    ContentImage,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
    modelapi,
)
from inspect_ai.tool import ToolCall, ToolChoice, ToolFunction, ToolInfo
from inspect_ai.util import JSONSchema

from moa.config.config import Config
from moa.errors import RequestRejected
from moa.messages import Answer, Request, collected

SAMPLING = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "stop_seqs": "stop",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias",
    "reasoning_effort": "reasoning_effort",
    "parallel_tool_calls": "parallel_tool_calls",
}
"""The framework's settings -> fields of the request."""

REASONS: dict[str, StopReason] = {
    "stop": "stop",
    "length": "max_tokens",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}


class MixtureAPI(ModelAPI):
    """A mixture, or a single model, behind the framework's interface."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        api_key_vars: Sequence[str] = (),
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (the framework's own signature)
        file: str | None = None,
        **_: Any,
    ) -> None:
        """
        Args:
            model_name: a mixture's name, or ``provider/name``.
            base_url, api_key, api_key_vars: not used; the configuration has endpoints and API keys.
            config: the task's generation settings.
            file: the moa.toml to read.

        Raises:
            ConfigError: the mixture does not exist, or the file is invalid.
        """
        super().__init__(model_name, base_url, api_key, list(api_key_vars), config)
        self._config = Config(file)
        self._model = self._config.model(model_name)

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002 (the framework's own name)
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Answer a conversation.

        Raises:
            MoaError: there is no answer.
        """
        request = request_of(input, tools, tool_choice, config)
        async with aclosing(self._model.stream(request)) as deltas:
            received = [delta async for delta in deltas]
        answer = replace(collected(received), cost=self._config.prices.price_of(self._model.name, received))
        return output_of(self.model_name, answer, tools)

    async def aclose(self) -> None:
        await self._config.aclose()

    def max_connections(self) -> int:
        return 8

    def should_retry(self, ex: BaseException) -> bool:
        return False

    def collapse_user_messages(self) -> bool:
        return False


@modelapi(name="moa")
def moa() -> type[ModelAPI]:
    """The provider, for the framework."""
    return MixtureAPI


# -- from the framework -----------------------------------------------------------------------------------------------


def request_of(
    messages: Sequence[ChatMessage], tools: Sequence[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
) -> Request:
    """The framework's conversation as a Chat Completions body.

    Raises:
        RequestRejected: a message has content other than text and images.
    """
    body: dict[str, Any] = {"messages": [_message(message) for message in messages]}
    for setting, name in SAMPLING.items():
        if (value := getattr(config, setting)) is not None:
            body[name] = value
    if tools:
        body["tools"] = [{"type": "function", "function": _function(tool)} for tool in tools]
        named = isinstance(tool_choice, ToolFunction)
        choice = {"any": "required"}.get(str(tool_choice), tool_choice)
        body["tool_choice"] = {"type": "function", "function": {"name": tool_choice.name}} if named else choice  # type: ignore[union-attr]
    if schema := config.response_schema:
        wanted = {"name": schema.name, "schema": _schema(schema.json_schema), "strict": schema.strict}
        known = {key: value for key, value in wanted.items() if value is not None}
        body["response_format"] = {"type": "json_schema", "json_schema": known}
    return Request.of({**body, **(config.extra_body or {})})


def _message(message: ChatMessage) -> dict[str, Any]:
    if isinstance(message, ChatMessageTool):
        text = message.error.message if message.error else message.text
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": text}
    if isinstance(message, ChatMessageAssistant):
        # Its reasoning is left out, since the API has no field for it.
        body: dict[str, Any] = {"role": "assistant", "content": message.text}
        if message.tool_calls:
            body["tool_calls"] = [_called(call) for call in message.tool_calls]
        return body
    content = message.content
    return {"role": message.role, "content": content if isinstance(content, str) else [_part(part) for part in content]}


def _part(part: Content) -> dict[str, Any]:
    if isinstance(part, ContentText):
        return {"type": "text", "text": part.text}
    if isinstance(part, ContentImage):
        return {"type": "image_url", "image_url": {"url": _address(part.image), "detail": part.detail}}
    raise RequestRejected(f"a mixture reads text and images, not {part.type}", param="messages")


def _address(image: str) -> str:
    """The URL of an image; for a file, a data URL with its bytes."""
    if image.startswith(("data:", "http://", "https://")):
        return image
    kind = mimetypes.guess_type(image)[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(Path(image).read_bytes()).decode()}"


def _called(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function, "arguments": json.dumps(call.arguments)},
    }


def _function(tool: ToolInfo) -> dict[str, Any]:
    parameters = tool.parameters.model_dump(exclude_none=True, by_alias=True)
    return {"name": tool.name, "description": tool.description, "parameters": parameters}


def _schema(schema: JSONSchema) -> dict[str, Any]:
    return schema.model_dump(exclude_none=True, by_alias=True)


# -- to the framework -------------------------------------------------------------------------------------------------


def output_of(name: str, answer: Answer, tools: Sequence[ToolInfo] = ()) -> ModelOutput:
    """The answer as the framework's output."""
    reasoning: list[Content] = [ContentReasoning(reasoning=answer.reasoning)] if answer.reasoning else []
    message = ChatMessageAssistant(
        content=[*reasoning, ContentText(text=answer.text)] if reasoning else answer.text,
        tool_calls=[_tool_call(call, tools) for call in answer.tool_calls] or None,
        model=name,
        source="generate",
    )
    usage = answer.usage
    return ModelOutput(
        model=name,
        choices=[ChatCompletionChoice(message=message, stop_reason=REASONS.get(answer.finish_reason or "", "unknown"))],
        usage=ModelUsage(
            input_tokens=usage.input_tokens - usage.cached_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
            input_tokens_cache_read=usage.cached_tokens or None,
            reasoning_tokens=usage.reasoning_tokens or None,
            total_cost=None if answer.cost.at_least else answer.cost.dollars,
        ),
        metadata={
            "calls": [
                {"agent": call.agent, "layer": call.layer, "model": call.model, "role": call.role, "text": call.text}
                for call in answer.calls
            ]
        },
    )


def _tool_call(call: Mapping[str, Any], tools: Sequence[ToolInfo]) -> ToolCall:
    from inspect_ai.model._call_tools import parse_tool_call

    function = call.get("function", {})
    return parse_tool_call(str(call.get("id") or ""), str(function.get("name")), function.get("arguments"), list(tools))
