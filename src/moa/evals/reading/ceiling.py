"""How good can a mixture of these members be? What its members know together, before a mixture of them is built.

Notable decisions:
- An item on which every member fails is lost to every mixture that only chooses among its members' answers: one minus the
  share of these items is the ceiling of vote, mux, central, select and every route. A synthesis may pass it, and rarely
  does.
- A member fails an item where its score is below a threshold. Scores that are grades, not right or wrong, are taken from 0,
  the worst grade, to 1, the best.
- Members are compared with one sample each. Where a member has several, more samples are another member's worth of calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from moa.errors import ConfigError
from moa.evals.proportion import clopper_pearson

PASSES = 0.5
"""The score, from 0 to 1, from which an item counts as solved."""

Scores = Mapping[str, Sequence[float]]
"""By member, the score of each item from 0 to 1; every member has the same items, in the same order."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member by itself.

    Attributes:
        name: its name.
        score: its mean score.
        alone: the share of items that it alone solves.
    """

    name: str
    score: float
    alone: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two members.

    Attributes:
        first, second: their names; ``first`` has the higher score.
        oracle: the mean of the better score of the two.
        gain: by how much that exceeds the score of ``first``.
        rescued: the share of the items that ``first`` fails and ``second`` solves; None if it fails none.
        together: the correlation of their failures, -1 to 1; 0 is independent, None if one of them always or never fails.
    """

    first: str
    second: str
    oracle: float
    gain: float
    rescued: float | None
    together: float | None


@dataclass(frozen=True, slots=True)
class Reached:
    """What a mixture makes of its members.

    Attributes:
        name: its name.
        score: its mean score on the same items.
        regret: by how much the oracle exceeds it.
        gain: by how much it exceeds the best member; negative if it is worse.
        captured: the share of the way from the best member to the oracle; None if there is no way.
        rescued: items that every member fails and the mixture solves.
    """

    name: str
    score: float
    regret: float
    gain: float
    captured: float | None
    rescued: int


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What members know together. Shares and scores are from 0 to 1.

    Attributes:
        items: the number of items.
        members: the best first.
        oracle: the mean of the best score of each item.
        failing: the number of items that every member fails.
        share, low, high: the share of these items, and its 95 % interval (Clopper and Pearson).
        steps: members in the order in which they raise the oracle most, each with the oracle so far.
        pairs: the pairs of members, those with the highest oracle first.
        reached: what mixtures reach.
        passes: the score from which an item counts as solved.
    """

    items: int
    members: tuple[Member, ...]
    oracle: float
    failing: int
    share: float
    low: float
    high: float
    steps: tuple[tuple[str, float], ...]
    pairs: tuple[Pair, ...]
    reached: tuple[Reached, ...] = ()
    passes: float = PASSES


def ceiling_of(members: Scores, mixtures: Scores | None = None, *, passes: float = PASSES) -> Ceiling:
    """What these members know together, and what mixtures of them reach.

    Args:
        members: by name; at least two.
        mixtures: by name, on the same items.
        passes: the score from which an item counts as solved.

    Raises:
        ConfigError: there are fewer than two members, or no items.
    """
    if len(members) < 2:
        raise ConfigError(f"a ceiling needs at least two members; here is {', '.join(members) or 'none'}")
    items = len(next(iter(members.values())))
    if not items:
        raise ConfigError("no item has an answer of every member")
    means = {name: _mean(scores) for name, scores in members.items()}
    names = sorted(members, key=lambda name: -means[name])
    solved = {name: [score >= passes for score in scores] for name, scores in members.items()}
    solvers = [sum(row) for row in zip(*solved.values(), strict=True)]
    failing = solvers.count(0)
    low, high = clopper_pearson(failing, items)
    oracle = _mean(_best(members.values()))
    return Ceiling(
        items,
        tuple(
            Member(
                name,
                means[name],
                _mean([yes and count == 1 for yes, count in zip(solved[name], solvers, strict=True)]),
            )
            for name in names
        ),
        oracle,
        failing,
        failing / items,
        low,
        high,
        tuple(_steps(members)),
        tuple(
            sorted(
                (_pair(one, other, members, means, solved) for one, other in combinations(names, 2)),
                key=lambda pair: -pair.oracle,
            )
        ),
        tuple(
            _reached(name, scores, means[names[0]], oracle, solvers, passes)
            for name, scores in (mixtures or {}).items()
        ),
        passes,
    )


def _steps(members: Scores) -> list[tuple[str, float]]:
    """Members in the order in which each raises the oracle most."""
    best = [0.0] * len(next(iter(members.values())))
    left, steps = dict(members), list[tuple[str, float]]()
    while left:
        raised = {name: _best([best, scores]) for name, scores in left.items()}
        name = max(raised, key=lambda each: sum(raised[each]))
        best = raised[name]
        del left[name]
        steps.append((name, _mean(best)))
    return steps


def _pair(
    first: str, second: str, members: Scores, means: Mapping[str, float], solved: Mapping[str, Sequence[bool]]
) -> Pair:
    oracle = _mean(_best([members[first], members[second]]))
    both = list(zip(solved[first], solved[second], strict=True))
    failed = [other for one, other in both if not one]
    p, q = _mean(solved[first]), _mean(solved[second])
    spread = (p * (1 - p) * q * (1 - q)) ** 0.5
    together = (_mean([one and other for one, other in both]) - p * q) / spread if spread else None
    return Pair(first, second, oracle, oracle - means[first], _mean(failed) if failed else None, together)


def _reached(
    name: str, scores: Sequence[float], best: float, oracle: float, solvers: Sequence[int], passes: float
) -> Reached:
    score = _mean(scores)
    way = oracle - best
    rescued = sum(not count and own >= passes for own, count in zip(scores, solvers, strict=True))
    return Reached(name, score, oracle - score, score - best, (score - best) / way if way > 0 else None, rescued)


def _best(scores: Iterable[Sequence[float]]) -> list[float]:
    """The best score of each item."""
    return [max(row) for row in zip(*scores, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
