"""A model that keeps failing is skipped for a while, tried with one call, and skipped again or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa import Mixture
from moa.config.config import Config
from moa.errors import AggregatorFailed, ModelError, NoProposals, UpstreamFailed
from moa.messages import Delta, Request
from moa.models import traits_of
from moa.models.breaker import Breaker, Breaking
from moa.models.refusals import refused
from moa.models.scripted import Scripted
from tests.models.calling import HELLO, deltas_of

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Moody:
    """A model whose calls fail as long as ``error`` is set."""

    def __init__(self, name: str = "moody/m") -> None:
        self.name, self.calls = name, 0
        self.error: ModelError | None = UpstreamFailed(name, "overloaded")

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.calls += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        yield Delta("fine", finish_reason="stop")


async def called(model: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with suppress(ModelError):
            await deltas_of(model)


async def test_five_failures_in_a_row() -> None:
    """The fifth failure opens it for a minute; a success before it starts the count again."""
    clock, moody = Clock(), Moody()
    breaker = Breaker(moody, clock=clock)
    await called(breaker, 4)
    moody.error, error = None, moody.error
    await called(breaker)
    moody.error = error
    await called(breaker, 4)
    assert traits_of(breaker).skip == ""
    await called(breaker)
    assert "its last 5 calls failed" in traits_of(breaker).skip and "overloaded" in traits_of(breaker).skip
    clock.now = 59.9
    assert traits_of(breaker).skip
    clock.now = 60
    assert not traits_of(breaker).skip


@pytest.mark.parametrize("recovers", [True, False])
async def test_one_call_tries_it(recovers: bool) -> None:
    """After the minute one call is made while others skip it; its end decides."""
    clock, moody = Clock(), Moody()
    breaker = Breaker(moody, clock=clock)
    await called(breaker, 5)
    clock.now = 61
    if recovers:
        moody.error = None
    trying = asyncio.create_task(called(breaker))
    await asyncio.sleep(0)
    assert traits_of(breaker).skip
    await trying
    assert bool(traits_of(breaker).skip) != recovers


async def test_a_cancelled_try_leaves_it_to_the_next() -> None:
    """A try that is cancelled says nothing: the next call tries again."""
    clock, moody = Clock(), Moody()
    breaker = Breaker(moody, clock=clock)
    await called(breaker, 5)
    clock.now = 61
    trying = asyncio.create_task(called(breaker))
    await asyncio.sleep(0)
    trying.cancel()
    await asyncio.wait([trying])
    assert not traits_of(breaker).skip


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (refused("x/m", 500, "oops"), True),
        (refused("x/m", 401, "bad key"), True),
        (refused("x/m", 429, "slow down"), True),
        (refused("x/m", 404, "The model `m` does not exist"), True),
        (refused("x/m", 400, "temperature must be at most 1"), False),
        (refused("x/m", 400, "maximum context length is 4096 tokens"), False),
        (refused("x/m", 403, "Your input was flagged"), False),
        (refused("x/m", 400, "Your credit balance is too low"), True),
    ],
)
async def test_what_counts(error: ModelError, counts: bool) -> None:
    """A failure counts unless the request caused it."""
    moody = Moody()
    moody.error = error
    breaker = Breaker(moody, clock=Clock())
    await called(breaker, 5)
    assert bool(traits_of(breaker).skip) == counts


async def test_a_closed_stream_does_not_count() -> None:
    """Neither closing nor cancelling a call is a failure of its model."""
    breaker = Breaker(Scripted("one two three", first_token=60), Breaking(failures=1), clock=Clock())
    for _ in range(3):
        async with aclosing(breaker.stream(HELLO)) as deltas:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await anext(deltas)
    assert not traits_of(breaker).skip


@given(
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=30),
    failures=st.integers(1, 6),
    seconds=st.floats(1, 90),
)
def test_it_is_open_exactly_while_it_should_be(steps: list[tuple[bool, float]], failures: int, seconds: float) -> None:
    """After any calls at any times: open for ``seconds`` after a failure that is one of ``failures`` in a row."""

    async def run() -> None:
        clock, moody = Clock(), Moody()
        error = moody.error
        breaker = Breaker(moody, Breaking(failures, seconds), clock=clock)
        row, last = 0, -1e9
        for fails, pause in steps:
            moody.error = error if fails else None
            await called(breaker)
            row, last = (row + 1, clock.now) if fails else (0, last)
            clock.now += pause
            assert bool(traits_of(breaker).skip) == (row >= failures and clock.now < last + seconds)

    asyncio.run(run())


def _opened(name: str) -> tuple[Moody, Breaker]:
    moody = Moody(name)
    return moody, Breaker(moody, Breaking(failures=2), clock=Clock())


async def test_a_mixture_skips_it_with_a_notice() -> None:
    """A proposer and an aggregator that keep failing are not called, and the answer says so."""
    a, b = _opened("x/a")
    agg, breaking_agg = _opened("x/agg")
    mixture = Mixture(
        [[b, Scripted("Four.", name="x/c")]], breaking_agg, fallbacks=[Scripted("It is four.", name="x/d")]
    )
    for _ in range(2):
        assert (await mixture.answer("?")).text == "It is four."
    answer = await mixture.answer("?")
    assert (answer.text, a.calls, agg.calls) == ("It is four.", 2, 2)
    assert any("a is skipped: its last 2 calls failed" in reason for reason in answer.degraded)
    assert any("agg is skipped" in reason for reason in answer.degraded)


async def test_where_all_would_be_skipped_the_calls_are_made() -> None:
    """A layer, or all aggregators, that would be skipped are called anyway."""
    a, b = _opened("x/a")
    mixture = Mixture([[b]], Scripted("It is four.", name="x/d"))
    for _ in range(4):
        with pytest.raises(NoProposals):
            await mixture.answer("?")
    assert a.calls == 4
    agg, breaking_agg = _opened("x/agg")
    mixture = Mixture([[Scripted("Four.", name="x/c")]], breaking_agg)
    for _ in range(4):
        with pytest.raises(AggregatorFailed):
            await mixture.answer("?")
    assert agg.calls == 4
    agg.error = None
    assert (await mixture.answer("?")).text == "fine"


def test_its_settings_in_a_file(tmp_path: Path) -> None:
    """On by default; off, or with other numbers, for an endpoint or a model."""
    text = """
[endpoints.on]
base_url = "http://127.0.0.1:9/v1"
[endpoints.off]
base_url = "http://127.0.0.1:9/v1"
circuit_breaker = false
[endpoints.own]
base_url = "http://127.0.0.1:9/v1"
circuit_breaker = { failures = 2, seconds = 1.5 }
[models."own/*-steady"]
circuit_breaker = false
[models."off/flaky"]
circuit_breaker = { failures = 3 }
"""
    (tmp_path / "moa.toml").write_text(text)
    catalog = Config(tmp_path / "moa.toml").catalog
    found = {}
    for name in ("on/m", "off/m", "own/m", "own/so-steady", "off/flaky"):
        model = catalog.model(name)
        found[name] = model._breaking if isinstance(model, Breaker) else None
    assert found == {
        "on/m": Breaking(5, 60),
        "off/m": None,
        "own/m": Breaking(2, 1.5),
        "own/so-steady": None,
        "off/flaky": Breaking(3, 60),
    }
