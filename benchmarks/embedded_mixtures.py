"""Does a mixture of small embedded models beat its best member at equal calls?

    uv run --group reasoning python benchmarks/embedded_mixtures.py FOLDER --model NAME --model NAME [--out DIR]

``FOLDER`` holds GGUF weights; each ``NAME`` is a file in it, without ``.gguf``. Every model answers 300 generated
questions of six kinds several times (temperature 0.6, at most 64 tokens). The answers are a matrix in
``DIR/matrix.jsonl.gz``; the same command again continues where it stopped. ``--read`` scores what ``DIR`` holds and asks
nothing.

The questions and their checkers: https://github.com/open-thought/reasoning-gym
"""

from __future__ import annotations

import argparse
import asyncio
import re
import warnings
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moa.evals.asking.harness import Measurement
from moa.messages import Request
from moa.models.embedded import EmbeddedModel
from moa.models.weights import Weights

KINDS: dict[str, dict[str, Any]] = {
    "basic_arithmetic": {"max_terms": 3, "max_digits": 2},
    "syllogism": {},
    "number_sequence": {"max_complexity": 2},
    "products": {"max_digits": 2},
    "simple_equations": {"max_terms": 3, "max_value": 50},
    "gcd": {"max_value": 100},
}
"""Kinds of questions and how hard they are: the weights of 0.5 and 1.5 billion parameters solve them in part."""

SEED = 7
SAMPLING = {"max_tokens": 64, "temperature": 0.6}
ENDING = "\n\nReply with the answer alone, in one line, without an explanation."


@dataclass(frozen=True, slots=True)
class Question:
    """A generated question, its right answer, and the checker of its kind."""

    id: str
    kind: str
    text: str
    gold: str
    checker: Any
    entry: dict[str, Any]

    def score(self, answer: str) -> float:
        return float(self.checker.score_answer(answer, self.entry))


def questions(count: int) -> list[Question]:
    """As many questions of each kind, the kinds in turn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import reasoning_gym

    each = -(-count // len(KINDS))
    of_kind = []
    for kind, settings in KINDS.items():
        generated = reasoning_gym.create_dataset(kind, size=each, seed=SEED, **settings)
        of_kind.append(
            [
                Question(f"{kind}/{number}", kind, entry["question"], str(entry["answer"]), generated, entry)
                for number, entry in enumerate(generated)
            ]
        )
    return [question for turn in zip(*of_kind, strict=True) for question in turn][:count]


def final(text: str) -> str:
    """The answer that a text names: yes, no, or its last number; empty for neither."""
    named = re.findall(r"answer(?: is)?\s*[:=]?\s*\**\s*([^\n]+)", text, re.IGNORECASE)
    last = named[-1] if named else text
    if found := re.search(r"\b(yes|no)\b", last, re.IGNORECASE):
        return found[1].capitalize()
    numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", last)
    return numbers[-1].replace(",", "").removesuffix(".0") if numbers else ""


async def ask(folder: Path, names: list[str], asked: list[Question], samples: int, out: Path, threads: int) -> None:
    """Every model answers every question ``samples`` times; answers that ``out`` holds are not requested again."""
    async with AsyncExitStack() as opened:
        models = []
        for name in names:
            path = folder / f"{name}.gguf"
            weights = Weights(name, path, path.stat().st_size)
            models.append(EmbeddedModel(weights, context=1024, slots=1, threads=threads))
            await opened.enter_async_context(models[-1])
        settings = {"questions": "reasoning-gym", "seed": SEED, "kinds": KINDS, "sampling": SAMPLING, "ending": ENDING}
        measurement = opened.enter_context(Measurement(out, settings, concurrency=1))

        async def one(question: Question) -> None:
            for model in models:
                for sample in range(samples):
                    message = {"role": "user", "content": question.text + ENDING}
                    request = Request.of({"messages": [message], "seed": SEED + sample, **SAMPLING})
                    await measurement.call(f"answer/{question.id}/{model.model_id}/{sample}", model, request)
            print(question.id, flush=True)

        await measurement.each(asked, one)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--model", action="append", required=True)
    arguments.add_argument("--out", type=Path, default=Path("moa-bench/embedded-mixtures"))
    arguments.add_argument("--questions", type=int, default=300)
    arguments.add_argument("--samples", type=int, default=4)
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    asked = questions(given.questions)
    asyncio.run(ask(given.folder, given.model, asked, given.samples, given.out, given.threads))


if __name__ == "__main__":
    main()
