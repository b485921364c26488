"""What clients send back of earlier answers: progress text is removed, since no model wrote it as its own thinking.

The proposals that the server shows as ``reasoning_content`` return in the history, where a client keeps them: in
``reasoning_content``, ``reasoning`` or ``reasoning_details``, or as a ``<think>`` block in the content. What the model that
answered thought itself stays: DeepSeek's tool loops need it (https://api-docs.deepseek.com/guides/thinking_mode).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moa.messages import Message, Request
from moa.models.thinking import split
from moa.server.progress import without_progress

_TEXTS = ("reasoning_content", "reasoning", "thinking", "text", "summary")
"""Fields that hold reasoning, in a message, in a block of ``reasoning_details`` or in a part of the content."""


def cleaned(request: Request) -> Request:
    """The request with no progress text in its messages."""
    messages = request.messages
    clean = [_cleaned(message) if message["role"] == "assistant" else message for message in messages]
    return (
        request
        if all(new is old for new, old in zip(clean, messages, strict=True))
        else request.replaced(messages=clean)
    )


def _cleaned(message: Message) -> Message:
    fields = {**message}
    for name in ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks"):
        if name in fields:
            fields[name] = _reasoning(fields[name])
            if not fields[name]:
                del fields[name]
    content = message.get("content")
    if isinstance(content, str):
        fields["content"] = _text(content)
    elif isinstance(content, list):
        parts = [_part(part) for part in content]
        fields["content"] = [part for part in parts if part is not None]
    return message if fields == message else fields


def _part(part: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A part of the content; None where nothing is left of it."""
    if part.get("type") in ("text", "output_text") and isinstance(part.get("text"), str):
        text = _text(part["text"])
        return part if text == part["text"] else {**part, "text": text} if text else None
    return _block(part) if part.get("type") in ("thinking", "reasoning") else part


def _reasoning(value: Any) -> Any:
    """Reasoning without progress text; empty where nothing is left."""
    if isinstance(value, str):
        return without_progress(value)
    if isinstance(value, Sequence):
        blocks = [_block(block) if isinstance(block, Mapping) else block for block in value]
        return [block for block in blocks if block is not None]
    return value


def _block(block: Mapping[str, Any]) -> Mapping[str, Any] | None:
    texts = {name: block[name] for name in _TEXTS if isinstance(block.get(name), str)}
    clean = {name: without_progress(text) for name, text in texts.items()}
    if clean == texts:
        return block
    return {**block, **clean} if any(clean.values()) else None


def _text(content: str) -> str:
    """A text without the progress in its thinking."""
    text, reasoning = split(content)
    rest = without_progress(reasoning)
    if rest == reasoning:
        return content
    return f"<think>\n{rest.strip()}\n</think>\n\n{text}" if rest.strip() else text
