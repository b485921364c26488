from __future__ import annotations

import pytest

from moa import Mixture, Scripted, fold
from moa.errors import RateLimited, RunError
from moa.messages import Request
from moa.mixture.events import AgentSaid, Event, RunFailed, RunStarted, RunStopped

pytestmark = pytest.mark.anyio


async def events_of_run(mixture: Mixture) -> list[Event]:
    return [event async for event in mixture.run("Why?")]


def failing() -> Mixture:
    return Mixture([[Scripted("paid for", name="s/p")]], Scripted(RateLimited("s/l", "slow down"), name="s/l"))


def test_a_stopped_run_has_a_duration() -> None:
    """The duration of a stopped run ends when it was stopped."""
    began = RunStarted(at=1.0, run_id="r", mixture="m", schedule="Barrier()", started=0.0, seats=())
    assert fold([began, RunStopped(at=3.5)]).duration == 2.5


async def test_a_fold_can_be_read_at_any_time() -> None:
    """Folding the first events gives the answer up to that point."""
    events = await events_of_run(Mixture([[Scripted("one two")]], Scripted("three four", name="s/l")))
    halfway = next(n for n, event in enumerate(events) if isinstance(event, AgentSaid) and event.role == "aggregator")
    assert fold([]).text == ""
    assert fold(events[: halfway + 1]).text == "three "
    assert fold(events[: halfway + 1]).duration is None
    assert fold(events).text == "three four"


async def test_a_fold_changes_no_event() -> None:
    """The error of a failed run is in the answer as it was emitted, without an answer of its own."""
    events = await events_of_run(failing())
    answer, last = fold(events), events[-1]
    assert isinstance(last, RunFailed) and last.error.answer is None
    assert answer.error is last.error


async def test_a_raised_error_holds_what_was_paid_for() -> None:
    """Mixture.answer and Mixture.stream raise an error with the proposals; the answer does not refer back to it."""
    with pytest.raises(RunError, match="slow down") as waited:
        await failing().answer("Why?")
    with pytest.raises(RunError, match="slow down") as streamed:
        _ = [delta async for delta in failing().stream(Request.of("Why?"))]
    for raised in (waited.value, streamed.value):
        assert raised.answer and [call.text for call in raised.answer.proposals] == ["paid for"]
        assert isinstance(raised.answer.error, RunError) and raised.answer.error.answer is None
        assert type(raised.answer.error) is type(raised) and raised.errors == raised.answer.error.errors
