"""The members' answers as ballots: which are the same, and which are right. Votes on them are arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from moa.evals.search.live.answers import Answers
from moa.evals.search.live.trial import right
from moa.evals.tasks.task import Task
from moa.mixture import tally
from moa.mixture.canonical import canonical, keys, options_of

Panel = Sequence[tuple[str, int]]
"""Members by name, each with the number of its samples."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """One answer: its canonical form, None if it has none or does not exist, and whether it is right."""

    form: str | None
    right: float
    given: bool = True


class Ballots:
    """The ballots of members on questions.

    Args:
        answers: of the members.
        names: the members.
        tasks: the questions, all of them answered.
    """

    def __init__(self, answers: Answers, names: Sequence[str], tasks: Sequence[Task]) -> None:
        self.names, self.tasks = list(names), list(tasks)
        self._of: dict[str, list[list[Ballot]]] = {name: [] for name in names}
        self._possible: list[int | None] = []
        for task in tasks:
            options = options_of(task.question)
            self._possible.append(len(options) or None)
            texts = {
                name: [reply.text if reply else None for reply in answers.of(task, name, answers.samples)]
                for name in names
            }
            forms = keys(
                [None if text is None else canonical(text, options) for each in texts.values() for text in each]
            )
            known = iter(forms)
            for name, given in texts.items():
                self._of[name].append([_ballot(task, text, next(known)) for text in given])

    def scores(self, name: str) -> list[float]:
        """Whether a member's first answer to each question is right."""
        return [ballots[0].right if ballots else 0.0 for ballots in self._of[name]]

    def accuracy(self, name: str) -> float:
        """The share of a member's right answers, drawn towards a half: strictly between 0 and 1, as a weight has to be."""
        labels = [ballot.right for ballots in self._of[name] for ballot in ballots]
        return (sum(labels) + 1) / (len(labels) + 2)

    def voted(self, panel: Panel, weights: Mapping[str, float]) -> list[float]:
        """Whether the vote of a panel on each question is right."""
        return self._counted(panel, weights, mux=False)

    def muxed(self, panel: Panel, weights: Mapping[str, float]) -> list[float]:
        """Whether the answer of the member that agrees most with itself is right."""
        return self._counted(panel, weights, mux=True)

    def _counted(self, panel: Panel, weights: Mapping[str, float], *, mux: bool) -> list[float]:
        found = []
        for place in range(len(self.tasks)):
            cast = [(name, ballot) for name, samples in panel for ballot in self._of[name][place][:samples]]
            forms = [ballot.form for _, ballot in cast]
            known = [weights.get(name) for name, _ in cast] if weights else []
            if mux:
                absent = [index for index, (_, ballot) in enumerate(cast) if not ballot.given]
                result = tally.mux(forms, [name for name, _ in cast], known, absent=absent)
            else:
                result = tally.vote(forms, known, possible=self._possible[place])
            first = next((ballot.right for _, ballot in cast if ballot.given), 0.0)
            found.append(first if result is None else cast[result.index][1].right)
        return found


def mean(scores: Sequence[float]) -> float:
    """The mean; 0 of none."""
    return fmean(scores) if scores else 0.0


def _ballot(task: Task, text: str | None, form: str | None) -> Ballot:
    return Ballot(None, 0.0, given=False) if text is None else Ballot(form, right(task, text))
