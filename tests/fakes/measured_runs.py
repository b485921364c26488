"""Runs of benchmarks in folders, made with scripted models: what reports, comparisons and analyses read."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from moa.evals.asking.data import Shelf
from moa.evals.asking.harness import Run
from moa.evals.benchmarks import flask, mt_bench
from moa.evals.benchmarks.alpaca_eval import judging as alpaca_eval
from moa.evals.benchmarks.alpaca_eval import win_rates
from moa.messages import Delta, Request, text_of
from moa.models import Model
from moa.models.scripted import Scripted
from moa.prices import Price, Prices
from tests.fakes import small_benchmarks

PRICES = Prices({"paid/*": Price(1000, 1000)})


def shelf(folder: Path) -> Shelf:
    """Small benchmarks, with little in each."""
    for make in (small_benchmarks.alpaca_eval, small_benchmarks.mt_bench, small_benchmarks.flask):
        make(folder / "data")
    return Shelf(folder / "data")


def grader(luck: int = 0) -> Scripted:
    """Grades by a die thrown for each prompt, in the formats of MT-Bench and FLASK."""

    def graded(request: Request) -> str:
        die = random.Random(f"{text_of(request.messages[-1])}{luck}")
        return f"Rating: [[{die.randint(3, 9)}]] {dict.fromkeys(['Readability', 'Logical Correctness'], die.randint(1, 5))}"

    return Scripted(graded, name="scripted/judge")


class Preferring(Scripted):
    """Prefers, with log-probabilities, by a die thrown for each prompt."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        likely = -random.Random(text_of(request.messages[-1])).uniform(0.1, 1.5)
        told = [{"token": "m", "logprob": likely}, {"token": "M", "logprob": -1.0}]
        yield Delta(text="m", extra={"logprobs": {"content": [{"token": "m", "top_logprobs": told}]}})
        yield Delta(finish_reason="length")


async def measure(
    folder: Path, system: Model, benchmark: Any = alpaca_eval, limit: int | None = None, judge: Model | None = None
) -> Path:
    """Have the system measured in ``folder / its name``; the run's folder."""
    run_folder = folder / system.name.replace("/", "-")
    by = judge or (Preferring("", name="scripted/judge") if benchmark is alpaca_eval else grader())
    files = shelf(folder)
    settings = {"benchmark": benchmark.NAME, "system": system.name, "judge": by.name}
    with Run(run_folder, settings, PRICES) as run:
        rows, _ = await benchmark.measure(run, files, system, by, limit)
        scored = {alpaca_eval: win_rates, mt_bench: mt_bench, flask: flask}[benchmark].score(rows, files)
        run.save("result.json", scored[0])
    return run_folder
