"""FLASK: 1,740 instructions, each graded from 1 to 5 in the three of twelve skills that it asks for.

Sources, all at https://github.com/kaistAI/FLASK/tree/3b4e22bc34aa9dc15ea0c51be3cbf5f3c8b1b5e5 (Ye et al. 2023, arXiv
2307.10928): gpt_review/gpt4_eval.py asks and reads the grades, gpt_review/aggregate_skill.py averages them,
evaluation_set/ holds the items, the 89 hard ones once more in a file of their own.

Quirks of the original:
- One call grades an item in all its skills; the prompt holds the rubrics of those alone, and the item's reference answer
  (the second prompt of prompt.jsonl).
- The grades are the last ``{…}`` of the review, lower-cased, line breaks taken out, underscores made spaces, read as a
  Python dictionary; "na", "n/a" and "not applicable" are left out of the averages. What cannot be read is no grade.
- A skill is known by one word of its name: the second where "logical" stands in it, else the first.
- Domain and difficulty of a few items are -1: unknown.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from moa.errors import ConfigError
from moa.evals.asking.data import File, Row, Shelf
from moa.evals.asking.harness import Run, standard_error
from moa.messages import Request
from moa.models import Model

NAME = "flask"
JUDGE = "openai/gpt-4-0613"
LICENCE = "FLASK's data carries no licence: for your own evaluation only, do not pass it on (github.com/kaistAI/FLASK)"
REVIEW_TOKENS = 1024

SKILLS = {
    "robustness": "Logical Robustness",
    "correctness": "Logical Correctness",
    "efficiency": "Logical Efficiency",
    "factuality": "Factuality",
    "commonsense": "Commonsense Understanding",
    "comprehension": "Comprehension",
    "insightfulness": "Insightfulness",
    "completeness": "Completeness",
    "metacognition": "Metacognition",
    "readability": "Readability",
    "conciseness": "Conciseness",
    "harmlessness": "Harmlessness",
}
"""The skills by their short names, in the order of the paper's radar plots."""

_CODE = "https://raw.githubusercontent.com/kaistAI/FLASK/3b4e22bc34aa9dc15ea0c51be3cbf5f3c8b1b5e5/"


def _file(path: str, sha256: str) -> File:
    return File("flask", (path.rsplit("/", 1)[-1], path), _CODE + path, sha256)


ITEMS = _file(
    "evaluation_set/flask_evaluation.jsonl", "791950bf1f159b048eba8fee205eba606926c25467a9a31e6f9b6affc2e3e13d"
)
HARD_ITEMS = _file(
    "evaluation_set/flask_hard_evaluation.jsonl", "9830d65b2a137b9184039850c748f52dde369377a0ae06c00ccb6d464d5ebb48"
)
PROMPTS = _file("gpt_review/src/prompt.jsonl", "64836bb1eb6940e7ddbbbf0ea66265191bfd49476036ca15fc2660bbfa326134")
RUBRICS = _file(
    "metadata_annotation/skillset/src/skillset_description.json",
    "78f03c29f5a6510b76b8a765cb539c302d69898b7e4d7c68372c9cc2427e595e",
)

NEEDS = (ITEMS, PROMPTS, RUBRICS)
"""What a run reads."""


def grades(review: str) -> dict[str, float | None]:
    """The grades in a review, by short skill name, None where not applicable; empty where there are none to be read."""
    found: list[str] = re.findall(r"{[^}]+}", review)
    try:
        told = ast.literal_eval(found[-1].replace("\n", "").replace("_", " ").lower()) if found else {}
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return {}
    return _by_skill(told) if isinstance(told, dict) else {}


def _by_skill(told: Mapping[Any, Any]) -> dict[str, float | None]:
    read: dict[str, float | None] = {}
    for name, value in told.items():
        words = str(name).lower().replace("_", " ").split()
        skill = next((word for word in (words[1:] if "logical" in words else words) if word in SKILLS), None)
        if skill is None:
            continue
        if str(value).strip().lower() in ("na", "n/a", "not applicable"):
            read[skill] = None
            continue
        try:
            grade = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(grade):
            read[skill] = grade
    return read


def rubrics(skills: Iterable[str], described: Sequence[Row]) -> str:
    """The rubrics of these skills, as the judge reads them."""
    text = ""
    for skill in skills:
        row = next(row for row in described if skill in row["Skill"])
        scores = "".join(f"\nScore {grade}: {row['Scoring'][str(grade)]}" for grade in range(1, 6))
        text += f"\n{row['Skill']}: {row['Criteria']}{scores}\n\n"
    return text


async def measure(
    run: Run, shelf: Shelf, system: Model, judge: Model, limit: int | None = None, *, hard: bool = False
) -> tuple[list[Row], int]:
    """Have the system answer and the judge grade; the reviews, and how many items failed. ``hard``: the 89 hard items."""
    items = shelf.rows(HARD_ITEMS if hard else ITEMS)[:limit]
    prompt = next(row for row in shelf.rows(PROMPTS) if row["prompt_id"] == 2)
    described = shelf.rows(RUBRICS)

    async def one(item: Row) -> None:
        number, skills = _number(item), item.get("skill") or item.get("metrics") or []
        question = item.get("instruction") or item.get("text")
        answer = await run.ask(f"answer/{number}", system, str(question))
        run.write(
            "answers",
            str(number),
            {"question_id": number, "text": answer.text, "model_id": system.name, "metadata": {}},
        )
        fields = {
            "question": question,
            "response": answer.text,
            "skills": rubrics(skills, described),
            "num": len(skills),
            "sample_answer": item.get("answer"),
        }
        messages = [
            {"role": "system", "content": prompt["system_prompt"]},
            {"role": "user", "content": prompt["prompt_template"].format(**fields, **prompt["defaults"])},
        ]
        asked = Request({"messages": messages, "temperature": 0, "max_tokens": REVIEW_TOKENS})
        said = await run.ask(f"judgment/{number}", judge, asked)
        told = {SKILLS[skill].lower(): "N/A" if grade is None else grade for skill, grade in grades(said.text).items()}
        reviewed = {**item, "target_txt": answer.text, "review": said.text, "score": told}
        about = {"system": system.name, "judge": judge.name, "date": said.date, "length": len(answer.text)}
        run.write("judgments", str(number), {**reviewed, "total_tokens_step4": said.usage.total_tokens, "moa": about})

    failed = await run.each(items, one)
    asked = {str(_number(item)) for item in items}
    return [row for row in run.rows("judgments") if row["moa"]["id"] in asked], failed


def _number(item: Row) -> Any:
    return item["question_id"] if "question_id" in item else item.get("idx")


def score(rows: Sequence[Row], shelf: Shelf, name: str = "") -> list[Row]:
    """A result for every system that the reviews are of.

    Args:
        rows: as in the original's ``outputs/…_review.jsonl``: ``review`` and ``score``, or one of them.
        shelf: not needed; domain and difficulty stand in the reviews.
        name: whose reviews they are, where they do not say so themselves.

    Raises:
        ConfigError: the rows are no reviews of FLASK.
    """
    systems: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        if "review" not in row and "score" not in row:
            raise ConfigError(f"expected FLASK's reviews (review, score), not {sorted(row)}")
        own = row.get("moa", {})
        system = own.get("system") or row.get("model_id") or row.get("model") or row.get("generator") or name
        systems.setdefault((str(system), own.get("judge")), []).append(row)
    if not systems:
        raise ConfigError("expected FLASK's reviews, and there are none")
    return [_scored(system, judge, of_system) for (system, judge), of_system in systems.items()]


def _scored(system: str, judge: str | None, rows: Sequence[Row]) -> Row:
    read = [(row, _graded(row)) for row in rows]
    parsed = [(row, told) for row, told in read if told]
    items = [[grade for grade in told.values() if grade is not None] for _, told in parsed]
    values = [grade for item in items for grade in item]
    lengths = [row["moa"]["length"] for row in rows if "length" in row.get("moa", {})]
    return {
        "benchmark": NAME,
        "system": system,
        "judge": judge,
        "date": max((row["moa"]["date"] for row in rows if row.get("moa", {}).get("date")), default=None),
        "judged": len(parsed),
        "failed": len(read) - len(parsed),
        "score": mean(values) if values else None,
        "standard_error": standard_error([mean(item) for item in items if item]),
        "not_applicable": sum(grade is None for _, told in parsed for grade in told.values()),
        "skills": _by(parsed, lambda row, skill: [skill], [*SKILLS]),
        "domains": _by(parsed, lambda row, skill: _listed(row, "domain")),
        "difficulties": _by(parsed, lambda row, skill: _listed(row, "difficulty")),
        "avg_length": mean(lengths) if lengths else None,
        "notes": [],
    }


def _graded(row: Row) -> dict[str, float | None]:
    """The grades of a review: as recorded, else as they can be read from its text."""
    recorded = row.get("score")
    told = _by_skill(recorded) if isinstance(recorded, dict) else {}
    return told or grades(str(row.get("review") or ""))


def _by(
    parsed: Iterable[tuple[Row, Mapping[str, float | None]]],
    groups: Callable[[Row, str], Iterable[str]],
    order: Sequence[str] = (),
) -> dict[str, Row]:
    """Mean and number of grades by group; a group without any is left out."""
    found: dict[str, list[float]] = {name: [] for name in order}
    for row, told in parsed:
        for skill, grade in told.items():
            for group in groups(row, skill) if grade is not None else ():
                found.setdefault(group, []).append(float(grade or 0))
    return {name: {"score": mean(values), "grades": len(values)} for name, values in found.items() if values}


def _listed(row: Row, name: str) -> list[str]:
    value = row.get(name, row.get(f"{name}_labeled"))
    values = value if isinstance(value, list) else [value]
    return [str(one) for one in values if one is not None and str(one) != "-1"]
