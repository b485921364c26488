"""The shelf as a server uses it: off the event loop, in a thread of its own, and opened when it is first needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from moa.closing import Closing
from moa.store.shelf import Shelf

log = logging.getLogger("moa.server")

T = TypeVar("T")


class ShelfThread(Closing):
    """A shelf, and the thread that uses it.

    Args:
        path: the shelf's file; None: a temporary one, which is deleted at the end.
        days: as for :class:`Shelf`.
    """

    def __init__(self, path: Path | None, days: float | None) -> None:
        self._path, self._days = path, days
        self._shelf: Shelf | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._thread = ThreadPoolExecutor(1, "batches")

    @property
    def exists(self) -> bool:
        """Whether there can be a batch."""
        return self._shelf is not None or (self._path is not None and self._path.exists())

    async def do(self, work: Callable[[Shelf], T]) -> T:
        """The result of work on the shelf. It is done in the order of the calls, also where the caller is cancelled.

        Raises:
            ConfigError: the shelf cannot be opened.
            sqlite3.Error: it cannot be read or written.
        """
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, lambda: work(self._opened())))

    def later(self, work: Callable[[Shelf], None]) -> None:
        """Do work on the shelf without a wait, before all that is called for after it. A failure is logged."""
        self._thread.submit(lambda: self._tried(work))

    def _tried(self, work: Callable[[Shelf], None]) -> None:
        try:
            work(self._opened())
        except Exception as error:
            log.error("a proposal of a batch cannot be kept: %s", type(error).__name__)

    def _opened(self) -> Shelf:
        if self._shelf is None:
            path = self._path
            if path is None:
                self._folder = TemporaryDirectory(prefix="moa-batches-")
                path = Path(self._folder.name) / "batches.sqlite"
            self._shelf = Shelf(path, days=self._days)
        return self._shelf

    def close(self) -> None:
        """Finish what was begun, and close the shelf."""
        self._thread.shutdown()
        if self._shelf:
            self._shelf.close()
        if self._folder:
            self._folder.cleanup()
