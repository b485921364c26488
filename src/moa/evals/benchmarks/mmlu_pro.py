"""MMLU-Pro: 12,032 questions with up to ten options; the chosen letter is compared.

Source: https://github.com/TIGER-AI-Lab/MMLU-Pro: evaluate_from_api.py. The rows,
published as TIGER-Lab/MMLU-Pro, have ``question_id``, ``question``, ``options``, ``answer`` (a letter),
``answer_index`` and ``category``. Options that are ``N/A`` are left out, as in the original.

Different here:
- The original shows five solved examples of the same category and asks for "The answer is (X)". Here the question is
  asked alone, and the reply ends with ``Answer: LETTER``.
- The original draws a random option for a reply without a letter. Here such a reply is wrong.
"""

from __future__ import annotations

from moa.evals.asking.data import File, Row
from moa.evals.benchmarks.tasks import benchmark_of


def converted(row: Row) -> Row:
    """A row of the dataset as a task."""
    options = [option for option in row["options"] if option != "N/A"]
    task = {"question": row["question"], "options": options, "answer": row["answer"], "check": "choice"}
    return {**task, "id": row.get("question_id"), "tags": [row["category"]]}


BENCHMARK = benchmark_of(
    "mmlu-pro",
    "MMLU-Pro",
    "MMLU-Pro: 12,032 questions, ten options.",
    file=File("mmlu_pro", ("test-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "test.jsonl")),
    converted=converted,
)
