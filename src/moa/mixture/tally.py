"""The arithmetic of votes: which of several answers wins. No model, no text and no event is involved.

Runs and measurements use these same functions, so a vote gives the same answer in both. Every function takes parallel
sequences: ``answers[i]`` is the answer of member ``i``, and ``weights[i]`` its accuracy. Two answers are the same exactly if
they are equal, so bring them into a canonical form first (:mod:`moa.mixture.canonical`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from moa.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Tally:
    """The result of a count.

    Attributes:
        winner: the answer that wins.
        index: the member whose text is the answer: the strongest of those that gave the winner, else the first of them.
        scores: what each answer reached, the winner first: a sum of vote weights, or with ``mux`` a share from 0 to 1.
        voters: the members that gave each answer, in the same order.
        agreement: a vote's share of the answers that equal the winner, or with ``mux`` the share of its samples in which
            the chosen model gave the winner; above 0 and up to 1.
    """

    winner: str
    index: int
    scores: Mapping[str, float]
    voters: Mapping[str, tuple[int, ...]]
    agreement: float


def vote(
    answers: Sequence[str | None],
    weights: Sequence[float | None] = (),
    *,
    possible: int | None = None,
    votes: Sequence[float] = (),
) -> Tally | None:
    """The answer with the highest sum of vote weights; None where there is no answer.

    The weight of a vote is log(p (K − 1) / (1 − p)) for a member of accuracy p, where K is the number of answers that are
    possible: it ranks answers by their probability if members err independently, and evenly over the wrong answers.

    - K is ``possible`` where it is known, such as the options of a choice. Otherwise it is the number of different answers
      seen, at least 2. Where that would make a member worse than chance (p < 1/K), K − 1 is 1/p of the weakest member: an
      open question has wrong answers that nobody gave.
    - No vote counts against its answer: with ``possible`` known, a member worse than chance has weight 0. Where that leaves
      no weight at all, each vote counts 1.
    - A member without an accuracy has the mean of the known ones. Without any, each vote counts 1.
    - A tie goes to the answer of the strongest member, by accuracy, else to that of the first member.

    Args:
        answers: None where a member gave no answer that can be compared; it does not vote.
        weights: accuracies strictly between 0 and 1, None where unknown; empty: all unknown.
        possible: how many answers are possible, if that is known.
        votes: what each vote counts instead, as a log-odds; see :mod:`moa.mixture.calibration`. It may be negative.

    Raises:
        ConfigError: an accuracy is not strictly between 0 and 1.
        ValueError: ``weights`` and ``answers`` differ in length.
    """
    accuracies = _accuracies(weights, len(answers))
    voters = _voters(answers)
    if not voters:
        return None
    if votes:
        return _counted(voters, accuracies, votes)
    return _counted(voters, accuracies, _vote_weights(accuracies, _others(accuracies, len(voters), possible)))


def is_settled(
    answers: Sequence[str | None],
    outstanding: Collection[int],
    weights: Sequence[float | None] = (),
    *,
    possible: int | None = None,
) -> bool:
    """Whether :func:`vote` gives the same winner, whatever the ``outstanding`` members answer. Arguments as there.

    What ``answers`` holds for an outstanding member is ignored.
    """
    accuracies = _accuracies(weights, len(answers))
    voters = _voters([None if index in outstanding else answer for index, answer in enumerate(answers)])
    if not outstanding or not voters:
        return not outstanding
    winners: set[str] = set()
    for seen in range(len(voters), len(voters) + len(outstanding) + 1):  # so many different answers in the end
        votes = _vote_weights(accuracies, _others(accuracies, seen, possible))
        winners.add(_counted(voters, accuracies, votes).winner)
        for rival in (*voters, _UNSEEN):  # no vote counts against an answer, so this is the worst that can happen
            worst = {**voters, rival: (*voters.get(rival, ()), *outstanding)}
            winners.add(_counted(worst, accuracies, votes).winner)
    return len(winners) == 1


def mux(
    answers: Sequence[str | None],
    models: Sequence[str],
    weights: Sequence[float | None] = (),
    *,
    absent: Collection[int] = (),
) -> Tally | None:
    """The answer of the model that agrees most with itself (SLM-MUX, arXiv 2510.05077); None where there is no answer.

    A model's agreement is the share of its samples that give its most frequent answer. Ties go to the most accurate model,
    then to the answer that most samples of all models give, then to the first in order. A model without an accuracy has the
    mean of the known ones.

    Args:
        answers: one for each sample; None where a sample has no answer that can be compared, which lowers the agreement of
            its model.
        models: the model of each sample.
        weights: accuracies strictly between 0 and 1, None where unknown; a model's is the mean over its samples.
        absent: samples that do not exist, such as those of calls that failed; what ``answers`` holds for them is ignored.

    Raises:
        ConfigError: an accuracy is not strictly between 0 and 1.
        ValueError: the arguments differ in length.
    """
    ranked = _ranked(answers, models, _accuracies(weights, len(answers)), absent)
    if not ranked:
        return None
    scores: dict[str, float] = {}
    for model in ranked:
        scores.setdefault(model.winner, model.agreement)
    voters = _voters([None if index in absent else answer for index, answer in enumerate(answers)])
    unchosen = {answer: 0.0 for answer in voters if answer not in scores}
    scores |= unchosen
    best = ranked[0]
    return Tally(best.winner, best.index, scores, {answer: voters[answer] for answer in scores}, best.agreement)


def is_mux_settled(
    answers: Sequence[str | None],
    models: Sequence[str],
    outstanding: Collection[int],
    weights: Sequence[float | None] = (),
    *,
    absent: Collection[int] = (),
) -> bool:
    """Whether :func:`mux` gives the same winner, whatever the ``outstanding`` samples answer, or if they fail.

    What ``answers`` holds for an outstanding sample is ignored. It may be False where the winner is certain.
    """
    accuracies = _accuracies(weights, len(answers))
    left = Counter(models[index] for index in outstanding if index not in absent)
    if not left:
        return True
    ranked = _ranked(answers, models, accuracies, {*outstanding, *absent})
    if not ranked or left[ranked[0].model] or ranked[0].tied:
        return False
    best, rivals = ranked[0], {model.model: model for model in ranked[1:]}
    for name in {*rivals, *left}:
        ended = sum(
            model == name and index not in outstanding and index not in absent for index, model in enumerate(models)
        )
        top = rivals[name].top if name in rivals else 0
        known = fmean(accuracies[index] for index, model in enumerate(models) if model == name)
        if ((top + left[name]) / (ended + left[name]), known) >= (best.agreement, best.accuracy):
            return False
    return True


_UNSEEN = "\0"  # stands for an answer that no member has given


@dataclass(frozen=True, slots=True)
class _Model:
    """What the samples of one model say. ``top``: how many give its ``winner``; ``tied``: another answer has as many."""

    model: str
    winner: str
    index: int
    top: int
    agreement: float
    accuracy: float
    tied: bool


def _ranked(
    answers: Sequence[str | None], models: Sequence[str], accuracies: Sequence[float], absent: Collection[int]
) -> list[_Model]:
    """The models that gave an answer, the one that wins first."""
    support = Counter(answer for index, answer in enumerate(answers) if answer is not None and index not in absent)
    found: list[_Model] = []
    for model, group in _voters(models).items():
        present = [index for index in group if index not in absent]
        counts = Counter(answer for index in present if (answer := answers[index]) is not None)
        if counts:
            winner = max(counts, key=lambda answer: (counts[answer], support[answer]))  # else the first, as counted
            top, accuracy = counts[winner], fmean(accuracies[index] for index in group)
            index = next(index for index in present if answers[index] == winner)
            tied = [*counts.values()].count(top) > 1
            found.append(_Model(model, winner, index, top, top / len(present), accuracy, tied))
    return sorted(found, key=lambda each: (-each.agreement, -each.accuracy, -support[each.winner]))


def _accuracies(weights: Sequence[float | None], count: int) -> list[float]:
    """The accuracies of all members: unknown ones are the mean of the known ones; all equal where none is known."""
    given = list(weights) or [None] * count
    if len(given) != count:
        raise ValueError(f"{len(given)} weights for {count} answers")
    known = [checked_accuracy(weight) for weight in given if weight is not None]
    mean = fmean(known) if known else _EQUAL
    return [mean if weight is None else weight for weight in given]


_EQUAL = math.inf  # the accuracy of members of whom nothing is known


def checked_accuracy(value: object, name: str = "an accuracy") -> float:
    """The accuracy, a number strictly between 0 and 1; ``name`` opens the error message.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigError(f"{name} is {value!r}; expected a number strictly between 0 and 1")
    return float(value)


def _voters(answers: Sequence[str | None]) -> dict[str, tuple[int, ...]]:
    """The members that gave each answer, in order."""
    voters: dict[str, tuple[int, ...]] = {}
    for index, answer in enumerate(answers):
        if answer is not None:
            voters[answer] = (*voters.get(answer, ()), index)
    return voters


def _others(accuracies: Sequence[float], seen: int, possible: int | None) -> float:
    """The logarithm of K − 1, the number of wrong answers that are possible, where so many different ones were seen."""
    if possible is not None:
        return math.log(max(possible, seen, 2) - 1)
    others, weakest = max(seen, 2) - 1, min(accuracies)
    return -math.log(weakest) if weakest * (others + 1) < 1 else math.log(others)


def _vote_weights(accuracies: Sequence[float], others: float) -> list[float]:
    """The weight of each member's vote."""
    if _EQUAL in accuracies:
        return [1.0] * len(accuracies)
    votes = [max(0.0, math.log(p) - math.log1p(-p) + others) for p in accuracies]
    return votes if any(votes) else [1.0] * len(votes)


def _counted(voters: Mapping[str, tuple[int, ...]], accuracies: Sequence[float], votes: Sequence[float]) -> Tally:
    """The tally of these votes, of which there is at least one."""
    scores = {answer: math.fsum(votes[index] for index in group) for answer, group in voters.items()}
    strongest = {answer: max(group, key=lambda index: (accuracies[index], -index)) for answer, group in voters.items()}

    def rank(answer: str) -> tuple[float, float, int]:
        return (scores[answer], accuracies[strongest[answer]], -strongest[answer])

    order = sorted(voters, key=rank, reverse=True)
    winner, total = order[0], sum(map(len, voters.values()))
    return Tally(
        winner,
        strongest[winner],
        {answer: scores[answer] for answer in order},
        {answer: voters[answer] for answer in order},
        len(voters[winner]) / total,
    )
