"""Vote and mux for real: a dozen generated questions, answered by the weights that come with the development install."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from moa import Mixture
from moa.mixture.aggregation import AggregationName
from moa.models.embedded import EmbeddedModel
from tests.models.embedding import needs_weights

pytestmark = [needs_weights, pytest.mark.slow]

QUESTIONS = 12
SAMPLES = 3


def questions() -> Iterator[str]:
    """Comparisons of two numbers."""
    draw = random.Random(7)
    for _ in range(QUESTIONS):
        yield f"Is {draw.randint(1, 99)} greater than {draw.randint(1, 99)}? Answer yes or no."


@pytest.mark.parametrize("aggregate", ["vote", "mux"])
def test_small_weights_answer_by_counting(aggregate: AggregationName) -> None:
    """Every question gets the text of a sample; most samples end at a full stop, so that they can be counted."""
    member = {
        "model": EmbeddedModel("smollm2", context=256),
        "temperature": 0.7,
        "max_tokens": 16,
        "stop": [".", ",", "\n"],
    }
    mixture = Mixture([[member] * SAMPLES], aggregate=aggregate)
    answers = [mixture.ask(question, seed=1) for question in questions()]
    for answer in answers:
        assert answer.text in [proposal.text for proposal in answer.proposals]
    counted = [answer.agreement for answer in answers if answer.agreement is not None]
    assert len(counted) >= QUESTIONS // 2 and all(0 < agreement <= 1 for agreement in counted)
