"""Time to first token under every schedule: real embedded models with a real KV cache.

    MOA_MODELS=FOLDER uv run python benchmarks/latency_local.py PROPOSER … --aggregator NAME

Each question runs under each schedule in turn, so the ratios hold on a machine whose speed drifts. Models are loaded before
the clock starts, and every question begins with a text of its own, so nothing is cached from the run before. The cached
tokens are those that llama.cpp reports for the aggregator's calls.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections import defaultdict

from moa import Agent, Answer, Barrier, Config, Mixture, Model, Staircase, Usage, fold
from moa.events import AgentContinued
from moa.schedules import Schedule

QUESTIONS = (
    "Explain to a ten-year-old why the sea is salty.",
    "Give advice to someone who starts to run for the first time.",
    "What should one look at before buying a used bicycle?",
)
SCHEDULES: dict[str, Schedule] = {"barrier": Barrier(), "barrier, warm": Barrier(warm=True), "staircase": Staircase()}


async def one_run(proposers: list[Model], aggregator: Model, schedule: Schedule, question: str) -> tuple[Answer, int]:
    """The answer, and how many calls the aggregator made."""
    layer = [Agent(model, sampling={"max_tokens": 200, "temperature": 0.4, "seed": 1}) for model in proposers]
    last = Agent(aggregator, "aggregator", sampling={"max_tokens": 250, "temperature": 0.0})
    events = [event async for event in Mixture([layer], last, schedule=schedule).run(question)]
    continued = sum(isinstance(event, AgentContinued) and event.agent == "aggregator" for event in events)
    return fold(events), continued + 1


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("proposers", nargs="+", metavar="PROPOSER")
    parser.add_argument("--aggregator", required=True, metavar="NAME")
    parser.add_argument("--show", action="store_true", help="print every answer")
    arguments = parser.parse_args()
    async with Config() as config:
        proposers = [config.model(name) for name in arguments.proposers]
        aggregator = config.model(arguments.aggregator)
        for model in [*proposers, aggregator]:
            await Mixture([], Agent(model, sampling={"max_tokens": 1})).answer("Hello")
        ratios: dict[str, list[float]] = defaultdict(list)
        print("| question | schedule | TTFT | of barrier | total | aggregator's calls | its input | cached |")
        print("|---|---|---:|---:|---:|---:|---:|---:|")
        for place, question in enumerate(QUESTIONS, 1):
            first = 0.0
            for name, schedule in SCHEDULES.items():
                answer, calls = await one_run(proposers, aggregator, schedule, f"({place} {name}) {question}")
                usage = answer.calls[-1].usage or Usage()
                ttft = answer.time_to_first_token or 0.0
                first = first or ttft
                ratios[name].append(ttft / first)
                cells = (f"{ttft:.1f} s", f"{ttft / first:.2f}", f"{answer.duration:.1f} s", f"{calls}")
                print(
                    f"| {place} | {name} | {' | '.join(cells)} | {usage.input_tokens} | {usage.cached_tokens} |",
                    flush=True,
                )
                if arguments.show:
                    print(f"\n{answer.text}\n")
        print()
        for name, values in ratios.items():
            print(f"{name}: TTFT {statistics.median(values):.2f} of the barrier's (median of {len(values)})")


asyncio.run(main())
