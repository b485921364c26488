"""A client's conversation as servers of Chat Completions accept it: each tool call has one result, right behind it.

Servers of Chat Completions refuse a conversation where a call has no result, a result has no call, or something stands
between them. Clients send such conversations all the same: after an interrupt, after they have cut the beginning off, or
where the user wrote while a tool was running.

https://platform.openai.com/docs/guides/function-calling
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moa.errors import RequestRejected
from moa.messages import Message, text_of

NO_RESULT = "(no result)"
"""The result of a call without one."""


def paired(messages: Sequence[Message]) -> list[Message]:
    """The messages with each result behind its call, and :data:`NO_RESULT` behind a call without one. A result without a
    call becomes a message of the user.
    """
    conversation: list[Message] = []
    waiting: dict[str, list[int]] = {}
    for message in messages:
        call_id = str(message.get("tool_call_id"))
        if message.get("role") != "tool":
            conversation.append(message)
            calls = [str(call.get("id")) for call in message.get("tool_calls") or ()]
            waiting |= {each: [] for each in calls}  # an ID can come again in a later turn
            for each in calls:
                waiting[each].append(len(conversation))
                conversation.append({"role": "tool", "tool_call_id": each, "content": NO_RESULT})
        elif places := waiting.get(call_id):
            conversation[places.pop(0)] = message
        elif text := text_of(message):
            text = f"[result of the tool call {call_id}]\n{text}"
            conversation.append({"role": "user", "content": text})
    return conversation


def check_message(message: Mapping[str, Any], place: str, roles: Sequence[str]) -> None:
    """Check the role and the content of a message, as its API has them.

    Args:
        place: of the message in the request, such as ``input[0]``.

    Raises:
        RequestRejected: it is malformed.
    """
    role, content = message.get("role"), message.get("content")
    if role not in roles:
        expected = ", ".join(roles)
        raise RequestRejected(f"{place}.role is {role!r:.60}; expected one of {expected}", param=f"{place}.role")
    if not isinstance(content, str | list | None):
        what = f"{place}.content"
        raise RequestRejected(f"{what} is {content!r:.60}; expected a text or a list", param=what)
    for number, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, Mapping):
            what = f"{place}.content[{number}]"
            raise RequestRejected(f"{what} is {part!r:.60}; expected an object", param=what)


def list_of(value: object) -> list[Any]:
    """The value, if it is a list; anything else holds nothing."""
    return value if isinstance(value, list) else []
