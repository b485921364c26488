"""A request in the form that one model takes. A pure function: :func:`fit`.

Notable decisions:
- Only what the profile knows to be refused is changed; everything else reaches the model as it came.
- Content is never lost without a word: an image becomes ``[image]``, a tool call becomes text, a system message joins
  another message. Fields that only steer the sampling or the caller's accounts are left out.
- ``messages`` are never left out, and ``tools`` only where the model is known to call none: what ignores them in silence
  answers with text either way, and a notice says so. A JSON schema becomes words, where it must.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from moa.messages import Message, Request, text_of, with_text
from moa.models.demands import TOOL_FIELDS, images_of
from moa.models.profile import Profile
from moa.models.prompt_caches import cache_key, with_marks
from moa.models.turns import alternating, answered, one_system, system_in_user, with_opening

TOKEN_LIMITS = ("max_completion_tokens", "max_tokens")

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The values of ``reasoning_effort``, from little to much."""

NEEDED = frozenset(
    {
        *(
            "model",
            "messages",
            "stream",
            "n",
            "stop",
            "response_format",
            "modalities",
            "audio",
            "logprobs",
            "top_logprobs",
        ),
        *("tools", "tool_choice", "functions", "function_call", "web_search_options", *TOKEN_LIMITS),
        *(
            "messages.role",
            "messages.content",
            "messages.tool_calls",
            "messages.tool_call_id",
            "messages.function_call",
        ),
        *("messages.content.type", "messages.content.text", "messages.content.image_url", "messages.tool_calls.id"),
        *("messages.tool_calls.type", "messages.tool_calls.function", "tools.type", "tools.function"),
        *("tools.function.name", "tools.function.description", "tools.function.parameters"),
    }
)
"""Fields that an answer depends on. A server's refusal of one is the caller's to read: it is never left out."""

CONTINUE = (
    "Go on with your answer exactly where it stopped, as if you had never been interrupted: no greeting, no repetition, no "
    "word about this."
)
FOLLOW_SCHEMA = "Reply with one JSON value that follows this JSON schema, and with nothing else:"


SAMPLE = 100_000
"""Characters at the beginning, in the middle and at the end of a very long text whose tokens are counted."""

_IDEOGRAPHS = re.compile(r"[\u2e80-\U000e0fff]")
_SPACES = str.maketrans(dict.fromkeys("\t\n\v\f\r\x1c\x1d\x1e\x1f", " "))


def schema_of(request: Request) -> Mapping[str, Any] | None:
    """The JSON schema that a request's answer has to follow; None without one."""
    wanted = request.body.get("response_format")
    if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema":
        return None
    named = wanted.get("json_schema")
    schema = named.get("schema") if isinstance(named, Mapping) else None
    return schema if isinstance(schema, Mapping) else None


def text_tokens(text: str) -> int:
    """Tokens of a text, estimated: four letters of English each, three of other alphabets, 1.5 Chinese characters. White
    space counts once. Of a very long text, samples are counted."""
    if len(text) > 4 * SAMPLE:
        middle = len(text) // 2
        samples = (text[:SAMPLE], text[middle : middle + SAMPLE], text[-SAMPLE:])
        return round(sum(map(text_tokens, samples)) * len(text) / (3 * SAMPLE))
    if text.isascii():
        text = text.translate(_SPACES).strip()
        while "  " in text:  # on a long prompt, four times as fast as split and join
            text = text.replace("  ", " ")
        return len(text) // 4 + 1
    text = " ".join(text.split())
    ascii_letters = len(text.encode("ascii", "ignore"))
    ideographs = len(_IDEOGRAPHS.findall(text))
    return ascii_letters // 4 + (len(text) - ascii_letters - ideographs) // 3 + round(ideographs / 1.5) + 1


def prompt_tokens(request: Request, image: int = 1000) -> int:
    """Tokens of a whole prompt, estimated: its messages, its tools, and ``image`` for each image."""
    tokens = 0
    for message in request.messages:
        tokens += 4 + text_tokens(text_of(message)) + image * len(images_of(message))
        if calls := message.get("tool_calls"):
            tokens += text_tokens(json.dumps(calls))
    if tools := request.body.get("tools"):
        tokens += text_tokens(json.dumps(tools))
    return tokens


def fit(request: Request, profile: Profile) -> tuple[Request, tuple[str, ...]]:
    """The request as the model takes it, and what the user should know of the changes, a line each.

    A request that fits is returned as it is. Fitting twice is fitting once.
    """
    messages: list[Message] = request.messages
    notices: list[str] = []
    if profile.images is False and (hidden := sum(len(images_of(message)) for message in messages)):
        messages = [without_images(message) for message in messages]
        notices.append(
            f"does not see images: {hidden} became the text [image]" if hidden > 1 else "does not see the image"
        )
    tools = request.body.get("tools") or request.body.get("functions")
    if profile.tools is False and tools:
        notices.append("calls no tools: the request's tools were not sent to it")
    if profile.tools is False or (profile.past_tool_calls is False and not tools):
        messages = tool_calls_in_words(messages)
    if profile.parts is False:
        messages = [_as_one_text(message) for message in messages]
    if profile.json_schema is False and (schema := schema_of(request)) is not None:
        messages = _with_schema(messages, schema)
    messages = [_with_role(message, profile.roles) for message in messages]
    if profile.reasoning_content:
        messages = [_with_reasoning(message) for message in messages]
    if profile.system is False:
        messages = system_in_user(messages)
    elif profile.several_system is False or profile.alternates:
        messages = one_system(messages)
    if profile.alternates:
        messages = alternating(messages)
    if profile.user_after_tool is False:
        messages = answered(messages)
    if profile.ends_with_assistant is False and messages[-1]["role"] == "assistant":
        messages = [*messages, {"role": "user", "content": CONTINUE}]
    if profile.prompt_cache == "marks":
        messages = with_marks(messages, tools)
    body = {**profile.extra_body, **request.body, "messages": messages}
    if profile.prompt_cache == "key" and "prompt_cache_key" not in body:
        body["prompt_cache_key"] = cache_key(messages)
    if profile.json_schema is False and schema_of(request) is not None:
        del body["response_format"]
    if profile.tools is False:
        body = {name: value for name, value in body.items() if name not in TOOL_FIELDS}
    body = _with_fields(body, profile, _longest_answer(Request(body), profile))
    return (request if body == request.body else Request(body)), tuple(notices)


# -- its fields --------------------------------------------------------------------------------------------------------


def _longest_answer(request: Request, profile: Profile) -> int | None:
    """The tokens of an answer that the model can give to this prompt; None where that is unknown."""
    if profile.context_tokens is None or not any(limit in request.body for limit in TOKEN_LIMITS):
        return profile.answer_tokens
    left = profile.context_tokens - round(prompt_tokens(request) * 1.1) - 16
    if left < min(256, profile.context_tokens // 4):  # the prompt itself is too long, or nearly: the server decides
        return profile.answer_tokens
    return min(left, profile.answer_tokens or left)


def _with_fields(body: dict[str, Any], profile: Profile, longest: int | None) -> dict[str, Any]:
    for name, permitted in profile.only.items():
        if name in body and body[name] != permitted and name not in NEEDED:
            del body[name]
    if profile.efforts is not None and "reasoning_effort" in body:
        effort = nearest_effort(body.pop("reasoning_effort"), profile.efforts)
        body |= {"reasoning_effort": effort} if effort else {}
    for limit in TOKEN_LIMITS:
        if longest is not None and isinstance(body.get(limit), int):
            body[limit] = min(body[limit], longest)
    body = _without(body, profile.refuses)
    for ours, theirs in profile.rename.items():
        if ours in body:
            value = body.pop(ours)
            body.setdefault(theirs, value)
    return _without(body, profile.refuses)  # once more: a server refuses a field by its own name for it


def _without(body: dict[str, Any], refused: Iterable[str]) -> dict[str, Any]:
    for path in refused:
        if path not in NEEDED:
            body = without_path(body, path.split("."))
    return body


def nearest_effort(wanted: object, taken: Sequence[str]) -> str | None:
    """The value of ``reasoning_effort`` that is taken and nearest to the wanted one, the lesser of two; None where there is
    none. Some effort never becomes ``none``."""
    if wanted in taken or wanted not in EFFORTS:
        return str(wanted) if wanted in taken else None
    at = EFFORTS.index(str(wanted))
    known = [effort for effort in taken if effort in EFFORTS and (effort != "none" or wanted == "none")]
    return min(known, key=lambda effort: (abs(EFFORTS.index(effort) - at), EFFORTS.index(effort)), default=None)


def without_path(value: Any, path: Sequence[str]) -> Any:
    """The value without the field at this path, in every entry of every list on the way; ``**`` matches any depth."""
    if isinstance(value, list):
        return [without_path(item, path) for item in value]
    if not isinstance(value, Mapping):
        return value
    first, *rest = path
    if first == "**":
        inner = {key: without_path(item, path) for key, item in value.items()}
        return without_path(inner, rest)
    if first not in value:
        return value
    if not rest:
        return {key: item for key, item in value.items() if key != first}
    return {**value, first: without_path(value[first], rest)}


def has_path(value: Any, path: Sequence[str]) -> bool:
    """Whether a value has a field at this path."""
    return bool(without_path(value, path) != value)


# -- its messages ------------------------------------------------------------------------------------------------------


def without_images(message: Message) -> Message:
    """The message with the text ``[image]`` in place of each image; its content is one text where nothing else remains."""
    if not (images := images_of(message)):
        return message
    parts = [{"type": "text", "text": "[image]"} if part in images else part for part in message["content"]]
    return _as_one_text({**message, "content": parts})


def _as_one_text(message: Message) -> Message:
    """The message with its text parts joined, unless it has other parts, too."""
    content = message.get("content")
    if not isinstance(content, list) or any(part.get("type") not in ("text", "input_text") for part in content):
        return message
    return {**message, "content": text_of(message)}


def tool_calls_in_words(messages: Iterable[Message]) -> list[Message]:
    """The messages with tool calls and their results as text: a call the assistant's, a result the user's."""
    names: dict[str, str] = {}
    plain: list[Message] = []
    for message in messages:
        calls = [*(message.get("tool_calls") or ())]
        if legacy := message.get("function_call"):
            calls.append({"function": legacy})
        if message["role"] in ("tool", "function"):
            name = names.get(str(message.get("tool_call_id")), str(message.get("name") or "the tool"))
            kept = {**message, "role": "user"}
            for field in ("tool_call_id", "name"):
                kept.pop(field, None)
            plain.append(with_opening(kept, f"[Result of {name}]"))
        elif calls:
            names |= {str(call.get("id")): _name_of(call) for call in calls}
            kept = {key: value for key, value in message.items() if key not in ("tool_calls", "function_call")}
            plain.append(with_text(kept, "\n".join(_call_in_words(call) for call in calls)))
        else:
            plain.append(message)
    return plain


def _name_of(call: Mapping[str, Any]) -> str:
    tool = call.get("function") or call.get("custom") or {}
    return str(tool.get("name") or "the tool")


def _call_in_words(call: Mapping[str, Any]) -> str:
    tool = call.get("function") or call.get("custom") or {}
    given = tool.get("arguments", tool.get("input"))
    return f"[Called {_name_of(call)} with {given if isinstance(given, str) else json.dumps(given or {})}]"


def _with_role(message: Message, roles: Mapping[str, str]) -> Message:
    role, passed = message["role"], set[str]()
    while role in roles and role not in passed:
        passed.add(role)
        role = roles[role]
    return {**message, "role": role} if passed else message


def _with_reasoning(message: Message) -> Message:
    """The message with reasoning where its tool calls have none; a space, since some servers refuse an empty text."""
    if not message.get("tool_calls") or message.get("reasoning_content"):
        return message
    return {**message, "reasoning_content": " "}


def _with_schema(messages: Sequence[Message], schema: Mapping[str, Any]) -> list[Message]:
    """The messages with the schema in words in the first system message."""
    words = f"{FOLLOW_SCHEMA}\n{json.dumps(schema, ensure_ascii=False)}"
    if messages[0]["role"] in ("system", "developer"):
        return [with_text(messages[0], words), *messages[1:]]
    return [{"role": "system", "content": words}, *messages]
