"""How far to trust an attribution share: recorded answers, next to controls that cannot have used the proposals.

    uv run python benchmarks/attribution.py
    MOA_MODELS=FOLDER uv run python benchmarks/attribution.py --aggregator local/NAME --questions 20

The first command needs recorded AlpacaEval outputs, one file for each system, in ``MOA_DATA`` (see
``tests/fakes/recordings.py``). The proposals are the recorded answers of five proposers; mixtures and single models answered
the same instructions. With ``--aggregator`` a model answers twice, with three of these proposals and without, which shows
what reading them adds. The threshold was chosen on the instructions whose number is a multiple of 8; the tables leave these
out.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moa import Agent, Config, Mixture, Scripted
from moa.attribution.sentences import sentences
from moa.attribution.shares import SUPPORT, Attribution, attribution
from moa.messages import Reference

DATA = Path(os.environ.get("MOA_DATA") or Path(__file__).parent.parent.parent / "shared" / "data") / "alpaca_eval"
PROPOSERS = (
    "Qwen1.5-110B-Chat",
    "Qwen1.5-72B-Chat",
    "Meta-Llama-3-70B-Instruct",
    "Mixtral-8x22B-Instruct-v0.1",
    "dbrx-instruct",
)
AGGREGATING, WITHOUT_ITS_OWN = PROPOSERS[0], PROPOSERS[1:]
MIXTURES = {
    "MoA-Lite's aggregator, after one layer": "moa-repo_Qwen-72B-round-1",
    "MoA-Lite": "Together-MoA-Lite",
    "MoA": "Together-MoA",
}
CONTROLS = {"GPT-4o, which saw none": "gpt-4o-2024-05-13", "GPT-4 Turbo, which saw none": "gpt4_1106_preview"}
OFFSET = 397
"""Distance in numbers to an unrelated instruction, whose proposals an answer cannot have used."""

Texts = Mapping[int, str]


def outputs(system: str) -> Texts:
    with gzip.open(DATA / "outputs" / f"{system}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {row["index"]: row["output"] for row in map(json.loads, lines)}


def instructions() -> Texts:
    with (DATA / "instructions.jsonl").open(encoding="utf-8") as lines:
        return {row["index"]: row["instruction"] for row in map(json.loads, lines)}


@dataclass
class Row:
    """One line of a table.

    Attributes:
        held: of each answer, the share of its text that the proposals hold.
        best: of each sentence, the resemblance of its best passage.
    """

    name: str
    held: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)

    def add(self, shares: Attribution) -> None:
        if shares.sentences:
            self.held.append(1 - shares.layers[-1].new)
            self.best += [max((each.resemblance for each in one.passages), default=0.0) for one in shares.sentences]

    def __str__(self) -> str:
        def part(threshold: float) -> float:
            return sum(best >= threshold for best in self.best) / len(self.best)

        held = statistics.mean(self.held)
        return f"| {self.name} | {held:.1%} | {part(SUPPORT):.1%} | {part(0.6):.1%} | {part(0.95):.1%} |"


HEAD = f"| answer | held by the proposals | sentences supported (≥ {SUPPORT}) | ≥ 0.6 | ≥ 0.95 |\n|---|---:|---:|---:|---:|"


def references(proposals: Mapping[str, Texts], index: int, names: Iterable[str] = PROPOSERS) -> list[Reference]:
    return [Reference(name, proposals[name][index]) for name in names]


def recorded(indices: Sequence[int], proposals: Mapping[str, Texts]) -> list[Row]:
    rows = []
    for name, system in {**MIXTURES, **CONTROLS}.items():
        texts, row = outputs(system), Row(name)
        for index in indices:
            row.add(attribution(texts[index], references(proposals, index)))
        rows.append(row)
    moa = outputs(MIXTURES["MoA"])
    four, alone = (
        Row("MoA, compared with four of them"),
        Row(f"{AGGREGATING}, which saw none, compared with those four"),
    )
    other, itself = (
        Row("MoA, compared with proposals for another instruction"),
        Row("MoA, a sentence compared with the rest of its text"),
    )
    for index in indices:
        refs = references(proposals, index, WITHOUT_ITS_OWN)
        four.add(attribution(moa[index], refs))
        alone.add(attribution(proposals[AGGREGATING][index], refs))
        other.add(attribution(moa[index], references(proposals, (index + OFFSET) % len(moa))))
    for index in indices[::4]:
        text = moa[index]
        for start, end in sentences(text):
            itself.add(attribution(text[start:end], [Reference("rest", f"{text[:start]}\n\n{text[end:]}")]))
    return [*rows, four, alone, other, itself]


def spliced(indices: Sequence[int], proposals: Mapping[str, Texts]) -> list[str]:
    """Attribution of texts that are put together here, so that their sources are known."""
    chance = random.Random(0)
    control = outputs(CONTROLS["GPT-4o, which saw none"])
    whole: list[float] = []
    halves: list[tuple[float, float]] = []
    new: list[float] = []
    for index in indices:
        refs = references(proposals, index)
        long = {ref.agent: [ref.text[a:b] for a, b in sentences(ref.text) if 60 <= b - a <= 300] for ref in refs}
        names = [name for name, found in long.items() if len(found) >= 3]
        if len(names) < 2:
            continue
        one, other = chance.sample(names, 2)
        lines = [(name, line) for name in (one, other) for line in chance.sample(long[name], 3)]
        result = attribution("\n\n".join(line for _, line in lines), refs)
        for (name, _), sentence in zip(lines, result.sentences, strict=False):
            whole.append(sum(passage.share for passage in sentence.passages if passage.agent == name))
        first, second = chance.choice(long[one]).split(), chance.choice(long[other]).split()
        both = " ".join(first[: len(first) // 2]).rstrip(".!?:,") + " " + " ".join(second[len(second) // 2 :])
        shares = attribution(both, refs).layers[-1].shares
        halves.append((shares[one], shares[other]))
        foreign = " ".join(control[(index + OFFSET) % len(control)].split()[:40])
        new.append(attribution(foreign, refs).layers[-1].new)
    first_half, second_half = (statistics.mean(shares) for shares in zip(*halves, strict=True))
    both_halves = f"{first_half:.1%} and {second_half:.1%} | {first_half + second_half:.1%}"
    return [
        "| built from | credited to its source | to both sources | new |",
        "|---|---:|---:|---:|",
        f"| sentences of two proposals ({len(whole)}) | {statistics.mean(whole):.1%} | | |",
        f"| half a sentence of each of two ({len(halves)}) | {both_halves} | |",
        f"| another instruction's answer ({len(new)}) | | | {statistics.mean(new):.1%} |",
    ]


def timed(proposals: Mapping[str, Texts]) -> str:
    """How long an answer of 800 words with six proposals of 800 words takes; the median of nine."""

    def long(texts: Texts) -> str:
        return " ".join(" \n\n ".join(texts[index] for index in range(10, 20)).split(" ")[:800])

    refs = [Reference(name, long(proposals[name])) for name in PROPOSERS]
    refs.append(Reference("sixth", long(outputs(MIXTURES["MoA-Lite"]))))
    text, times = long(outputs(MIXTURES["MoA"])), []
    for _ in range(9):
        began = time.perf_counter()
        attribution(text, refs)
        times.append(time.perf_counter() - began)
    return f"800 words and six proposals of 800: {statistics.median(times) * 1000:.0f} ms"


async def with_and_without(name: str, count: int, proposals: Mapping[str, Texts]) -> list[Row]:
    """Attribution of the same model's answers with proposals and without, both to those proposals."""
    questions = instructions()
    names = PROPOSERS[:3]
    short = [
        index
        for index in questions
        if index % 8 and len(questions[index]) < 200 and all(400 < len(proposals[each][index]) < 1600 for each in names)
    ]
    reading, alone = Row("with the proposals"), Row("without them")
    async with Config() as config:
        aggregator = Agent(config.model(name), sampling={"temperature": 0.0, "max_tokens": 300})
        for index in random.Random(0).sample(short, count):
            refs = references(proposals, index, names)
            proposers = [Scripted(ref.text, name=f"recorded/{ref.agent}") for ref in refs]
            for row, mixture in ((reading, Mixture([proposers], aggregator)), (alone, Mixture([], aggregator))):
                row.add(attribution((await mixture.answer(questions[index])).text, refs))
            print(f"{index}: {reading.held[-1]:.2f} with, {alone.held[-1]:.2f} without", file=sys.stderr, flush=True)
    return [reading, alone]


def show(title: str, lines: Iterable[object]) -> None:
    print(f"\n**{title}**\n")
    for line in lines:
        print(line, flush=True)


def main(aggregator: str | None, questions: int, every: int) -> None:
    proposals = {name: outputs(name) for name in PROPOSERS}
    if aggregator:
        rows = asyncio.run(with_and_without(aggregator, questions, proposals))
        show(f"{aggregator}, {questions} instructions", [HEAD, *rows])
        return
    indices = [index for index in range(1, len(proposals[PROPOSERS[0]]), every) if index % 8]
    show(f"Recorded answers, {len(indices)} instructions", [HEAD, *recorded(indices, proposals)])
    show("Answers with known sources", spliced(indices, proposals))
    print(f"\n{timed(proposals)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--aggregator", metavar="NAME", help="a model that answers twice, provider/name")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--every", type=int, default=4, metavar="N", help="take every N-th instruction")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no recorded outputs in {DATA.parent}; set MOA_DATA to their folder")
    main(arguments.aggregator, arguments.questions, arguments.every)
