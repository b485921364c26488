"""A row of the input: what is asked, under which ID, and which columns pass through to its answer.

A row is a JSON object in one of three forms, the first that fits:

- ``body``: a whole Chat Completions body. With ``custom_id`` it is a line of an OpenAI Batch file, whose ``method`` and
  ``url`` must be those of a chat completion. https://platform.openai.com/docs/api-reference/batch/request-input
- ``messages``: a conversation. Sampling fields beside it (:data:`SAMPLING`) belong to the request.
- ``prompt``: a question.

``id`` (or ``custom_id``) names the row; without one its number does, counted from 1. All other columns pass through.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from moa.batch.lines import decoded
from moa.errors import RequestRejected
from moa.messages import Request

SAMPLING = frozenset(
    {
        *("frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "modalities"),
        *(
            "parallel_tool_calls",
            "prediction",
            "presence_penalty",
            "reasoning_effort",
            "response_format",
            "seed",
            "stop",
        ),
        *("temperature", "tool_choice", "tools", "top_logprobs", "top_p", "verbosity", "web_search_options"),
    }
)
"""Columns beside ``messages`` that belong to the request: the fields of a Chat Completions body that decide what the answer
is (openai-python, ``CompletionCreateParamsBase``). ``model``, ``metadata``, ``user`` and the like pass through."""

NOT_SENT = frozenset({"model", "stream", "stream_options", "n", "moa"})
"""Fields of a body that no model receives: the job decides them."""

URL = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Raw:
    """A row as it was read: a JSON object as bytes, or the reason why there is none.

    Attributes:
        number: its place in the input, from 1.
        line: the JSON; empty with a problem.
        problem: why the row cannot be read; empty for a readable one.
    """

    number: int
    line: bytes
    problem: str = ""

    @property
    def digest(self) -> bytes:
        """What a change of the row changes: 16 bytes."""
        return hashlib.blake2b(self.line or self.problem.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Row:
    """A row to be answered.

    Attributes:
        number: its place in the input, from 1.
        id: its own ID, a text or a whole number; else the number.
        request: what is asked; None with a problem.
        columns: the columns that pass through to the answer.
        problem: why the row cannot be answered; empty for a good one.
        openai: whether it is a line of an OpenAI Batch file.
    """

    number: int
    id: str | int
    request: Request | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    openai: bool = False

    @classmethod
    def of(cls, raw: Raw) -> Row:
        """The row of a line; one that is malformed has a problem instead of a request."""
        if raw.problem:
            return cls(raw.number, raw.number, problem=raw.problem)
        try:
            value = decoded(raw.line)
        except ValueError as error:
            return cls(raw.number, raw.number, problem=str(error))
        return row_of(raw.number, value)

    def called(self, identity: str) -> Row:
        """The same row with another ID."""
        return replace(self, id=identity)


def row_of(number: int, value: Any) -> Row:
    """The row of a decoded JSON object, as :meth:`Row.of` makes it."""
    if not isinstance(value, dict):
        return Row(number, number, problem=f"the row is {value!r:.60}; expected an object")
    openai = "custom_id" in value and "body" in value
    try:
        identity = _id_of(value, number)
    except ValueError as error:
        return Row(number, number, columns=value, problem=str(error))
    columns = {name: column for name, column in value.items() if name not in ("id", "custom_id")}
    try:
        request = _openai_request(columns) if openai else _request(columns)
    except (RequestRejected, ValueError) as error:
        return Row(number, identity, columns=_without(columns), problem=str(error), openai=openai)
    return Row(number, identity, request, columns, openai=openai)


class _Named(msgspec.Struct):
    id: Any = None
    custom_id: Any = None


def id_key(raw: Raw, *, as_text: bool) -> bytes:
    """The ID of a row as bytes: two rows with the same key have the same ID. Only the ID is decoded.

    Args:
        as_text: whether the number 1 and the text "1" are the same ID, as in a file where every ID is a text.
    """
    identity: str | int = raw.number
    if not raw.problem:
        try:
            named = msgspec.json.decode(raw.line, type=_Named)
            identity = _id_of({"id": named.id, "custom_id": named.custom_id}, raw.number)
        except (ValueError, RecursionError):
            identity = Row.of(raw).id
    is_text = as_text or isinstance(identity, str)
    return f"{'text' if is_text else 'number'} {identity}".encode("utf-8", "surrogatepass")


def _id_of(value: Mapping[str, Any], number: int) -> str | int:
    name = "custom_id" if value.get("custom_id") not in (None, "") else "id"
    identity = value.get(name)
    if identity is None or identity == "":
        return number
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        raise ValueError(f"{name!r} is {identity!r:.60}; expected a text or a whole number")
    return identity


def _openai_request(columns: dict[str, Any]) -> Request:
    method, url, body = columns.pop("method", "POST"), columns.pop("url", URL), columns.pop("body")
    if method != "POST" or url != URL:
        raise ValueError(f"the row calls {method!r:.20} {url!r:.60}; expected POST {URL}")
    return _of_body(body)


def _request(columns: dict[str, Any]) -> Request:
    """The request of a row; takes its columns out of those that pass through."""
    for name in ("body", "messages", "prompt"):
        if columns.get(name) is not None:
            break
    else:
        raise ValueError("the row has no 'prompt', 'messages' or 'body'")
    content = columns.pop(name)
    if name == "prompt":
        if not isinstance(content, str):
            raise ValueError(f"'prompt' is {content!r:.60}; expected a text")
        return Request.of(content)
    if isinstance(content, str):  # in a cell of a CSV file
        content = decoded(content.encode("utf-8", "surrogatepass"))
    if name == "body":
        return _of_body(content)
    own = {field: columns.pop(field) for field in [*columns] if field in SAMPLING}
    return Request.owned({**own, "messages": content})


def _of_body(body: Any) -> Request:
    if not isinstance(body, dict):
        raise ValueError(f"'body' is {body!r:.60}; expected a Chat Completions body")
    return Request.owned({name: value for name, value in body.items() if name not in NOT_SENT})


def _without(columns: Mapping[str, Any]) -> dict[str, Any]:
    asked = ("prompt", "messages", "body", "method", "url")
    return {name: value for name, value in columns.items() if name not in asked}
