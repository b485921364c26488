"""GSM8K: 1,319 word problems of grade-school mathematics; the final number is compared.

Source: https://github.com/openai/grade-school-math (Cobbe et al. 2021, arXiv 2110.14168):
grade_school_math/data/test.jsonl has ``question`` and ``answer``, a solution whose last line is ``#### NUMBER``;
dataset.py compares the numbers behind ``####``.

Different here: the original trains a model to write ``####``. A chat model is asked for a line ``Answer: NUMBER``
instead, and the number is read from the end of its reply as :mod:`moa.mixture.canonical` reads numbers.
"""

from __future__ import annotations

from moa.evals.asking.data import File, Row
from moa.evals.benchmarks.tasks import benchmark_of

ENDING = "End with a line of this form: Answer: NUMBER"


def converted(row: Row) -> Row:
    """A row of the dataset as a task."""
    _, marked, number = str(row["answer"]).rpartition("####")
    if not marked:
        raise KeyError("answer with ####")
    return {"question": f"{row['question']}\n\n{ENDING}", "answer": number.strip(), "check": "number"}


BENCHMARK = benchmark_of(
    "gsm8k",
    "GSM8K",
    "GSM8K: 1,319 word problems, final number.",
    file=File("gsm8k", ("test.jsonl", "main/test-00000-of-00001.parquet")),
    converted=converted,
)
