"""Time to first token under every schedule: the real code on simulated models, in virtual time.

    uv run python benchmarks/latency.py                 # 200 runs each, a table
    uv run python benchmarks/latency.py --runs 1000

Four proposers write at 45, 60, 80 and 110 tokens a second, the aggregator at 80. A text has 450 tokens, distributed like
real ones (lognormal, sigma 0.35). A call's own first token comes after a lognormal time with median 0.45 s (sigma 0.5), plus
the time to read the prompt at 6,000 tokens a second, without the part that the model has read before (its cached prefix).
TTFT is the time to the answer's first token; visible, to the first token of any agent. Calls and input tokens are the sum
over all agents.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import selectors
import statistics
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from moa import Delta, Mixture, Request, Scripted
from moa.events import AgentSaid, Event, fold
from moa.messages import estimated_tokens, text_of
from moa.models import Continuation, Traits
from moa.schedules import Barrier, Quorum, Schedule, Staircase

SPEEDS = (45.0, 60.0, 80.0, 110.0)
AGGREGATOR = 80.0
"""Tokens a second that the proposers and the aggregator write."""
TOKENS = 450
FIRST = 0.45
"""Median seconds to a call's first token, without reading its prompt."""
PREFILL = 6000.0
"""Tokens of a prompt read in a second."""
STEP = 4
"""Tokens in one delta. More than one, because the clock is virtual but events cost real time."""


class _Clock(selectors.SelectSelector):
    """A selector that jumps to the next timer instead of waiting for it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualTime(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


class Simulated:
    """A model with a speed, a time to its first token, and a prefix cache."""

    def __init__(self, name: str, speed: float, way: Continuation, chance: random.Random) -> None:
        self.name, self.traits = f"simulated/{name}", Traits(continuation=way)
        self._speed, self._chance = speed, chance
        length = max(1, round(TOKENS / STEP * chance.lognormvariate(0, 0.35)))
        self._text = "".join(f"{name[:4]}{number:010d} " for number in range(length)).strip()
        self._read: list[str] = []
        self.calls = self.input_tokens = self.uncached_tokens = 0

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        prompt = "\n".join(f"{message['role']}\n{text_of(message)}" for message in request.messages)
        cached = max((_shared(prompt, before) for before in self._read), default=0)
        self._read.append(prompt)
        tokens, fresh = estimated_tokens(prompt), estimated_tokens(prompt[cached:])
        self.calls += 1
        self.input_tokens += tokens
        self.uncached_tokens += fresh
        wait = FIRST * self._chance.lognormvariate(0, 0.5) + fresh / PREFILL
        model = Scripted(
            self._text if request.body.get("max_tokens") != 1 else "-",
            first_token=wait,
            tokens_per_second=self._speed / STEP,
            continuation=self.traits.continuation,
        )
        async with aclosing(model.stream(request)) as deltas:
            async for delta in deltas:
                yield delta


def _shared(one: str, other: str) -> int:
    """The length of the longest common prefix, by bisection."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass
class Figures:
    """What one run took. Times in seconds; ``fastest`` is the least TTFT of a call of the first layer."""

    ttft: float
    visible: float
    total: float
    calls: int
    input_tokens: int
    uncached_tokens: int
    fastest: float


def one_run(depth: int, schedule: Schedule, way: Continuation, seed: int) -> Figures:
    chance = random.Random(seed)
    proposers = [Simulated(f"p{place}", speed, way, chance) for place, speed in enumerate(SPEEDS)]
    aggregator = Simulated("last", AGGREGATOR, way, chance)
    mixture = Mixture([proposers] * (depth - 1), aggregator, schedule=schedule)

    async def collect() -> list[Event]:
        return [event async for event in mixture.run("What should I know about this? " * 8)]

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        events = runner.run(collect())
    answer = fold(events)
    assert answer.time_to_first_token is not None and answer.duration is not None
    models = [*proposers, aggregator]
    return Figures(
        answer.time_to_first_token,
        next(event.at for event in events if isinstance(event, AgentSaid)) - events[0].at,
        answer.duration,
        sum(model.calls for model in models),
        sum(model.input_tokens for model in models),
        sum(model.uncached_tokens for model in models),
        min(call.time_to_first_token or 0 for call in answer.calls if call.layer == 1 and call.time_to_first_token),
    )


SCHEDULES: dict[str, tuple[Callable[[], Schedule], Literal["prefix", "turns"]]] = {
    "barrier": (Barrier, "turns"),
    "barrier, warm": (lambda: Barrier(warm=True), "turns"),
    "quorum of 3": (lambda: Quorum(3, grace=0.5), "turns"),
    "staircase, prefix": (Staircase, "prefix"),
    "staircase, turns": (Staircase, "turns"),
}


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200, metavar="N")
    runs = parser.parse_args().runs
    head = (
        "schedule",
        "TTFT p50",
        "p95",
        "of barrier",
        "visible p50",
        "of fastest",
        "total p50",
        "calls",
        "input",
        "uncached",
    )
    for depth in (2, 3):
        print(f"\n{depth} layers, {runs} runs\n")
        print(f"| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
        barrier: dict[str, float] = {}
        for name, (make, way) in SCHEDULES.items():
            figures = [one_run(depth, make(), way, seed) for seed in range(runs)]

            def middle(field: str, rows: list[Figures] = figures) -> Any:
                return statistics.median(getattr(row, field) for row in rows)

            barrier = barrier or {field: middle(field) for field in ("ttft", "uncached_tokens")}
            visible = statistics.median(row.visible / row.fastest for row in figures)
            row = (
                name,
                f"{middle('ttft'):.2f} s",
                f"{percentile([row.ttft for row in figures], 0.95):.2f} s",
                f"{middle('ttft') / barrier['ttft']:.3f}",
                f"{middle('visible'):.2f} s",
                f"{visible:.2f}",
                f"{middle('total'):.2f} s",
                f"{middle('calls'):.0f}",
                f"{middle('input_tokens'):.0f}",
                f"{middle('uncached_tokens') / barrier['uncached_tokens']:.2f} ×",
            )
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
