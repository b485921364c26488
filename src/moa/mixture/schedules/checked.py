"""A schedule as runs use it: every optional member has its default, and every reading is checked."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast

from moa.errors import ConfigError, ScheduleError
from moa.messages import Reference
from moa.mixture.draft import Draft
from moa.mixture.schedules.drafts import references_of
from moa.mixture.schedules.protocol import Exit, GiveUp, Reading, Schedule
from moa.mixture.selection import most_central
from moa.models.refusals import one_line


class CheckedSchedule:
    """Any schedule, with the defaults that :class:`~moa.mixture.schedules.protocol.Schedule` documents.

    Members of the wrapped schedule are looked up at each use, so a schedule may compute them.

    Raises:
        ConfigError: it is no schedule: a class instead of an instance, or without an async generator ``readings``.
    """

    def __init__(self, schedule: Schedule) -> None:
        readings = getattr(schedule, "readings", None)
        if inspect.isclass(schedule):
            raise ConfigError(f"schedule is the class {schedule.__name__}; expected an instance: {schedule.__name__}()")
        if not callable(readings):
            raise ConfigError(f"schedule is {schedule!r}; expected an object with a method 'readings'")
        if inspect.iscoroutinefunction(readings) or inspect.isgeneratorfunction(readings):
            raise ConfigError(
                f"{type(schedule).__name__}.readings must be an async generator: async def, with a yield for each reading"
            )
        self._schedule = schedule

    @property
    def name(self) -> str:
        """The name of the schedule's class."""
        return type(self._schedule).__name__

    @property
    def grows(self) -> bool:
        return bool(getattr(self._schedule, "grows", False))

    @property
    def warm(self) -> bool:
        return bool(getattr(self._schedule, "warm", False))

    @property
    def hedge(self) -> float | None:
        return cast("float | None", getattr(self._schedule, "hedge", None))

    @property
    def exits(self) -> bool:
        """Whether agreement can end the run early."""
        return getattr(self._schedule, "agree", None) is not None

    @property
    def exits_with(self) -> Exit:
        return cast("Exit", getattr(self._schedule, "exits_with", "central"))

    def check(self, layers: Sequence[Sequence[str]]) -> None:
        """As in the schedule's own; without one, any layers will do.

        Raises:
            ValueError: the schedule cannot work with these layers, given as names of their agents.
        """
        check = getattr(self._schedule, "check", None)
        if check is not None:
            check(layers)

    def agree(self, texts: Sequence[str]) -> bool:
        """As in the schedule's own, or False without one; an exception in it becomes a ScheduleError."""
        agree = getattr(self._schedule, "agree", None)
        if agree is None:
            return False
        try:
            return bool(agree(texts))
        except Exception as error:
            raise self._raised("agree", error) from error

    def agreed(self, layers: Sequence[Sequence[Draft]]) -> Reference | None:
        """The most central proposal of the first complete layer whose proposals agree, if any does."""
        for layer in layers:
            if all(draft.ended for draft in layer):
                references = references_of(layer)
                texts = [reference.text for reference in references]
                if self.agree(texts):
                    return references[most_central(texts)]
        return None

    async def readings(self, layers: Sequence[Sequence[Draft]], give_up: GiveUp) -> AsyncGenerator[Reading, None]:
        """The schedule's readings, up to the last.

        Raises:
            ScheduleError: the schedule raises, yields something wrong, or ends without a last reading.
        """
        try:
            async with aclosing(self._schedule.readings(layers, give_up)) as readings:
                async for reading in readings:
                    self._check(reading)
                    yield reading
                    if reading.last:
                        return
        except ScheduleError:
            raise
        except Exception as error:
            raise self._raised("readings", error) from error
        raise ScheduleError(f"{self.name}.readings ended without a last reading, one with neither room nor warm")

    def _raised(self, method: str, error: Exception) -> ScheduleError:
        return ScheduleError(one_line(f"{self.name}.{method} raised {type(error).__name__}: {error}"))

    def _check(self, reading: object) -> None:
        if not isinstance(reading, Reading):
            raise ScheduleError(f"{self.name}.readings yielded {reading!r}; expected a Reading")
        if wrong := [reference for reference in reading.references if not isinstance(reference, Reference)]:
            raise ScheduleError(f"{self.name}.readings yielded a reading of {wrong[0]!r:.80}; expected References")
        if reading.room is not None and not self.grows:
            raise ScheduleError(f"{self.name}.readings yielded a reading with room; its class must set grows = True")

    def __repr__(self) -> str:
        """The schedule's own; for a class without one its name, which unlike object's own does not differ between runs."""
        own = type(self._schedule).__repr__ is not object.__repr__
        return repr(self._schedule) if own else f"{self.name}()"
