"""Messages in the order that a chat template or a server demands. Nothing of them is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moa.messages import Message, text_of

OPENING = "(The conversation begins with the assistant.)"
SEEN = "I have the results."


def with_opening(message: Message, opening: str) -> Message:
    """The message with a text before its content."""
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [{"type": "text", "text": opening}, *content]}
    return {**message, "content": f"{opening}\n{content}" if content else opening}


def _is_system(message: Message) -> bool:
    return message["role"] in ("system", "developer")


def one_system(messages: Sequence[Message]) -> list[Message]:
    """The messages with every system message joined to the first one, which opens them."""
    system = [message for message in messages if _is_system(message)]
    if len(system) < 2 and (not system or messages[0] is system[0]):
        return list(messages)
    return [_joined(system), *(message for message in messages if not _is_system(message))]


def system_in_user(messages: Sequence[Message]) -> list[Message]:
    """The messages with the text of every system message at the beginning of the first user message."""
    system = [message for message in messages if _is_system(message)]
    if not system:
        return list(messages)
    others = [message for message in messages if not _is_system(message)]
    instructions = "\n\n".join(text_of(message) for message in system)
    if others and others[0]["role"] == "user":
        return [with_opening(others[0], f"{instructions}\n"), *others[1:]]
    return [{"role": "user", "content": instructions}, *others]


def alternating(messages: Sequence[Message]) -> list[Message]:
    """The messages with neighbours of one role joined, the first after a system message the user's."""
    turns: list[Message] = []
    for message in messages:
        last = turns[-1] if turns else None
        if last and last["role"] == message["role"] and message["role"] in ("user", "assistant") and not _calls(last):
            turns[-1] = _joined([last, message])
        else:
            turns.append(message)
    first = next((at for at, message in enumerate(turns) if not _is_system(message)), None)
    if first is not None and turns[first]["role"] == "assistant":
        turns.insert(first, {"role": "user", "content": OPENING})
    return turns


def _calls(message: Message) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call"))


def _joined(messages: Sequence[Message]) -> Message:
    """One message with the content of all, and the other fields of each."""
    joined: dict[str, Any] = {}
    for message in messages:
        joined = {**joined, **message, "role": joined.get("role", message["role"])}
    contents = [message.get("content") for message in messages]
    if any(isinstance(content, list) for content in contents):
        joined["content"] = [part for content in contents for part in _parts(content)]
    else:
        joined["content"] = "\n\n".join(content for content in contents if content)
    return joined


def _parts(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def answered(messages: Sequence[Message]) -> list[Message]:
    """The messages with a short one of the assistant between a tool's result and the user."""
    turns: list[Message] = []
    for message in messages:
        if (
            turns
            and turns[-1]["role"] in ("tool", "function")
            and message["role"] not in ("tool", "function", "assistant")
        ):
            turns.append({"role": "assistant", "content": SEEN})
        turns.append(message)
    return turns
