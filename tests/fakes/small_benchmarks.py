"""Benchmarks of a few items in the official formats, with texts of our own."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

from moa.messages import Delta, Request, text_of

INSTRUCTIONS = [
    f"Name {count} things that are {colour}." for count in (1, 2, 3) for colour in ("red", "blue", "grey", "old")
]
"""Twelve; in the official order, the system is first for some of them and second for the others."""

TEMPLATE = """<|im_start|>system
You compare.
<|im_end|>
<|im_start|>user
Asked: {instruction}
m says: {output_1}
M says: {output_2}
<|im_end|>
"""


def alpaca_eval(folder: Path) -> None:
    """Twelve instructions, a template for the judge, and gamed baselines."""
    rows = [
        {"dataset": "small", "instruction": text, "output": f"The baseline on {text}", "generator": "gpt4_1106_preview"}
        for text in INSTRUCTIONS
    ]
    _write(folder / "alpaca_eval" / "alpaca_eval_gpt4_baseline.json", json.dumps(rows))
    _write(folder / "alpaca_eval" / "alpaca_eval_clf.txt", TEMPLATE)
    _write(folder / "alpaca_eval" / "df_gamed.csv", gamed(len(INSTRUCTIONS)))


def gamed(count: int) -> str:
    """``df_gamed.csv`` with two variants of the baseline: a short one that loses and a long one that wins."""
    lines = ["index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline,model"]
    for name, sign in (("concise", 1), ("verbose", -1)):
        lines += [
            f"{index},{0.5 - 0.3 * sign + 0.1 * math.sin(index)},{sign * (1 + index % 3)},{math.sin(index)},False,{name}"
            for index in range(count)
        ]
    return "\n".join(lines) + "\n"


def mt_bench(folder: Path) -> None:
    """Three questions of two turns, one of them with a reference answer, and the four prompts for single answers."""
    questions = [
        {"question_id": 1, "category": "writing", "turns": ["Write a line.", "Make it rhyme."]},
        {"question_id": 2, "category": "math", "turns": ["What is 2 + 2?", "Twice that?"]},
        {"question_id": 3, "category": "stem", "turns": ["What is an atom?", "What is in it?"]},
    ]
    single, reference = "Grade [{question}] [{answer}]", "Right is [{ref_answer_1}]. "
    double, references = (
        "Grade [{question_2}] [{answer_1}] [{answer_2}]",
        "Right is [{ref_answer_1}] [{ref_answer_2}]. ",
    )
    prompts = [
        {"name": "single-v1", "system_prompt": "Be fair.", "prompt_template": single},
        {"name": "single-math-v1", "system_prompt": "Be fair.", "prompt_template": reference + single},
        {"name": "single-v1-multi-turn", "system_prompt": "Be fair.", "prompt_template": double},
        {"name": "single-math-v1-multi-turn", "system_prompt": "Be fair.", "prompt_template": references + double},
    ]
    _lines(folder / "mt_bench" / "question.jsonl", questions)
    _lines(folder / "mt_bench" / "judge_prompts.jsonl", prompts)
    answers = [{"question_id": 2, "choices": [{"index": 0, "turns": ["4", "8"]}]}]
    _lines(folder / "mt_bench" / "reference_answer" / "gpt-4.jsonl", answers)


def flask(folder: Path) -> None:
    """Four items in three skills each, the prompts and two rubrics."""
    items = [
        {
            "idx": number,
            "instruction": f"Explain {{thing}} {number}.",
            "answer": f"Reference {number}.",
            "task": "small",
            "skill": ["Readability", "Logical Correctness"],
            "domain": ["Math"] if number % 2 else ["History", "Math"],
            "difficulty": "expert level knowledge" if number > 2 else -1,
        }
        for number in (1, 2, 3, 4)
    ]
    _lines(folder / "flask" / "flask_evaluation.jsonl", items)
    _lines(folder / "flask" / "flask_hard_evaluation.jsonl", items[:1])
    template = "{prompt1}{skills}[{question}] [{sample_answer}] [{response}]"
    prompts = [
        {
            "prompt_id": number,
            "system_prompt": "Be fair.",
            "prompt_template": template,
            "defaults": {"prompt1": "Grade."},
        }
        for number in (1, 2)
    ]
    _lines(folder / "flask" / "prompt.jsonl", prompts)
    rubrics = [
        {"Skill": skill, "Criteria": f"Is it {skill}?", "Scoring": {str(grade): f"{grade}!" for grade in range(1, 6)}}
        for skill in ("Logical Correctness", "Readability", "Harmlessness")
    ]
    _write(folder / "flask" / "skillset_description.json", json.dumps(rubrics))


def published(folder: Path) -> None:
    """Two items of each benchmark without a judge, in the form of its file."""
    sums = [{"question": f"Ann has {n} eggs and finds {n}.", "answer": f"{n} + {n}\n#### {2 * n},000"} for n in (1, 2)]
    _lines(folder / "gsm8k" / "test.jsonl", sums)
    halves = [
        {"problem": f"${n}/2$?", "solution": "…", "answer": rf"\frac{{{n}}}{{2}}", "subject": "Algebra", "level": n}
        for n in (1, 3)
    ]
    _lines(folder / "math_500" / "test.jsonl", [{**row, "unique_id": f"test/{n}.json"} for n, row in enumerate(halves)])
    letters = [{"question_id": n, "question": f"Letter {n}?", "options": ["x", "y", "N/A"]} for n in (1, 2)]
    answers = [{"answer": "B", "answer_index": 1, "cot_content": "", "category": "maths", "src": "own"}] * 2
    _lines(
        folder / "mmlu_pro" / "test.jsonl", [{**row, **answer} for row, answer in zip(letters, answers, strict=True)]
    )
    columns = (
        "Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3,High-level domain"
    )
    rows = [f'rec{n},"Which, {n}?",right {n},one,two,three,Physics' for n in (1, 2)]
    _write(folder / "gpqa" / "gpqa_diamond.csv", "\n".join([columns, *rows]) + "\n")
    names = ["punctuation:no_comma", "length_constraints:number_words"]
    arguments = [{}, {"relation": "at least", "num_words": 3, "letter": None}]
    prompts = [{"key": n, "prompt": f"Write {n}.", "instruction_id_list": names, "kwargs": arguments} for n in (1, 2)]
    spoken = {"key": 3, "prompt": "Kannada!", "instruction_id_list": ["language:response_language"], "kwargs": [{}]}
    _lines(folder / "ifeval" / "input_data.jsonl", [*prompts, spoken])


def _lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    _write(path, "".join(json.dumps(row) + "\n" for row in rows))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class TokenJudge:
    """A judge that returns one token with log-probabilities and prefers the first answer with this probability."""

    def __init__(self, probability: float, name: str = "scripted/judge") -> None:
        self.probability, self.name = probability, name
        self.requests: list[Request] = []

    @property
    def prompts(self) -> list[str]:
        return [text_of(request.messages[-1]) for request in self.requests]

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        candidates = [
            {"token": token, "logprob": math.log(probability)} for token, probability in self._probabilities()
        ]
        content = [{"token": candidates[0]["token"], "logprob": candidates[0]["logprob"], "top_logprobs": candidates}]
        yield Delta(text=str(candidates[0]["token"]), extra={"logprobs": {"content": content}})
        yield Delta(finish_reason="length")

    def _probabilities(self) -> list[tuple[str, float]]:
        both = [("m", self.probability), ("M", 1 - self.probability)]
        return sorted(both, key=lambda pair: -pair[1])
