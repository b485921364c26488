"""Finished measurements of scripted models, for tests of reports, comparisons and analyses."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from pathlib import Path

from moa.evals.asking.data import Shelf
from moa.evals.benchmark import Benchmark, Options
from moa.evals.benchmarks import alpaca_eval
from moa.evals.measuring import Measuring
from moa.messages import Delta, Request, text_of
from moa.models import Model
from moa.models.scripted import Scripted
from moa.prices import Price, Prices
from tests.fakes import small_benchmarks

PRICES = Prices({"paid/*": Price(1000, 1000)})


def shelf(folder: Path) -> Shelf:
    """The files of the small benchmarks."""
    small = small_benchmarks
    for make in (small.alpaca_eval, small.mt_bench, small.flask, small.published):
        make(folder / "data")
    return Shelf(folder / "data")


def grader(seed: int = 0) -> Scripted:
    """A judge with a random grade for each prompt, in the formats of MT-Bench and FLASK."""

    def graded(request: Request) -> str:
        grades = random.Random(f"{text_of(request.messages[-1])}{seed}")
        skills = ["Readability", "Logical Correctness"]
        return f"Rating: [[{grades.randint(3, 9)}]] {dict.fromkeys(skills, grades.randint(1, 5))}"

    return Scripted(graded, name="scripted/judge")


class Preferring(Scripted):
    """A judge with a random preference for each prompt, as log-probabilities."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        logprob = -random.Random(text_of(request.messages[-1])).uniform(0.1, 1.5)
        candidates = [{"token": "m", "logprob": logprob}, {"token": "M", "logprob": -1.0}]
        yield Delta(text="m", extra={"logprobs": {"content": [{"token": "m", "top_logprobs": candidates}]}})
        yield Delta(finish_reason="length")


async def measure(
    folder: Path,
    system: Model,
    benchmark: Benchmark = alpaca_eval.BENCHMARK,
    limit: int | None = None,
    judge: Model | None = None,
) -> Path:
    """Measure the system in a subfolder named for it; returns that folder."""
    measuring = Measuring(
        benchmark=benchmark,
        options=Options(limit),
        shelf=shelf(folder),
        judge=judge or (Preferring("", name="scripted/judge") if benchmark is alpaca_eval.BENCHMARK else grader()),
        prices=PRICES,
    )
    run = folder / system.name.replace("/", "-")
    await measuring.measure(system, {"model": system.name}, run)
    return run
