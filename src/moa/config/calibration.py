"""``[mixtures.NAME.calibration]``: how much each vote counts, as ``moa search`` writes it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from moa.config.schema import STRICT
from moa.mixture.calibration import AgentCalibration, Calibration

Number = Annotated[float, Field(allow_inf_nan=False)]


class AgentCalibrationTable(BaseModel):
    """``[mixtures.NAME.calibration.agents.AGENT]``; :class:`~moa.mixture.calibration.AgentCalibration` has the fields."""

    model_config = STRICT

    base: Number = 0.0
    accuracy: Annotated[float, Field(ge=0, le=1)] = 0.5
    changes: list[Number] = []
    lengths: list[Annotated[list[Number], Field(min_length=2, max_length=2)]] = []

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        limits = [limit for limit, _ in self.lengths]
        if limits != sorted(set(limits)):
            raise ValueError("the numbers of characters in lengths must be in ascending order")
        return self


class CalibrationTable(BaseModel):
    """``[mixtures.NAME.calibration]``; :class:`~moa.mixture.calibration.Calibration` has the fields."""

    model_config = STRICT

    scale: Number = 0.0
    words: list[str] = []
    agents: Annotated[dict[str, AgentCalibrationTable], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_changes(self) -> Self:
        for name, agent in self.agents.items():
            if len(agent.changes) not in (0, len(self.words)):
                raise ValueError(f"agents.{name}.changes has {len(agent.changes)} numbers for {len(self.words)} words")
        return self

    def calibration(self) -> Calibration:
        """The calibration that the table describes."""
        agents = {
            name: AgentCalibration(
                agent.base,
                agent.accuracy,
                dict(zip(self.words, agent.changes, strict=bool(agent.changes))),
                tuple((limit, change) for limit, change in agent.lengths),
            )
            for name, agent in self.agents.items()
        }
        return Calibration(agents, self.scale)
