"""What a request demands of an answer beyond text: a tool call, or a model that sees its images.

https://platform.openai.com/docs/api-reference/chat/create#chat-create-tool_choice
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from moa.errors import CallRejected, ModelError, RequestRejected
from moa.messages import Message, Request

TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")
"""The fields of a request that are about tools to call."""


def demanded_call(request: Request) -> str | None:
    """The tool that the answer must call; empty for any; None where text will do."""
    body = request.body
    if body.get("functions"):
        return _named(body.get("function_call"))
    return _named(body.get("tool_choice")) if body.get("tools") else None


def check_choice(body: Mapping[str, Any]) -> None:
    """Check that the tool which the request demands is one that it offers.

    Raises:
        RequestRejected: it is not.
    """
    wanted = _named(body.get("tool_choice"))
    if wanted is None:
        return
    tools = [tool.get(tool.get("type", "function")) or tool for tool in body.get("tools") or ()]
    if not tools:
        raise RequestRejected("'tool_choice' demands a call, and the request has no 'tools'", "tool_choice")
    if wanted and wanted not in [tool.get("name") for tool in tools]:
        raise RequestRejected(f"'tool_choice' names {wanted!r}, which is not among the 'tools'", "tool_choice")


def _named(choice: object) -> str | None:
    if not isinstance(choice, Mapping):
        return "" if choice in ("required", "any") else None
    kind = choice.get("type", "function")
    if kind in ("auto", "none"):
        return None
    inner = choice.get(kind)
    fields = inner if isinstance(inner, Mapping) else choice
    if kind == "allowed_tools":
        return "" if fields.get("mode") == "required" else None
    return str(fields.get("name") or "")


def misses_call(request: Request, calls: Iterable[Mapping[str, Any]]) -> str | None:
    """What the answer lacks where the request demands a call and these calls, or their pieces, are not it; else None."""
    wanted = demanded_call(request)
    if wanted is None:
        return None
    called = {fields.get("name") for call in calls for fields in (call.get("function"), call.get("custom")) if fields}
    if wanted in called or (not wanted and called):
        return None
    return f"tool_choice demands a call{f' of {wanted!r}' if wanted else ''}, and the answer has none"


def images_of(message: Message) -> list[Mapping[str, Any]]:
    """The content parts of a message that are images."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return [part for part in parts if part.get("type") in ("image_url", "input_image", "image")]


def asks_about_images(request: Request) -> bool:
    """Whether the last turn of the conversation holds an image. What is said of earlier ones is in its answers."""
    return any(images_of(message) for message in request.body["messages"][request.last_user or 0 :])


def calls_no_tools(model: str) -> ModelError:
    """The error of a model that calls no tools where the request demands a call."""
    return _unsupported(model, "it calls no tools, and the request's tool_choice demands a call", "tool_choice")


def sees_no_images(model: str) -> ModelError:
    """The error of a model that sees no images, where no other model has seen the request's either."""
    return _unsupported(model, "it does not see images; send text alone, or choose a model that sees", "messages")


def gave_no_call(model: str, reason: str) -> ModelError:
    """The error of a model that did not obey ``tool_choice``."""
    error = ModelError(model, reason)
    error.code, error.param = "tool_call_missing", "tool_choice"
    return error


def _unsupported(model: str, reason: str, param: str) -> ModelError:
    error = CallRejected(model, reason, status=400)
    error.code, error.param, error.of_request = "unsupported_value", param, True
    return error
