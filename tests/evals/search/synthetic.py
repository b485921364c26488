"""Matrices whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from moa.evals.search.matrix import Item, Sample

KINDS = ("apples", "pears")


def items(
    accuracies: Mapping[str, Mapping[str, float] | float], count: int = 240, seed: int = 1, samples: int = 1
) -> list[Item]:
    """Questions about apples and pears, whose right answer is ``right``; each model has its accuracy on each kind.

    Models err independently, over three wrong answers. A right response is short more often than a wrong one.
    """
    generator = np.random.default_rng(seed)
    return [_item(number, accuracies, generator, samples) for number in range(count)]


def _item(
    number: int, accuracies: Mapping[str, Mapping[str, float] | float], generator: np.random.Generator, samples: int
) -> Item:
    kind = KINDS[number % 2]
    answers: dict[str, tuple[Sample, ...]] = {}
    for model, known in accuracies.items():
        accuracy = known if isinstance(known, float) else known[kind]
        answers[model] = tuple(_sample(generator.random() < accuracy, generator) for _ in range(samples))
    return Item(str(number), f"Question {number} of the {kind}?", answers, task=f"task {number % 12}", gold="right")


def _sample(right: bool, generator: np.random.Generator) -> Sample:
    answer = "right" if right else f"wrong {generator.integers(3)}"
    is_short = generator.random() < (0.8 if right else 0.3)
    text = f"{'Hm. ' * (2 if is_short else 30)}\n\nThe answer is **{answer}**."
    return Sample(answer, float(right), len(text), text=text)
