"""What was proposed for a user's turn, remembered for as long as that turn's tool calls go on.

In a tool loop the same turn comes back with one more tool result each time. Asking all proposers at every step costs many
times as much and makes agents worse, so the turn's proposals are put back where they stood. That also leaves the upstream's
prompt prefix as it was, byte for byte, and its cache in force.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from moa.messages import Message, Reference


class Memory(Protocol):
    """Keeps the proposals of turns. Both methods are quick and never raise for want of an entry."""

    def recall(self, turn: str) -> tuple[Reference, ...] | None:
        """The proposals kept for a turn, or None."""
        ...

    def keep(self, turn: str, references: Sequence[Reference]) -> None:
        """Keep the proposals of a turn."""
        ...


class Recent:
    """A memory of the most recent turns, in this process. ``turns``: how many."""

    def __init__(self, turns: int = 1000) -> None:
        self._turns = turns
        self._kept: OrderedDict[str, tuple[Reference, ...]] = OrderedDict()

    def recall(self, turn: str) -> tuple[Reference, ...] | None:
        if turn in self._kept:
            self._kept.move_to_end(turn)
        return self._kept.get(turn)

    def keep(self, turn: str, references: Sequence[Reference]) -> None:
        self._kept[turn] = tuple(references)
        self._kept.move_to_end(turn)
        while len(self._kept) > self._turns:
            self._kept.popitem(last=False)


def turn_of(mixture: str, messages: Sequence[Message]) -> str:
    """A digest of a mixture's identity and a conversation up to and with the user's message."""
    told = json.dumps([mixture, *messages], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
