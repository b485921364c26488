"""AlpacaEval's judgments, own or published, as columns: the preference, the lengths of both answers, their order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moa.evals.asking.data import Row, Shelf
from moa.evals.benchmarks.alpaca_eval.judging import (
    INSTRUCTIONS,
    OUTPUTS,
    instructions,
    is_switched,
    weighted,
)


@dataclass(slots=True)
class Judged:
    """Judgments of one system as columns of equal length; NaN and None for unknown values. ``foreign``: how many of them, at
    the end, are of instructions that are not the benchmark's."""

    preference: list[float] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    baseline_lengths: list[float] = field(default_factory=list)
    switched: list[bool | None] = field(default_factory=list)
    foreign: int = 0

    def only(self, places: Sequence[int]) -> Judged:
        """These rows."""
        columns: tuple[list[Any], ...] = (
            self.preference,
            self.index,
            self.lengths,
            self.baseline_lengths,
            self.switched,
        )
        preference, index, lengths, baseline_lengths, switched = (
            [column[place] for place in places] for column in columns
        )
        return Judged(preference, index, lengths, baseline_lengths, switched)


def known_texts(shelf: Shelf) -> list[str]:
    """The benchmark's instructions in their order; none if they are not on this machine."""
    rows = instructions(shelf) if shelf.here(OUTPUTS) else shelf.rows(INSTRUCTIONS) if shelf.here(INSTRUCTIONS) else []
    return [row["instruction"] for row in rows]


def columns_of(rows: Sequence[Row], texts: Sequence[str], places: Mapping[str, int]) -> Judged:
    """The rows as columns; an instruction with two judgments counts once, with the last that did not fail."""
    found: dict[tuple[bool, int], tuple[float, float, float, bool | None]] = {}
    others: dict[str, int] = {}
    for place, row in enumerate(rows):
        text = row.get("instruction")
        index = row.get("index", row.get("moa", {}).get("index"))
        foreign = text is not None and bool(places) and text not in places
        if foreign:
            index = others.setdefault(str(text), len(others))
        elif text is not None and text in places:
            index = places[text]
        index = int(index) if index is not None else place
        text = text if text is not None else texts[index] if 0 <= index < len(texts) else None
        switched = row.get("is_switched_outputs")
        switched = is_switched(text) if switched is None and text is not None else switched
        preference = preference_of(row, switched)
        if math.isnan(preference) and (foreign, index) in found:
            continue
        found[foreign, index] = (preference, _length(row, "2"), _length(row, "1"), switched)
    ordered = sorted(found.items())
    return Judged(
        [row[0] for _, row in ordered],
        [index for (_, index), _ in ordered],
        [row[1] for _, row in ordered],
        [row[2] for _, row in ordered],
        [row[3] for _, row in ordered],
        sum(foreign for foreign, _ in found),
    )


def preference_of(row: Row, switched: bool | None) -> float:
    """The preference, 1 to 2, a draw as 1.5; NaN if the judgment failed.

    A row without a preference that has the judge's log-probabilities is read from these, if it is known whether the order
    of the answers was ``switched``.
    """
    try:
        preference = float(row["preference"])
    except (KeyError, TypeError, ValueError):
        preference = math.nan
        if row.get("preference") is None and isinstance(row.get("raw_completion"), dict) and switched is not None:
            content = (row["raw_completion"].get("logprobs") or {}).get("content") or [{}]
            tokens = {one["token"]: one["logprob"] for one in content[0].get("top_logprobs", ())}
            shown_second = weighted(tokens)
            if shown_second is not None:
                preference = 3 - shown_second if switched else shown_second
    if preference == 0:
        return 1.5
    return preference if 1 <= preference <= 2 else math.nan


def _length(row: Row, which: str) -> float:
    text = row.get(f"output_{which}")
    length = len(text) if isinstance(text, str) else row.get(f"len_{which}")
    return math.nan if length is None else float(length)
