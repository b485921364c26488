"""Which of the answers before it an agent reads: K of them (recursive self-aggregation), or those of earlier layers, too.

Notable decisions:
- ``reads = K`` follows recursive self-aggregation (arXiv 2509.26626, https://github.com/HyperPotatoNeo/RSA): every agent of
  the next population reads K answers, each set of K as likely as any other. The authors draw each set on its own, so that
  chance leaves answers unread; here the sets of one layer are windows that move over one shuffled order, so that they differ
  and every answer is read about equally often.
- A subset is drawn from the proposals that a schedule gives. A proposer that failed or was dropped is replaced by another
  one, and an agent reads fewer than K only where fewer are usable.
- The aggregator reads the whole last layer: the authors, too, end with a vote over all of the last population.
- ``reads = "all-layers"`` is the residual connection of RMoA (arXiv 2505.24442) in its plainest form: what a layer has left
  out still reaches the agents after it, the aggregator included. Earlier layers come first, so that the prompt of each layer
  begins with that of the layer before, and upstream prefix caches apply.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from moa.errors import ConfigError
from moa.messages import Reference
from moa.mixture.draft import Draft
from moa.mixture.schedules.drafts import references_of

Reads = int | Literal["all-layers"]
"""How many answers of the layer before an agent reads; ``all-layers``: all, and those of earlier layers, too."""

Choose = Callable[[Sequence[Reference]], tuple[Reference, ...]]
"""Chooses what an agent reads from the proposals that its schedule gives."""


def is_reads(value: object) -> bool:
    """Whether a value can be a mixture's ``reads``."""
    return value in (None, "all-layers") or is_number(value)


def is_number(value: object) -> bool:
    """Whether a value is a whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_rounds(rounds: object, reads: object, layers: int, where: str) -> None:
    """Check the number of rounds, and that ``reads`` has a layer that it applies to; ``where`` opens the error message.

    Raises:
        ConfigError: it is no number from 1, or the settings do not fit so many layers.
    """
    if not is_number(rounds) or not isinstance(rounds, int):
        raise ConfigError(f"{where}: rounds is {rounds!r}; expected 1 or more")
    if rounds > 1 and not layers:
        raise ConfigError(f"{where}: rounds is {rounds}, but there is no layer to repeat; add one to layers")
    if reads is not None and layers + rounds <= 2:
        raise ConfigError(
            f"{where}: reads is {reads!r}, which applies to the layers after the first, and there is none: "
            "add a layer, or set rounds to 2 or more"
        )


def chosen_by(reads: Reads | None, seed: int, draft: Draft, before: Sequence[Sequence[Draft]], place: int) -> Choose:
    """What the agent of a draft reads.

    Args:
        seed: of the run.
        before: the drafts of the layers before it.
        place: of the agent in its layer, from 0.
    """
    if reads is None or not before:
        return tuple
    if reads == "all-layers":
        return lambda references: with_earlier([references_of(layer) for layer in before[:-1]], references)
    lanes = {(each.layer, each.agent): lane for layer in before for lane, each in enumerate(layer)}
    return drawing(reads, seed, draft.layer, place, lanes)


def drawing(count: int, seed: int, layer: int, place: int, lanes: Mapping[tuple[int, str], int]) -> Choose:
    """Draws ``count`` of the references for one agent; the same ones wherever the arguments and the references are the same.

    Proposals that the agent has begun to read while they were written stay among those it reads, as long as they are given:
    a text that grew is not replaced by another one.

    Args:
        seed: of the run.
        layer, place: of the agent; the place counts from 0.
        lanes: the place of each proposer in its layer. A schedule that reads several layers at once gives one proposal a
            lane, and the lane is drawn.
    """
    begun: list[int] = []

    def choose(references: Sequence[Reference]) -> tuple[Reference, ...]:
        given = [lanes.get((each.layer, each.agent), -1) for each in references]
        if len(references) <= count:
            begun[:] = given
            return tuple(references)
        turn, window = divmod(place, len(references))
        order = [*range(max(lanes.values(), default=0) + 1), -1]
        random.Random(f"{seed}/{layer}/{turn}").shuffle(order)
        present = [lane for lane in order if lane in given]
        moved = [*present[window % len(present) :], *present[: window % len(present)]]
        drawn = [*(lane for lane in begun if lane in given), *(lane for lane in moved if lane not in begun)][:count]
        begun[:] = drawn
        return tuple(each for each, lane in zip(references, given, strict=True) if lane in drawn)

    return choose


def with_earlier(earlier: Sequence[Sequence[Reference]], references: Sequence[Reference]) -> tuple[Reference, ...]:
    """The references, behind those of earlier layers, the first layer first; each proposal once."""
    places = {(each.layer, each.agent) for each in references}
    before = (each for layer in earlier for each in layer if (each.layer, each.agent) not in places)
    return (*before, *references)
