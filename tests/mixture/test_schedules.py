from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any, cast

import pytest

from moa import Mixture, Scripted
from moa.errors import ConfigError, ScheduleError
from moa.messages import Delta, text_of
from moa.mixture.events import RunStarted
from moa.schedules import (
    Barrier,
    Draft,
    EarlyExit,
    GiveUp,
    Quorum,
    Reading,
    Schedule,
    Staircase,
    reference_of,
    references_of,
    until,
    until_all_ended,
    until_any_ended,
    until_grown,
    within,
)
from tests.mixture.writers import long_text, run, writer


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


Layers = Sequence[Sequence[Draft]]
Readings = AsyncGenerator[Reading, None]


class Shortest:
    """Gives each agent the shortest proposal alone."""

    async def readings(self, layers: Layers, give_up: GiveUp) -> Readings:
        await until_all_ended(layers[-1])
        yield Reading(references_of(sorted(layers[-1], key=len))[:1])


class FirstTwo:
    """Drops all drafts that have not ended when two are usable."""

    async def readings(self, layers: Layers, give_up: GiveUp) -> Readings:
        drafts = layers[-1]
        await until(drafts, lambda: sum(draft.usable for draft in drafts) >= 2)
        for draft in drafts:
            give_up(draft, "two were faster")
        yield Reading(references_of(drafts))


class NoReading:
    async def readings(self, layers: Layers, give_up: GiveUp) -> Readings:
        await until_all_ended(layers[-1])
        return
        yield


class Undeclared:
    """Yields a reading with room, but does not set ``grows``."""

    async def readings(self, layers: Layers, give_up: GiveUp) -> Readings:
        yield Reading((), room=100)


class Broken:
    async def readings(self, layers: Layers, give_up: GiveUp) -> Readings:
        await until_all_ended(layers[-1])
        yield Reading(references_of([layers[-1][7]]))


class BrokenForTheSecondLayer:
    """Fails for the proposers of the second layer only."""

    async def readings(self, layers: Layers, give_up: GiveUp) -> Readings:
        await until_all_ended(layers[-1])
        if len(layers) == 1:
            raise ValueError("one layer is too few")
        yield Reading(references_of(layers[0]))


class ReadsTexts:
    async def readings(self, layers: Layers, give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        texts: Any = ("a text",)
        yield Reading(texts)


class GivesUpAStranger:
    async def readings(self, layers: Layers, give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        give_up(Draft("stranger", 1), "unknown")
        yield Reading(())


class NoAnswer:
    """Yields a value that is no reading."""

    async def readings(self, layers: Layers, give_up: GiveUp) -> Readings:
        yield cast("Reading", "everything")


class BrokenAgreement(Shortest):
    def agree(self, texts: Sequence[str]) -> bool:
        raise KeyError(texts[0])


def drafts_of(*names: str) -> list[Draft]:
    return [Draft(name, 1) for name in names]


def says(text: str, seconds: float = 0.0) -> Scripted:
    return Scripted(text, name=f"scripted/{text.split()[0]}", first_token=seconds)


def test_a_schedule_with_readings_alone_runs_every_layer() -> None:
    """Two layers and the aggregator each read what the class yields; all other members have defaults."""
    second, last = says("second"), says("last")
    layers = [[says("first in many words"), says("first")], [second, says("second in many words")]]
    events, result = run(Mixture(layers, last, schedule=Shortest()))
    assert isinstance(events[0], RunStarted) and events[0].schedule == "Shortest()"
    assert result.text == "last"
    assert result.degraded == ()
    assert "many words" not in text_of(second.requests[0].messages[0])
    assert "many words" not in text_of(last.requests[0].messages[0])
    assert "second" in text_of(last.requests[0].messages[0])


def test_a_schedule_may_drop_drafts() -> None:
    """give_up cancels the call, gives the reason in the answer, and ignores drafts that have ended."""
    slow = says("slow", 60.0)
    _, result = run(Mixture([[says("a", 1.0), slow, says("b", 2.0)]], says("last"), schedule=FirstTwo()))
    assert result.degraded == ("slow (layer 1) was dropped: two were faster",)
    assert slow.cancelled == 1


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (NoReading(), "NoReading.readings ended without a last reading"),
        (EarlyExit(NoReading()), "NoReading.readings ended without a last reading"),
        (Undeclared(), "Undeclared.readings yielded a reading with room; its class must set grows = True"),
        (Broken(), "Broken.readings raised IndexError"),
        (BrokenForTheSecondLayer(), "BrokenForTheSecondLayer.readings raised ValueError: one layer is too few"),
        (NoAnswer(), "NoAnswer.readings yielded 'everything'; expected a Reading"),
        (BrokenAgreement(), "BrokenAgreement.agree raised KeyError"),
        (ReadsTexts(), "ReadsTexts.readings yielded a reading of 'a text'; expected References"),
        (
            GivesUpAStranger(),
            "GivesUpAStranger.readings raised ValueError: give_up was called with a draft of stranger",
        ),
    ],
)
def test_a_mistake_in_a_schedule_ends_the_run_with_its_name(schedule: Schedule, message: str) -> None:
    """The error leaves the run, whichever agent the schedule served, and no call is left running."""
    first = says("first")
    with pytest.raises(ScheduleError, match=message.replace(".", r"\.")):
        run(Mixture([[first], [says("second")]], says("last"), schedule=schedule))
    assert first.running == 0


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Shortest, "schedule is the class Shortest; expected an instance: Shortest()"),
        ("barrier", "schedule is 'barrier'; expected an object with a method 'readings'"),
    ],
)
def test_an_object_that_is_no_schedule_is_refused(schedule: Schedule, message: str) -> None:
    """The mixture refuses it with a hint, before any call."""
    with pytest.raises(ConfigError) as raised:
        Mixture([[says("first")]], says("last"), schedule=schedule)
    assert str(raised.value) == message


def test_readings_that_return_instead_of_yielding_are_refused() -> None:
    """An async function without a yield is no generator."""

    class Returns:
        async def readings(self, layers: Layers, give_up: GiveUp) -> Reading:
            return Reading(())

    with pytest.raises(ConfigError, match=r"Returns\.readings must be an async generator"):
        Mixture([[says("first")]], says("last"), schedule=cast("Schedule", Returns()))


def test_readings_of_a_plain_generator_are_refused() -> None:
    """A generator without async is no async generator."""

    class Plain:
        def readings(self, layers: Layers, give_up: GiveUp) -> Iterator[Reading]:
            yield Reading(())

    with pytest.raises(ConfigError, match=r"Plain\.readings must be an async generator"):
        Mixture([[says("first")]], says("last"), schedule=cast("Schedule", Plain()))


@pytest.mark.parametrize("schedule", [Barrier(), Barrier(warm=True), Quorum(1), Staircase(), EarlyExit(Staircase())])
def test_every_schedule_works_at_every_depth_and_through_failures(schedule: Schedule) -> None:
    """Three layers with a failing agent in each give an answer."""
    layers = [[writer(f"a{n}"), writer(f"b{n}", fail_after=0), writer(f"c{n}", words=150)] for n in range(2)]
    _, result = run(Mixture(layers, writer("answer"), schedule=schedule))
    assert result.text == long_text("answer")


# -- references and waits ----------------------------------------------------------------------------------------------


def test_a_reference_is_whole_or_ends_at_a_whole_word() -> None:
    """A draft that grows is cut behind its last whole word; a text without a space is not cut."""
    growing, one_word, finished = drafts_of("a", "b", "c")
    growing.append(Delta(text="The sky is bl"))
    one_word.append(Delta(text="The"))
    finished.append(Delta(text="The sky is bl"))
    finished.finish()
    assert [(r.text, r.cut) for r in map(reference_of, (growing, one_word, finished))] == [
        ("The sky is", True),
        ("The", True),
        ("The sky is bl", False),
    ]
    assert references_of([growing, finished]) == (reference_of(finished),)


@pytest.mark.anyio
async def test_waits_return_at_once_where_there_is_nothing_to_wait_for() -> None:
    """Drafts that have all ended, and no drafts at all, hold no schedule up."""
    ended = drafts_of("a", "b")
    for draft in ended:
        draft.drop("failed")
    for drafts in (ended, []):
        await until_all_ended(drafts)
        await until_any_ended(drafts)
        await until(drafts, lambda: False)
        await until_grown(drafts, 10, lambda: False)
    await within(60.0, until_all_ended(ended))


@pytest.mark.anyio
async def test_until_grown_checks_again_at_the_start_the_size_and_the_end_of_a_draft() -> None:
    """The condition is not called for deltas in between."""
    draft, other = drafts_of("a", "b")
    checks: list[int] = []

    def enough() -> bool:
        checks.append(len(draft))
        return False

    wait = asyncio.ensure_future(until_grown([draft, other], 10, enough))
    for text in ("a" * 4, "b" * 4, "c" * 4, "d" * 4):
        await settle()
        draft.append(Delta(text=text))
    await settle()
    draft.finish()
    await settle()
    other.drop("failed")
    await wait
    assert checks == [0, 4, 12, 16, 16]


@pytest.mark.anyio
async def test_within_ends_a_wait_after_its_seconds() -> None:
    """The wait is cancelled and nothing is raised."""
    await within(0.0, until_all_ended(drafts_of("a")))
