r"""MATH-500: 500 competition problems; the final answer is compared in its canonical form.

Source: https://github.com/openai/prm800k (Let's Verify Step by Step): prm800k/math_splits/test.jsonl, also
published as HuggingFaceH4/MATH-500, has ``problem``, ``solution``, ``answer``, ``subject``, ``level`` and
``unique_id``; prm800k/grading/grader.py compares normalized texts, and then has sympy simplify the difference to 0.

Different here: answers are compared in the canonical form of :mod:`moa.mixture.canonical`, which reads formulas if
``math-verify`` is installed. Without it, two spellings of one formula that are no number, such as ``(x+1)^2`` and
``x^2+2x+1``, are different answers, so scores are somewhat lower.
"""

from __future__ import annotations

from moa.evals.asking.data import File, Row
from moa.evals.benchmarks.tasks import benchmark_of

ENDING = r"Put your final answer into \boxed{}."


def converted(row: Row) -> Row:
    """A row of the dataset as a task."""
    question = f"{row['problem']}\n\n{ENDING}"
    tags = [str(row["subject"]), f"level {row['level']}"] if "subject" in row else []
    return {"id": row.get("unique_id"), "question": question, "answer": row["answer"], "check": "exact", "tags": tags}


BENCHMARK = benchmark_of(
    "math-500",
    "MATH-500",
    "MATH-500: 500 problems, final answer.",
    file=File("math_500", ("test.jsonl",)),
    converted=converted,
)
