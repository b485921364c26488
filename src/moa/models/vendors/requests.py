"""A Chat Completions body as what ``pydantic-ai`` sends: messages, settings and parameters.

Notable decisions:
- Signed or encrypted reasoning travels in ``reasoning_details`` of the assistant's message, in OpenRouter's form, with the
  place of each piece in the answer as its ``index``: vendors refuse a tool loop in which it is missing or moved. That of
  earlier turns is left out: Claude's is bound to the prompt before it, which has no proposals any more.
  https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks
- Fields that a model ignores or refuses are left out. Everything else of the body has no counterpart and is not sent,
  except :data:`OWN_SETTINGS`.
- The prompt is marked for the vendor's cache where a further request with the same beginning is likely: before the last
  user message, which references follow, and at its end where it has tools; see :mod:`moa.models.prompt_caches`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from moa.messages import Message, Request, text_of
from moa.models.prompt_caches import comes_again, is_marked

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelRequestPart, ModelResponsePart, UserContent
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

FORMATS = {
    "anthropic": "anthropic-claude-v1",
    "google": "google-gemini-v1",
    "bedrock": "bedrock-converse-v1",
    "responses": "openai-responses-v1",
}
"""The ``format`` of reasoning details, by API. Details of another format belong to another maker and are not sent."""

_TAKE_MARKS = ("anthropic", "bedrock")
_SAME = ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "parallel_tool_calls")
_SAMPLING = ("temperature", "top_p", "top_k")
OWN_SETTINGS = frozenset(
    {
        *("anthropic_thinking", "anthropic_effort", "anthropic_speed", "anthropic_betas", "anthropic_service_tier"),
        *("google_thinking_config", "google_safety_settings", "google_labels", "google_video_resolution"),
        *("bedrock_guardrail_config", "bedrock_performance_configuration", "bedrock_service_tier"),
        *("bedrock_request_metadata", "bedrock_additional_model_requests_fields"),
        *("openai_store", "openai_service_tier", "openai_text_verbosity", "openai_reasoning_summary"),
        *("openai_truncation", "openai_prompt_cache_key", "openai_prompt_cache_retention"),
    }
)
"""Settings of ``pydantic-ai`` that an agent may have. None of them brings in what another caller has stored at the vendor.

https://pydantic.dev/docs/ai/models/overview/
"""


NO_OUTPUT = "(no output)"
"""The result of a tool that returned nothing."""


class CannotSend(Exception):
    """A part of the request has no counterpart in the vendor's API; the message names it."""


def settings_of(request: Request, model: Model) -> ModelSettings:
    """The settings of a request that this model takes."""
    body = {key: value for key, value in request.body.items() if value is not None}
    settings: dict[str, Any] = {name: body[name] for name in _SAME if name in body}
    settings |= {name: body[name] for name in OWN_SETTINGS if name in body}
    if (most := body.get("max_completion_tokens", body.get("max_tokens"))) is not None:
        settings["max_tokens"] = most
    if stop := body.get("stop"):
        settings["stop_sequences"] = [stop] if isinstance(stop, str) else [*stop]
    if effort := body.get("reasoning_effort"):
        settings["thinking"] = False if effort == "none" else effort
    if choice := _tool_choice(request):
        settings["tool_choice"] = choice
    if body.get("tools") and not is_marked(body["messages"]):
        settings["cache"] = True
    elif comes_again(body["messages"], None) or is_marked(body["messages"]):
        settings["cache"] = {"messages": False}  # of the messages, only what has a mark of its own
    refused = {
        *model.unsupported_settings,
        *(_SAMPLING if model.profile.get("anthropic_disallows_sampling_settings") else ()),
    }
    settings["framing_announcement"] = "when_needed"
    settings["max_retries"] = 0  # :mod:`moa.models.retries` does it
    taken: Any = {name: value for name, value in settings.items() if name not in refused}
    return taken  # a TypedDict, whose keys are not known here


def parameters_of(request: Request, model: Model) -> ModelRequestParameters:
    """The tools and the form of the answer."""
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.output import OutputObjectDefinition
    from pydantic_ai.tools import ToolDefinition

    tools = request.body.get("tools") or ()
    functions = [tool["function"] for tool in tools if tool.get("type", "function") == "function"]
    functions += [_as_function_tool(tool["custom"]) for tool in tools if tool.get("type") == "custom"]
    # Vendors refuse past calls of tools that the request does not define.
    names = {function["name"] for function in functions}
    functions += [{"name": name} for name in dict.fromkeys(_called(request)) if name not in names and not functions]
    defined = [
        ToolDefinition(
            name=function["name"],
            description=function.get("description"),
            parameters_json_schema=function.get("parameters") or {"type": "object", "properties": {}},
            strict=function.get("strict"),
        )
        for function in functions
    ]
    wanted = request.body.get("response_format") or {}
    if wanted.get("type") not in ("json_schema", "json_object"):
        return ModelRequestParameters(function_tools=defined)
    schema = wanted.get("json_schema") or {}
    native = wanted["type"] == "json_schema" and model.profile.get("supports_json_schema_output")
    return ModelRequestParameters(
        function_tools=defined,
        output_mode="native" if native else "prompted",
        output_object=OutputObjectDefinition(
            json_schema=schema.get("schema") or {"type": "object"},
            name=schema.get("name"),
            description=schema.get("description"),
            strict=schema.get("strict"),
        ),
    )


def custom_tools(request: Request) -> frozenset[str]:
    """The names of tools whose input is a text. Vendors get them as functions with one parameter, ``input``."""
    tools = request.body.get("tools") or ()
    return frozenset(str(tool["custom"].get("name")) for tool in tools if isinstance(tool.get("custom"), Mapping))


def _as_function_tool(custom: Mapping[str, Any]) -> dict[str, Any]:
    grammar = (custom.get("format") or {}).get("grammar") or {}
    syntax = f"The input follows this {grammar.get('syntax')} grammar:\n{grammar['definition']}" if grammar else ""
    return {
        "name": custom["name"],
        "description": "\n\n".join(filter(None, (custom.get("description"), syntax))) or None,
        "parameters": {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]},
    }


def messages_of(request: Request, api: str, provider: str, kept: Mapping[str, Any]) -> list[ModelMessage]:
    """The conversation.

    Args:
        api: what the vendor speaks; a key of :data:`FORMATS`.
        provider: the name under which ``pydantic-ai`` knows the vendor.
        kept: reasoning details by the ID of an answer's first tool call, for clients that do not send them back.

    Raises:
        CannotSend: a part of a message has no counterpart.
    """
    from pydantic_ai.messages import ModelRequest, ModelResponse

    names = {call.get("id") or call["function"]["name"]: call["function"]["name"] for call in _calls(request)}
    history: list[ModelMessage] = []
    turn = -1 if request.last_user is None else request.last_user
    marks = api in _TAKE_MARKS and comes_again(request.messages[:turn], None) and not is_marked(request.messages)
    for place, message in enumerate(request.messages):
        if message["role"] == "assistant":
            details = message.get("reasoning_details") or kept.get(_first_call(message)) or () if place > turn else ()
            own = [each for each in details if _is_whole(each) and each["format"] == FORMATS[api]]
            history.append(ModelResponse(parts=_answer(message, own, provider), provider_name=provider))
            continue
        parts = [*_question(message, names, marked=marks and place == turn)]
        if history and isinstance(history[-1], ModelRequest):
            history[-1] = ModelRequest(parts=[*history[-1].parts, *parts])
        else:
            history.append(ModelRequest(parts=parts))
    return history


def _is_whole(detail: object) -> bool:
    """Whether a piece of reasoning details, which a client sends back, is one of :func:`details_of`."""
    if not isinstance(detail, Mapping) or not isinstance(detail.get("index", 0), int) or not detail.get("format"):
        return False
    texts = [detail.get(name) for name in ("text", "signature", "data", "id", "of")]
    return all(text is None or isinstance(text, str) for text in texts) and (not detail.get("of") or "data" in detail)


def details_of(parts: Sequence[ModelResponsePart], api: str) -> list[dict[str, Any]]:
    """What of an answer must come back with it: signed or encrypted reasoning, and signatures of its other parts."""
    from pydantic_ai.messages import ThinkingPart, ToolCallPart

    details = []
    for index, part in enumerate(parts):
        common = {"format": FORMATS[api], "index": index}
        beside = getattr(part, "provider_details", None)
        if isinstance(part, ThinkingPart) and (part.signature or beside):
            text = {"type": "reasoning.text", "text": part.content, "signature": part.signature, "id": part.id}
            hidden = {"type": "reasoning.encrypted", "data": part.signature, "id": part.id}
            details.append({**common, **(text if part.content else hidden), **({"details": beside} if beside else {})})
        elif beside and "thought_signature" in beside:
            call = {"id": part.tool_call_id} if isinstance(part, ToolCallPart) else {}
            details.append(
                {**common, "type": "reasoning.encrypted", "data": beside["thought_signature"], "of": part.part_kind}
                | call
            )
    return details


def _answer(message: Message, details: Sequence[Mapping[str, Any]], provider: str) -> list[ModelResponsePart]:
    """The parts of an earlier answer, its reasoning where it was."""
    from pydantic_ai.messages import TextPart, ThinkingPart, ToolCallPart

    signatures = {
        each.get("id") if each["of"] == "tool-call" else "text": each["data"] for each in details if each.get("of")
    }
    parts: list[ModelResponsePart] = []

    def signed(key: str) -> dict[str, Any]:
        if key not in signatures:
            return {}
        return {"provider_name": provider, "provider_details": {"thought_signature": signatures[key]}}

    if text := text_of(message):
        parts.append(TextPart(text, **signed("text")))
    for call in _calls_of(message):
        function = call["function"]
        key = call.get("id") or function["name"]
        parts.append(ToolCallPart(function["name"], function.get("arguments") or "{}", key, **signed(key)))
    for each in sorted((each for each in details if not each.get("of")), key=lambda each: each.get("index") or 0):
        thinking = ThinkingPart(
            str(each.get("text") or ""),
            id=each.get("id"),
            signature=each.get("signature") or each.get("data"),
            provider_name=provider,
            provider_details=each.get("details"),
        )
        parts.insert(each.get("index") or 0, thinking)
    return parts


def _question(message: Message, names: Mapping[str, str], *, marked: bool) -> Iterator[ModelRequestPart]:
    """The parts of a message that is no answer; ``marked``: all before it is to be cached."""
    from pydantic_ai.messages import CachePoint, SystemPromptPart, ToolReturnPart, UserPromptPart

    match message["role"]:
        case "system" | "developer":
            yield SystemPromptPart(text_of(message))
        case "tool" | "function":
            key = message.get("tool_call_id") or message.get("name") or next(reversed([*names]), "")
            content = message.get("content")
            shown: Any = text_of(message) or NO_OUTPUT  # vendors refuse an empty text
            if isinstance(content, list) and any(part.get("type") not in ("text", "input_text") for part in content):
                shown = [*_contents(content)]
            yield ToolReturnPart(names.get(key) or message.get("name") or key, shown, key)
        case _:
            content = message.get("content")
            shown = [content] if isinstance(content, str) else [*_contents(content or ())]
            yield UserPromptPart([CachePoint(), *shown] if marked else shown)


def _contents(parts: Sequence[Mapping[str, Any]]) -> Iterator[UserContent]:
    from pydantic_ai.messages import BinaryContent, CachePoint, ImageUrl

    for part in parts:
        match part.get("type"):
            case "text" | "input_text":
                yield str(part.get("text") or "")
            case "image_url":
                image = part["image_url"]
                url = image if isinstance(image, str) else image["url"]
                yield BinaryContent.from_data_uri(url) if url.startswith("data:") else ImageUrl(url)
            case "input_audio":
                audio = part["input_audio"]
                yield BinaryContent(base64.b64decode(audio["data"]), media_type=f"audio/{audio['format']}")
            case "file" if str(part["file"].get("file_data", "")).startswith("data:"):
                yield BinaryContent.from_data_uri(part["file"]["file_data"])
            case kind:
                raise CannotSend(f"content of type {kind!r} cannot be sent through this API")
        if part.get("cache_control"):
            yield CachePoint(ttl="1h" if part["cache_control"].get("ttl") == "1h" else "5m")


def _tool_choice(request: Request) -> Any:
    """Whether and what to call. Tools that only the history knows are defined, and must not be called."""
    choice = request.body.get("tool_choice")
    if not request.body.get("tools"):
        return "none" if any(_called(request)) else None
    if isinstance(choice, Mapping):
        named = choice.get("function") or choice.get("custom")
        return [named["name"]] if named else None
    return choice


def _calls_of(message: Message) -> list[Mapping[str, Any]]:
    legacy = message.get("function_call")
    calls = [_as_function(call) for call in message.get("tool_calls") or ()]
    return [
        *(call for call in calls if call.get("function")),
        *([{"id": legacy["name"], "function": legacy}] if legacy else []),
    ]


def _as_function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """A call of a custom tool, whose input is a text, as a call of a function."""
    if not (custom := call.get("custom")):
        return call
    arguments = json.dumps({"input": custom.get("input") or ""})
    return {"id": call.get("id"), "function": {"name": custom.get("name") or "", "arguments": arguments}}


def _calls(request: Request) -> Iterator[Mapping[str, Any]]:
    for message in request.messages:
        yield from _calls_of(message)


def _called(request: Request) -> Iterator[str]:
    yield from (call["function"]["name"] for call in _calls(request))


def _first_call(message: Message) -> str:
    return next((str(call.get("id")) for call in _calls_of(message)), "")


def arguments_of(args: object) -> str:
    """The arguments of a call as text."""
    return args if isinstance(args, str) else json.dumps(args, ensure_ascii=False) if args else ""
