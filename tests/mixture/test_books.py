"""Whatever fails, times out, is retried, hedged, warmed, nested or cancelled: the books hold what the upstreams billed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from moa import Mixture
from moa.answers import Answer, Call, Delta, Usage
from moa.errors import (
    CallRejected,
    KeyRejected,
    ModelError,
    RateLimited,
    StreamBroken,
    TimedOut,
    Unreachable,
    UpstreamFailed,
)
from moa.events import Event, fold
from moa.messages import Request, text_of
from moa.mixture.codec import decoded_event, encoded_event
from moa.models import Continuation, Model, Traits
from moa.models.retries import Retried
from moa.prices import Price, Prices
from moa.schedules import Barrier, EarlyExit, Quorum, Schedule, Staircase
from tests.fakes.virtual_time import run_in_virtual_time

PRICES = Prices({"up/*": Price(1.0, 8.0)}, free=frozenset())
FREE: list[type[ModelError]] = [CallRejected, KeyRejected, RateLimited, Unreachable]
BILLED: list[type[ModelError]] = [TimedOut, UpstreamFailed, StreamBroken]


@dataclass
class Upstream:
    """A provider of models, and its ledger: what it bills for each model, whether or not it reports it."""

    chance: random.Random
    trouble: float
    calls: dict[str, int] = field(default_factory=dict)
    billed: dict[str, Usage] = field(default_factory=dict)

    def model(self) -> Model:
        names = [f"{self.chance.choice(['up', 'up', 'up', 'unpriced'])}/{len(self.billed)}"]
        self.billed[names[0]], self.calls[names[0]] = Usage(), 0
        model = Billing(self, names[0])
        return Retried(model, attempts=self.chance.choice([1, 2, 3]), wait_initial=0.3, wait_jitter=0)

    def bill(self, name: str, input_tokens: int, output_tokens: int) -> None:
        self.billed[name] += Usage(input_tokens, output_tokens)

    @property
    def total(self) -> Usage:
        return sum(self.billed.values(), Usage())

    @property
    def dollars(self) -> float | None:
        """None where a call was billed whose price nobody knows."""
        if any(usage.total_tokens for name, usage in self.billed.items() if name.startswith("unpriced")):
            return None
        return Price(1.0, 8.0).of(self.total)


class Billing:
    """A model that answers, refuses, fails or falls silent, and reports its usage at the end or never."""

    def __init__(self, upstream: Upstream, name: str) -> None:
        self.name, self._upstream, self._chance = name, upstream, upstream.chance
        way: Continuation | None = self._chance.choice(["prefix", "turns", None])
        self.traits = Traits(continuation=way)
        self._reports = self._chance.choice(["end", "end", "never"])
        self._words = self._chance.choice([0, 3, 30, 90]) if self._upstream.trouble else 30

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        chance, upstream = self._chance, self._upstream
        upstream.calls[self.name] += 1
        trouble = chance.random() < upstream.trouble
        if trouble and chance.random() < 0.4:
            await asyncio.sleep(chance.choice([0.0, 0.2]))
            raise chance.choice(FREE)(self.name, "refused")
        prompt, written = sum(len(text_of(message)) for message in request.messages) // 4, 0
        upstream.bill(self.name, prompt, 0)
        await asyncio.sleep(chance.choice([0.0, 0.1, 1.0, 4.0]))
        breaks_at = chance.choice([0, 0, 2, 20]) if trouble else None
        begun = text_of(request.messages[-1]) if request.messages[-1]["role"] == "assistant" else ""
        pause = chance.choice([0.0, 0.02, 0.3])
        for number in range(len(begun.split()), self._words):
            if number == breaks_at:
                break
            written += 1
            upstream.bill(self.name, 0, 1)
            yield Delta(f"w{number % 100:02} ")
            await asyncio.sleep(pause)
        usage = Usage(prompt, written) if self._reports != "never" else None
        if breaks_at is not None:
            if usage and chance.random() < 0.5:
                yield Delta(usage=usage)
            raise chance.choice(BILLED)(self.name, "gone")
        yield Delta(finish_reason="stop")
        await asyncio.sleep(chance.choice([0.0, 0.1]))
        if usage:
            yield Delta(usage=usage)


def schedule_of(chance: random.Random) -> Schedule:
    schedules: list[Schedule] = [Barrier(), Barrier(warm=True), Quorum(1), Quorum(1, deadline=2, hedge=0.5)]
    stairs = [Staircase((8, 32), (8, 24)), Staircase((2, 4, 16), (1, 30, 40)), Staircase()]
    return chance.choice(
        [*schedules, *stairs, EarlyExit(Barrier(warm=True)), EarlyExit(Staircase(), answer="aggregate")]
    )


def mixture_of(upstream: Upstream, depth: int) -> Mixture:
    chance = upstream.chance

    def member() -> Model:
        return mixture_of(upstream, depth - 1) if depth > 1 and chance.random() < 0.3 else upstream.model()

    return Mixture(
        [[member() for _ in range(chance.randint(1, 3))] for _ in range(chance.randint(0 if depth > 2 else 1, 2))],
        upstream.model(),
        fallbacks=[upstream.model() for _ in range(chance.randint(0, 1))],
        schedule=schedule_of(chance),
        deadline=chance.choice([None, None, 0.53, 5.07]),
        max_cost=chance.choice([None, None, None, 0.001]),
        aggregate=chance.choice(["synthesize", "synthesize", "synthesize", "select", "central"]),
        prices=PRICES,
    )


def leaves(calls: tuple[Call, ...]) -> Iterator[Call]:
    for call in calls:
        for attempt in call.attempts:
            yield from leaves(attempt.calls)
        if call.calls:
            yield from leaves(call.calls)
        else:
            yield call


async def ask(mixture: Mixture, patience: float | None) -> tuple[Answer, list[Event]]:
    """The answer, and the events; cancelled after so many seconds, as when a client disconnects."""
    events: list[Event] = []
    run = mixture.run("Why is the sky blue? " * 5)

    async def read() -> None:
        async for event in run:
            events.extend((event,))

    async with run:
        with suppress(TimeoutError):
            await asyncio.wait_for(read(), patience)
    return run.estimated_answer, events


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.2, 0.5]), st.sampled_from([None, None, 0.57, 2.03, 6.05]))
def test_the_books_hold_what_was_billed(seed: int, trouble: float, patience: float | None) -> None:
    """The sum over all calls is what the upstreams billed, or the run reports it as estimated, and no call is missing."""
    chance = random.Random(seed)
    upstream = Upstream(chance, trouble)
    mixture = mixture_of(upstream, chance.randint(1, 3))
    answer, events = run_in_virtual_time(ask(mixture, patience))
    total = upstream.total
    if not answer.usage.estimated:
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (total.input_tokens, total.output_tokens)
        if upstream.dollars is None:
            assert answer.cost.dollars is None or answer.cost.at_least
        else:
            assert answer.cost.dollars is not None and abs(answer.cost.dollars - upstream.dollars) < 1e-9
    for name, billed in upstream.billed.items():
        listed = [call for call in leaves(answer.calls) if call.model == name]
        known = [call for call in listed if call.usage and not call.usage.estimated]
        assert len(known) < len(listed) or sum((call.usage for call in known if call.usage), Usage()) == billed, name
        if not listed:  # a nested mixture that was closed in its first moment is estimated as a whole
            cut = [call for call in leaves(answer.calls) if call.model == "moa/mixture" and call.usage]
            assert not billed.total_tokens or any(call.usage.estimated for call in cut if call.usage), name
        elif all(call.duration is not None and call.dropped is None for call in listed):
            attempts = sum(len(call.attempts) for call in listed)
            assert attempts <= upstream.calls[name] <= attempts + len(listed), name
            assert sum(call.usage.input_tokens for call in listed if call.usage) >= billed.input_tokens
    if patience is None:
        assert fold(decoded_event(encoded_event(event)) for event in events).cost == answer.cost
