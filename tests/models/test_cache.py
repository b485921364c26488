from __future__ import annotations

import asyncio
import logging
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa import Mixture, Quorum
from moa.errors import (
    ConfigError,
    ModelError,
    UpstreamFailed,
)
from moa.messages import Call, Cost, Delta, Request, Usage, collected
from moa.models import Traits, traits_of
from moa.models.answer_store import BETWEEN_SWEEPS
from moa.models.cache import Cache, Cached
from moa.models.scripted import Script, Scripted
from tests.fakes.virtual_time import run_in_virtual_time
from tests.models.calling import HELLO, deltas_of, text_of

pytestmark = pytest.mark.anyio

NAME = "scripted/a"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "answers.sqlite") as cache:
        yield cache


class At(Scripted):
    """A scripted model with an identity of its own."""

    def __init__(self, identity: str, script: Script = "hello") -> None:
        super().__init__(script, name=NAME)
        self._identity = identity

    @property
    def traits(self) -> Traits:
        return Traits(identity=self._identity)


async def test_a_repeated_request_is_replayed_delta_by_delta(cache: Cache) -> None:
    """A cached answer has the same deltas and usage, costs $0, and calls no model."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    model = Scripted("hello there", name=NAME, reasoning="They want a greeting.", tool_calls=[call])
    first = await deltas_of(Cached(model, cache))
    again = await deltas_of(Cached(model, cache))
    assert len(model.requests) == 1
    assert again == [*first[:-1], first[-1].replaced(cost=Cost(0.0))]


async def test_a_cached_answer_of_a_mixture_costs_nothing(cache: Cache) -> None:
    """The calls behind a cached answer keep their usage and cost $0, at every depth."""
    inner = Call("p", 1, "x/y", usage=Usage(1, 2), cost=Cost(0.1))
    outer = Call("a", 2, "moa/lite", role="aggregator", usage=Usage(3, 4), cost=Cost(0.2), calls=(inner,))

    class Mixed:
        name = "moa/paper"

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            yield Delta(text="hello")
            yield Delta(finish_reason="stop", usage=Usage(4, 6), cost=Cost(0.3), calls=(outer,))
            yield Delta(extra={"done": True})

    assert collected(await deltas_of(Cached(Mixed(), cache))).cost == Cost(0.3)
    answer = collected(await deltas_of(Cached(Mixed(), cache)))
    assert (answer.cost, answer.usage) == (Cost(0.0), Usage(4, 6))
    assert answer.calls == (replace(outer, cost=Cost(0.0), calls=(replace(inner, cost=Cost(0.0)),)),)


async def test_everything_that_matters_is_in_the_key(cache: Cache) -> None:
    """The wording of the prompt, sampling parameters, the model's name, its identity and the sample are all in the key."""
    model = At("http://here", script=[str(n) for n in range(9)])
    streams = [
        Cached(model, cache).stream(HELLO),
        Cached(model, cache).stream(HELLO.replaced(temperature=0.7)),
        Cached(model, cache).stream(Request.of([{"role": "system", "content": "Older wording."}, *HELLO.messages])),
        Cached(model, cache).stream(Request.of([{"role": "system", "content": "Newer wording."}, *HELLO.messages])),
        Cached(model, cache, sample="2").stream(HELLO),
        Cached(At("http://there", script="elsewhere"), cache).stream(HELLO),
        Cached(Scripted("someone else", name="scripted/b"), cache).stream(HELLO),
        Cached(model, cache).stream(Request.of(dict(reversed({**HELLO.body, "temperature": 0.7}.items())))),
    ]
    texts = [collected([delta async for delta in deltas]).text for deltas in streams]
    assert texts == ["0", "1", "2", "3", "4", "elsewhere", "someone else", "1"]


async def test_mixtures_with_different_aggregators_do_not_share_answers(cache: Cache) -> None:
    """A mixture's key in the cache depends on everything that its answers depend on, the aggregator included."""

    def written_by(name: str, **how: Any) -> Mixture:
        return Mixture([[Scripted("a proposal")]], Scripted(f"written by {name}", name=f"scripted/{name}"), **how)

    assert await text_of(Cached(written_by("one"), cache)) == "written by one"
    assert await text_of(Cached(written_by("two"), cache)) == "written by two"
    assert await text_of(Cached(Mixture([], Scripted("changed", name="scripted/one")), cache)) == "changed"
    assert await text_of(Cached(written_by("one"), cache)) == "written by one"
    settings: list[dict[str, Any]] = [{"schedule": Quorum(1)}, {"aggregate": "select"}, {"exact": True}]
    identities = {traits_of(written_by("one", **how)).identity for how in [{}, *settings]}
    assert len(identities) == 4


async def test_only_complete_answers_are_cached(cache: Cache) -> None:
    """After a broken, an unfinished, a failed and a closed answer, the model is called again."""
    for script in (
        Scripted("hello there", fail_after=1),
        Scripted("hello there", finish_reason=None),
        Scripted(UpstreamFailed(NAME, "overloaded")),
    ):
        model = Scripted([script, "whole"], name=NAME)
        request = Request.of(repr(script))
        with suppress(ModelError):
            await deltas_of(Cached(model, cache), request)
        assert await text_of(Cached(model, cache), request) == "whole"
    model = Scripted(["cut off here", "whole"], name=NAME)
    async with aclosing(Cached(model, cache).stream(HELLO)) as deltas:
        await anext(deltas)
    assert await text_of(Cached(model, cache)) == "whole"


async def test_clear_deletes_everything(cache: Cache) -> None:
    """After ``clear`` the model is called again."""
    model = Scripted("hello", name=NAME)
    await deltas_of(Cached(model, cache))
    cache.clear()
    await deltas_of(Cached(model, cache))
    assert len(model.requests) == 2


async def test_answers_outlive_the_process(tmp_path: Path) -> None:
    """A cache that is opened again still has its answers."""
    path = tmp_path / "new" / "answers.sqlite"
    with Cache(path) as cache:
        await deltas_of(Cached(Scripted("hello", name=NAME), cache))
    with Cache(path) as cache:
        assert await text_of(Cached(Scripted([], name=NAME), cache)) == "hello"


async def test_only_the_owner_can_read_the_answers(cache: Cache) -> None:
    """The cache and the files that SQLite puts beside it are readable by their owner only."""
    await deltas_of(Cached(Scripted("a secret", name=NAME), cache))
    files = list(cache.path.parent.iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
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
def test_stored_answers_come_back_equal(shared_cache: Cache, deltas: list[Delta]) -> None:
    """Whatever deltas are stored, equal ones come back."""
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
def test_a_file_that_is_not_a_cache_is_refused_by_name(tmp_path: Path, spoil: Any) -> None:
    """A damaged file, another program's database and a directory are refused, left unchanged, and named."""
    path = tmp_path / "answers.sqlite"
    spoil(path)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(ConfigError, match=r"answers\.sqlite"):
        Cache(path)
    assert path.is_dir() or path.read_bytes() == before


@pytest.mark.parametrize("damaged", ['[{"text": 5}]', '[{"text": "hel', '{"text": "hello"}'])
def test_a_damaged_entry_is_an_error(cache: Cache, damaged: str) -> None:
    """A damaged entry is an error that names the file, not a wrong answer."""
    cache.put("key", [Delta(text="hello")])
    other = sqlite3.connect(cache.path)
    other.execute("UPDATE answers SET deltas = ?", (damaged,))
    other.commit()
    other.close()
    with pytest.raises(ConfigError, match=r"answers\.sqlite"):
        cache.get("key")


async def test_an_answer_that_cannot_be_stored_is_still_returned(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    """While another process locks the file, the answer is returned, not stored, and the log reports it."""
    other = sqlite3.connect(cache.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    model = Scripted("hello", name=NAME)
    with caplog.at_level(logging.WARNING):
        assert await text_of(Cached(model, cache)) == "hello"
    other.close()
    assert "not stored" in caplog.text
    await deltas_of(Cached(model, cache))
    assert len(model.requests) == 2


def test_many_processes_may_open_one_cache_at_once(tmp_path: Path) -> None:
    """Processes that start together on a file that does not exist yet can all use it."""
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


def test_concurrent_identical_requests_all_reach_the_model(tmp_path: Path) -> None:
    """Identical requests at the same time all go to the model; none waits for another."""

    async def run() -> int:
        model = Scripted("hello", name=NAME, first_token=1)
        with Cache(tmp_path / "answers.sqlite") as cache:
            await asyncio.gather(*(deltas_of(Cached(model, cache)) for _ in range(3)))
            await deltas_of(Cached(model, cache))
        return len(model.requests)

    assert run_in_virtual_time(run()) == 3


# Bounds


def sized(count: int) -> list[Delta]:
    return [Delta(text="x" * count), Delta(finish_reason="stop")]


def test_the_oldest_answers_go_where_the_space_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays near its bound in bytes, and the latest answers stay."""
    clock = iter(range(10**6))
    monkeypatch.setattr("moa.models.answer_store.time.time", lambda: next(clock))
    with Cache(tmp_path / "answers.sqlite", megabytes=1) as cache:
        for number in range(3 * BETWEEN_SWEEPS):
            cache.put(f"{number}", sized(20_000))
        assert cache.bytes < 1e6
        assert 10 < len(cache) < 50
        assert cache.get("0") is None
        assert cache.get(f"{3 * BETWEEN_SWEEPS - 1}") == sized(20_000)
    assert (tmp_path / "answers.sqlite").stat().st_size < 3e6


def test_an_answer_that_is_too_old_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its age counts from when it was stored."""
    now = time.time()
    with Cache(tmp_path / "answers.sqlite") as cache:
        cache.put("old", sized(1))
        monkeypatch.setattr("moa.models.answer_store.time.time", lambda: now + 5 * 86400)
        cache.put("new", sized(1))
    monkeypatch.setattr("moa.models.answer_store.time.time", lambda: now + 10 * 86400)
    with Cache(tmp_path / "answers.sqlite", days=7) as cache:
        assert (cache.get("old"), cache.get("new")) == (None, sized(1))


def test_a_file_of_an_older_version_keeps_its_answers(tmp_path: Path) -> None:
    """Answers without a date count from the upgrade."""
    path = tmp_path / "answers.sqlite"
    with Cache(path) as cache:
        cache.put("a", sized(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.executescript("DROP INDEX answers_at; ALTER TABLE answers DROP COLUMN at")
    with Cache(path, days=1) as cache:
        assert cache.get("a") == sized(1)
        cache.put("b", sized(1))
        assert len(cache) == 2


def test_clearing_gives_the_space_back(tmp_path: Path) -> None:
    """Afterwards the file is as small as an empty one."""
    path = tmp_path / "answers.sqlite"
    with Cache(path) as cache:
        empty = cache.bytes
        cache.put("a", sized(1_000_000))
        cache.clear()
        assert (len(cache), cache.bytes) == (0, empty)
    assert path.stat().st_size <= empty
