from __future__ import annotations

import pytest

from moa import Mixture, Scripted
from moa.messages import text_of
from moa.mixture.events import Noticed
from moa.schedules import Barrier, EarlyExit, Quorum, Schedule
from tests.mixture.writers import long_text, run, writer


@pytest.mark.parametrize("schedule", [Barrier(), Quorum(2)])
def test_when_proposals_agree_the_layers_behind_them_are_left_out(schedule: Schedule) -> None:
    """Short answers that differ only in case and punctuation are the answer; no agent behind them is called."""
    deeper, last = writer("deeper"), writer("answer")
    first = [Scripted(text, name="scripted/p") for text in ("It is Paris.", "It is Paris", "it is paris!")]
    events, answer = run(Mixture([first[:], [deeper]], last, schedule=EarlyExit(schedule)))
    assert answer.text == "It is Paris."
    assert (deeper.requests, last.requests) == ([], [])
    assert any(isinstance(event, Noticed) and "layer 1 agree" in event.message for event in events)


def test_the_aggregator_can_write_from_the_agreed_proposal() -> None:
    """With answer="aggregate" the aggregator reads that proposal alone."""
    last = writer("answer")
    first = [Scripted("It is Paris.", name="scripted/p") for _ in range(3)]
    _, answer = run(Mixture([first], last, schedule=EarlyExit(Barrier(), answer="aggregate")))
    assert answer.text == long_text("answer")
    assert text_of(last.requests[0].messages[0]).count("<response ") == 1


def test_proposals_that_differ_do_not_agree() -> None:
    """The next layer is called for different short answers, for long ones that are not alike, and for a lone proposal."""
    short = [Scripted(text, name="scripted/p") for text in ("It is Paris.", "It is Rome.")]
    for first in (short, [writer("p"), writer("q")], [writer("p")]):
        last = writer("answer")
        run(Mixture([first], last, schedule=EarlyExit(Barrier())))
        assert len(last.requests) == 1


def test_long_proposals_agree_from_a_similarity_up() -> None:
    """The threshold applies to every pair."""
    schedule = EarlyExit(Barrier(), threshold=0.8)
    assert schedule.agree([long_text("p"), long_text("p") + " and more"])
    assert not schedule.agree([long_text("p"), long_text("q")])
    assert not schedule.agree([long_text("p"), long_text("p"), long_text("q")])


@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    """It is a share above 0 and up to 1."""
    with pytest.raises(ValueError, match="threshold is a share"):
        EarlyExit(Barrier(), threshold=threshold)
