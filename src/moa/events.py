"""The events of a run, to follow it while it happens or to read a kept one.

::

    from moa import Mixture
    from moa.events import AgentFailed, AgentSaid, Fold, Selected

    folding = Fold()
    async for event in mixture.run("Why is the sky blue?"):
        folding.add(event)
        match event:
            case AgentSaid(role="aggregator"):
                print(event.delta.text, end="")    # the answer's words
            case Selected():
                print(event.text)                  # the answer, where a proposal is selected instead
            case AgentFailed():
                print(f"{event.agent}: {event.error}")
    answer = folding.answer

- The kinds of events: see :mod:`moa.mixture.events`. All are frozen, and have ``at``, seconds on a monotonic clock.
- :func:`fold` and :class:`Fold` make an :class:`~moa.answers.Answer` of events, at any point of the run.
- :func:`as_json` and :func:`event_of`: an event as plain data, as ``moa ask --json`` and the server's ``/runs`` show it, and
  back. :func:`events_of`: the events of all lines of a run.
"""

from moa.mixture.codec import as_json, event_of, events_of
from moa.mixture.events import (
    EVENTS,
    AgentContinued,
    AgentDropped,
    AgentEvent,
    AgentFailed,
    AgentFinished,
    AgentRecalled,
    AgentSaid,
    AgentSkipped,
    AgentSpent,
    AgentStarted,
    AgentVoted,
    Analysed,
    AnswerBegan,
    Cluster,
    Event,
    Moderated,
    Noticed,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    Seat,
    Selected,
    VotesCounted,
)
from moa.mixture.fold import Fold, fold

__all__ = [
    "EVENTS",
    "AgentContinued",
    "AgentDropped",
    "AgentEvent",
    "AgentFailed",
    "AgentFinished",
    "AgentRecalled",
    "AgentSaid",
    "AgentSkipped",
    "AgentSpent",
    "AgentStarted",
    "AgentVoted",
    "Analysed",
    "AnswerBegan",
    "Cluster",
    "Event",
    "Fold",
    "Moderated",
    "Noticed",
    "RunFailed",
    "RunFinished",
    "RunStarted",
    "RunStopped",
    "Seat",
    "Selected",
    "VotesCounted",
    "as_json",
    "event_of",
    "events_of",
    "fold",
]
