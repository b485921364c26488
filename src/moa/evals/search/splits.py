"""Seeded splits of items. Items with the same question stay together, so none is searched on and reported on."""

from __future__ import annotations

import numpy as np

from moa.evals.search.grid import Grid, Index
from moa.evals.search.words import asked

__all__ = ["parted"]


def parted(grid: Grid, parts: int, seed: int) -> list[Index]:
    """The rows of so many parts of about equal size, each in random order."""
    known: dict[str, int] = {}
    groups = np.array([known.setdefault(asked(item) or item.id, len(known)) for item in grid.items])
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(known))
    part_of_group = np.empty(len(known), dtype=np.intp)
    part_of_group[order] = np.arange(len(known)) % parts
    rows = generator.permutation(len(grid))
    part_of_row = part_of_group[groups[rows]]
    return [rows[part_of_row == part] for part in range(parts)]
