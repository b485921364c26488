from __future__ import annotations

import asyncio
import logging
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from moa.errors import (
    CallRejected,
    ConfigError,
    KeyRejected,
    ModelError,
    RateLimited,
    StreamBroken,
    TimedOut,
    Unreachable,
    UpstreamFailed,
)
from moa.messages import Call, Cost, Delta, Request, Usage, collected
from moa.models import Model
from moa.models.scripted import Scripted
from moa.models.wrappers import Cache, Cached, Limited, Limits, Retried
from tests.fakes.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.anyio

HELLO = Request.of("Say hello to everyone.")
NAME = "scripted/a"


async def said_by(model: Model, request: Request = HELLO) -> list[Delta]:
    return [delta async for delta in model.stream(request)]


async def text_of(model: Model, request: Request = HELLO) -> str:
    return collected(await said_by(model, request)).text


@pytest.fixture
def no_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "answers.sqlite") as cache:
        yield cache


class At(Scripted):
    """A scripted model that runs somewhere."""

    def __init__(self, identity: str, script: Any = "hello") -> None:
        super().__init__(script, name=NAME)
        self.identity = identity
        self.provider = "scripted"


@pytest.mark.parametrize("wrap", [Retried, lambda model: Limited(model, Limits())])
def test_a_wrapper_is_a_model_with_the_name_of_the_one_inside(wrap: Any) -> None:
    """A wrapper is a model and passes on who answers, and nothing that would go around it."""
    wrapped: Any = wrap(At("http://here"))
    assert (wrapped.name, wrapped.provider, wrapped.identity) == (NAME, "scripted", "http://here")
    for attribute in ("model_id", "requests"):
        assert not hasattr(wrapped, attribute)
    assert isinstance(wrapped, Model)


# Asking again


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize("kind", [Unreachable, TimedOut, RateLimited, UpstreamFailed, StreamBroken])
async def test_asks_again_what_may_succeed_later(kind: type[ModelError]) -> None:
    """A call that failed before it said anything, for a reason that may pass, is made again."""
    model = Scripted([kind(NAME, "not now"), kind(NAME, "not now"), "hello"], name=NAME)
    assert await text_of(Retried(model)) == "hello"
    assert model.requests == [HELLO] * 3


@pytest.mark.usefixtures("no_waits")
async def test_gives_up_after_the_last_attempt_with_its_error() -> None:
    """When every attempt fails, the last error is the one that is raised."""
    model = Scripted([UpstreamFailed(NAME, f"failure {n}") for n in (1, 2, 3)], name=NAME)
    with pytest.raises(UpstreamFailed, match="failure 3"):
        await said_by(Retried(model))


@pytest.mark.parametrize("error", [KeyRejected(NAME, "no", status=401), CallRejected(NAME, "no", status=404)])
async def test_does_not_ask_again_what_will_fail_again(error: ModelError) -> None:
    """A refused key or a refused call is given up at once."""
    model = Scripted([error, "hello"], name=NAME)
    with pytest.raises(type(error)):
        await said_by(Retried(model))
    assert len(model.requests) == 1


@pytest.mark.parametrize("reasoning", ["", "Thinking."])
async def test_does_not_ask_again_once_something_was_said(reasoning: str) -> None:
    """A stream that breaks after its first piece, of text or of reasoning, is broken: the reader has that piece."""
    model = Scripted("hello there", name=NAME, reasoning=reasoning, fail_after=1)
    with pytest.raises(StreamBroken):
        await said_by(Retried(model))
    assert len(model.requests) == 1


@pytest.mark.usefixtures("no_waits")
async def test_an_empty_delta_says_nothing() -> None:
    """A server that opens its stream with an empty chunk and then fails can be asked again."""

    class OpensEmpty:
        name = NAME
        calls = 0

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            self.calls += 1
            yield Delta()
            if self.calls == 1:
                raise UpstreamFailed(NAME, "overloaded")
            yield Delta(text="hello")

    assert await text_of(Retried(OpensEmpty())) == "hello"


def test_waits_as_long_as_the_server_says() -> None:
    """``Retry-After`` counts instead of the usual wait, and the random seconds only ever add to it."""

    async def finished_at() -> float:
        model = Scripted([RateLimited(NAME, "slow down", retry_after=30), "hello"], name=NAME)
        await said_by(Retried(model, wait_max=5, wait_jitter=2))
        return asyncio.get_running_loop().time()

    assert 30 <= run_in_virtual_time(finished_at()) <= 32


async def test_gives_up_when_the_server_asks_for_too_long_a_wait() -> None:
    """A ``Retry-After`` beyond the limit is not waited for; the error still tells it."""
    model = Scripted([RateLimited(NAME, "come back tomorrow", retry_after=86_400), "hello"], name=NAME)
    with pytest.raises(RateLimited) as caught:
        await said_by(Retried(model))
    assert caught.value.retry_after == 86_400
    assert len(model.requests) == 1


def test_waits_double_up_to_a_longest_one() -> None:
    """Without word from the server, each wait is twice the one before, up to ``wait_max``."""

    async def finished_at() -> float:
        model = Scripted([*[TimedOut(NAME, "no answer")] * 4, "hello"], name=NAME)
        await said_by(Retried(model, attempts=5, wait_initial=1, wait_max=3, wait_jitter=0))
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(finished_at()) == 1 + 2 + 3 + 3


def test_makes_no_further_attempt_after_its_time() -> None:
    """``timeout`` bounds when another attempt may start, not how long one may take."""

    async def attempts() -> int:
        model = Scripted(TimedOut(NAME, "no answer"), name=NAME, first_token=10)
        with pytest.raises(TimedOut):
            await said_by(Retried(model, attempts=99, timeout=0.000_001))
        return len(model.requests)

    assert run_in_virtual_time(attempts()) == 1


async def test_cancellation_is_not_a_failure_to_retry() -> None:
    """A call that is cancelled while it waits for its first word stops at once, and is not made again."""
    model = Scripted("hello", name=NAME, first_token=60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await said_by(Retried(model))
    assert (len(model.requests), model.cancelled, model.running) == (1, 1, 0)


async def test_closing_early_closes_the_call_inside() -> None:
    """Whoever closes the stream of a wrapped model cuts off the call inside."""
    model = Scripted("hello there", name=NAME)
    async with aclosing(Limited(Retried(model), Limits(1)).stream(HELLO)) as deltas:
        assert await anext(deltas) == Delta(text="hello ")
    assert (model.cancelled, model.running) == (1, 0)


def test_a_retry_prints_nothing() -> None:
    """A retry in a program that set up no logging leaves its standard error alone."""
    code = (
        "import asyncio\n"
        "from moa.errors import Unreachable\n"
        "from moa.messages import Request\n"
        "from moa.models.scripted import Scripted\n"
        "from moa.models.wrappers import Retried\n"
        "model = Retried(Scripted([Unreachable('scripted/a', 'no route'), 'hello']), wait_initial=0, wait_jitter=0)\n"
        "async def main(): return [delta async for delta in model.stream(Request.of('hi'))]\n"
        "assert asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Holding back


def test_no_more_calls_at_once_than_allowed_and_in_order() -> None:
    """Calls beyond ``max_concurrency`` wait for a place, and those who came first go first."""

    async def run() -> tuple[int, list[str], float]:
        model = Scripted("hello", name=NAME, first_token=1)
        limits = Limits(max_concurrency=2)
        most = 0

        async def ask(question: str) -> None:
            nonlocal most
            async for _ in Limited(model, limits).stream(Request.of(question)):
                most = max(most, model.running)

        await asyncio.gather(*(ask(str(n)) for n in range(6)))
        return most, [r.body["messages"][0]["content"] for r in model.requests], asyncio.get_running_loop().time()

    assert run_in_virtual_time(run()) == (2, ["0", "1", "2", "3", "4", "5"], 3.0)


async def test_a_place_is_given_back_however_the_call_ends() -> None:
    """Closing early, failing and being cancelled all free the place."""
    limits = Limits(max_concurrency=1)
    async with aclosing(Limited(Scripted("hello there"), limits).stream(HELLO)) as deltas:
        await anext(deltas)
    with pytest.raises(UpstreamFailed):
        await said_by(Limited(Scripted(UpstreamFailed(NAME, "overloaded")), limits))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await said_by(Limited(Scripted("hello", first_token=60), limits))
    async with asyncio.timeout(1):
        assert await text_of(Limited(Scripted("hello"), limits)) == "hello"


async def started_at(limits: Limits, requests: list[Request], used: int | None = None) -> list[float]:
    """When each request, made at once, reached a model that reports so many tokens (None: what was charged)."""
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def answer(request: Request) -> Scripted:
        times.append(loop.time())
        charged = 6 + int(request.body.get("max_tokens", 500))
        return Scripted("hello", usage=Usage(output_tokens=charged if used is None else used))

    model = Limited(Scripted(answer, name=NAME), limits)
    await asyncio.gather(*(said_by(model, request) for request in requests))
    return times


def test_requests_per_minute() -> None:
    """A minute's worth of calls may start at once; the others start as the minute passes."""
    times = run_in_virtual_time(started_at(Limits(requests_per_minute=4), [HELLO] * 7))
    assert times == pytest.approx([0, 0, 0, 0, 15, 30, 45])


@pytest.mark.parametrize(("used", "second_start"), [(600, 60), (60, 6), (1200, 120)])
def test_tokens_per_minute_are_settled_by_what_was_used(used: int, second_start: float) -> None:
    """A call is charged an estimate of its tokens, then what it reports: less gives room back, more takes it."""
    request = HELLO.replaced(max_tokens=594)  # 6 tokens of input make 600

    async def one_after_the_other() -> list[float]:
        limits = Limits(tokens_per_minute=600)
        return await started_at(limits, [request], used) + await started_at(limits, [request], used)

    assert run_in_virtual_time(one_after_the_other()) == pytest.approx([0, second_start])


def test_a_request_larger_than_the_bucket_waits_for_an_empty_one() -> None:
    """A call that needs more than a minute's tokens goes through in its turn, and those after it wait it out."""
    small, large = HELLO.replaced(max_tokens=94), HELLO.replaced(max_tokens=1_994)  # 100 and 2,000 tokens
    times = run_in_virtual_time(started_at(Limits(tokens_per_minute=1_000), [small, large, small]))
    assert times == pytest.approx([0, 6, 6 + (2_000 + 100 - 1_000) * 60 / 1_000])


def test_limits_outlive_an_event_loop() -> None:
    """One object serves program after program, each with its own loop, waiting in every one of them."""
    limits = Limits(max_concurrency=1, requests_per_minute=2, tokens_per_minute=100_000)
    for _ in range(3):
        assert run_in_virtual_time(started_at(limits, [HELLO] * 3)) == pytest.approx([0, 0, 30])


def test_limits_must_be_above_zero() -> None:
    """A limit that would let nothing through is refused."""
    with pytest.raises(ValueError, match="above 0"):
        Limits(max_concurrency=0)


# Remembering


async def test_the_same_request_is_answered_once_and_replayed_piece_by_piece(cache: Cache) -> None:
    """A remembered answer comes in the same pieces with the same usage, costs $0, and asks nobody."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    model = Scripted("hello there", name=NAME, reasoning="They want a greeting.", tool_calls=[call])
    first = await said_by(Cached(model, cache))
    again = await said_by(Cached(model, cache))
    assert len(model.requests) == 1
    assert again == [*first[:-1], replace(first[-1], cost=Cost(0.0))]


async def test_a_remembered_answer_of_a_mixture_was_not_paid_again(cache: Cache) -> None:
    """The calls behind a remembered answer keep their usage and cost nothing, at every depth."""
    inner = Call("p", 1, "x/y", usage=Usage(1, 2), cost=Cost(0.1))
    outer = Call("a", 2, "moa/lite", role="aggregator", usage=Usage(3, 4), cost=Cost(0.2), calls=(inner,))

    class Mixed:
        name = "moa/paper"

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            yield Delta(text="hello")
            yield Delta(finish_reason="stop", usage=Usage(4, 6), cost=Cost(0.3), calls=(outer,))
            yield Delta(extra={"done": True})

    assert collected(await said_by(Cached(Mixed(), cache))).cost == Cost(0.3)
    answer = collected(await said_by(Cached(Mixed(), cache)))
    assert (answer.cost, answer.usage) == (Cost(0.0), Usage(4, 6))
    assert answer.calls == (replace(outer, cost=Cost(0.0), calls=(replace(inner, cost=Cost(0.0)),)),)


async def test_another_request_is_another_answer(cache: Cache) -> None:
    """The wording of the prompt, a sampling parameter, the place, the model and the sample are all in the key."""
    model = At("http://here", script=[str(n) for n in range(9)])
    asked = [
        Cached(model, cache).stream(HELLO),
        Cached(model, cache).stream(HELLO.replaced(temperature=0.7)),
        Cached(model, cache).stream(Request.of([{"role": "system", "content": "Older wording."}, *HELLO.messages])),
        Cached(model, cache).stream(Request.of([{"role": "system", "content": "Newer wording."}, *HELLO.messages])),
        Cached(model, cache, sample="2").stream(HELLO),
        Cached(At("http://there", script="elsewhere"), cache).stream(HELLO),
        Cached(Scripted("someone else", name="scripted/b"), cache).stream(HELLO),
        Cached(model, cache).stream(Request.of(dict(reversed({**HELLO.body, "temperature": 0.7}.items())))),
    ]
    said = [collected([delta async for delta in deltas]).text for deltas in asked]
    assert said == ["0", "1", "2", "3", "4", "elsewhere", "someone else", "1"]


async def test_only_a_whole_answer_is_remembered(cache: Cache) -> None:
    """A broken, an unfinished, a failed and a closed answer are asked for again."""
    for script in (
        Scripted("hello there", fail_after=1),
        Scripted("hello there", finish_reason=None),
        Scripted(UpstreamFailed(NAME, "overloaded")),
    ):
        model = Scripted([script, "whole"], name=NAME)
        request = Request.of(repr(script))
        with suppress(ModelError):
            await said_by(Cached(model, cache), request)
        assert await text_of(Cached(model, cache), request) == "whole"
    model = Scripted(["cut off here", "whole"], name=NAME)
    async with aclosing(Cached(model, cache).stream(HELLO)) as deltas:
        await anext(deltas)
    assert await text_of(Cached(model, cache)) == "whole"


async def test_clear_forgets_everything(cache: Cache) -> None:
    """After ``clear`` the model is asked again."""
    model = Scripted("hello", name=NAME)
    await said_by(Cached(model, cache))
    cache.clear()
    await said_by(Cached(model, cache))
    assert len(model.requests) == 2


async def test_answers_outlive_the_process_that_asked(tmp_path: Path) -> None:
    """A cache opened again still knows its answers."""
    path = tmp_path / "new" / "answers.sqlite"
    with Cache(path) as cache:
        await said_by(Cached(Scripted("hello", name=NAME), cache))
    with Cache(path) as cache:
        assert await text_of(Cached(Scripted([], name=NAME), cache)) == "hello"


async def test_nobody_else_can_read_the_answers(cache: Cache) -> None:
    """The cache and the files SQLite puts beside it are for their owner's eyes only."""
    await said_by(Cached(Scripted("a secret", name=NAME), cache))
    files = list(cache.path.parent.iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=3)
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too: JSON may carry them
COUNTS = st.integers(0, 10**9)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, st.booleans())
COSTS = st.builds(Cost, st.none() | st.floats(0, 1e6), st.booleans())
CALLS = st.builds(
    Call,
    st.text(),
    COUNTS,
    st.text(),
    text=ANY_TEXT,
    usage=st.none() | USAGES,
    cost=st.none() | COSTS,
    cut=st.booleans(),
)
DELTAS = st.builds(
    Delta,
    text=ANY_TEXT,
    reasoning=ANY_TEXT,
    tool_calls=st.lists(OBJECTS, max_size=2).map(tuple),
    finish_reason=st.none() | st.sampled_from(["stop", "length", "tool_calls"]),
    usage=st.none() | USAGES,
    cost=st.none() | COSTS,
    calls=st.lists(CALLS | CALLS.map(lambda call: replace(call, calls=(call,))), max_size=2).map(tuple),
    extra=st.none() | OBJECTS,
)


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    with Cache(tmp_path_factory.mktemp("cache") / "answers.sqlite") as cache:
        yield cache


@given(deltas=st.lists(DELTAS, max_size=4))
def test_what_is_kept_comes_back_as_it_was(shared_cache: Cache, deltas: list[Delta]) -> None:
    """Whatever deltas are put into the cache, equal ones come out."""
    shared_cache.put("key", deltas)
    assert shared_cache.get("key") == deltas


def foreign_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"This is no database. " * 100),
        foreign_database,
        lambda path: path.mkdir(),
    ],
    ids=["not a database", "another program's database", "a directory"],
)
def test_a_file_that_is_no_cache_is_refused_by_name(tmp_path: Path, spoil: Any) -> None:
    """A damaged file, another program's database and a directory are refused, left as they are, and named."""
    path = tmp_path / "answers.sqlite"
    spoil(path)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(ConfigError, match=r"answers\.sqlite"):
        Cache(path)
    assert path.is_dir() or path.read_bytes() == before


def test_a_damaged_entry_is_named(cache: Cache) -> None:
    """An entry that is not what was written there is an error that names the file, not a wrong answer."""
    cache.put("key", [Delta(text="hello")])
    other = sqlite3.connect(cache.path)
    other.execute("""UPDATE answers SET deltas = '[{"words": "hello"}]'""")
    other.commit()
    other.close()
    with pytest.raises(ConfigError, match=r"answers\.sqlite"):
        cache.get("key")


async def test_an_answer_that_cannot_be_kept_is_still_an_answer(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    """While another process holds the file, the answer is given, not kept, and the log says so."""
    other = sqlite3.connect(cache.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    model = Scripted("hello", name=NAME)
    with caplog.at_level(logging.WARNING):
        assert await text_of(Cached(model, cache)) == "hello"
    other.close()
    assert "not kept" in caplog.text
    await said_by(Cached(model, cache))
    assert len(model.requests) == 2


def test_many_processes_may_open_one_cache_at_once(tmp_path: Path) -> None:
    """Workers that start together on a file that does not exist yet all get to use it."""
    code = (
        "import sys\n"
        "from moa.messages import Delta\n"
        "from moa.models.cache import Cache\n"
        "with Cache(sys.argv[1]) as cache:\n"
        "    for n in range(20): cache.put(f'{sys.argv[2]} {n}', [Delta(text='hello')])\n"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "answers.sqlite"), str(n)], stderr=subprocess.PIPE)
        for n in range(4)
    ]
    errors = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, errors


def test_identical_requests_at_the_same_time_all_reach_the_model(tmp_path: Path) -> None:
    """Nobody waits for another's call: identical requests made together all go upstream."""

    async def run() -> int:
        model = Scripted("hello", name=NAME, first_token=1)
        with Cache(tmp_path / "answers.sqlite") as cache:
            await asyncio.gather(*(said_by(Cached(model, cache)) for _ in range(3)))
            await said_by(Cached(model, cache))
        return len(model.requests)

    assert run_in_virtual_time(run()) == 3
