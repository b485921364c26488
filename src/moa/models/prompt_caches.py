"""How a vendor's cache finds the beginning of a prompt again: a key that routes alike prompts to one server, or marks.

Notable decisions:
- A key belongs to a conversation: it is a digest of its system messages and its first user message. So the agents of a
  run, and the turns of a conversation, share it, and no agent adds anything to that beginning.
- A mark stands where the next turn's prompt still has the same text: at the end of the turn before the last user message,
  since references follow that one; and, within a tool loop, at the end of the prompt.
- A caller's own key or marks count instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from moa.messages import Message

PromptCache = Literal["key", "marks", "none"]
"""``key``: by the field ``prompt_cache_key``; ``marks``: by ``cache_control`` in content parts; ``none``: by neither."""

MARK = {"type": "ephemeral"}


def cache_key(messages: Sequence[Message]) -> str:
    """The key of a conversation, 32 hexadecimal digits."""
    first = next((at for at, message in enumerate(messages) if message["role"] == "user"), len(messages) - 1)
    beginning = [[message["role"], message.get("content")] for message in messages[: first + 1]]
    return hashlib.sha256(json.dumps(beginning).encode()).hexdigest()[:32]


def is_marked(messages: Sequence[Message]) -> bool:
    """Whether the caller has marked a part of these messages."""
    contents = (message.get("content") for message in messages)
    return any(part.get("cache_control") for content in contents if isinstance(content, list) for part in content)


def comes_again(messages: Sequence[Message], tools: object) -> bool:
    """Whether a later request is likely to begin as this one: it has tools, or it goes on with a conversation. Writing a
    prompt to a cache costs more than reading it once, so a lone question is not written."""
    return bool(tools) or any(message["role"] == "assistant" for message in messages)


def with_marks(messages: Sequence[Message], tools: object = None) -> list[Message]:
    """The messages with marks where a later request is likely to begin alike; as they are where the caller has set marks."""
    marked = list(messages)
    if is_marked(messages) or not comes_again(messages, tools):
        return marked
    last_user = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=0)
    before, end = last_user - 1, len(messages) - 1
    for at in [before] * (before >= 0) + [end] * (end > last_user):
        if content := marked[at].get("content"):
            marked[at] = {**marked[at], "content": _marked(content)}
    return marked


def _marked(content: str | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    return [*parts[:-1], {**parts[-1], "cache_control": MARK}]
