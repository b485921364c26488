"""The request that a model receives, and its messages.

Notable decisions:
- A request *is* a Chat Completions body. It is never re-modelled field by field, so a vendor's own field reaches the
  vendor; and it is never changed in place, so two agents can share one.
  https://platform.openai.com/docs/api-reference/chat/create

The names of :mod:`moa.answers`, what a model returns, can be imported from here too.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moa.answers import Answer, Attempt, Call, Cost, Delta, Reference, Usage, estimated_tokens
from moa.errors import RequestRejected
from moa.pieces import collected, joined_tool_calls

__all__ = [
    "ROLES",
    "Answer",
    "Attempt",
    "Call",
    "Cost",
    "Delta",
    "Message",
    "Reference",
    "Request",
    "Usage",
    "collected",
    "estimated_tokens",
    "joined_tool_calls",
    "pieces_of",
    "text_of",
    "with_text",
]

Message = Mapping[str, Any]
"""One entry of ``messages``: ``role``, ``content`` (a string or a list of content parts), and other fields of the API."""

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


@dataclass(frozen=True, slots=True)
class Request:
    """A Chat Completions body, whole. Make one with :meth:`of`; read it; derive others with :meth:`replaced`."""

    body: Mapping[str, Any]

    @classmethod
    def of(cls, question: str | Sequence[Message] | Mapping[str, Any] | Request) -> Request:
        """A request from a question, a list of messages, or a whole body (which is copied, so later edits do not reach it).

        A field of the body or of a message that is null counts as not set.

        Raises:
            RequestRejected: there is no message, a message is malformed, or a lone question is empty.
        """
        if isinstance(question, Request):
            return question
        if not isinstance(question, Sequence | Mapping) or isinstance(question, bytes):
            raise RequestRejected(
                f"the question is {question!r:.60}; expected a text, a list of messages or a request's body",
                param="messages",
            )
        if isinstance(question, str):
            if not question.strip():
                raise RequestRejected("the question is empty", param="messages")
            return cls({"messages": [{"role": "user", "content": question}]})
        if isinstance(question, Mapping):
            return cls.owned(copy.deepcopy(dict(question)))
        return cls.owned({"messages": copy.deepcopy(list(question))})

    @classmethod
    def owned(cls, body: dict[str, Any]) -> Request:
        """A request from a body that nothing else changes, such as parsed JSON. It is not copied; else as :meth:`of`."""
        if "messages" not in body and "role" in body:
            raise RequestRejected(
                "the question is a single message; put it into a list: [{'role': …}]", param="messages"
            )
        _check_messages(body.get("messages"))
        return cls(_without_nulls(body))

    @property
    def messages(self) -> list[Message]:
        """The conversation, a new list each time; the messages in it are shared and must not be changed."""
        return list(self.body["messages"])

    @property
    def last_user(self) -> int | None:
        """The index of the last user message in ``messages``; None without one."""
        messages = self.body["messages"]
        return next((i for i in range(len(messages) - 1, -1, -1) if messages[i]["role"] == "user"), None)

    @property
    def question(self) -> str:
        """The text of the last user message; empty without one."""
        return "" if self.last_user is None else text_of(self.body["messages"][self.last_user])

    @property
    def tokens(self) -> int:
        """Tokens of its text, estimated message by message; see :func:`estimated_tokens`."""
        return sum(estimated_tokens(text_of(message)) for message in self.body["messages"])

    def replaced(self, **fields: Any) -> Request:
        """The same body with these fields set; None removes a field."""
        kept = {key: value for key, value in self.body.items() if key not in fields}
        return Request({**kept, **{key: value for key, value in fields.items() if value is not None}})

    def without(self, names: Iterable[str]) -> Request:
        """The same body without these fields."""
        return Request({key: value for key, value in self.body.items() if key not in set(names)})

    def json(self) -> str:
        """The body as canonical JSON: equal requests give equal text."""
        return json.dumps(self.body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _without_nulls(body: dict[str, Any]) -> dict[str, Any]:
    """The body without fields that are null, which means that they are not set; a message's content may be null. An empty
    list of tools or tool calls means none, and servers refuse it: https://github.com/earendil-works/pi/issues/3649,
    https://github.com/openai/openai-node/pull/1341
    """
    body = {name: value for name, value in body.items() if value is not None}
    if body.get("tools") == []:
        body = {name: body[name] for name in body if name not in ("tools", "tool_choice", "parallel_tool_calls")}
    body["messages"] = [
        {
            name: value
            for name, value in message.items()
            if (value is not None or name == "content") and not (name == "tool_calls" and value == [])
        }
        for message in body["messages"]
    ]
    return body


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise RequestRejected("'messages' must be a list with at least one message", param="messages")
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if not isinstance(message, Mapping):
            raise RequestRejected(f"{where} must be an object with 'role' and 'content'", param=where)
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise RequestRejected(
                f"{where}.role is {role!r:.60}; expected one of {', '.join(sorted(ROLES))}",
                param=f"{where}.role",
            )
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        if not isinstance(content, str | list | None) or not all(isinstance(part, Mapping) for part in parts):
            raise RequestRejected(
                f"{where}.content must be a string or a list of content parts", param=f"{where}.content"
            )
        for number, part in enumerate(parts):
            if not isinstance(part.get("type"), str):
                what = f"{where}.content[{number}].type"
                raise RequestRejected(f"{what} is {part.get('type')!r:.60}; expected a string", param=what)
        _check_calls(message, where)


def _check_calls(message: Message, where: str) -> None:
    calls = message.get("tool_calls")
    if not isinstance(calls, list | None):
        raise RequestRejected(
            f"{where}.tool_calls is {calls!r:.60}; expected a list of tool calls", param=f"{where}.tool_calls"
        )
    named = [(f"{where}.tool_calls[{number}]", call) for number, call in enumerate(calls or ())]
    named += [
        (f"{what}.{kind}", call[kind])
        for what, call in named
        if isinstance(call, Mapping)
        for kind in ("function", "custom")
        if call.get(kind) is not None
    ]
    named.append((f"{where}.function_call", message.get("function_call") or {}))
    for what, value in named:
        if not isinstance(value, Mapping):
            raise RequestRejected(f"{what} is {value!r:.60}; expected an object", param=what)


def text_of(message: Message) -> str:
    """The text of a message: its string, or its text parts joined by newlines. Images and other parts are left out."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(
        str(part.get("text") or "") for part in content or () if part.get("type") in ("text", "input_text")
    )


def pieces_of(text: str) -> list[str]:
    """The text in pieces of about one token: a word (at most 16 characters of it) with the white space after it.

    ``"".join(pieces_of(text)) == text`` for every text.
    """
    return re.findall(r"\S{1,16}\s*|\s+", text)


def with_text(message: Message, addition: str) -> Message:
    """The message with text appended, as a new content part if its content is a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [*content, {"type": "text", "text": addition}]}
    return {**message, "content": f"{content}\n\n{addition}" if content else addition}
