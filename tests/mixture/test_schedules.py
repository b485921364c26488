"""Schedules of one's own: what they may leave out, and what a mistake in one leads to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import cast

import pytest

from moa import EarlyExit, Mixture, Scripted, fold
from moa.errors import ConfigError, ScheduleError
from moa.messages import Answer, text_of
from moa.schedules import Draft, GiveUp, Reading, Schedule, references_of, until, until_all_ended
from tests.fakes.virtual_time import run_in_virtual_time

Layers = Sequence[Sequence[Draft]]
Readings = AsyncGenerator[Reading, None]


class Shortest:
    """Gives each agent the shortest proposal alone."""

    async def readings(self, layers: Layers, give_up: GiveUp) -> Readings:
        await until_all_ended(layers[-1])
        yield Reading(references_of(sorted(layers[-1], key=len)[:1]))


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


class NoAnswer:
    """Yields a value that is no reading."""

    async def readings(self, layers: Layers, give_up: GiveUp) -> Readings:
        yield cast("Reading", "everything")


class BrokenAgreement(Shortest):
    def agree(self, texts: Sequence[str]) -> bool:
        raise KeyError(texts[0])


def says(text: str, seconds: float = 0.0) -> Scripted:
    return Scripted(text, name=f"scripted/{text.split()[0]}", first_token=seconds)


def answer(mixture: Mixture) -> Answer:
    async def run() -> Answer:
        return fold([event async for event in mixture.run("Why?")])

    return run_in_virtual_time(run())


def test_a_schedule_with_readings_alone_runs_every_layer() -> None:
    """Two layers and the aggregator each read what the class yields; all other members have defaults."""
    second, last = says("second"), says("last")
    layers = [[says("first in many words"), says("first")], [second, says("second in many words")]]
    result = answer(Mixture(layers, last, schedule=Shortest()))
    assert result.text == "last"
    assert result.degraded == ()
    assert "many words" not in text_of(second.requests[0].messages[0])
    assert "many words" not in text_of(last.requests[0].messages[0])
    assert "second" in text_of(last.requests[0].messages[0])


def test_a_schedule_may_drop_drafts() -> None:
    """give_up cancels the call, gives the reason in the answer, and ignores drafts that have ended."""
    slow = says("slow", 60.0)
    result = answer(Mixture([[says("a", 1.0), slow, says("b", 2.0)]], says("last"), schedule=FirstTwo()))
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
    ],
)
def test_a_mistake_in_a_schedule_ends_the_run_with_its_name(schedule: Schedule, message: str) -> None:
    """The error leaves the run, whichever agent the schedule served, and no call is left running."""
    first = says("first")
    with pytest.raises(ScheduleError, match=message.replace(".", r"\.")):
        answer(Mixture([[first], [says("second")]], says("last"), schedule=schedule))
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
