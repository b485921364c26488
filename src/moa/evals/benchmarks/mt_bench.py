"""MT-Bench: 80 questions of two turns in eight categories; each turn's answer is graded from 1 to 10 on its own.

Sources, all at https://github.com/lm-sys/FastChat/tree/main/fastchat/llm_judge (Zheng et al. 2023, arXiv 2306.05685):
- questions, references, prompts: data/mt_bench/question.jsonl, reference_answer/gpt-4.jsonl, data/judge_prompts.jsonl
- temperatures, grading: common.py (temperature_config, run_judge_single); answers: gen_api_answer.py, 1024 tokens
- scores: show_result.py (display_result_single)

Quirks of the original:
- Maths, reasoning and coding are graded beside a reference answer, with prompts of their own.
- The second turn's prompt shows both turns and asks for a grade of the second answer only.
- The grade is the first ``[[n]]``, else the first ``[n]``, wherever it stands. A judgment without one has the score -1, and
  so has one that failed (its text is then ``$ERROR$``); they are left out of the averages, and counted here.
- The average is that of all judgments, so a turn with fewer of them weighs less.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from statistics import mean

from moa.errors import ConfigError
from moa.evals.asking.data import File, Row, Shelf
from moa.evals.asking.harness import Run, standard_error
from moa.messages import Message, Request
from moa.models import Model

NAME = "mt-bench"
JUDGE = "openai/gpt-4"
LICENCE = "MT-Bench's data is licensed Apache-2.0 (github.com/lm-sys/FastChat)"

TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
WITH_REFERENCE = ("math", "reasoning", "coding")
ANSWER_TOKENS, JUDGMENT_TOKENS = 1024, 2048

_DATA = "https://raw.githubusercontent.com/lm-sys/FastChat/main/fastchat/llm_judge/data/"
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

NEEDS = (QUESTIONS, REFERENCES, PROMPTS)
"""What a run reads."""


def rating(judgment: str) -> float:
    """The grade in a judgment, or -1."""
    found = re.search(r"\[\[(\d+\.?\d*)\]\]", judgment) or re.search(r"\[(\d+\.?\d*)\]", judgment)
    return float(found[1]) if found else -1


async def measure(
    run: Run, shelf: Shelf, system: Model, judge: Model, limit: int | None = None
) -> tuple[list[Row], int]:
    """Have the system answer both turns and the judge grade each; the judgments, and how many items failed."""
    questions = shelf.rows(QUESTIONS)[:limit]
    prompts = {row["name"]: row for row in shelf.rows(PROMPTS)}
    references = {row["question_id"]: row["choices"][0]["turns"] for row in shelf.rows(REFERENCES)}

    async def one(question: Row) -> None:
        number, category, turns = question["question_id"], question["category"], question["turns"]
        conversation: list[Message] = []
        answers: list[str] = []
        temperature = question.get("required_temperature", TEMPERATURES.get(category, 0.7))
        for turn, text in enumerate(turns, start=1):
            conversation.append({"role": "user", "content": text})
            asked = Request({"messages": [*conversation], "temperature": temperature, "max_tokens": ANSWER_TOKENS})
            answers.append((await run.ask(f"answer/{number}/{turn}", system, asked)).text)
            conversation.append({"role": "assistant", "content": answers[-1]})
        answered = {"question_id": number, "answer_id": f"{system.name}/{number}", "model_id": system.name}
        run.write(
            "answers", str(number), {**answered, "choices": [{"index": 0, "turns": answers}], "tstamp": time.time()}
        )
        for turn in range(1, len(turns) + 1):
            name = f"single{'-math' if category in WITH_REFERENCE else ''}-v1{'-multi-turn' if turn > 1 else ''}"
            fields = {
                "question": turns[0],
                "answer": answers[0],
                **{f"question_{place}": text for place, text in enumerate(turns, start=1)},
                **{f"answer_{place}": text for place, text in enumerate(answers, start=1)},
                **{f"ref_answer_{place}": text for place, text in enumerate(references.get(number, ()), start=1)},
            }
            content = prompts[name]["prompt_template"].format(**fields)
            messages = [
                {"role": "system", "content": prompts[name]["system_prompt"]},
                {"role": "user", "content": content},
            ]
            request = Request({"messages": messages, "temperature": 0, "max_tokens": JUDGMENT_TOKENS})
            said = await run.ask(f"judgment/{number}/{turn}", judge, request)
            run.write(
                "judgments",
                f"{number}/{turn}",
                {
                    "question_id": number,
                    "model": system.name,
                    "judge": [judge.name, name],
                    "user_prompt": content,
                    "judgment": said.text,
                    "score": rating(said.text),
                    "turn": turn,
                    "tstamp": time.time(),
                    "moa": {"category": category, "date": said.date, "length": len(answers[turn - 1])},
                },
            )

    failed = await run.each(questions, one)
    asked = {question["question_id"] for question in questions}
    return [row for row in run.rows("judgments") if row["question_id"] in asked], failed


def score(rows: Sequence[Row], shelf: Shelf) -> list[Row]:
    """A result for every system, and judge, that the judgments are of.

    Args:
        rows: as in the original's ``model_judgment/gpt-4_single.jsonl``.
        shelf: where the questions' categories are; without them there are no scores by category.

    Raises:
        ConfigError: the rows are no grades of MT-Bench.
    """
    systems: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        if not {"model", "score", "turn"} <= row.keys():
            raise ConfigError(f"expected MT-Bench's single-answer grades (model, score, turn), not {sorted(row)}")
        judge = row.get("judge")
        systems.setdefault((row["model"], judge[0] if isinstance(judge, list) else judge), []).append(row)
    if not systems:
        raise ConfigError("expected MT-Bench's single-answer grades, and there are none")
    known = shelf.rows(QUESTIONS) if shelf.here(QUESTIONS) else []
    categories = {row["question_id"]: row["category"] for row in known}
    return [_scored(system, judge, of_system, categories) for (system, judge), of_system in systems.items()]


def _scored(system: str, judge: str | None, rows: Sequence[Row], categories: Mapping[int, str]) -> Row:
    grades = [(row, grade) for row in rows if (grade := _grade(row)) is not None]

    def category(row: Row) -> str | None:
        own: str | None = row.get("moa", {}).get("category")
        return own or categories.get(row.get("question_id", -1))

    by_category: dict[str, list[tuple[Row, float]]] = {}
    by_question: dict[object, list[float]] = {}
    for row, grade in grades:
        by_question.setdefault(row.get("question_id", id(row)), []).append(grade)
        if name := category(row):
            by_category.setdefault(name, []).append((row, grade))
    lengths = [row["moa"]["length"] for row in rows if "length" in row.get("moa", {})]
    return {
        "benchmark": NAME,
        "system": system,
        "judge": judge,
        "date": _date(rows),
        "judged": len(grades),
        "failed": len(rows) - len(grades),
        **_averages(grades),
        "standard_error": standard_error([mean(both) for both in by_question.values()]),
        "categories": {name: _averages(there) for name, there in by_category.items()},
        "avg_length": mean(lengths) if lengths else None,
        "notes": [] if by_category else ["no scores by category: question.jsonl is not at hand"],
    }


def _averages(grades: Sequence[tuple[Row, float]]) -> Row:
    """Of both turns and of each, None where there is nothing to average."""
    turns = [[grade for row, grade in grades if int(row["turn"]) in wanted] for wanted in ((1, 2), (1,), (2,))]
    both, first, second = (mean(turn) if turn else None for turn in turns)
    return {"score": both, "first_turn": first, "second_turn": second}


def _grade(row: Row) -> float | None:
    """The grade, 0 to 10, or None where the judgment failed."""
    try:
        grade = float(row["score"])
    except (TypeError, ValueError):
        return None
    return None if math.isnan(grade) or grade == -1 else grade


def _date(rows: Sequence[Row]) -> str | None:
    """The day of the latest judgment, where the rows have times."""
    times = [float(row["tstamp"]) for row in rows if row.get("tstamp")]
    return time.strftime("%Y-%m-%d", time.gmtime(max(times))) if times else None
