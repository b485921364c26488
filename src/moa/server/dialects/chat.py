"""OpenAI's Chat Completions API: ``POST /v1/chat/completions``.

https://platform.openai.com/docs/api-reference/chat/create, …/chat/object and …/chat/streaming
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from moa.messages import Delta, Request
from moa.models.demands import check_choice
from moa.server.body import MoaOptions, OpenObject, Tokens, checked, object_of, refusing
from moa.server.connection import COMMENT
from moa.server.dialects.dialect import Dialect, ParsedRequest, Result, message_of, moa_object, usage_of
from moa.server.dialects.responses import read_responses
from moa.server.encoding import frame, json_bytes
from moa.server.failures import Refusal, openai_error
from moa.server.history import cleaned
from moa.store.figures import usage_object

MOST_CHOICES = 16
DONE = frame(b"[DONE]")

OF_MESSAGE = frozenset(
    {"refusal", "annotations", "audio", "function_call", "reasoning_details", "images", "thinking_blocks"}
)
"""Fields of a message, or of its delta, that pass through unread; any other unread field belongs to the choice."""

OF_RESPONSE = frozenset({"service_tier", "system_fingerprint"})
"""Fields of the whole response, the answering model's own."""

FOR_THE_SERVER = frozenset({"model", "stream", "stream_options", "n", "moa"})
"""Fields of a body that no model receives."""


class StreamOptions(OpenObject):
    include_usage: bool = False


class Parameters(OpenObject):
    properties: dict[str, Any] | None = None


class Function(OpenObject):
    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: Parameters | None = None


class Tool(OpenObject):
    """A tool; tools other than functions pass through."""

    type: str
    function: Function | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.type == "function" and self.function is None:
            raise ValueError("a tool of type 'function' needs a 'function'")
        return self


class ChatBody(OpenObject):
    """A Chat Completions request. Further fields pass through."""

    model: Annotated[str, Field(min_length=1, description="moa/NAME, or provider/name.")]
    messages: list[dict[str, Any]] = Field(description="The conversation.", min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    user: str | None = None
    moa: MoaOptions | None = None


def read_chat_or_responses(body: Mapping[str, Any]) -> ParsedRequest:
    """A request from its body, which some clients (Cursor) send in the form of Responses to this address, too.

    Raises:
        Refusal: 400; with the field in ``param``.
    """
    return read_responses(body) if "input" in body and "messages" not in body else read_chat(body)


def read_chat(body: Mapping[str, Any]) -> ParsedRequest:
    """A request from its body.

    Raises:
        Refusal: 400; with the field in ``param``.
    """
    with refusing():
        chat = checked(ChatBody, body)
        request = cleaned(Request.owned({key: value for key, value in body.items() if key not in FOR_THE_SERVER}))
        check_choice(body)
    if chat.stream_options and not chat.stream:
        # As OpenAI's API and vLLM do: without a stream the option would be ignored in silence.
        raise Refusal(400, "'stream_options' is only allowed with 'stream': true", param="stream_options")
    options = chat.moa or MoaOptions()
    include_usage = bool(chat.stream_options and chat.stream_options.include_usage)
    return ParsedRequest(
        model=chat.model,
        request=request,
        encoder=ChatEncoder(chat.model, include_usage=include_usage, explain=options.explain),
        stream=bool(chat.stream),
        choices=chat.n or 1,
        progress=options.progress,
        explain=options.explain,
        usage=options.usage,
        small=options.small,
        panel=options.panel,
    )


class ChatEncoder:
    """The answer to one request, as chunks or as one object; see :class:`~moa.server.dialects.dialect.Encoder`.

    Args:
        model: as the request names it; returned as ``model``.
        include_usage: send the usage of a stream in a last chunk (``stream_options.include_usage``).
        explain: send the attribution.
    """

    def __init__(self, model: str, *, include_usage: bool = False, explain: bool = False) -> None:
        self._model, self._include_usage, self._explain = model, include_usage, explain
        self._id, self._created = "", 0
        self._head, self._fields = b"", dict[str, Any]()
        self._opened: set[int] = set()

    def start(self, run_id: str) -> None:
        self._id, self._created = f"chatcmpl-{run_id}", int(time.time())
        self._fields = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            **({"usage": None} if self._include_usage else {}),
        }
        self._add_to_head({})

    def keep_alive(self) -> bytes:
        return COMMENT

    def progress(self, text: str, index: int) -> bytes:
        return self._opening(index) + self._chunk(index, {"reasoning_content": text})

    def delta(self, delta: Delta, index: int) -> bytes:
        extra = delta.extra or {}
        if known := _only(extra, OF_RESPONSE):
            self._add_to_head(known)
        fields = {**_delta_object(delta), **_only(extra, OF_MESSAGE)}
        return self._opening(index) + self._chunk(index, fields, extra=_without(extra, OF_MESSAGE | OF_RESPONSE))

    def end(self, results: Sequence[Result]) -> bytes:
        chunks = [self._chunk(index, {}, result.answer.finish_reason) for index, result in enumerate(results)]
        moa = moa_object(results, explain=self._explain)
        if self._include_usage:
            last = {"choices": [], "usage": usage_with_cost(results, moa), "moa": moa}
            chunks.append(self._head.replace(b', "usage": null', b"") + json_bytes(last)[1:] + b"\n\n")
        else:
            chunks[-1] = chunks[-1].removesuffix(b"}\n\n") + b', "moa": ' + json_bytes(moa) + b"}\n\n"
        return b"".join(chunks) + DONE

    def error(self, refusal: Refusal) -> bytes:
        return frame(openai_error(refusal))

    def whole(self, results: Sequence[Result]) -> bytes:
        moa = moa_object(results, explain=self._explain)
        return json_bytes(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created,
                "model": self._model,
                "choices": [_choice_object(index, result) for index, result in enumerate(results)],
                "usage": usage_with_cost(results, moa),
                **_only(results[0].extra, OF_RESPONSE),
                "moa": moa,
            }
        )

    def _add_to_head(self, fields: Mapping[str, Any]) -> None:
        """Set the fields that all further chunks start with: they are the same, so they are encoded once."""
        self._fields |= fields
        self._head = f"data: {json.dumps(self._fields)[:-1]}, ".encode()

    def _opening(self, index: int) -> bytes:
        """The first chunk of a choice, with its role; nothing when it was sent."""
        if index in self._opened:
            return b""
        self._opened.add(index)
        return self._chunk(index, {"role": "assistant", "content": ""})

    def _chunk(
        self,
        index: int,
        delta: Mapping[str, Any],
        finish_reason: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> bytes:
        """One frame with one choice. ``extra`` are further fields of the choice, such as ``logprobs``."""
        choice = {"index": index, "delta": delta, "logprobs": None, **(extra or {}), "finish_reason": finish_reason}
        return self._head + b'"choices": [' + json_bytes(choice) + b"]}\n\n"


def usage_with_cost(results: Sequence[Result], moa: Mapping[str, Any]) -> dict[str, Any]:
    """``usage``, with the dollars of all calls under the name that OpenRouter gives them.

    https://openrouter.ai/docs/use-cases/usage-accounting
    """
    return {**usage_object(usage_of(results)), "cost": moa["cost"]}


def _only(fields: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key in names}


def _without(fields: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in names}


def _delta_object(delta: Delta) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if delta.thought:
        fields["content"] = f"\n\n{delta.text}"  # what was sent was reasoning; the answer begins here
    elif delta.text:
        fields["content"] = delta.text
    if delta.reasoning:
        fields["reasoning_content"] = delta.reasoning
    if delta.tool_calls:
        fields["tool_calls"] = list(delta.tool_calls)
    return fields


def _choice_object(index: int, result: Result) -> dict[str, Any]:
    return {
        "index": index,
        "message": {**message_of(result.answer), "refusal": None, **_only(result.extra, OF_MESSAGE)},
        "logprobs": None,
        **_without(result.extra, OF_MESSAGE | OF_RESPONSE),
        "finish_reason": result.answer.finish_reason,
    }


CHAT = Dialect(
    path="/v1/chat/completions",
    name="chat_completions",
    tag="chat",
    summary="Create a chat completion",
    body=ChatBody,
    read=lambda data: read_chat_or_responses(object_of(data)),
    error=openai_error,
)
