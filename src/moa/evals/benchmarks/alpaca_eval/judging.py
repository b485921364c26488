"""AlpacaEval 2.0: 805 instructions; a judge compares each answer with that of ``gpt4_1106_preview``.

The judge sees both answers under the names ``m`` and ``M`` and answers with one token. The log-probabilities of that token
give the preference: 1 is the baseline, 2 the system, 1.5 a draw.

Sources, all at https://github.com/tatsu-lab/alpaca_eval/tree/cd543a149df89434d8a54582c0151c0b945c3d20/src/alpaca_eval:
- the judge: evaluators_configs/weighted_alpaca_eval_gpt4_turbo/configs.yaml
- order, verdict: processors.py (RandomSwitchTwoColumnsProcessor), completion_parsers.py (logprob_parser)
- win rates: metrics/; :mod:`~moa.evals.benchmarks.alpaca_eval.win_rates` and ``length_control`` here

Quirks of the original:
- The instruction alone decides the order of the two answers, so the same half of the instructions is switched for every
  system.
- ``m`` is the answer shown first: the baseline, unless the order is switched.
- A token that is not among the five likeliest has probability 0; if neither name is among them, the judgment failed.
- This code fills the template's fields in one pass. The original fills one after another, so that ``{output_1}`` in an
  instruction is replaced by an answer.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from moa.errors import CallRejected
from moa.evals.asking.data import File, Row, Shelf
from moa.evals.asking.harness import Measurement
from moa.evals.asking.journal import Reply
from moa.evals.benchmark import Options
from moa.messages import Request
from moa.models import Model

BASELINE = "gpt4_1106_preview"
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


# -- instructions, order, verdict -------------------------------------------------------------------------------------


def instructions(shelf: Shelf) -> list[Row]:
    """The instructions in order, each with ``instruction``, ``dataset`` and the baseline's ``output``."""
    rows = shelf.rows(OUTPUTS)
    if rows and "instruction" not in rows[0]:
        texts = {row["index"]: row for row in shelf.rows(INSTRUCTIONS)}
        rows = [{**texts[row["index"]], "output": row["output"]} for row in sorted(rows, key=lambda row: row["index"])]
    return [{"instruction": row["instruction"], "dataset": row.get("dataset"), "output": row["output"]} for row in rows]


def is_switched(instruction: str) -> bool:
    """Whether the judge sees the system's answer first."""
    return random.Random(f"is_switched_outputs{instruction}0").choices([False, True])[0]


def weighted(logprobs: Mapping[str, float]) -> float | None:
    """The preference for the answer shown second, 1 to 2; None if neither name is among the likeliest tokens."""
    first, second = (math.exp(logprobs[name]) if name in logprobs else 0.0 for name in ("m", "M"))
    return 2 - first / (first + second) if first + second > 0 else None


def verdict(text: str) -> float | None:
    """1 or 2 for a judge that only names the better answer: a lone ``m`` or ``M`` anywhere in the text; else None."""
    named = set(re.findall(r"(?<![A-Za-z'’])[mM](?![A-Za-z'’])", text))
    return {"m": 1.0, "M": 2.0}[named.pop()] if len(named) == 1 else None


def prompt(template: str, fields: Mapping[str, str]) -> list[Row]:
    """The judge's messages, from a template that encloses each in ``<|im_start|>role`` and ``<|im_end|>``."""
    marked = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", template, re.DOTALL) or [("user", template)]
    names = re.compile("|".join(re.escape(f"{{{name}}}") for name in fields))
    return [
        {"role": role, "content": names.sub(lambda found: fields[found[0][1:-1]], content.strip())}
        for role, content in marked
    ]


# -- answers and judgments --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Judge:
    """A judge, and whether it accepts requests for log-probabilities as far as is known."""

    model: Model
    template: str
    accepts_logprobs: bool = True

    async def prefers(
        self, measurement: Measurement, key: str, fields: Mapping[str, str]
    ) -> tuple[float | None, Reply]:
        """The preference for the answer shown second, and the judge's reply.

        A judge that returns no log-probabilities, and no verdict in a single token, is called a second time, without a
        limit on tokens: it may reason first.
        """
        messages = prompt(self.template, fields)
        if self.accepts_logprobs:
            settings = {"temperature": 1, "max_tokens": 1, "logprobs": True, "top_logprobs": 5}
            try:
                reply = await measurement.call(key, self.model, Request({"messages": messages, **settings}))
            except CallRejected as error:
                if error.status not in (400, 422):
                    raise
                self.accepts_logprobs = False
            else:
                preference = verdict(reply.text) if reply.logprobs is None else weighted(reply.logprobs)
                if preference is not None or reply.logprobs is not None:
                    return preference, reply
        request = Request({"messages": messages, "temperature": 0})
        reply = await measurement.call(f"{key}/verdict", self.model, request)
        return verdict(reply.text), reply


async def measure(
    measurement: Measurement, shelf: Shelf, system: Model, judge: Model | None, options: Options
) -> tuple[list[Row], int]:
    """Have the system answer and the judge compare; the judgments, and how many items failed."""
    assert judge is not None
    items = instructions(shelf)[: options.limit]
    judging = Judge(judge, shelf.text(PROMPT))

    async def one(numbered: tuple[int, Row]) -> None:
        index, item = numbered
        text, baseline = item["instruction"], item["output"]
        answer = await measurement.call(f"answer/{index}", system, text)
        shared = {"instruction": text, "dataset": item["dataset"]}
        row = {**shared, "output": answer.text, "generator": system.name, "moa": {"index": index}}
        measurement.write("answers", str(index), row)
        switched = is_switched(text)
        shown = (answer.text, baseline) if switched else (baseline, answer.text)
        fields = {"instruction": text, "output_1": shown[0], "output_2": shown[1]}
        preference, reply = await judging.prefers(measurement, f"judgment/{index}", fields)
        if preference is not None and switched:
            preference = 3 - preference
        weighted_by_logprobs = reply.logprobs is not None
        about = {"index": index, "weighted": weighted_by_logprobs, "date": reply.date, "said": reply.text}
        row = {
            **shared,
            "output_1": baseline,
            "generator_1": BASELINE,
            "output_2": answer.text,
            "generator_2": system.name,
            "annotator": judge.name,
            "preference": preference,
            "is_switched_outputs": switched,
            "price_per_example": reply.cost.dollars,
            "time_per_example": reply.seconds,
            "moa": about,
        }
        measurement.write("judgments", str(index), row)

    failed = await measurement.each(list(enumerate(items)), one)
    for name, official in (("answers", "model_outputs.json"), ("judgments", "annotations.json")):
        # In the original's files, a row's position is the index of its instruction.
        measurement.save(official, sorted(measurement.rows(name), key=lambda row: int(row["moa"]["index"])))
    return [row for row in measurement.rows("judgments") if row["moa"]["index"] < len(items)], failed
