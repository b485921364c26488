"""The parts of one server, made once: its routes share them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moa.config.config import Config
from moa.server.admission import Admission
from moa.server.bodies import Bodies
from moa.server.charges import Charges
from moa.server.consulting import Consulting
from moa.server.desk import Desk
from moa.server.discretion import Discretion
from moa.server.forecast import Forecast
from moa.server.keys import Keys
from moa.server.mixtures import Tables
from moa.server.model_list import ModelList
from moa.server.reports import Reports
from moa.server.runner import Runner
from moa.server.shutdown import Shutdown
from moa.server.small_tasks import SmallTasks
from moa.server.telemetry import Metrics
from moa.server.unanswered import Unanswered
from moa.store.archive import Archive
from moa.store.bookings import Bookings
from moa.store.bounds import Bounds
from moa.store.ledger import Ledger
from moa.store.recordings import Recordings
from moa.tracebacks import traceback_of

TOGETHER, LEAST_TOGETHER = 8, 64 * 2**20
"""How many bodies of the largest size the server holds at the same time, and at least how many bytes."""

RUNS_IN_MEMORY = 32
"""Finished runs that stay available where none are stored."""

log = logging.getLogger("moa.server")


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of a server.

    Attributes:
        max_runs: concurrent runs; ``max_queue`` may wait behind them.
        max_body: bytes that a request body may have.
    """

    max_runs: int = 64
    max_queue: int = 256
    max_body: int = 32 * 2**20


class Parts:
    """The parts of one server.

    Args:
        config: the mixtures and models.
        ledger: what each key has used.
        keys: the callers' keys; None lets anyone use the server.
        settings: see :class:`Settings`.
        archive: stores runs; None keeps only the last few of the server's own runs, in memory.
        discretion: what callers may read of errors and notices.

    Attributes:
        on_stop: called when :meth:`stop_in` is, with its seconds.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        keys: Keys | None,
        settings: Settings,
        archive: Archive | None,
        discretion: Discretion,
    ) -> None:
        self.config, self.keeps = config, archive is not None
        self.unanswered = Unanswered()
        self.desk = Desk(keys)
        self.bodies = Bodies(settings.max_body, max(LEAST_TOGETHER, TOGETHER * settings.max_body))
        self.shutdown = Shutdown()
        self.on_stop = list[Callable[[float], None]]()
        self.charges = Charges(Bookings(ledger), Forecast(config.prices))
        self.admission = Admission(settings.max_runs, settings.max_queue)
        self.discretion, self.model_list = discretion, ModelList(config, discretion)
        self.small_tasks = SmallTasks(config, self.model_list)
        self.tables = Tables(config, self.model_list)
        self.recordings = Recordings(archive or Archive(bounds=Bounds(runs=RUNS_IN_MEMORY)))
        self.metrics = Metrics(lambda: self.admission.running, lambda: self.admission.waiting, self._label)
        self.reports = Reports(self.metrics)
        self.runner = Runner(
            self.desk,
            self.model_list,
            self.tables,
            self.recordings,
            self.admission,
            self.bodies,
            self.shutdown,
            self.charges,
            self.reports,
        )
        self.consulting = Consulting(
            self.desk, self.model_list, self.runner, self.recordings, config.prices, discretion
        )

    def _label(self, model: str) -> str:
        return self.discretion.text(self.model_list.label(model))

    async def start(self) -> None:
        """Load what the first request would otherwise wait for."""
        self.recordings.sweep_hourly()
        loop = asyncio.get_running_loop()
        if loop.get_exception_handler() is None:
            loop.set_exception_handler(_log_unhandled)
        await asyncio.to_thread(self.config.prices.load)
        await asyncio.to_thread(lambda: self.model_list.rows)

    def stop_in(self, seconds: float) -> None:
        """Start no more runs of the server's own, and stop those in progress in so many seconds."""
        self.shutdown.announced = self.shutdown.closed = True
        self.runner.stop_in(seconds)
        for stop_in in self.on_stop:
            stop_in(seconds)

    async def aclose(self) -> None:
        """End all runs, write what is recorded, and close the configuration and the ledger."""
        await self.runner.end()
        await self.recordings.aclose()
        await self.config.aclose()
        await asyncio.to_thread(self.charges.close)
        self.bodies.close()


def _log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception that nobody has read, without its message, which asyncio's own line would quote."""
    error = context.get("exception")
    log.error("%s\n%s", context["message"], traceback_of(error) if error else "")
