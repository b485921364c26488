"""GPQA: questions of biology, physics and chemistry with four options; the chosen letter is compared.

Source: https://github.com/openai/simple-evals, gpqa_eval.py (Rein et al. 2023, arXiv 2311.12022). The CSV files, here
that of the 198 diamond questions, have ``Question``, ``Correct Answer``, ``Incorrect Answer 1`` to ``3``, ``Record ID``
and ``High-level domain``.

Different here: the original draws the order of the options, and asks each question four times in different orders. Here
the order follows from a digest of the question and the option, so it is the same in every run, and each question is
asked once.
"""

from __future__ import annotations

import hashlib

from moa.evals.asking.data import File, Row
from moa.evals.benchmarks.tasks import benchmark_of
from moa.evals.tasks.task import LETTERS

WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def converted(row: Row) -> Row:
    """A row of the dataset as a task."""
    right = str(row["Correct Answer"]).strip()

    def place(option: str) -> str:
        return hashlib.sha256(f"{row['Question']}\n{option}".encode("utf-8", "surrogatepass")).hexdigest()

    options = sorted([right, *(str(row[name]).strip() for name in WRONG)], key=place)
    return {
        "id": row.get("Record ID"),
        "question": row["Question"],
        "options": options,
        "answer": LETTERS[options.index(right)],
        "check": "choice",
        "tags": [row["High-level domain"]] if row.get("High-level domain") else [],
    }


BENCHMARK = benchmark_of(
    "gpqa",
    "GPQA",
    "GPQA diamond: 198 questions, four options.",
    file=File("gpqa", ("gpqa_diamond.csv",)),
    converted=converted,
)
