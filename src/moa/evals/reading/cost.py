"""What a query costs against how good its answer is: dollars, TFLOPs, and the Pareto front (arXiv 2406.04692, section 3.4).

Notable decisions:
- TFLOPs are 2 x parameters x input and output tokens: the multiplications and additions of a forward pass, without attention
  (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). For a mixture of experts, only active parameters count.
- The user gives the parameter counts. If the size of one agent is unknown, so is the work of the whole query: no size is
  guessed from a name.
- The paper plots the sum over layers of the largest agent's TFLOPs, as a proxy for latency. Here are both: all work, and
  the work on the longest path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from moa.errors import ConfigError
from moa.evals.asking.data import Row
from moa.evals.reading.measured import Measured


@dataclass(frozen=True, slots=True)
class Work:
    """TFLOPs of one query: of all calls, and of the largest call of each layer, summed over layers."""

    total: float
    longest: float


def work(measured: Measured, billions: Mapping[str, float]) -> Work | None:
    """The mean work of a query.

    Args:
        measured: a finished measurement.
        billions: active parameters by ``provider/name``, in billions.

    Returns:
        None if the size of a model that was called is unknown.
    """
    total = longest = 0.0
    for row in measured.answers:
        done = _work(row, billions)
        if done is None:
            return None
        total, longest = total + done.total, longest + done.longest
    return Work(total / measured.queries, longest / measured.queries) if measured.queries else None


def summary(measured: Measured, billions: Mapping[str, float]) -> Row:
    """A measurement as one flat row: its score, failures, and what a query costs on average.

    Args:
        measured: a finished measurement.
        billions: active parameters by ``provider/name``, in billions.
    """
    result, metric, controlled = measured.result, measured.benchmark.metric, measured.benchmark.controlled
    done = work(measured, billions)
    score = result.get(controlled.field) if controlled else None
    return {
        "score": result.get(metric.field),
        **({"length_controlled": score} if score is not None else {}),
        "standard_error": result.get(metric.error),
        "judged": result["judged"],
        "failed": result.get("failed", 0) + result.get("unasked", 0),
        "length": result.get("avg_length"),
        "dollars": measured.cost.dollars,
        "at_least": measured.cost.at_least,
        "tokens": measured.tokens,
        "tflops": done.total if done else None,
        "tflops_longest_path": done.longest if done else None,
        "seconds": measured.seconds,
    }


def unsized(measured: Measured, billions: Mapping[str, float]) -> list[str]:
    """The models of a measurement whose size is unknown, by name."""
    return sorted({call["model"] for row in measured.answers for call in _leaves(row)} - {*billions})


def _leaves(row: Row) -> Iterator[Row]:
    """The calls of single models; the call of a mixture is the sum of its agents' calls."""
    if not row.get("calls"):
        yield row
    for call in row.get("calls") or ():
        yield from _leaves(call)


def _work(row: Row, billions: Mapping[str, float]) -> Work | None:
    if not row.get("calls"):
        usage = row.get("usage")
        if usage is None:
            return Work(0.0, 0.0)  # without an answer, no work is known
        if row["model"] not in billions:
            return None
        tokens = usage["input_tokens"] + usage["output_tokens"]
        tflops = 2 * billions[row["model"]] * 1e9 * tokens / 1e12
        return Work(tflops, tflops)
    total, layers = 0.0, dict[int, float]()
    for call in row["calls"]:
        done = _work(call, billions)
        if done is None:
            return None
        total += done.total
        layers[call["layer"]] = max(layers.get(call["layer"], 0.0), done.longest)
    return Work(total, sum(layers.values()))


def sizes(given: Sequence[str]) -> dict[str, float]:
    """Parameters in billions by model, from ``NAME=BILLIONS``; raises ConfigError for anything else."""
    found = {}
    for one in given:
        name, _, figure = one.rpartition("=")
        try:
            found[name] = float(figure)
        except ValueError:
            found[name] = -1.0
        if not name or found[name] <= 0:
            raise ConfigError(f"--parameters takes NAME=BILLIONS, not {one!r}")
    return found
