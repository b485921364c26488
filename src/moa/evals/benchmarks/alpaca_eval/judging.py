"""AlpacaEval 2.0: 805 instructions, each answer judged against that of ``gpt4_1106_preview``.

The judge sees both answers under the names ``m`` and ``M`` and says one token. The preference is read off the
log-probabilities of that token: 1 is the baseline, 2 the system, 1.5 a draw.

Sources, all at https://github.com/tatsu-lab/alpaca_eval/tree/cd543a149df89434d8a54582c0151c0b945c3d20/src/alpaca_eval:
- the judge: evaluators_configs/weighted_alpaca_eval_gpt4_turbo/configs.yaml
- order, verdict: processors.py (RandomSwitchTwoColumnsProcessor), completion_parsers.py (logprob_parser)
- win rates: metrics/; :mod:`~moa.evals.benchmarks.alpaca_eval.win_rates` and ``length_control`` here

Quirks of the original:
- The order is drawn from the instruction alone, so it is the same for every system: half of them once and for all.
- ``m`` is what is shown first, the baseline unless the order is switched.
- A token that is not among the five likeliest has probability 0; with neither of the two there, the judgment failed.
- The template's fields are filled in one pass here. The original fills one after another, so that an instruction that
  holds ``{output_1}`` takes an answer's place.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from moa.errors import CallRejected
from moa.evals.asking.data import File, Row, Shelf
from moa.evals.asking.harness import Run
from moa.evals.asking.journal import Said
from moa.messages import Request
from moa.models import Model

NAME = "alpaca-eval"
JUDGE = "openai/gpt-4-1106-preview"
BASELINE = "gpt4_1106_preview"
LICENCE = (
    "AlpacaEval's data is licensed CC BY-NC 4.0: attribution, no commercial use (github.com/tatsu-lab/alpaca_eval)"
)

_HUB = "https://huggingface.co/datasets/tatsu-lab/alpaca_eval/resolve/2edc6fad8be6b14ea7230aabfd08188da6b8b814/"
_CODE = (
    "https://raw.githubusercontent.com/tatsu-lab/alpaca_eval/cd543a149df89434d8a54582c0151c0b945c3d20/src/alpaca_eval/"
)
_PROMPT = "evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
_FIT = "metrics/weights/weighted_alpaca_eval_gpt4_turbo/length_controlled_v1/baseline_gpt4_1106_preview.csv"

OUTPUTS = File(
    "alpaca_eval",
    ("alpaca_eval_gpt4_baseline.json", f"results/{BASELINE}/model_outputs.json", f"outputs/{BASELINE}.jsonl"),
    _HUB + "alpaca_eval_gpt4_baseline.json",
    "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4",
)
INSTRUCTIONS = File("alpaca_eval", ("instructions.jsonl",))
PROMPT = File(
    "alpaca_eval",
    ("alpaca_eval_clf.txt", _PROMPT),
    _CODE + _PROMPT,
    "784227e6dc2832fc08c43d2c8ea3a308e7523780187a1aaad2f85e30bac85f62",
    f"alpaca_eval/{_PROMPT}",
)
GAMED = File(
    "alpaca_eval",
    ("df_gamed.csv",),
    _HUB + "df_gamed.csv",
    "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d",
)
RECONSTRUCTED = File("alpaca_eval", ("df_gamed_reconstructed.csv",))
FITS = File(
    "alpaca_eval",
    ("glm_weights.csv", _FIT),
    _CODE + _FIT,
    "3bd6d5a46327020f1b3eea79ac62d537f89a953d44ab0a6da83c954e36a23254",
)

NEEDS = (OUTPUTS, PROMPT)
"""What a run reads."""


# -- the instructions, the order, the verdict -------------------------------------------------------------------------


def instructions(shelf: Shelf) -> list[Row]:
    """The instructions in order, each with ``instruction``, ``dataset`` and the baseline's ``output``."""
    rows = shelf.rows(OUTPUTS)
    if rows and "instruction" not in rows[0]:
        texts = {row["index"]: row for row in shelf.rows(INSTRUCTIONS)}
        rows = [{**texts[row["index"]], "output": row["output"]} for row in sorted(rows, key=lambda row: row["index"])]
    return [{"instruction": row["instruction"], "dataset": row.get("dataset"), "output": row["output"]} for row in rows]


def is_switched(instruction: str) -> bool:
    """Whether the system's answer stands first."""
    return random.Random(f"is_switched_outputs{instruction}0").choices([False, True])[0]


def weighted(logprobs: Mapping[str, float]) -> float | None:
    """The preference, 1 to 2, for what is shown second; None where neither name is among the likeliest tokens."""
    first, second = (math.exp(logprobs[name]) if name in logprobs else 0.0 for name in ("m", "M"))
    return 2 - first / (first + second) if first + second > 0 else None


def verdict(text: str) -> float | None:
    """1 or 2 for a judge that only names what it prefers: a lone ``m`` or ``M``, wherever it stands; else None."""
    named = set(re.findall(r"(?<![A-Za-z'’])[mM](?![A-Za-z'’])", text))
    return {"m": 1.0, "M": 2.0}[named.pop()] if len(named) == 1 else None


def prompt(template: str, fields: Mapping[str, str]) -> list[Row]:
    """The judge's messages, from a template whose messages stand between ``<|im_start|>role`` and ``<|im_end|>``."""
    marked = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", template, re.DOTALL) or [("user", template)]
    names = re.compile("|".join(re.escape(f"{{{name}}}") for name in fields))
    return [
        {"role": role, "content": names.sub(lambda found: fields[found[0][1:-1]], content.strip())}
        for role, content in marked
    ]


# -- asking -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Judge:
    """A judge and what is known of it: whether it takes requests for log-probabilities."""

    model: Model
    template: str
    takes_logprobs: bool = True

    async def prefers(self, run: Run, key: str, fields: Mapping[str, str]) -> tuple[float | None, Said]:
        """The preference for what is shown second, and what the judge said; asked for a bare verdict if need be."""
        messages = prompt(self.template, fields)
        if self.takes_logprobs:
            asked = {"temperature": 1, "max_tokens": 1, "logprobs": True, "top_logprobs": 5}
            try:
                said = await run.ask(key, self.model, Request({"messages": messages, **asked}))
            except CallRejected as error:
                if error.status not in (400, 422):
                    raise
                self.takes_logprobs = False
            else:
                preference = verdict(said.text) if said.logprobs is None else weighted(said.logprobs)
                if preference is not None or said.logprobs is not None:
                    return preference, said
        # One token is not enough for a judge that thinks first.
        said = await run.ask(f"{key}/verdict", self.model, Request({"messages": messages, "temperature": 0}))
        return verdict(said.text), said


async def measure(
    run: Run, shelf: Shelf, system: Model, judge: Model, limit: int | None = None
) -> tuple[list[Row], int]:
    """Have the system answer and the judge compare; the judgments, and how many items failed."""
    items = instructions(shelf)[:limit]
    judging = Judge(judge, shelf.text(PROMPT))
    generator = system.name

    async def one(numbered: tuple[int, Row]) -> None:
        index, item = numbered
        text, baseline = item["instruction"], item["output"]
        answer = await run.ask(f"answer/{index}", system, text)
        shared = {"instruction": text, "dataset": item["dataset"]}
        row = {**shared, "output": answer.text, "generator": generator, "moa": {"index": index}}
        run.write("answers", str(index), row)
        switched = is_switched(text)
        shown = (answer.text, baseline) if switched else (baseline, answer.text)
        fields = {"instruction": text, "output_1": shown[0], "output_2": shown[1]}
        preference, said = await judging.prefers(run, f"judgment/{index}", fields)
        if preference is not None and switched:
            preference = 3 - preference
        run.write(
            "judgments",
            str(index),
            {
                **shared,
                "output_1": baseline,
                "generator_1": BASELINE,
                "output_2": answer.text,
                "generator_2": generator,
                "annotator": judge.name,
                "preference": preference,
                "is_switched_outputs": switched,
                "price_per_example": said.cost.dollars,
                "time_per_example": said.seconds,
                "moa": {"index": index, "weighted": said.logprobs is not None, "date": said.date, "said": said.text},
            },
        )

    failed = await run.each(list(enumerate(items)), one)
    for name, official in (("answers", "model_outputs.json"), ("judgments", "annotations.json")):
        # The original takes a row's place for the instruction's index.
        run.save(official, sorted(run.rows(name), key=lambda row: int(row["moa"]["index"])))
    return [row for row in run.rows("judgments") if row["moa"]["index"] < len(items)], failed
