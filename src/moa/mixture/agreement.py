"""Whether proposals agree: the one notion that an early exit and ``when = "disagree"`` share, on the forms that votes count.

Proposals that each give an answer with a canonical form agree exactly if all forms are equal. Others agree if they are
alike: short ones in all their words, long ones by their similarity, with the same numbers, signs and negations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from moa.mixture.canonical import canonical, keys
from moa.mixture.facts import facts, plain
from moa.mixture.selection import similarity

THRESHOLD = 0.9
"""The least similarity of any two long proposals."""

SHORT = 60
"""Characters up to which a proposal is short. Short proposals agree only if their words are the same."""


def agree(texts: Sequence[str], threshold: float = THRESHOLD, options: Mapping[str, str] | None = None) -> bool:
    """Whether there are at least two proposals and all agree.

    ``"It is **Paris**."`` and ``"it is paris"`` agree, and so do ``"12 × 3 = 36. The answer is 36."`` and ``"\\boxed{36}"``;
    ``"It is Rome."`` agrees with none of them, nor do ``"-5"`` and ``"5"``.

    Args:
        threshold: see :func:`moa.mixture.selection.similarity`.
        options: what the question lists by letter; see :func:`moa.mixture.canonical.options_of`.
    """
    if len(texts) < 2:
        return False
    if all(len(text) <= SHORT for text in texts) and len({plain(text) for text in texts}) == 1:
        return True
    forms = [canonical(text, options) for text in texts]
    if any(forms):
        return all(forms) and len({*keys(forms)}) == 1
    if all(len(text) <= SHORT for text in texts) or any(facts(text) != facts(texts[0]) for text in texts[1:]):
        return False
    return all(similarity(one, other) >= threshold for one, other in combinations(texts, 2))
