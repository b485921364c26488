"""A schedule that aggregates proposals while they are written (arXiv 2510.05059)."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from functools import partial

from moa.answers import CHARACTERS_PER_TOKEN
from moa.mixture.draft import Draft
from moa.mixture.schedules.drafts import reference_of, references_of, until_all_ended, until_grown
from moa.mixture.schedules.protocol import GiveUp, Reading


class Staircase:
    """Aggregate chunk by chunk, while proposals are still being written, in all layers at once (arXiv 2510.05059).

    An agent starts as soon as enough proposals have their first chunk and writes a piece from those. It reads again when the
    proposals have grown to the next chunk, and writes the rest, uninterrupted, from the complete proposals. It reads from
    each lane (the agents at the same place of every layer) the deepest layer that has the chunk, so the first token comes
    after the time to first token of two calls, however deep the mixture is. No agent waits for a model that is reasoning.

    With the default chunks an agent reads 32 tokens of each proposal and writes 24, reads 128 and writes up to 96 in all,
    reads 384 and writes up to 288 in all, then reads the complete proposals and writes to the end.

    Args:
        chunks: tokens (of 4 characters) that proposals must have for the first reading, the second, and so on.
        writes: tokens that the agent's text may have in all before it reads again, one figure for each chunk. Default: three
            quarters of the chunks, at least 8.
        quorum: the share of proposals that must have the chunk; dropped proposals and those of models that are still
            reasoning do not count.

    Raises:
        ValueError: no chunk, figures that do not grow, or a quorum outside 0 to 1.
    """

    grows = True

    def __init__(
        self, chunks: Sequence[int] = (32, 128, 384), writes: Sequence[int] | None = None, *, quorum: float = 0.5
    ) -> None:
        self.chunks = tuple(chunks)
        self.writes = tuple(writes) if writes is not None else tuple(max(8, chunk * 3 // 4) for chunk in chunks)
        if not self.chunks or len(self.chunks) != len(self.writes):
            raise ValueError("a staircase needs at least one chunk, and as many figures in writes as in chunks")
        if sorted(self.chunks) != [*self.chunks] or sorted(self.writes) != [*self.writes] or self.chunks[0] < 1:
            raise ValueError("the figures of a staircase must grow")
        if not 0 < quorum <= 1:
            raise ValueError(f"quorum is a share above 0 and up to 1, not {quorum}")
        self.quorum = quorum

    async def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        nearest = layers[-1]
        drafts = [draft for layer in layers for draft in layer]

        def complete() -> bool:
            return all(draft.ended for draft in nearest)

        for chunk, write in zip(self.chunks, self.writes, strict=True):
            size = chunk * CHARACTERS_PER_TOKEN
            await until_grown(drafts, size, partial(self._may_start, layers, size))
            if complete():
                break
            references = tuple(reference_of(draft) for draft in _deepest(layers, size))
            yield Reading(references, room=write * CHARACTERS_PER_TOKEN, superseded=complete)
        await until_all_ended(nearest)
        yield Reading(references_of(nearest))

    def _may_start(self, layers: Sequence[Sequence[Draft]], size: int) -> bool:
        """Whether enough lanes have the chunk.

        The quorum counts first-layer drafts only: every lane begins there. It leaves out drafts that were dropped and drafts
        whose model reasons and has written nothing. With a quorum of 0.5 and three proposers, one of which reasons, one lane
        with the chunk is enough.
        """
        if all(draft.ended for draft in layers[-1]):
            return True
        counted = [draft for draft in layers[0] if draft.dropped is None and not draft.thinking]
        return len(_deepest(layers, size)) >= max(1, math.ceil(self.quorum * len(counted)))

    def __repr__(self) -> str:
        return f"Staircase({self.chunks})"


def _deepest(layers: Sequence[Sequence[Draft]], size: int) -> list[Draft]:
    """For each lane, the draft of the deepest layer that has ``size`` characters or has finished. Empty lanes are left out.

    For two layers ``a b`` and ``c d`` where a, b and c have the size and d has nothing, the lanes are ``a c`` and ``b d``,
    and the result is ``[c, b]``.
    """
    width = max(len(layer) for layer in layers)
    lanes = [[layer[place] for layer in reversed(layers) if place < len(layer)] for place in range(width)]
    ready = [[draft for draft in lane if draft.usable or (not draft.ended and len(draft) >= size)] for lane in lanes]
    return [lane[0] for lane in ready if lane]
