"""A custom aggregation: a function of the request and the proposals that returns the answer, or an index.

uv run python examples/own_aggregation.py
"""

import re
from collections import Counter
from collections.abc import Sequence

from moa import EmbeddedModel, Mixture, Reference, Request


def vote(request: Request, proposals: Sequence[Reference]) -> str:
    """The number that most proposals end with."""
    numbers = [number for proposal in proposals for number in re.findall(r"\d+", proposal.text)[-1:]]
    return Counter(numbers).most_common(1)[0][0] if numbers else "no number"


def shortest(request: Request, proposals: Sequence[Reference]) -> int:
    """The index of the shortest proposal: that proposal is the answer, word for word."""
    return min(range(len(proposals)), key=lambda index: len(proposals[index].text))


layer = [{"model": EmbeddedModel("smollm2"), "temperature": 0.7, "max_tokens": 24}] * 3
for aggregate in (vote, shortest):
    print(f"{aggregate.__name__}: {Mixture([layer], aggregate=aggregate).ask('What is 2 + 3? Reply with a number.')}")
