"""Asking without await: scripts, threads, notebooks, Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextvars import ContextVar

import pytest

from moa import Delta, Endpoint, Function, Mixture, Request, Scripted
from moa.errors import AggregatorFailed
from moa.mixture.background import BackgroundLoop
from moa.mixture.events import AgentStarted, Event, RunFinished, RunStarted
from tests.fakes.upstream import Upstream, say
from tests.fakes.waiting import PATIENCE
from tests.mixture.panels import panel

pytestmark = pytest.mark.anyio


def test_ask_answers_without_an_event_loop() -> None:
    """A script asks as often as it likes, with plain calls."""
    mixture = panel()
    assert [mixture.ask(f"Why {number}?").text for number in range(3)] == ["merged"] * 3


async def test_ask_answers_where_an_event_loop_runs() -> None:
    """A notebook's loop runs all the time; a call from it works too, and blocks it."""
    assert panel().ask("Why?").text == "merged"


def test_threads_ask_at_the_same_time() -> None:
    """All threads share one loop, in which their runs are concurrent: each model waits for the other."""
    both = threading.Barrier(2)

    def meet(request: Request) -> str:
        both.wait(20)
        return "met"

    def ask() -> None:
        answers.append(Mixture([], Function(meet)).ask("Why?").text)

    answers: list[str] = []
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == ["met", "met"]


async def test_ask_reuses_connections(upstream: Upstream) -> None:
    """The loop behind ask() stays, so a second question goes over the connection of the first."""
    upstream.script("model", say("hello"))
    endpoint = Endpoint("up", upstream.base_url)
    mixture = Mixture([], endpoint.model("model"))
    for _ in range(2):
        assert (await asyncio.to_thread(mixture.ask, "Why?")).text == "hello"
    assert len({call.peer for call in upstream.requests}) == 1


def test_a_failed_run_raises_from_ask() -> None:
    """ask() raises what answer() raises, with the proposals in the error."""
    mixture = Mixture([[Scripted("one", name="x/a")]], Scripted(ConnectionError("gone"), name="x/last"))
    with pytest.raises(AggregatorFailed, match="gone") as caught:
        mixture.ask("Why?")
    assert caught.value.answer is not None
    assert [call.text for call in caught.value.answer.proposals] == ["one"]


def test_ask_calls_a_function_with_every_event_in_the_callers_thread() -> None:
    """on_event may touch what only this thread may touch, and may block."""
    seen: list[tuple[type[Event], threading.Thread]] = []
    panel().ask("Why?", on_event=lambda event: seen.append((type(event), threading.current_thread())))
    assert (seen[0][0], seen[-1][0]) == (RunStarted, RunFinished)
    assert {thread for _, thread in seen} == {threading.current_thread()}


def test_context_variables_reach_what_ask_runs() -> None:
    """A trace or a tenant set by the caller is set in the models, too."""
    tenant = ContextVar("tenant", default="nobody")
    tenant.set("me")
    assert Mixture([], Scripted(lambda request: tenant.get(), name="x/a")).ask("Why?").text == "me"


def test_an_async_on_event_is_awaited_by_ask() -> None:
    """It runs in the loop behind ask()."""
    seen: list[Event] = []

    async def note(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append(event)

    class Note:
        async def __call__(self, event: Event) -> None:
            await note(event)

    panel().ask("Why?", on_event=note)
    panel().ask("Why?", on_event=Note())
    assert [type(event) for event in seen].count(RunFinished) == 2


def test_an_error_in_on_event_cancels_the_run() -> None:
    """ask() raises the error after every call has been closed."""
    slow = Scripted("word " * 100, name="x/slow", tokens_per_second=1)

    def fail(event: Event) -> None:
        if isinstance(event, AgentStarted):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Mixture([[slow]], Scripted("x", name="x/last")).ask("Why?", on_event=fail)
    assert slow.running == 0


def test_ask_within_ask_is_refused() -> None:
    """A coroutine that ask() runs cannot wait for ask(): the error names the alternative."""

    class Asking:
        name = "mine/asking"

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            yield Delta(text=panel().ask("Why?").text)

    with pytest.raises(AggregatorFailed, match=r"use 'await mixture.answer\(…\)' there"):
        Mixture([], Asking()).ask("Why?")


PROGRAM = """
from moa import Function, Endpoint, Mixture
mixture = Mixture([], Endpoint("up", {url!r}).model("model"))
print([mixture.ask("Why?").text for _ in range(2)])
"""


async def test_a_program_that_asks_ends_without_a_warning(upstream: Upstream) -> None:
    """The process closes its connections when it ends, with nothing on standard error."""
    upstream.script("model", say("hello"))
    code = PROGRAM.format(url=upstream.base_url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", code),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert await process.communicate() == (b"['hello', 'hello']\n", b"")
    assert process.returncode == 0


INTERRUPTED = """
from moa import Function, Mixture, Scripted
slow = Scripted("word " * 1000, name="x/slow", tokens_per_second=1)
try:
    Mixture([], slow).ask("Why?", on_event=lambda event: print(type(event).__name__, flush=True))
except KeyboardInterrupt:
    print("interrupted", slow.running, slow.cancelled, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_cancels_what_is_asked() -> None:
    """After KeyboardInterrupt no call is in flight."""
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("AgentSaid"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert rest.splitlines()[-1] == "interrupted 0 1"
    assert process.returncode == 0


def test_a_background_loop_that_was_closed_begins_again() -> None:
    """Closing cancels what still runs and ends the thread; the next job starts another."""
    loop = BackgroundLoop()

    async def nothing() -> str:
        return "done"

    endless = loop.start(asyncio.sleep(3600))
    assert loop.start(nothing()).future.result(PATIENCE) == "done"
    loop.close()
    with pytest.raises(asyncio.CancelledError):
        endless.future.result(PATIENCE)
    assert loop.start(nothing()).future.result(PATIENCE) == "done"
    loop.close()


def test_an_exit_inside_a_run_leaves_the_loop_to_others() -> None:
    """A model that calls sys.exit() ends its own run; later questions are answered."""

    class Exits:
        name = "x/exits"

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            sys.exit(3)
            yield Delta()

    with pytest.raises(SystemExit):
        Mixture([], Exits()).ask("Why?")
    assert panel().ask("Why?").text == "merged"


def test_a_coroutine_that_a_function_as_on_event_returns_is_awaited() -> None:
    """``on_event=lambda event: handle(event)`` is an async handler in disguise."""
    seen: list[Event] = []

    async def handle(event: Event) -> None:
        seen.append(event)

    panel().ask("Why?", on_event=lambda event: handle(event))
    assert isinstance(seen[-1], RunFinished)
