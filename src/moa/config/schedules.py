"""``schedule = { kind = … }`` in a mixture's table: one table per kind, and the schedule that each one makes.

A new kind is a class here and a row of :data:`SCHEDULES`; its fields are the arguments of the schedule it makes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, Field, GetPydanticSchema, model_validator

from moa.config.schema import STRICT, Count, Positive, Share
from moa.mixture.schedules.barrier import Barrier
from moa.mixture.schedules.early_exit import EarlyExit
from moa.mixture.schedules.protocol import Schedule
from moa.mixture.schedules.quorum import Quorum
from moa.mixture.schedules.staircase import Staircase


class ScheduleTable(BaseModel):
    """Fields that every kind has: when agreement among the proposals ends a layer early, and how it is answered then."""

    model_config = STRICT

    MAKES: ClassVar[Callable[..., Schedule]]

    kind: str
    early_exit: Share | None = None
    exit_with: Literal["central", "aggregate"] = "central"

    def schedule(self) -> Schedule:
        """The schedule that this table describes."""
        schedule = type(self).MAKES(**self.model_dump(exclude={*ScheduleTable.model_fields}))
        if self.early_exit is None:
            return schedule
        return EarlyExit(schedule, threshold=self.early_exit, answer=self.exit_with)


class BarrierTable(ScheduleTable):
    """The table of a :class:`~moa.mixture.schedules.barrier.Barrier`."""

    MAKES = Barrier

    kind: Literal["barrier"]
    warm: bool = False


class QuorumTable(ScheduleTable):
    """The table of a :class:`~moa.mixture.schedules.quorum.Quorum`; times are in seconds."""

    MAKES = Quorum

    kind: Literal["quorum"]
    usable: Count
    grace: Annotated[float, Field(ge=0)] = 0.0
    deadline: Positive | None = None
    require: list[str] = []
    hedge: Positive | None = None


class StaircaseTable(ScheduleTable):
    """The table of a :class:`~moa.mixture.schedules.staircase.Staircase`; ``chunks`` and ``writes`` are in tokens."""

    MAKES = Staircase

    kind: Literal["staircase"]
    chunks: Annotated[list[Count], Field(min_length=1)] = [32, 128, 384]
    writes: list[Count] | None = None
    quorum: Share = 0.5

    @model_validator(mode="after")
    def _check_growth(self) -> Self:
        writes = self.writes if self.writes is not None else self.chunks
        if len(writes) != len(self.chunks) or sorted(self.chunks) != self.chunks or sorted(writes) != writes:
            raise ValueError("chunks must grow, and writes too, with as many figures as chunks")
        return self


SCHEDULES: tuple[type[ScheduleTable], ...] = (BarrierTable, QuorumTable, StaircaseTable)

KINDS: list[str] = [get_args(table.model_fields["kind"].annotation)[0] for table in SCHEDULES]

_BY_KIND: Any = Annotated[reduce(or_, SCHEDULES), Field(discriminator="kind")]

AnySchedule = Annotated[ScheduleTable, GetPydanticSchema(lambda _, handler: handler.generate_schema(_BY_KIND))]
"""The table of any kind in :data:`SCHEDULES`, recognised by its ``kind``."""
