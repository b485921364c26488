"""Signals that end the program while it draws."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Cancel the current task on SIGTERM and SIGHUP, so that it can restore the terminal; the program ends after that.

    The program still ends by the signal: its parent sees the status that the signal causes by default.
    """
    task, loop, received = asyncio.current_task(), asyncio.get_running_loop(), list[int]()

    def cancel(number: int) -> None:
        received.append(number)
        if task:
            task.cancel()

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handled = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    try:
        with suppress(NotImplementedError, RuntimeError, ValueError):  # on Windows, or outside the main thread
            for number in handled:
                loop.add_signal_handler(number, cancel, number)
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for number in handled:
                loop.remove_signal_handler(number)
        if received:
            os.kill(os.getpid(), received[0])
