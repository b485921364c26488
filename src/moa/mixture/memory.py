"""The proposals for each user message, kept while that message's tool calls continue.

In a tool loop the same turn comes back with one more tool result each time. Calling all proposers at every step costs many
times as much and makes agents worse, so each step reuses the turn's proposals, in the same place of the prompt. That also
leaves the upstream's prompt prefix unchanged, byte for byte, so its cache applies.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from moa.messages import Message, Reference


class Memory(Protocol):
    """Keeps the proposals of turns. Both methods return quickly, and neither raises because an entry is missing."""

    def recall(self, turn: str) -> tuple[Reference, ...] | None:
        """The proposals kept for a turn, or None."""
        ...

    def keep(self, turn: str, references: Sequence[Reference]) -> None:
        """Keep the proposals of a turn, in place of those kept before."""
        ...


class Recent:
    """A memory of the most recently used turns, in this process.

    Args:
        turns: how many turns to keep.
        megabytes: of memory that their proposals may take; the turn kept last stays, whatever its size.
    """

    def __init__(self, turns: int = 1000, *, megabytes: float = 64) -> None:
        self._turns, self._limit, self._used = turns, megabytes * 1e6, 0
        self._kept: OrderedDict[str, tuple[Reference, ...]] = OrderedDict()

    def recall(self, turn: str) -> tuple[Reference, ...] | None:
        """The proposals kept for a turn, which becomes the most recently used; or None."""
        if turn in self._kept:
            self._kept.move_to_end(turn)
        return self._kept.get(turn)

    def keep(self, turn: str, references: Sequence[Reference]) -> None:
        """Keep the proposals of a turn, and forget the turns that were not used for the longest time."""
        self._used -= _bytes(self._kept.pop(turn, ()))
        self._kept[turn] = tuple(references)
        self._used += _bytes(references)
        while len(self._kept) > self._turns or (self._used > self._limit and len(self._kept) > 1):
            self._used -= _bytes(self._kept.popitem(last=False)[1])


def _bytes(references: Sequence[Reference]) -> int:
    return sum(sys.getsizeof(reference.text) for reference in references)


def turn_of(proposal_identity: str, messages: Sequence[Message]) -> str:
    """The digest that names a turn.

    Args:
        proposal_identity: everything but the conversation that the proposals depend on.
        messages: the conversation up to and including the user's message.
    """
    payload = json.dumps([proposal_identity, *messages], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(payload.encode("utf-8", "surrogatepass")).hexdigest()
