"""IFEval: 541 prompts with instructions that a program can check; a reply passes if it follows all of its prompt's.

Source: https://github.com/google-research/google-research/tree/master/instruction_following_eval (Zhou et al. 2023,
arXiv 2311.07911): data/input_data.jsonl has ``key``, ``prompt``, ``instruction_id_list`` and ``kwargs``;
instructions.py has the checks, and evaluation_lib.py the strict accuracy by prompt, which is the score here.
:mod:`moa.evals.tasks.instructions` has the checks in this project's own words, and how they differ.

Different here: prompts with an instruction on the language of the reply need a language detector, and are left out.
"""

from __future__ import annotations

from moa.evals.asking.data import File, Row
from moa.evals.benchmarks.tasks import benchmark_of
from moa.evals.tasks.instructions import INSTRUCTIONS


def converted(row: Row) -> Row | None:
    """A row of the dataset as a task; None for one that cannot be checked."""
    names = [str(name) for name in row["instruction_id_list"]]
    if "language:response_language" in names:
        return None
    arguments = [{key: value for key, value in (each or {}).items() if value is not None} for each in row["kwargs"]]
    follow = [{"instruction": name, **given} for name, given in zip(names, arguments, strict=False)]
    tags = sorted({name.partition(":")[0] for name in names if name in INSTRUCTIONS})
    task = {"id": row["key"], "question": row["prompt"], "check": "instructions"}
    return {**task, "answer": {"follow": follow}, "tags": tags}


BENCHMARK = benchmark_of(
    "ifeval",
    "IFEval",
    "IFEval: 541 prompts, checked instructions.",
    file=File("ifeval", ("input_data.jsonl", "ifeval_input_data.jsonl")),
    converted=converted,
)
