"""Too few usable proposals: what else the answer can be made from, and the error of a run that has nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moa.errors import DeadlinePassed, NoProposals, RunError, model_errors
from moa.messages import Reference
from moa.mixture.draft import Draft
from moa.mixture.schedules.drafts import references_of

Layers = Sequence[Sequence[Draft]]


def with_repeating(
    layers: Layers, references: tuple[Reference, ...], needed: int, notice: Callable[[str], None]
) -> tuple[Reference, ...]:
    """The references, or others in their place where they are too few because proposals repeat themselves: those of an
    earlier layer, else also texts up to their first repetition, which ``notice`` reports."""
    loops: list[Draft] = []
    for layer in reversed(layers):
        usable = references_of(layer)
        if loops and len(usable) >= needed:
            return usable
        loops += [draft for draft in layer if draft.before_loop]
    for layer in reversed(layers):
        usable = references_of(layer)
        cut = [
            Reference(draft.agent, draft.before_loop, cut=True, layer=draft.layer)
            for draft in layer
            if draft.before_loop
        ]
        if cut and len(usable) + len(cut) >= needed:
            notice("proposals that repeat themselves are used, since too few others are left")
            return (*usable, *cut)
    return references


def shortage(layers: Layers, wanted: int, late: str | None) -> RunError:
    """The error of a run with too few proposals: it names the first layer that has too few, and every cause.

    Args:
        wanted: the usable proposals that each layer needs.
        late: how the deadline ended the proposals; None where it did not.
    """
    counts = [len(references_of(layer)) for layer in layers]
    short = next((number for number, count in enumerate(counts, 1) if count < wanted), len(counts))
    lost = [draft for layer in layers[:short] for draft in layer if draft.dropped]
    causes = [f"{draft.agent} (layer {draft.layer}): {draft.dropped}" for draft in lost]
    errors = model_errors(draft.error for draft in lost)
    if late:
        return DeadlinePassed(f"nothing to answer from when {late}", causes, errors)
    count = counts[short - 1]
    reason = f"only {count} usable proposals in layer {short}, and {wanted} are needed"
    return NoProposals(reason if count else f"no usable proposal in layer {short}", causes, errors)
