"""MT-Bench: 80 questions of two turns in eight categories; a judge grades each turn's answer from 1 to 10.

Sources, all at https://github.com/lm-sys/FastChat/tree/main/fastchat/llm_judge (Zheng et al. 2023, arXiv 2306.05685):
- questions, references, prompts: data/mt_bench/question.jsonl, reference_answer/gpt-4.jsonl, data/judge_prompts.jsonl
- temperatures, grading: common.py (temperature_config, run_judge_single); answers: gen_api_answer.py, 1024 tokens
- scores: show_result.py (display_result_single)

Quirks of the original:
- The judge sees a reference answer for maths, reasoning and coding, and a prompt of its own for them.
- The second turn's prompt shows both turns and asks for a grade of the second answer only.
- The grade is the first ``[[n]]``, else the first ``[n]``, anywhere in the text. A judgment without one has the score -1,
  and so has a failed one (its text is then ``$ERROR$``). The averages leave both out; here they are also counted.
- The average is that of all judgments, so a turn with fewer judgments has less weight.

Different here:
- The original sends "You are a helpful assistant." as the system message to models behind an API (conversation.py, template
  ``chatgpt``). Here a model gets the question alone.
- A grade off the scale of 1 to 10 is a failed judgment; the original averages it. ``[[ 8 ]]`` and ``[[8/10]]`` are 8; the
  original finds no grade there.
- A question of maths, reasoning or coding without a reference answer (other languages' question files) is graded with the
  prompt of the other categories, and reported; the original ends with an error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean

from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf
from moa.evals.asking.harness import Measurement
from moa.evals.asking.journal import Reply
from moa.evals.asking.judge import STAND_IN, TRIAL, Judge
from moa.evals.benchmark import JUDGE, Benchmark, Options
from moa.evals.benchmarks.mt_bench.questions import (
    PROMPTS,
    QUESTIONS,
    REFERENCES,
    data_of,
    report,
)
from moa.evals.drawing import sections
from moa.evals.drawing.page import Page
from moa.evals.metric import Figure, Metric
from moa.messages import Message, Request
from moa.models import Model

NAME = "mt-bench"
METRIC = Metric("score", "score", "standard_error", 1, 10)

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
ANSWER_TOKENS = 1024
JUDGING = {"temperature": 0, "max_tokens": 2048}

_GRADE = r"\s*(\d+\.?\d*)\s*(?:/\s*10\s*)?"
"""A grade in brackets."""


def rating(judgment: str) -> float:
    """The first grade in a judgment that is on the scale, or -1."""
    for pattern in (rf"\[\[{_GRADE}\]\]", rf"\[{_GRADE}\]"):
        grades = [float(found) for found in re.findall(pattern, judgment)]
        if grades:
            return next((grade for grade in grades if METRIC.low <= grade <= METRIC.high), -1)
    return -1


def why_ungraded(judgment: str) -> str:
    """What a judgment lacks; empty if it has a grade."""
    if rating(judgment) >= 0:
        return ""
    if not judgment.strip():
        return "the judge said nothing"
    if re.search(rf"\[{_GRADE}\]", judgment):
        return f"the grade is off the scale of {METRIC.low:g} to {METRIC.high:g}"
    return "no grade in square brackets"


# -- answers and judgments --------------------------------------------------------------------------------------------


async def trial(measurement: Measurement, shelf: Shelf, judge: Model, options: Options) -> str:
    """Have the judge grade a stand-in answer to the first question; what its reply lacks."""
    data = data_of(shelf, options)
    if not data.questions:
        return ""
    report(measurement, shelf, data)
    messages = data.messages(data.questions[0], 1, [STAND_IN])
    return why_ungraded((await _grade_of(measurement, Judge.of(judge), TRIAL, messages)).text)


async def _grade_of(measurement: Measurement, judge: Judge, key: str, messages: Sequence[Row]) -> Reply:
    return await judge.reply(measurement, key, messages, JUDGING, lambda text: rating(text) >= 0)


async def measure(
    measurement: Measurement, shelf: Shelf, system: Model, judge: Model | None, options: Options
) -> tuple[list[Row], int]:
    """Have the system answer both turns and the judge grade each; the judgments, and how many items failed."""
    assert judge is not None
    grader, data = Judge.of(judge), data_of(shelf, options)
    report(measurement, shelf, data)

    async def one(question: Row) -> None:
        number, category, turns = question["question_id"], question["category"], question["turns"]
        conversation: list[Message] = []
        answers: list[str] = []
        temperature = question.get("required_temperature", TEMPERATURES.get(category, 0.7))
        for turn, text in enumerate(turns, start=1):
            conversation.append({"role": "user", "content": text})
            request = Request({"messages": [*conversation], "temperature": temperature, "max_tokens": ANSWER_TOKENS})
            answers.append((await measurement.call(f"answer/{number}/{turn}", system, request)).text)
            conversation.append({"role": "assistant", "content": answers[-1]})
        row = {"question_id": number, "answer_id": f"{system.name}/{number}", "model_id": system.name}
        choices = [{"index": 0, "turns": answers}]
        measurement.write("answers", str(number), {**row, "choices": choices, "tstamp": time.time()})
        for turn in range(1, len(turns) + 1):
            messages = data.messages(question, turn, answers)
            reply = await _grade_of(measurement, grader, f"judgment/{number}/{turn}", messages)
            why_not = why_ungraded(reply.text)
            measurement.judged(why_not)
            about = {"category": category, "date": reply.date, "length": len(answers[turn - 1])}
            measurement.write(
                "judgments",
                f"{number}/{turn}",
                {
                    "question_id": number,
                    "model": system.name,
                    "judge": [judge.name, data.prompt(question, turn)],
                    "user_prompt": messages[-1]["content"],
                    "judgment": reply.text,
                    "score": rating(reply.text),
                    "turn": turn,
                    "tstamp": time.time(),
                    "moa": {**about, "why_not": why_not} if why_not else about,
                },
            )

    failed = await measurement.each(data.questions, one)
    numbers = {question["question_id"] for question in data.questions}
    return [row for row in measurement.rows("judgments") if row["question_id"] in numbers], failed


def score(rows: Sequence[Row], shelf: Shelf, system: str = "") -> list[Row]:
    """A result for every pair of system and judge.

    Args:
        rows: as in the original's ``model_judgment/gpt-4_single.jsonl``.
        shelf: has the questions' categories; without that file there are no scores by category.
        system: not used; the rows name it.

    Raises:
        ConfigError: the rows are no single-answer grades of MT-Bench.
    """
    systems: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        if not {"model", "score", "turn"} <= row.keys():
            raise ConfigError(f"expected MT-Bench's single-answer grades (model, score, turn), not {sorted(row)}")
        judge = row.get("judge")
        systems.setdefault((row["model"], judge[0] if isinstance(judge, list) else judge), []).append(row)
    if not systems:
        raise ConfigError("expected MT-Bench's single-answer grades, and the file is empty")
    known = shelf.rows(QUESTIONS) if shelf.here(QUESTIONS) else []
    categories = {row["question_id"]: row["category"] for row in known}
    return [_scored(name, judge, of_system, categories) for (name, judge), of_system in systems.items()]


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
        **METRIC.spread([mean(both) for both in by_question.values()]),
        "categories": {name: _averages(graded) for name, graded in by_category.items()},
        "avg_length": mean(lengths) if lengths else None,
        "notes": [] if by_category else ["no scores by category: question.jsonl is not available"],
    }


def _averages(grades: Sequence[tuple[Row, float]]) -> Row:
    """The means of both turns and of each turn; None for a turn without grades."""
    turns = [[grade for row, grade in grades if int(row["turn"]) in wanted] for wanted in ((1, 2), (1,), (2,))]
    both, first, second = (mean(turn) if turn else None for turn in turns)
    return {"score": both, "first_turn": first, "second_turn": second}


def _grade(row: Row) -> float | None:
    """The grade, 1 to 10, or None if the judgment failed."""
    try:
        grade = float(row["score"])
    except (KeyError, TypeError, ValueError):
        return None
    return grade if METRIC.low <= grade <= METRIC.high else None


def grade(row: Row) -> tuple[str, list[float]]:
    """The question and the grade of one of its turns."""
    value = _grade(row)
    return str(row["question_id"]), [] if value is None else [value]


def _date(rows: Sequence[Row]) -> str | None:
    """The day of the latest judgment, if the rows have times."""
    times = [float(row["tstamp"]) for row in rows if row.get("tstamp")]
    return time.strftime("%Y-%m-%d", time.gmtime(max(times))) if times else None


# -- in words and on a page -------------------------------------------------------------------------------------------


def figures(result: Row) -> Iterator[Figure]:
    """The score, the score of each turn and of each category."""
    if result.get("score") is not None:
        yield METRIC.figure(result)
    for turn in ("first_turn", "second_turn"):
        if result.get(turn) is not None:
            yield Figure(turn.replace("_", " "), f"{result[turn]:.2f}", part=True)
    for name, row in result.get("categories", {}).items():
        yield Figure(name, "-" if row["score"] is None else f"{row['score']:.2f}", part=True)


def section(page: Page, names: Sequence[str], results: Sequence[Row]) -> None:
    """A table of scores by turn, a plot of their intervals, and the scores by category."""
    columns = {
        "score": sections.score(METRIC),
        "first turn": sections.figure("first_turn"),
        "second turn": sections.figure("second_turn"),
        "judged": sections.count("judged"),
        "failed": sections.failed,
    }
    sections.scores(page, names, results, columns)
    caption = "Scores over both turns, with 95 % intervals."
    sections.intervals(page, NAME, names, results, {"": METRIC}, METRIC.label, caption)
    sections.by_part(
        page, f"{NAME}-categories", names, results, "categories", [*TEMPERATURES], METRIC, title="category"
    )


BENCHMARK = Benchmark(
    name=NAME,
    title="MT-Bench",
    about="MT-Bench: 80 two-turn questions, graded 1-10.",
    licence="MT-Bench's data is licensed Apache-2.0 (github.com/lm-sys/FastChat)",
    judge=JUDGE,
    official="openai/gpt-4",
    judging=JUDGING,
    metric=METRIC,
    needs=lambda options: (QUESTIONS, REFERENCES, PROMPTS),
    trial=trial,
    measure=measure,
    score=score,
    grade=grade,
    figures=figures,
    section=section,
)
