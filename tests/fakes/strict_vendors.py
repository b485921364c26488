"""Strict servers: what each vendor refuses, in the words of its own errors, with the source beside it.

A source that is named here was read. Where it does not show the words for one kind of refusal, they are modelled on those
that it shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes.upstream import Body, Script, say, whole

STANDARD = frozenset(
    {
        *(
            "model",
            "messages",
            "stream",
            "stream_options",
            "temperature",
            "top_p",
            "max_tokens",
            "max_completion_tokens",
        ),
        *("stop", "tools", "tool_choice", "response_format", "n", "seed", "frequency_penalty", "presence_penalty"),
    }
)
"""Fields that most vendors take."""


MESSAGE = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
"""Fields of messages that most vendors take."""


@dataclass(frozen=True)
class Vendor:
    """A strict server.

    Attributes:
        name: of the place, as :mod:`moa.models.profiles` calls it.
        models: an ID of the strictest kind.
        takes: the fields of a body that it takes; others are refused.
        message_fields: the fields of messages that it takes.
        roles: the roles that it takes.
        images: whether it takes images.
        bare_tool_calls: whether it takes tool calls of the history without ``tools``.
        values: fields with one permitted value.
        error: the body of its refusal of a path in the request, for this reason.
        source: where its strictness is documented or reported; or that it is no certain server's.
    """

    name: str
    model: str
    takes: frozenset[str]
    error: Callable[[str, str], Any]
    source: str
    message_fields: frozenset[str] = MESSAGE
    roles: frozenset[str] = frozenset({"system", "user", "assistant", "tool"})
    images: bool = True
    bare_tool_calls: bool = True
    values: Mapping[str, Any] | None = None

    def script(self, body: Body) -> Script:
        """An answer, or the refusal of the first thing that it does not take."""
        for path, reason in self.faults(body):
            return whole(self.error(path, reason), status=422 if self.name in ("mistral", "deepseek") else 400)
        return say(f"From {self.name}.")

    def faults(self, body: Body) -> Iterator[tuple[str, str]]:
        """Each thing that it does not take: its path, and why."""
        for field in body:
            if field not in self.takes:
                yield field, "unknown"
        for field, value in (self.values or {}).items():
            if body.get(field, value) != value:
                yield field, "value"
        for at, message in enumerate(body["messages"]):
            if message["role"] not in self.roles:
                yield f"messages[{at}].role", message["role"]
            for field in message:
                if field not in self.message_fields:
                    yield f"messages[{at}].{field}", "unknown"
            parts = message["content"] if isinstance(message.get("content"), list) else []
            if not self.images and any(part["type"] == "image_url" for part in parts):
                yield f"messages[{at}].content", "image"
            if (
                not self.bare_tool_calls
                and not body.get("tools")
                and (message.get("tool_calls") or message["role"] == "tool")
            ):
                yield f"messages[{at}].tool_calls", "tools"


def openai_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/xlinx/sd-webui-decadetw-auto-prompt-llm/issues/29; the words for a value are not confirmed."""
    message = f"Unrecognized request argument supplied: {path}"
    if reason == "value":
        message = (
            f"Unsupported value: '{path}' does not support 0.3 with this model. Only the default (1) is supported."
        )
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": path if reason == "value" else None}
    }


def pydantic_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/editor-code-assistant/eca/issues/231; the words for a role are not confirmed."""
    loc: list[str | int] = ["body"]
    steps = path.replace("]", "").replace("[", ".").split(".")
    loc.extend(int(step) if step.isdecimal() else step for step in steps)
    kind, words = ("extra_forbidden", "Extra inputs are not permitted")
    if path.endswith("role"):
        kind, words = "enum", "Input should be 'system', 'user', 'assistant' or 'tool'"
    return {
        "object": "error",
        "message": {"detail": [{"type": kind, "loc": loc, "msg": words}]},
        "type": "invalid_request_error",
    }


def groq_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/fanenr/chatbot/issues/21 and, for messages, https://github.com/tashfeenahmed/freellmapi/issues/1070."""
    message = f"property '{path}' is unsupported"
    if path.startswith("messages"):
        at, _, field = path.removeprefix("messages[").partition("].")
        message = (
            f"'messages.{at}' : for 'role:assistant' the following must be satisfied[('messages.{at}' : property "
            f"'{field}' is unsupported)]"
        )
    return {"error": {"message": message, "type": "invalid_request_error"}}


def serde_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/earendil-works/pi/issues/1048 and https://github.com/rikkahub/rikkahub/issues/1433.

    The words for an unknown field are not confirmed.
    """
    before = "Failed to deserialize the JSON body into the target type"
    if path.endswith("role"):
        message = f"{before}: {path}: unknown variant `{reason}`, expected one of `system`, `user`, `assistant`, `tool`"
    elif reason == "image":
        message = f"{before}: {path}[1]: unknown variant `image_url`, expected `text` at line 1 column 500"
    else:
        message = (
            f"{before}: unknown field `{path}`, expected one of `messages`, `model`, `temperature`, `seed` at line 1"
        )
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": "invalid_request_error"}
    }


def google_words(path: str, reason: str) -> list[Any]:
    """https://github.com/Vali-98/ChatterUI/issues/227; the words for a role are not confirmed."""
    message = f'Invalid JSON payload received. Unknown name "{path.rpartition(".")[2]}": Cannot find field.'
    if path.endswith("role"):
        message = f"Invalid value at 'messages[0].role': role '{reason}' is not supported."
    return [{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}]


def bedrock_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/vxcontrol/pentagi/issues/160 and https://github.com/lastmile-ai/mcp-agent/pull/126."""
    if reason == "tools":
        return {"message": "The toolConfig field must be defined when using toolUse and toolResult content blocks."}
    return {"message": f"Malformed input request: extraneous key [{path}] is not permitted, please reformat your input"}


def anthropic_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/anthropics/anthropic-sdk-python/issues/849, as Anthropic answered until February 2025.

    The words for a role are not confirmed.
    """
    if reason == "tools":
        message = "Requests which include `tool_use` or `tool_result` blocks must define tools"
    elif path.endswith("role"):
        message = f'messages.0: Unexpected role "{reason}". Allowed roles are "user" or "assistant"'
    else:
        message = f"{path}: Extra inputs are not permitted"
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


def xai_words(path: str, reason: str) -> dict[str, Any]:
    """https://github.com/open-webui/open-webui/issues/21266; the code: https://github.com/neavo/LinguaGacha/issues/159."""
    head, *more = path.split("_")
    camel = head + "".join(part.title() for part in more)
    return {
        "code": "Client specified an invalid argument",
        "error": f"Model grok-4 does not support parameter {camel}.",
    }


def vague_words(path: str, reason: str) -> dict[str, Any]:
    """A server that says nothing of what was wrong: the worst case, not a certain vendor's."""
    return {"error": "Bad Request"}


def quoting_words(path: str, reason: str) -> dict[str, Any]:
    """vLLM's, a Python list as text, with the input quoted: https://github.com/vllm-project/vllm/issues/10078"""
    quoted = json.dumps({"temperature": 0.3, "seed": 1})
    said = "'msg': 'Extra inputs are not permitted'"
    message = f"[{{'type': 'extra_forbidden', 'loc': ('body', '{path}'), {said}, 'input': {quoted}}}]"
    if path.endswith("role"):
        message = f"Unexpected message role: {reason}"
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
VENDORS = (
    Vendor(
        "openai",
        "o3-mini",
        STANDARD - {"temperature", "top_p", "max_tokens", "frequency_penalty", "presence_penalty"}
        | {"store", "metadata", "reasoning_effort", "prompt_cache_key", "user", "service_tier", "temperature"},
        openai_words,
        "https://community.openai.com/t/developer-role-not-accepted-for-o1-o1-mini-o3-mini/1110750/7",
        message_fields=MESSAGE | {"refusal", "annotations", "audio"},
        roles=ROLES,
        values={"temperature": 1},
    ),
    Vendor(
        "mistral",
        "mistral-large-latest",
        STANDARD - {"seed", "max_completion_tokens", "stream_options"}
        | {"random_seed", "parallel_tool_calls", "metadata", "prompt_cache_key"},
        pydantic_words,
        "https://github.com/mistralai/client-python/blob/main/src/mistralai/client/models/chatcompletionrequest.py",
    ),
    Vendor(
        "groq",
        "llama-3.3-70b-versatile",
        STANDARD | {"user", "service_tier", "parallel_tool_calls"},
        groq_words,
        "https://console.groq.com/docs/openai",
        message_fields=frozenset({"role", "content", "tool_calls", "tool_call_id"}),
    ),
    Vendor(
        "deepseek",
        "deepseek-chat",
        STANDARD - {"max_completion_tokens", "seed"} | {"logprobs"},
        serde_words,
        "https://github.com/earendil-works/pi/issues/1048",
        images=False,
    ),
    Vendor(
        "google",
        "gemini-2.5-flash",
        STANDARD - {"seed", "frequency_penalty", "presence_penalty"} | {"reasoning_effort"},
        google_words,
        "https://github.com/Vali-98/ChatterUI/issues/227; https://github.com/liliMozi/openhanako/issues/394",
    ),
    Vendor(
        "bedrock",
        "anthropic.claude-3-5-sonnet",
        STANDARD - {"seed", "stream_options"},
        bedrock_words,
        "https://github.com/vxcontrol/pentagi/issues/160",
        bare_tool_calls=False,
        roles=ROLES,
    ),
    Vendor(
        "anthropic",
        "claude-sonnet-4-5",
        STANDARD - {"seed", "frequency_penalty"},
        anthropic_words,
        # Anthropic's own compatible endpoint ignores what it does not know: https://platform.claude.com/docs/en/api/openai-sdk
        "not a certain server: a proxy that passes every field on to Claude's own API",
        bare_tool_calls=False,
        roles=ROLES - {"developer"},
    ),
    Vendor(
        "xai",
        "grok-4",
        STANDARD - {"frequency_penalty", "presence_penalty", "stop"} | {"user"},
        xai_words,
        "https://github.com/miaoxworld/NativeTavern/issues/83",
        roles=ROLES,
    ),
    Vendor("gateway", "vague", STANDARD - {"seed"}, vague_words, "not a certain server: the worst case"),
    Vendor("vllm", "strict", STANDARD - {"seed"}, quoting_words, "https://github.com/vllm-project/vllm/issues/10078"),
)
