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

Different here: tokens that differ from a name in white space or punctuation alone (`` M``, ``▁M``) count as that name, since
not every tokenizer has the names as tokens. A judge that does not begin with a name, or returns no log-probabilities, is
called for its verdict alone; it may think first. With ``--swap``, each pair is judged in both orders.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from moa.errors import ConfigError
from moa.evals.asking.data import File, Row, Shelf
from moa.evals.asking.harness import Measurement
from moa.evals.asking.journal import Reply
from moa.evals.asking.judge import STAND_IN, TRIAL, Judge
from moa.evals.benchmark import Flag, Options
from moa.models import Model

BASELINE = "gpt4_1106_preview"
SWAP = Flag("swap", "Judge each pair in both orders.")
JUDGING = {"temperature": 1, "max_tokens": 1, "logprobs": True, "top_logprobs": 5}

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


_NAME = re.compile(r"[\W_▁ĠĊ]*([mM])[\W_▁ĠĊ]*")
"""A token that is one of the names, in any tokenizer's notation of white space."""


def weighted(logprobs: Mapping[str, float]) -> float | None:
    """The preference for the answer shown second, 1 to 2; None if neither name is among the likeliest tokens."""
    chances = {"m": 0.0, "M": 0.0}
    for token, logprob in logprobs.items():
        if found := _NAME.fullmatch(token):
            chances[found[1]] += math.exp(logprob)
    both = chances["m"] + chances["M"]
    return 2 - chances["m"] / both if both > 0 else None


def verdict(text: str) -> float | None:
    """1 or 2 for a judge that only names the better answer: a lone ``m`` or ``M`` anywhere in the text, or in its last line
    where it names both; else None."""
    lines = text.strip().splitlines()
    for part in (text, *lines[-1:]):
        named = set(re.findall(r"(?<![^\W_])(?<!['’])[mM](?![^\W_])(?!['’])", part))
        if len(named) == 1:
            return {"m": 1.0, "M": 2.0}[named.pop()]
    return None


def prompt(template: str, fields: Mapping[str, str]) -> list[Row]:
    """The judge's messages, from a template that encloses each in ``<|im_start|>role`` and ``<|im_end|>``."""
    marked = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", template, re.DOTALL) or [("user", template)]
    names = re.compile("|".join(re.escape(f"{{{name}}}") for name in fields))
    return [
        {"role": role, "content": names.sub(lambda found: fields[found[0][1:-1]], content.strip())}
        for role, content in marked
    ]


# -- answers and judgments --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Verdict:
    """A judgment: the preference for the answer shown second (1 to 2), and the reply that gave it.

    ``why_not``: what the reply lacks; empty where there is a preference. ``weighted``: it comes from log-probabilities.
    """

    preference: float | None
    reply: Reply
    why_not: str = ""
    weighted: bool = False


@dataclass(frozen=True, slots=True)
class _Judging:
    """A judge with the template of its prompt."""

    measurement: Measurement
    judge: Judge
    template: str

    async def prefers(self, key: str, fields: Mapping[str, str]) -> _Verdict:
        """The judge's verdict on two answers.

        Log-probabilities that have neither name are a failed judgment, as in the original, once one judgment has had them;
        before, the judge may be one that thinks first.
        """
        messages, judge = prompt(self.template, fields), self.judge
        reply = await judge.weighted(self.measurement, key, messages, JUDGING)
        if reply is not None:
            known = reply.logprobs or {}
            preference = weighted(known)
            if preference is not None and len(known) > 1:
                judge.weighs = True
                return _Verdict(preference, reply, weighted=True)
            preference = verdict(reply.text) if preference is None else preference
            if preference is not None:
                return _Verdict(preference, reply)
            if judge.weighs and known:
                return _Verdict(None, reply, "neither name is among the likeliest tokens")
        reply = await judge.reply(
            self.measurement, f"{key}/verdict", messages, {"temperature": 0}, lambda text: verdict(text) is not None
        )
        preference = verdict(reply.text)
        if preference is not None and judge.weighs is None:
            judge.weighs = False
        return _Verdict(preference, reply, _why_no_verdict(reply.text))


def _why_no_verdict(text: str) -> str:
    if verdict(text) is not None:
        return ""
    return "neither m nor M, or both" if text.strip() else "the judge said nothing"


def items_of(shelf: Shelf) -> list[Row]:
    """The instructions, checked.

    Raises:
        ConfigError: one has no text or no baseline output, or two are equal.
    """
    try:
        rows = instructions(shelf)
    except KeyError as error:
        raise ConfigError(f"{shelf.path(OUTPUTS)}: a row has no {error}") from None
    seen: dict[str, int] = {}
    for place, row in enumerate(rows):
        for name in ("instruction", "output"):
            if not isinstance(row[name], str):
                raise ConfigError(f"{shelf.path(OUTPUTS)}: {name!r} of row {place + 1} is no text")
        if row["instruction"] in seen:
            first = seen[row["instruction"]] + 1
            raise ConfigError(f"{shelf.path(OUTPUTS)}: rows {first} and {place + 1} have the same instruction")
        seen[row["instruction"]] = place
    return rows


async def trial(measurement: Measurement, shelf: Shelf, judge: Model, options: Options) -> str:
    """Have the judge compare a stand-in answer with the baseline's for the first instruction; what its reply lacks."""
    items = options.chosen(items_of(shelf), lambda row: row["dataset"])
    if not items:
        return ""
    judging = _Judging(measurement, Judge.of(judge), shelf.text(PROMPT))
    fields = {"instruction": items[0]["instruction"], "output_1": STAND_IN, "output_2": items[0]["output"]}
    return (await judging.prefers(TRIAL, fields)).why_not


async def measure(
    measurement: Measurement, shelf: Shelf, system: Model, judge: Model | None, options: Options
) -> tuple[list[Row], int]:
    """Have the system answer and the judge compare; the judgments, and how many items failed."""
    assert judge is not None
    items = options.chosen([*enumerate(items_of(shelf))], lambda numbered: numbered[1]["dataset"])
    judging = _Judging(measurement, Judge.of(judge), shelf.text(PROMPT))

    async def one(numbered: tuple[int, Row]) -> None:
        index, item = numbered
        text, baseline = item["instruction"], item["output"]
        answer = await measurement.call(f"answer/{index}", system, text)
        shared = {"instruction": text, "dataset": item["dataset"]}
        row = {**shared, "output": answer.text, "generator": system.name, "moa": {"index": index}}
        measurement.write("answers", str(index), row)
        orders = [is_switched(text), *([not is_switched(text)] if SWAP.name in options.flags else [])]
        for name, key, switched in zip(("judgments", "swapped"), ("", "/swapped"), orders, strict=False):
            shown = (answer.text, baseline) if switched else (baseline, answer.text)
            fields = {"instruction": text, "output_1": shown[0], "output_2": shown[1]}
            found = await judging.prefers(f"judgment/{index}{key}", fields)
            measurement.judged(found.why_not)
            preference, reply = found.preference, found.reply
            if preference is not None and switched:
                preference = 3 - preference
            about = {"index": index, "weighted": found.weighted, "date": reply.date, "said": reply.text}
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
                "moa": {**about, "why_not": found.why_not} if found.why_not else about,
            }
            measurement.write(name, str(index), row)

    failed = await measurement.each(items, one)
    for name, official in (("answers", "model_outputs.json"), ("judgments", "annotations.json")):
        # In the original's files, a row's position is the index of its instruction.
        measurement.save(official, sorted(measurement.rows(name), key=lambda row: int(row["moa"]["index"])))
    chosen = {index for index, _ in items}
    other = {row["moa"]["index"]: row for row in measurement.rows("swapped")} if SWAP.name in options.flags else {}
    rows = [row for row in measurement.rows("judgments") if row["moa"]["index"] in chosen]
    for row in rows:
        if (swapped := other.get(row["moa"]["index"])) is not None:
            row["moa"]["swapped"] = swapped["preference"]
    return rows, failed
