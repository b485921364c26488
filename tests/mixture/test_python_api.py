"""The ways to ask a mixture from Python, and the errors that a beginner meets."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from moa import Agent, Delta, Endpoint, Mixture, Request, Scripted
from moa.errors import AggregatorFailed, ConfigError, NoProposals, RequestRejected
from moa.mixture.background import BackgroundLoop
from moa.mixture.events import AgentFinished, AgentStarted, Event, RunFinished, RunStarted
from tests.fakes.upstream import Upstream, say

pytestmark = pytest.mark.anyio


def panel(**settings: Any) -> Mixture:
    """Two proposers and an aggregator."""
    proposers = [Scripted("one", name="x/ann"), Scripted("two", name="x/bob")]
    return Mixture([proposers], Scripted("merged", name="x/last"), **settings)


def sent(mixture: Mixture) -> Request:
    """The last request that the aggregator got."""
    model: Any = mixture.aggregator.model
    request: Request = model.requests[-1]
    return request


# -- ask, without await ------------------------------------------------------------------------------------------------


def test_ask_answers_without_an_event_loop() -> None:
    """A script asks as often as it likes, with plain calls."""
    mixture = panel()
    assert [mixture.ask(f"Why {number}?").text for number in range(3)] == ["merged"] * 3


async def test_ask_answers_where_an_event_loop_runs() -> None:
    """A notebook's loop runs all the time; a call from it works too, and blocks it."""
    assert panel().ask("Why?").text == "merged"


def test_threads_ask_at_the_same_time() -> None:
    """All threads share one loop, in which their runs are concurrent."""
    both = threading.Barrier(2)

    def meet(request: Request) -> str:
        both.wait(10)
        return "met"

    def ask() -> None:
        answers.append(Mixture([], Scripted("x", name="x/a")).ask("Why?").text)
        both.wait(10)

    answers: list[str] = []
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == ["x", "x"]


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
    """A coroutine that ask() runs cannot wait for ask(): the error says what to do instead."""

    class Asking:
        name = "mine/asking"

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            yield Delta(text=panel().ask("Why?").text)

    with pytest.raises(AggregatorFailed, match=r"use 'await mixture.answer\(…\)' there"):
        Mixture([], Asking()).ask("Why?")


PROGRAM = """
from moa import Endpoint, Mixture
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
from moa import Mixture, Scripted
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
    assert loop.start(nothing()).future.result(10) == "done"
    loop.close()
    with pytest.raises(asyncio.CancelledError):
        endless.future.result(10)
    assert loop.start(nothing()).future.result(10) == "done"
    loop.close()


# -- a run -------------------------------------------------------------------------------------------------------------


async def test_a_run_closes_by_itself_and_keeps_its_answer() -> None:
    """async with closes the run; run.answer is what has come so far, complete after the last event."""
    async with panel().run("Why?") as run:
        async for event in run:
            if isinstance(event, AgentFinished) and event.agent == "ann":
                assert "one" in [call.text for call in run.answer.calls]
                assert run.answer.text == ""
    assert run.answer.text == "merged"
    assert len(run.answer.proposals) == 2


async def test_leaving_a_run_early_cancels_every_call() -> None:
    """Whether by break or by an error, leaving the block closes the calls before it continues."""
    slow = Scripted("word " * 100, name="x/slow", tokens_per_second=1)
    async with Mixture([], slow).run("Why?") as run:
        async for event in run:
            if isinstance(event, AgentStarted):
                break
    assert slow.running == 0
    with pytest.raises(StopAsyncIteration):
        await anext(run)


async def test_a_run_can_be_iterated_as_it_is() -> None:
    """Without async with it is a plain async iterator, and aclose() may be called at any time."""
    run = panel().run("Why?")
    assert isinstance([event async for event in run][-1], RunFinished)
    await run.aclose()
    assert run.answer.text == "merged"
    await panel().run("Why?").aclose()


async def test_a_failed_run_does_not_raise_and_says_why() -> None:
    """run.answer.error holds the error that answer() would raise."""
    async with Mixture([[Scripted("", name="x/a")]], Scripted("x", name="x/l")).run("Why?") as run:
        async for _ in run:
            pass
    assert isinstance(run.answer.error, NoProposals)


@pytest.mark.parametrize("is_async", [False, True])
async def test_answer_calls_a_function_with_every_event(is_async: bool) -> None:
    """on_event may be sync or async; an async one is awaited before the next event."""
    seen: list[Event] = []

    async def note(event: Event) -> None:
        seen.append(event)

    answer = await panel().answer("Why?", on_event=note if is_async else seen.append)
    assert answer.text == "merged"
    assert isinstance(seen[0], RunStarted)
    assert isinstance(seen[-1], RunFinished)


async def test_stream_takes_any_question() -> None:
    """A text, messages, a body and a request all do; sampling may be given by keyword."""
    messages = [{"role": "user", "content": "Why?"}]
    for question in ("Why?", messages, {"messages": messages}, Request.of("Why?")):
        mixture = panel()
        text = "".join([delta.text async for delta in mixture.stream(question, top_k=7)])
        assert (text, sent(mixture).body["top_k"]) == ("merged", 7)


# -- sampling by keyword -----------------------------------------------------------------------------------------------


async def test_sampling_is_given_by_keyword() -> None:
    """Keywords are fields of the request, a vendor's own too; they override a body's, and None removes one."""
    mixture = panel()
    body = {"messages": [{"role": "user", "content": "Why?"}], "temperature": 1.0, "max_tokens": 5}
    await mixture.answer(body, temperature=0.2, max_tokens=None, my_vendor_field={"a": 1})
    fields = {key: value for key, value in sent(mixture).body.items() if key != "messages"}
    assert fields == {"temperature": 0.2, "my_vendor_field": {"a": 1}}
    assert await asyncio.to_thread(mixture.ask, "Why?", top_p=0.5)
    assert sent(mixture).body["top_p"] == 0.5


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("temprature", "'temprature' is no field of a request; did you mean 'temperature'?"),
        ("on_events", "'on_events' is no field of a request; did you mean 'on_event'?"),
        ("max_cost", "'max_cost' is a setting of the mixture, not a field of a request: Mixture(…, max_cost=…)"),
        ("messages", "'messages' is no keyword: pass the list of messages as the question"),
    ],
)
async def test_a_wrong_keyword_is_refused_before_any_call(keyword: str, message: str) -> None:
    """A misspelt field would be sent to every provider, and most refuse it with an error of their own."""
    mixture: Any = panel()
    with pytest.raises(TypeError) as caught:
        await mixture.answer("Why?", **{keyword: 1})
    assert message in str(caught.value)
    with pytest.raises(TypeError):
        mixture.run("Why?", **{keyword: 1})


async def test_a_malformed_question_is_refused_by_each_way_to_ask() -> None:
    """run() raises at once, before it is iterated."""
    with pytest.raises(RequestRejected):
        panel().run("")
    with pytest.raises(RequestRejected):
        panel().ask("")
    with pytest.raises(RequestRejected):
        await anext(panel().stream(""))


# -- a beginner's mistakes ---------------------------------------------------------------------------------------------


class Parrot:
    """A model as a beginner would write it; each subclass below has one mistake."""

    name = "mine/parrot"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Delta(text="hello", finish_reason="stop")


class Returns:
    name = "mine/returns"

    async def stream(self, request: Request) -> str:
        return "hello"


class IsSync:
    name = "mine/sync"

    def stream(self, request: Request) -> Iterator[Delta]:
        yield Delta(text="hello")


class ReturnsText:
    name = "mine/text"

    def stream(self, request: Request) -> str:
        return "hello"


class YieldsText:
    name = "mine/text"

    async def stream(self, request: Request) -> AsyncGenerator[str, None]:
        yield "hello"


class Nameless:
    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Delta(text="hello")


class Silent:
    name = "mine/silent"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (Parrot, "moa/mixture: Parrot is a class; pass an instance: Parrot(…)"),
        (Returns(), "Returns.stream returns its answer; it must yield it: yield Delta(text=…)"),
        (IsSync(), "IsSync.stream must be asynchronous: async def stream(self, request)"),
        (Nameless(), "Nameless has no name; a model needs one, such as name = 'mine/nameless'"),
        (Silent(), "is no model, agent or name of one"),
        (panel, "panel is a function; moa.Function(panel) makes it a model"),
        ({"model": Parrot}, "Parrot is a class; pass an instance: Parrot(…)"),
    ],
)
@pytest.mark.parametrize("build", [lambda member: Mixture([[member]], "x"), lambda member: Mixture([], member)])
def test_a_member_that_is_no_model_is_refused_in_one_line(
    build: Callable[[Any], Mixture], member: object, message: str
) -> None:
    """The error names the class and what to change, where the mixture is made."""
    with pytest.raises(ConfigError) as caught:
        build(member)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (ReturnsText(), "its stream() returned str; it must be 'async def' and yield Delta(text=…)"),
        (YieldsText(), "its stream() yielded 'hello'; expected Delta(text=…)"),
    ],
)
async def test_a_model_that_answers_wrongly_fails_with_one_line(member: Any, message: str) -> None:
    """Some mistakes show only in a call; they cost the agent's own proposal and say what to change."""
    answer = await Mixture([[Agent(member), Parrot()]], Scripted("fine", name="x/last")).answer("Why?")
    assert answer.text == "fine"
    assert answer.calls[0].dropped == f"mine/text: {message}"
