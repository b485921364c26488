"""Candidates that need calls, against the best so far: losers are dropped early, so that money goes to those that may win.

Notable decisions:
- A challenger answers the questions in blocks, each as large as all before it. After each block, a paired test compares
  it with
  the leader on the same questions: the sign test on those that only one of them solves (McNemar's, exact). A challenger that
  would do so badly in less than 10 of 100 races if it were as good is dropped, and so is one that cannot catch up.
- Only a challenger that has answered every question can win, so a race begins with as many challengers as there is money
  for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from moa.evals.proportion import at_most
from moa.evals.search.live.candidate import Candidate
from moa.evals.search.live.trial import Trials
from moa.evals.tasks.task import Task

FIRST_BLOCK = 8
"""Questions before the first test."""

UNLIKELY = 0.1
"""The probability below which a challenger's result counts as too bad for one that is as good as the leader."""


@dataclass(frozen=True, slots=True)
class Lap:
    """A challenger after a block.

    Attributes:
        candidate: the challenger.
        questions: how many it has answered.
        won, lost: questions that only it, and that only the leader solved.
        left: why it leaves the race; "" if it goes on.
    """

    candidate: Candidate
    questions: int
    won: int
    lost: int
    left: str = ""


async def race(
    trials: Trials,
    leader: Candidate,
    challengers: Sequence[Candidate],
    tasks: Sequence[Task],
    allowed: Callable[[Candidate, Sequence[Task]], str],
    is_late: Callable[[], bool] = lambda: False,
) -> list[Lap]:
    """Race the challengers against the leader, which has answered all questions.

    Args:
        trials: makes the calls, within the limit on cost.
        leader: the best candidate so far.
        challengers: candidates, the most promising first.
        tasks: the questions, in the order in which they are used up.
        allowed: why a candidate is not allowed by what it has cost so far, or "".
        is_late: whether the time for races is over; asked before each block.

    Returns:
        The last lap of each challenger. Those that have answered every question have no reason in ``left``.
    """
    running, laps = list(challengers), dict[Candidate, Lap]()
    for end in _blocks(len(tasks)):
        if not running or is_late():
            break
        paid = await trials.each(running, tasks[:end])
        for challenger in list(running):
            lap = _lap(trials, leader, challenger, tasks[:end], len(tasks) - end)
            if challenger in trials.failed:
                lap = Lap(challenger, lap.questions, lap.won, lap.lost, trials.failed[challenger])
            elif lap.questions < end:
                lap = Lap(
                    challenger, lap.questions, lap.won, lap.lost, f"the {'time' if is_late() else 'money'} ran out"
                )
            elif why := allowed(challenger, tasks[:end]):
                lap = Lap(challenger, lap.questions, lap.won, lap.lost, why)
            laps[challenger] = lap
            if lap.left:
                running.remove(challenger)
        if not paid:
            break
    unfinished = [lap for lap in laps.values() if not lap.left and lap.questions < len(tasks)]
    late = {
        lap.candidate: Lap(lap.candidate, lap.questions, lap.won, lap.lost, "the time ran out") for lap in unfinished
    }
    return list((laps | late).values())


def _blocks(count: int) -> Iterator[int]:
    """The ends of the blocks."""
    end = FIRST_BLOCK
    while end < count:
        yield end
        end *= 2
    yield count


def _lap(trials: Trials, leader: Candidate, challenger: Candidate, tasks: Sequence[Task], left: int) -> Lap:
    won = lost = questions = 0
    for task in tasks:
        ours, theirs = trials.outcome(challenger, task), trials.outcome(leader, task)
        if ours is not None and theirs is not None:
            questions += 1
            won += ours.right > theirs.right
            lost += ours.right < theirs.right
    why = ""
    if lost - won > left:
        why = "it cannot catch up"
    elif won < lost and at_most(won, won + lost, 0.5) < UNLIKELY:
        why = f"it solves {won} questions that the leader does not, and misses {lost}"
    return Lap(challenger, questions, won, lost, why)
