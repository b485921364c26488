"""Whatever the texts, chunks, delays and failures: an answer is what its model wrote, or the run reports what is missing."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from moa import Mixture
from moa.errors import RunError
from moa.events import AgentSaid, AgentStarted, Selected
from moa.messages import Answer
from moa.schedules import Barrier, EarlyExit, Quorum, Schedule, Staircase
from tests.fakes.virtual_time import run_in_virtual_time
from tests.mixture.piecewise import PiecewiseWriter


def schedule_of(chance: random.Random) -> Schedule:
    staircases = [Staircase(), Staircase((8, 32), (8, 24)), Staircase((2, 4, 16), (1, 30, 40)), Staircase(quorum=1.0)]
    others: list[Schedule] = [Barrier(), Quorum(1), EarlyExit(Staircase(), answer="aggregate")]
    return chance.choice([*staircases, *staircases, *others])


async def ask(mixture: Mixture) -> tuple[str, Answer]:
    """The answer's text as a reader of the events sees it, and the answer."""
    shown = ""
    async with mixture.run("Why?") as run:
        async for event in run:
            if isinstance(event, AgentStarted) and event.role == "aggregator":
                shown = ""
            elif isinstance(event, AgentSaid) and event.role == "aggregator":
                shown += event.delta.text
            elif isinstance(event, Selected):
                shown = event.text
    return shown, run.answer


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.0, 0.1, 0.3]))
def test_an_answer_is_whole_or_the_run_reports_what_is_missing(seed: int, trouble: float) -> None:
    """Depths 1 to 3, both ways to continue and none, with and without failures and fallbacks."""
    chance = random.Random(seed)

    def writer(name: str) -> PiecewiseWriter:
        return PiecewiseWriter(name, chance, chance.choice(["prefix", "prefix", "turns", None]), trouble)

    layers = [[writer(f"p{layer}{place}") for place in range(2)] for layer in range(chance.randint(0, 2))]
    last, fallbacks = writer("z"), [writer("y")][: chance.randint(0, 1)]
    mixture = Mixture(layers, last, fallbacks=fallbacks, schedule=schedule_of(chance))
    shown, answer = run_in_virtual_time(ask(mixture))
    members = [last, *fallbacks, *(one for layer in layers for one in layer)]
    if answer.error is not None:
        assert isinstance(answer.error, RunError)
        assert any(member.troubled for member in members)
        return
    assert shown == answer.text
    if not answer.degraded and answer.finish_reason == "stop":
        assert last.wrote(answer.text)
    else:
        assert any(one.troubled for one in members) or isinstance(mixture.schedule, Quorum), answer.degraded
    assert any(one.began(answer.text) for one in [last, *fallbacks])
    by_name = {member.name.partition("/")[2]: member for member in members}
    for call in answer.proposals:
        proposer = by_name[call.agent]
        assert proposer.began(call.text), call
        assert proposer.wrote(call.text) or call.cut or proposer.troubled, call
