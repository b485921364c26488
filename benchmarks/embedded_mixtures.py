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
from statistics import fmean
from typing import Any

from moa.evals.asking.data import read_rows
from moa.evals.asking.harness import Measurement
from moa.evals.proportion import at_most
from moa.evals.reading.compare import interval
from moa.evals.search.matrix import Item, Sample, write_matrix
from moa.messages import Request
from moa.mixture import tally
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


# -- what the answers are worth ---------------------------------------------------------------------------------------


def read(out: Path, asked: list[Question], names: list[str], samples: int) -> list[Item]:
    """The answers in a folder, to the questions that every model answered as often as wanted."""
    by_id = {question.id: question for question in asked}
    answers: dict[str, dict[tuple[str, int], dict[str, Any]]] = {}
    for row in read_rows(out / "journal.jsonl"):
        _, kind, number, model, sample = row["key"].split("/")
        answers.setdefault(f"{kind}/{number}", {})[model, int(sample)] = row
    items = []
    for name, found in answers.items():
        wanted = [(model, sample) for model in names for sample in range(samples)]
        if name not in by_id or not all(each in found for each in wanted):
            continue
        question = by_id[name]
        given = {model: tuple(_sample(question, found[model, sample]) for sample in range(samples)) for model in names}
        items.append(Item(name, question.text, given, task=question.kind, gold=question.gold))
    return items


def _sample(question: Question, row: dict[str, Any]) -> Sample:
    answer = final(row["text"])
    right = float(question.score(answer) >= 0.99)
    return Sample(answer, right, len(row["text"]), row["text"], cost=0.0, seconds=row["seconds"])


Panel = dict[str, int]
"""How many samples of each model."""


def counted(items: list[Item], panel: Panel, way: str) -> list[float]:
    """Whether the answer of a way is right, item by item. Weights are accuracies on the other half of the items."""
    right = []
    for place, item in enumerate(items):
        others = [each for number, each in enumerate(items) if number % 2 != place % 2]
        weights = {model: accuracy(others, model) for model in panel}
        cast = [(model, sample) for model, count in panel.items() for sample in item.answers[model][:count]]
        forms = [sample.answer or None for _, sample in cast]
        models = [model for model, _ in cast]
        known = [weights[model] for model in models]
        if way == "mux":
            result = tally.mux(forms, models, known)
        else:
            result = tally.vote(forms, known if way == "weighted vote" else ())
        right.append(cast[0 if result is None else result.index][1].correct or 0.0)
    return right


def accuracy(items: list[Item], model: str) -> float:
    """Strictly between 0 and 1."""
    labels = [sample.correct or 0.0 for item in items for sample in item.answers[model]]
    return (sum(labels) + 1) / (len(labels) + 2)


def report(items: list[Item], names: list[str], samples: int) -> None:
    """A table: each way, its calls, its accuracy, and its gain over the best member at equal calls."""
    print(f"\n{len(items)} questions, {samples} samples of each of {len(names)} models\n")
    once = {name: [sum(s.correct or 0.0 for s in item.answers[name]) / samples for item in items] for name in names}
    best = max(names, key=lambda name: fmean(once[name]))
    rest = [name for name in names if name != best]
    rows: list[tuple[str, int, list[float], list[float]]] = [
        (f"{name} once", 1, once[name], once[best]) for name in names
    ]
    own = counted(items, {best: samples}, "vote")
    rows += [
        (f"{name}, majority of its own {samples}", samples, counted(items, {name: samples}, "vote"), own)
        for name in names
    ]
    for other in rest:
        for count in range(1, samples):
            panel = {best: samples - count, other: count}
            for way in ("vote", "weighted vote", "mux"):
                label = f"{way} of {samples - count} + {count} ({other})"
                rows.append((label, samples, counted(items, panel, way), own))
        for way in ("vote", "weighted vote", "mux"):
            whole = counted(items, {best: samples, other: samples}, way)
            rows.append((f"{way} of {samples} + {samples} ({other}), twice the calls", 2 * samples, whole, own))
    print("| way | calls | right | gain at equal calls | 95 % interval | p |\n|---|---:|---:|---:|---:|---:|")
    for label, calls, right, against in rows:
        gains = [ours - theirs for ours, theirs in zip(right, against, strict=True)]
        if not any(gains):
            print(f"| {label} | {calls} | {fmean(right):.3f} | | | |")
            continue
        low, high = interval(gains)
        p = sign_test(gains)
        ends = f"{100 * low:+.1f} to {100 * high:+.1f}"
        print(f"| {label} | {calls} | {fmean(right):.3f} | {100 * fmean(gains):+.1f} | {ends} | {p:.3f} |")
    oracle = fmean(max(s.correct or 0.0 for name in names for s in item.answers[name]) for item in items)
    print(f"| any of all {samples * len(names)} | | {oracle:.3f} | | | |\n")
    print("by kind, once: " + "; ".join(_kinds(items, once, names)))


def _kinds(items: list[Item], once: dict[str, list[float]], names: list[str]) -> list[str]:
    lines = []
    for kind in KINDS:
        rows = [place for place, item in enumerate(items) if item.task == kind]
        if rows:
            figures = " and ".join(f"{fmean(once[name][row] for row in rows):.2f}" for name in names)
            lines.append(f"{kind} {figures}")
    return lines


def sign_test(gains: list[float]) -> float:
    """The two-sided probability of so uneven a result among the items that differ, if neither way is better."""
    won, lost = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    return min(1.0, 2 * at_most(min(won, lost), won + lost, 0.5)) if won + lost else 1.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--model", action="append", required=True)
    arguments.add_argument("--out", type=Path, default=Path("moa-bench/embedded-mixtures"))
    arguments.add_argument("--questions", type=int, default=300)
    arguments.add_argument("--samples", type=int, default=4)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--read", action="store_true", help="score what there is, and ask nothing")
    given = arguments.parse_args()
    asked = questions(given.questions)
    if not given.read:
        asyncio.run(ask(given.folder, given.model, asked, given.samples, given.out, given.threads))
    items = read(given.out, asked, given.model, given.samples)
    write_matrix(given.out / "matrix.jsonl.gz", items)
    report(items, given.model, given.samples)


if __name__ == "__main__":
    main()
