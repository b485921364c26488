"""Whole answers from their streamed pieces: texts, tool calls, blocks of reasoning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from moa.answers import Answer, Delta, Usage


def joined_tool_calls(pieces: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Whole tool calls from their streamed pieces: a function's arguments and a custom tool's input are joined, other fields
    are taken once.

    https://platform.openai.com/docs/guides/function-calling#streaming
    """
    whole: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        call = whole.setdefault(int(piece.get("index") or 0), {})
        for key, value in piece.items():
            if key in ("function", "custom") and isinstance(value, Mapping):
                call[key] = _joined_function(call.get(key) or {}, value)
            elif value not in (None, "") and key not in ("index", "function"):
                call[key] = value
    return tuple(whole[index] for index in sorted(whole))


def _joined_function(known: Mapping[str, Any], piece: Mapping[str, Any]) -> dict[str, Any]:
    joined = {**known}
    for key, value in piece.items():
        if key in ("arguments", "input") and isinstance(value, str) and isinstance(joined.get(key), str):
            joined[key] += value
        elif value is not None and not (value == "" and joined.get(key)):
            joined[key] = value
    return joined


def joined_reasoning_details(known: Sequence[Any], pieces: Sequence[Any]) -> list[Any]:
    """Whole blocks of ``reasoning_details`` or ``thinking_blocks`` from their streamed pieces: a block's texts are
    joined, and its other fields are taken once, the signature among them.

    A block is what has one ``index`` and one ``type``; without an index, pieces of one
    type that follow each other. A signature ends the text of its block: some servers give all blocks the index 0.

    https://openrouter.ai/docs/use-cases/reasoning-tokens
    """
    blocks = list(known)
    for piece in pieces:
        at = _block_of(blocks, piece)
        if at is None:
            blocks.append(piece)
            continue
        block = dict(blocks[at])
        for key, value in piece.items():
            if (
                key in ("text", "summary", "data", "thinking")
                and isinstance(value, str)
                and isinstance(block.get(key), str)
            ):
                block[key] += value
            elif value not in (None, ""):
                block[key] = value
        blocks[at] = block
    return blocks


def _block_of(blocks: Sequence[Any], piece: Any) -> int | None:
    """The place of the block that a piece continues; None where it begins one."""
    if not isinstance(piece, Mapping):
        return None
    for at in range(len(blocks) - 1, -1, -1):
        block = blocks[at]
        if not isinstance(block, Mapping):
            return None
        same_type = piece.get("type") in (None, block.get("type"))
        same_id = piece.get("id") is None or block.get("id") in (None, piece["id"])
        if piece.get("index") == block.get("index") and same_type and same_id:
            closed = block.get("signature") and (piece.get("index") is None or piece.get("text"))
            return None if closed else at
        if piece.get("index") is None:
            return None
    return None


def take_back(text: list[str], reasoning: list[str], thought: int) -> int:
    """Move the last ``thought`` characters of a text in pieces to its reasoning, see :class:`Delta`; returns how many."""
    if not thought:
        return 0
    whole = "".join(text)
    kept = max(0, len(whole) - thought)
    text[:] = [whole[:kept]]
    reasoning.append(whole[kept:])
    return len(whole) - kept


def collected(deltas: Iterable[Delta]) -> Answer:
    """An answer from the deltas of a single call, without times. Its usage includes that of the call's attempts."""
    answer, attempts = Answer(), Usage()
    text: list[str] = []
    reasoning: list[str] = []
    pieces: list[Mapping[str, Any]] = []
    for delta in deltas:
        take_back(text, reasoning, delta.thought)
        text.append(delta.text)
        reasoning.append(delta.reasoning)
        pieces.extend(delta.tool_calls)
        if delta.attempt:
            attempts += delta.attempt.usage
        answer = replace(
            answer,
            finish_reason=delta.finish_reason or answer.finish_reason,
            usage=delta.usage or answer.usage,
            cost=delta.cost or answer.cost,
            calls=delta.calls or answer.calls,
        )
    return replace(
        answer,
        text="".join(text),
        reasoning="".join(reasoning),
        tool_calls=joined_tool_calls(pieces),
        usage=answer.usage + attempts,
    )
