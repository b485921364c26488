"""Saving a run of the command line in the store, like the runs of ``moa serve``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from moa.cli.terminal import notify
from moa.config.config import Config
from moa.config.names import full_name
from moa.errors import ConfigError
from moa.messages import Request
from moa.mixture.events import Event
from moa.mixture.run import Run
from moa.store.archive import Archive
from moa.store.changes import Begun
from moa.store.file import store_path
from moa.store.outcome import recorded
from moa.store.recordings import Recordings

ID_SHOWN = 8
"""Characters of a run ID that are shown. As a prefix they are enough to name the run."""


@asynccontextmanager
async def keeping(
    config: Config, name: str, request: Request, *, store: Path | None = None, continues: Begun | None = None
) -> AsyncGenerator[Callable[[Run], AsyncGenerator[Event, None]], None]:
    """Yields a function that passes a run's events through and records each one. On leaving, the run is saved.

    Args:
        name: the mixture or the single model that answers.
        store: the SQLite file; the default one if None.
        continues: the run that this one continues, whose mixture it uses.

    Raises:
        ConfigError: that run is in progress, or is being continued.
    """
    recordings = Recordings(Archive(store or store_path()))
    model = full_name(name)
    recording = recordings.new(
        owner=continues.owner if continues else "",
        model=model,
        request=continues.request if continues else request.body,
        mixture=continues.mixture if continues else config.written(model),
        continues=continues.run if continues else None,
    )
    try:
        if continues and not await recordings.claim(continues.run):
            short = continues.run[:ID_SHOWN]
            raise ConfigError(f"run {short} is in progress or is being continued: `moa runs stop {short}` stops it")
        yield lambda run: recorded(run, recording=recording)
    finally:
        if continues and recording.begun is None:
            await recordings.release(continues.run)
        await recordings.aclose()
        if recording.begun:
            notify(f"saved as run {recording.begun.run[:ID_SHOWN]}")
