"""FLASK's items, prompt and rubrics, and what they lack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from moa.errors import ConfigError
from moa.evals.asking.data import File, Row, Shelf, check_identities
from moa.evals.benchmark import Flag, Options

HARD = Flag("hard", "Only the 89 hard items.")

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


def needs(options: Options) -> Sequence[File]:
    """The files of a run; the hard items are a file of their own."""
    return (HARD_ITEMS if HARD.name in options.flags else ITEMS, PROMPTS, RUBRICS)


def rubrics(skills: Iterable[str], described: Sequence[Row]) -> str:
    """The rubrics of these skills, in the format of the judge's prompt."""
    text = ""
    for skill in skills:
        row = next(row for row in described if skill in row["Skill"])
        scores = "".join(f"\nScore {grade}: {row['Scoring'][str(grade)]}" for grade in range(1, 6))
        text += f"\n{row['Skill']}: {row['Criteria']}{scores}\n\n"
    return text


@dataclass(frozen=True, slots=True)
class Data:
    """The items, the judge's prompt and the rubrics of the skills."""

    items: Sequence[Row]
    prompt: Row
    described: Sequence[Row]

    def messages(self, item: Row, answer: str) -> list[Row]:
        """What the judge sees of an item's answer."""
        skills = _skills(item)
        fields = {
            "question": question_of(item),
            "response": answer,
            "skills": rubrics(skills, self.described),
            "num": len(skills),
            "sample_answer": item.get("answer"),
        }
        try:
            content = self.prompt["prompt_template"].format(**fields, **self.prompt["defaults"])
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"prompt.jsonl: the prompt has a field that is unknown: {error}") from None
        return [{"role": "system", "content": self.prompt["system_prompt"]}, {"role": "user", "content": content}]


def data_of(shelf: Shelf, options: Options) -> Data:
    """The data of a run.

    Raises:
        ConfigError: an item or the prompt lacks something, or two items have one number.
    """
    file = needs(options)[0]
    items, place = [{**row, "question_id": number_of(row)} for row in shelf.rows(file)], shelf.path(file)
    check_identities(items, "question_id", place)
    described = shelf.rows(RUBRICS)
    known = {str(row.get("Skill")) for row in described if {"Criteria", "Scoring"} <= row.keys()}
    for item in items:
        where, skills = f"{place}: item {item['question_id']}", _skills(item)
        if not isinstance(question_of(item), str):
            raise ConfigError(f"{where} has no 'instruction'")
        if not isinstance(skills, list) or not skills:
            raise ConfigError(f"{where}: 'skill' is {skills!r}; expected a list of skills")
        for skill in skills:
            if not any(str(skill) in name for name in known):
                raise ConfigError(f"{where}: no rubric for {skill!r} in {shelf.path(RUBRICS)}")
    prompt = next((row for row in shelf.rows(PROMPTS) if row.get("prompt_id") == 2), None)
    if prompt is None or not {"system_prompt", "prompt_template"} <= prompt.keys():
        raise ConfigError(f"{shelf.path(PROMPTS)}: no prompt with the prompt_id 2")
    chosen = options.chosen(shelf.rows(file), lambda item: next(iter(listed(item, "domain")), ""))
    return Data(chosen, {"defaults": {}, **prompt}, described)


def _skills(item: Row) -> Any:
    return item.get("skill") or item.get("metrics") or []


def question_of(item: Row) -> Any:
    return item.get("instruction") or item.get("text")


def number_of(item: Row) -> Any:
    return item["question_id"] if "question_id" in item else item.get("idx")


def listed(row: Row, name: str) -> list[str]:
    value = row.get(name, row.get(f"{name}_labeled"))
    values = value if isinstance(value, list) else [value]
    return [str(one) for one in values if one is not None and str(one) != "-1"]
