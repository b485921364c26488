"""The heartbeat of a process that shares its store, and the wishes of the others; in a thread with a connection of its own.

A busy event loop or a write that waits for the file must not look like the end of this process.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from moa.errors import ConfigError
from moa.store.file import opened
from moa.store.processes import BEAT, Processes, Wishes, clock

EVERY = 0.25
"""Seconds between two looks at what other processes want."""

log = logging.getLogger("moa.server")


class Heartbeat:
    """Renews the heartbeat of a process while it has runs.

    Args:
        path: the store's file.
        process: the process's ID.
        on_wishes: called in the thread whenever other processes want something.
    """

    def __init__(self, path: Path, process: str, on_wishes: Callable[[Wishes], None]) -> None:
        self._path, self._process, self._on_wishes = path, process, on_wishes
        self._has_runs, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def has_runs(self, has_runs: bool) -> None:
        """Beat from now on, or rest."""
        if not has_runs:
            self._has_runs.clear()
        elif not self._has_runs.is_set():
            self._has_runs.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop beating, and close the connection."""
        self._closing.set()
        self._has_runs.set()
        if self._thread:
            self._thread.join()

    def _beat(self) -> None:
        beaten, file = clock(), None
        while not self._closing.is_set():
            self._has_runs.wait()
            try:
                if file is None:
                    file = opened(self._path, lambda file: None)
                processes = Processes(file, self._process)
                if clock() - beaten >= BEAT:
                    processes.beat()
                    beaten = clock()
                wishes = processes.wishes()
            except (sqlite3.Error, ConfigError) as error:
                log.debug("the run store does not take the heartbeat: %s", error)
            else:
                if wishes.stop or wishes.followed:
                    self._on_wishes(wishes)
            self._closing.wait(EVERY)
        if file:
            file.close()
