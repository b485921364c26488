"""A matrix as arrays: which answers are the same, and which are right.

Notable decisions:
- A model that covers too few items is left out, and the grid names it. Elsewhere, a missing answer counts as no answer.
- Answers are the same if their canonical forms are, as at run time; see :func:`compared`.
- An item without any label is left out, and the grid counts it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from moa.errors import ConfigError
from moa.evals.search.matrix import Item, Sample
from moa.mixture.canonical import options_of
from moa.mixture.canonical.numbers import number_form
from moa.mixture.canonical.structures import structure_form

__all__ = ["COVERED", "Grid", "Index", "compared", "grid_of"]

Floats = NDArray[np.float32]
Index = NDArray[np.intp]

COVERED = 0.8
"""A model with answers to a smaller share of the items is left out."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Arrays of one row an item and one column a sample; the columns of a model follow one another.

    Attributes:
        items: the items of the rows.
        models: the models, in order.
        owner: a column's model, as an index into ``models``.
        codes: which answer a sample gave: equal numbers in a row are equal answers; -1 is no answer.
        right: the label of each sample, from 0 to 1.
        characters: the length of each response; NaN where it is unknown.
        cost: US dollars; NaN where it is unknown.
        seconds: durations; NaN where they are unknown.
        possible: how many answers an item has to choose from, by its options; 0 where that is unknown.
        tasks: an item's task, as a number.
        left_out: models that cover too few items, or none.
        unlabelled: how many items have no label.
    """

    items: tuple[Item, ...]
    models: tuple[str, ...]
    owner: Index
    codes: NDArray[np.int16]
    right: Floats
    characters: Floats
    cost: Floats
    seconds: Floats
    possible: NDArray[np.int16]
    tasks: Index
    left_out: tuple[str, ...] = ()
    unlabelled: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def columns(self, model: int, samples: int | None = None) -> Index:
        """The columns of a model's first samples, or of all."""
        return np.flatnonzero(self.owner == model)[:samples]

    def rows(self, chosen: Index) -> Grid:
        """The grid of these rows."""
        return Grid(
            items=tuple(self.items[row] for row in chosen),
            models=self.models,
            owner=self.owner,
            codes=self.codes[chosen],
            right=self.right[chosen],
            characters=self.characters[chosen],
            cost=self.cost[chosen],
            seconds=self.seconds[chosen],
            possible=self.possible[chosen],
            tasks=self.tasks[chosen],
            left_out=self.left_out,
            unlabelled=self.unlabelled,
        )


@lru_cache(maxsize=100_000)
def compared(answer: str | None) -> str | None:
    """The form in which recorded answers are compared; None for no answer.

    Numbers and JSON have the canonical forms of a run. Other answers were extracted already, so only their case and spaces
    are ignored, which takes a hundredth of the time.
    """
    if answer is None:
        return None
    text = answer.strip()
    form = structure_form(text) if text[:1] in ("[", "{") else number_form(text) if len(text) <= LONGEST else None
    return form.key if form else " ".join(unicodedata.normalize("NFKC", text).casefold().split()) or None


LONGEST = 40
"""Characters of a number."""


def grid_of(items: Iterable[Item], like: Grid | None = None) -> Grid:
    """Turn items into arrays.

    Args:
        items: the items; those without a label are left out.
        like: a grid whose models and columns this one has too; by default the models that cover enough items, in the order
            in which they appear.

    Raises:
        ConfigError: no item has a label, or no model covers enough items.
    """
    every = list(items)
    labelled = [item for item in every if _has_label(item)]
    if not labelled:
        raise ConfigError(
            'no item of the matrix has a label: give "correct" or "score" to the samples, or "gold" to the items'
        )
    counts: dict[str, int] = {}
    samples: dict[str, int] = {}
    for item in labelled:
        for model, given in item.answers.items():
            counts[model] = counts.get(model, 0) + bool(given)
            samples[model] = max(samples.get(model, 0), len(given))
    covering = [model for model, count in counts.items() if count >= COVERED * len(labelled)]
    kept = covering if like is None else like.models
    if not kept:
        raise ConfigError(f"no model of the matrix has answers to {COVERED:.0%} of its {len(labelled)} items")
    widths = [max(1, samples.get(model, 0)) for model in kept] if like is None else np.bincount(like.owner)
    starts = np.concatenate([[0], np.cumsum(widths)])
    shape = len(labelled), int(starts[-1])
    codes, right = np.full(shape, -1, np.int16), np.zeros(shape, np.float32)
    characters, cost, seconds = (np.full(shape, np.nan, np.float32) for _ in range(3))
    tasks: dict[str, int] = {}
    for row, item in enumerate(labelled):
        tasks.setdefault(item.task, len(tasks))
        gold, known = compared(item.gold), dict[str, int]()
        for model, start, width in zip(kept, starts, widths, strict=False):
            for column, sample in enumerate(item.answers.get(model, ())[:width], start):
                form = compared(sample.answer)
                if form is not None:
                    codes[row, column] = known.setdefault(form, len(known))
                right[row, column] = _label(sample, form, gold)
                characters[row, column] = _or_nan(sample.characters)
                cost[row, column] = _or_nan(sample.cost)
                seconds[row, column] = _or_nan(sample.seconds)
    return Grid(
        items=tuple(labelled),
        models=tuple(kept),
        owner=np.repeat(np.arange(len(kept)), widths),
        codes=codes,
        right=right,
        characters=characters,
        cost=cost,
        seconds=seconds,
        possible=np.array([len(item.options or options_of(item.question)) for item in labelled], dtype=np.int16),
        tasks=np.array([tasks[item.task] for item in labelled], dtype=np.intp),
        left_out=tuple(model for model in dict.fromkeys((*counts, *kept)) if model not in covering),
        unlabelled=len(every) - len(labelled),
    )


def _has_label(item: Item) -> bool:
    return item.gold is not None or any(
        sample.correct is not None for given in item.answers.values() for sample in given
    )


def _label(sample: Sample, form: str | None, gold: str | None) -> float:
    if sample.correct is not None:
        return sample.correct
    return float(form is not None and form == gold)


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
