"""The options of a job on Ray."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """Options of a job on Ray; those that it shares with one machine are as in :class:`~moa.batch.job.Options`.

    Attributes:
        address: the cluster's; None for a new one on this machine.
        workers: processes that answer; None for half as many as there are CPUs.
    """

    address: str | None = None
    workers: int | None = None
    proposals: bool = False
    concurrency: int | None = None
    max_cost: float | None = None
    limit: int | None = None
    deadline: float | None = None
