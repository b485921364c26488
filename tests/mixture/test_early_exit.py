from __future__ import annotations

import pytest

from moa import Mixture, Scripted
from moa.messages import text_of
from moa.mixture.events import Noticed
from moa.schedules import Barrier, EarlyExit, Quorum, Schedule, Staircase
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
    assert schedule.agree([long_text("p"), long_text("p") + " and others"])
    assert not schedule.agree([long_text("p"), long_text("q")])
    assert not schedule.agree([long_text("p"), long_text("p"), long_text("q")])


@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    """It is a share above 0 and up to 1."""
    with pytest.raises(ValueError, match="threshold is a share"):
        EarlyExit(Barrier(), threshold=threshold)


@pytest.mark.parametrize(
    "pair",
    [
        *(("-5", "5"), ("x < 3", "x > 3"), ("C++", "C#"), ("1.5", "1,5"), ("$10", "10%"), ("→", "←"), ("5!", "5")),
        *(("!x", "x"), ("It is 12.", "It is 21."), ("2 + 2", "2 - 2"), ("是", "不是"), ("x²", "x2"), (".5", "5")),
    ],
)
def test_short_proposals_that_differ_in_a_sign_do_not_agree(pair: tuple[str, str]) -> None:
    """Signs, operators, units and decimal marks decide."""
    assert not EarlyExit(Barrier()).agree(pair)


@pytest.mark.parametrize(
    "pair",
    [("It is **Paris**.", "it is  paris"), ("“42”", "42."), ("是。", "是"), ("Paris, France!", "paris, france")],
)
def test_short_proposals_that_differ_in_their_dress_agree(pair: tuple[str, str]) -> None:
    """Case, spaces, emphasis, quotation marks and punctuation behind words do not."""
    assert EarlyExit(Barrier()).agree(pair)


LONG = "Take the second road on the far side of the river and then stay in the lane that leads to the old town"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"{LONG} until exit 12.", f"{LONG} until exit 21."),
        (f"{LONG} at 5 degrees.", f"{LONG} at -5 degrees."),
        (f"{LONG}. It is safe to do so.", f"{LONG}. It is not safe to do so."),
        (f"{LONG}. You can park there.", f"{LONG}. You can't park there."),
        (f"{LONG} while x < y holds.", f"{LONG} while x > y holds."),
        (f"{LONG} from 3 to 9.", f"{LONG} from 9 to 3."),
        (f"{LONG} for 10 km.", f"{LONG} for 10 m."),
        (f"{LONG} until 9 am.", f"{LONG} until 9 pm."),
        (f"{LONG}. The answer is A.", f"{LONG}. The answer is B."),
        (f"{LONG}. It is possible.", f"{LONG}. It is impossible."),
        (f"{LONG}. It holds a & b.", f"{LONG}. It holds a | b."),
        (f"{LONG}. Turn it up.", f"{LONG}. Turn it down."),
        (
            "这座桥可以承受四十二吨的重量，" * 5 + "所以是安全的。",
            "这座桥可以承受四十二吨的重量，" * 5 + "所以是不安全的。",
        ),
        ("这座桥可以承受42吨的重量，" * 5, "这座桥可以承受24吨的重量，" * 5),
    ],
)
def test_long_proposals_that_differ_in_a_number_or_a_negation_do_not_agree(one: str, other: str) -> None:
    """However alike they are otherwise."""
    schedule = EarlyExit(Barrier(), threshold=0.5)
    assert not schedule.agree([one, other])
    assert schedule.agree([one, one])


def test_an_early_exit_under_a_staircase_exits() -> None:
    """The proposal is the answer, no aggregator is called, and the layer that it stops is not missed; without agreement the
    aggregator writes."""
    last = writer("answer")
    first = [Scripted("It is Paris.", name="scripted/p", first_token=wait) for wait in (0.1, 1.0)]
    _, answer = run(Mixture([first], last, schedule=EarlyExit(Staircase())))
    assert (answer.text, last.requests) == ("It is Paris.", [])
    deeper = writer("deeper")
    _, answer = run(Mixture([first, [deeper]], last, schedule=EarlyExit(Staircase())))
    assert (answer.text, last.requests) == ("It is Paris.", [])
    assert answer.degraded == ()
    _, answer = run(Mixture([[writer("p"), writer("q")]], last, schedule=EarlyExit(Staircase())))
    assert answer.text == long_text("answer")


def test_an_early_exit_warms_as_its_schedule_does() -> None:
    """The aggregator's cache is warmed; on agreement it does not write."""
    last = writer("answer")
    fast, slow = writer("p", words=20), writer("q", words=100)
    run(Mixture([[fast, slow]], last, schedule=EarlyExit(Barrier(warm=True))))
    assert [request.body.get("max_tokens") for request in last.requests] == [1, None]
    last = writer("answer")
    first = [Scripted("It is Paris.", name="scripted/p", first_token=wait) for wait in (0.1, 9.0)]
    _, answer = run(Mixture([first], last, schedule=EarlyExit(Barrier(warm=True))))
    assert answer.text == "It is Paris."
    assert [request.body.get("max_tokens") for request in last.requests] == [1]
