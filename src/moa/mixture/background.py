"""An event loop in a thread of its own, for callers that have none, or whose loop already runs (a notebook).

One thread serves the whole process, so connections, embedded models and rate limits carry over from one call to the next. It
starts with the first call and ends with the process, which closes what its loop still holds.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from moa.mixture.events import Event

T = TypeVar("T")

EventHandler = Callable[[Event], object]
"""Called with each event. Its result is awaited if it is awaitable, and otherwise ignored."""


class Job(Generic[T]):
    """A coroutine that runs in a loop of another thread, with the context variables of this one.

    Attributes:
        future: its result or its error, once the coroutine has ended; ``asyncio.CancelledError`` after :meth:`cancel`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> None:
        self.future: Future[T] = Future()
        self._loop = loop
        self._task: asyncio.Task[T] | None = None
        loop.call_soon_threadsafe(self._start, work, context=copy_context())

    def cancel(self) -> None:
        """Cancel the coroutine. The future is done when the coroutine has ended, not before."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _start(self, work: Coroutine[Any, Any, T]) -> None:
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()

    def _end(self, task: asyncio.Task[T]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error:
            self.future.set_exception(error)
        else:
            self.future.set_result(task.result())


class BackgroundLoop:
    """The thread and its loop; both exist from the first :meth:`start` on."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin as if nothing had been started: a forked process has no copy of the thread."""
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None

    def start(self, work: Coroutine[Any, Any, T]) -> Job[T]:
        """Run a coroutine in the loop.

        Raises:
            RuntimeError: the caller is code of this loop, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("ask() was called by a coroutine that ask() runs; use 'await mixture.answer(…)' there")
        with self._guard:
            if self._loop is None:
                started: Future[None] = Future()
                # A daemon, because Python would wait for any other thread before it calls close().
                self._thread = threading.Thread(target=self._run, args=(started,), name="moa-ask", daemon=True)
                self._thread.start()
                started.result()
            assert self._loop is not None
            return Job(self._loop, work)

    def close(self) -> None:
        """Cancel all jobs, close the loop and what it holds, and end the thread. A later :meth:`start` begins again."""
        with self._guard:
            thread, loop, stopped = self._thread, self._loop, self._stopped
            self._thread = self._loop = self._stopped = None
        if thread and loop and stopped:
            loop.call_soon_threadsafe(stopped.set)
            thread.join()

    def _run(self, started: Future[None]) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            stopped = loop.create_task(self._until_stopped(started))
            while not stopped.done():
                # asyncio lets these two out of any task, and out of the loop. Other jobs need the loop to run on; the job
                # whose task raised one ends with it.
                with suppress(SystemExit, KeyboardInterrupt):
                    loop.run_until_complete(stopped)

    async def _until_stopped(self, started: Future[None]) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        stopped = self._stopped
        started.set_result(None)
        await stopped.wait()


BACKGROUND = BackgroundLoop()
atexit.register(BACKGROUND.close)


def run_in_background(
    work: Callable[[EventHandler | None], Coroutine[Any, Any, T]], handler: EventHandler | None = None
) -> T:
    """Run a coroutine in the background loop, and wait for its result.

    Args:
        work: makes the coroutine; its argument is the function that the coroutine calls with each event, if any.
        handler: called with each event, in this thread; an async one, or a coroutine that it returns, in the loop. Ctrl-C
            and an error in it cancel the coroutine, and are raised when the coroutine has ended.

    Raises:
        Exception: any that the coroutine raises.
        RuntimeError: the caller is code of the background loop.
    """
    events: SimpleQueue[Event | None] = SimpleQueue()
    job = BACKGROUND.start(work(handler if handler is None or _is_async(handler) else events.put))
    job.future.add_done_callback(lambda _: events.put(None))
    try:
        while (event := events.get()) is not None:
            if handler is not None and inspect.iscoroutine(returned := handler(event)):
                BACKGROUND.start(returned).future.result()
    except BaseException:
        job.cancel()
        while events.get() is not None:
            pass
        raise
    return job.future.result()


def _is_async(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BACKGROUND.forget)
