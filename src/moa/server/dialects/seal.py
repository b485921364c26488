"""A vendor's own blocks of reasoning, with their signatures, on their way through a client that cannot read them.

A model that calls tools needs its blocks back at the next step. Responses has ``encrypted_content`` for them, Messages the
``signature`` of a thinking block: texts that clients store and send back unread. The seal hides nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from moa.pieces import joined_reasoning_details

SEAL = "moa:"
"""Begins every text that this server sealed."""

BLOCKS = ("reasoning_details", "thinking_blocks")
"""The fields of a message, or of its deltas, that hold such blocks."""


class Sealed:
    """Collects the blocks of one answer."""

    def __init__(self) -> None:
        self._blocks: dict[str, list[Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def add(self, fields: Mapping[str, Any]) -> None:
        """Add the blocks, or pieces of them, in the fields of a message or a delta."""
        for name in BLOCKS:
            if isinstance(pieces := fields.get(name), list):
                self._blocks[name] = joined_reasoning_details(self._blocks.get(name, []), pieces)

    def __str__(self) -> str:
        return SEAL + base64.b64encode(json.dumps(self._blocks).encode()).decode()


def has_blocks(fields: Mapping[str, Any]) -> bool:
    """Whether a message or a delta holds blocks."""
    return any(fields.get(name) for name in BLOCKS)


def unsealed(text: object) -> Mapping[str, Sequence[Any]]:
    """The blocks in a sealed text by their field; empty where this server did not write it."""
    if not isinstance(text, str) or not text.startswith(SEAL):
        return {}
    try:
        blocks = json.loads(base64.b64decode(text.removeprefix(SEAL), validate=True))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(blocks, dict):
        return {}
    return {name: blocks[name] for name in BLOCKS if isinstance(blocks.get(name), list)}
