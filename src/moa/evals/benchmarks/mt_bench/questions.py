"""MT-Bench's questions, prompts and reference answers, and what they lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moa.errors import ConfigError
from moa.evals.asking.data import File, Row, Shelf, check_identities
from moa.evals.asking.harness import Measurement
from moa.evals.benchmark import Options

WITH_REFERENCE = ("math", "reasoning", "coding")

_DATA = "https://raw.githubusercontent.com/lm-sys/FastChat/0e6d3e4beaab66f4d3f93db72541a4abab8af28d/fastchat/llm_judge/data/"
QUESTIONS = File(
    "mt_bench",
    ("question.jsonl", "data/mt_bench/question.jsonl", "mt_bench/question.jsonl"),
    _DATA + "mt_bench/question.jsonl",
    "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
)
REFERENCES = File(
    "mt_bench",
    ("reference_answer_gpt-4.jsonl", "reference_answer/gpt-4.jsonl", "data/mt_bench/reference_answer/gpt-4.jsonl"),
    _DATA + "mt_bench/reference_answer/gpt-4.jsonl",
    "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
)
PROMPTS = File(
    "mt_bench",
    ("judge_prompts.jsonl", "data/judge_prompts.jsonl"),
    _DATA + "judge_prompts.jsonl",
    "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6",
)


@dataclass(frozen=True, slots=True)
class Data:
    """The questions, the judge's prompts by name, and the reference answers by question."""

    questions: Sequence[Row]
    prompts: Mapping[str, Row]
    references: Mapping[object, Sequence[str]]

    def prompt(self, question: Row, turn: int) -> str:
        """The name of the prompt for a turn's judgment; one with a reference answer where there is one for each turn."""
        wants = question["category"] in WITH_REFERENCE and self.has_reference(question)
        return f"single{'-math' if wants else ''}-v1{'-multi-turn' if turn > 1 else ''}"

    def has_reference(self, question: Row) -> bool:
        return len(self.references.get(question["question_id"], ())) >= len(question["turns"])

    def messages(self, question: Row, turn: int, answers: Sequence[str]) -> list[Row]:
        """What the judge sees for a turn's judgment."""
        turns, prompt = question["turns"], self.prompts[self.prompt(question, turn)]
        references = self.references.get(question["question_id"], ())
        fields = {
            "question": turns[0],
            "answer": answers[0],
            **{f"question_{place}": text for place, text in enumerate(turns, start=1)},
            **{f"answer_{place}": text for place, text in enumerate(answers, start=1)},
            **{f"ref_answer_{place}": text for place, text in enumerate(references, start=1)},
        }
        try:
            content = prompt["prompt_template"].format(**fields)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"judge_prompts.jsonl: {prompt['name']} has a field that is unknown: {error}") from None
        return [{"role": "system", "content": prompt["system_prompt"]}, {"role": "user", "content": content}]


def data_of(shelf: Shelf, options: Options) -> Data:
    """The data of a run.

    Raises:
        ConfigError: a question or a prompt lacks something, or two questions have one number.
    """
    questions, place = shelf.rows(QUESTIONS), shelf.path(QUESTIONS)
    check_identities(questions, "question_id", place)
    for row in questions:
        turns, where = row.get("turns"), f"{place}: question {row['question_id']}"
        if not isinstance(turns, list) or not all(isinstance(turn, str) and turn.strip() for turn in turns):
            raise ConfigError(f"{where}: 'turns' is {_kind(turns)}; expected a list of one or two texts")
        if not 1 <= len(turns) <= 2:
            raise ConfigError(f"{where} has {len(turns)} turns; expected one or two")
        if not isinstance(row.get("category"), str):
            raise ConfigError(f"{where} has no 'category'")
    prompts = {row.get("name"): row for row in shelf.rows(PROMPTS)}
    for name in ("single-v1", "single-v1-multi-turn", "single-math-v1", "single-math-v1-multi-turn"):
        if not {"prompt_template", "system_prompt"} <= prompts.get(name, {}).keys():
            raise ConfigError(f"{shelf.path(PROMPTS)}: no prompt {name!r} with prompt_template and system_prompt")
    references: dict[object, Sequence[str]] = {}
    for row in shelf.rows(REFERENCES):
        try:
            references[row["question_id"]] = [str(text) for text in row["choices"][0]["turns"]]
        except (KeyError, IndexError, TypeError):
            file = shelf.path(REFERENCES)
            raise ConfigError(f"{file}: expected rows of question_id and choices, not {sorted(row)}") from None
    chosen = options.chosen(questions, lambda row: row["category"])
    return Data(chosen, {str(name): row for name, row in prompts.items()}, references)


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "one text"
    return "a list with something else" if isinstance(value, list) else "missing" if value is None else repr(value)


def report(measurement: Measurement, shelf: Shelf, data: Data) -> None:
    """Report the questions that are graded without the reference answer that their category should have."""
    without = [row for row in data.questions if row["category"] in WITH_REFERENCE and not data.has_reference(row)]
    if without:
        listed = ", ".join(str(row["question_id"]) for row in without[:5]) + (", …" if len(without) > 5 else "")
        measurement.notice(
            f"{shelf.path(REFERENCES)} has no reference answer for {len(without)} questions of "
            f"{', '.join(sorted({row['category'] for row in without}))} ({listed}): graded without one"
        )
