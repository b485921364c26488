"""What a query costs against how good its answer is: dollars, TFLOPs, and the Pareto front (arXiv 2406.04692, section 3.4).

Notable decisions:
- TFLOPs are 2 x parameters x tokens, read and written: a forward pass's multiplications and additions, attention left
  out (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Of a mixture of experts, the parameters that are active count.
- Parameter counts are given by whoever asks. One agent of unknown size makes the whole query unknown; no size is guessed
  from a name.
- The paper draws the sum over layers of the largest agent's TFLOPs, as a stand-in for latency. Both are here: all work, and
  the work on the longest path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from moa.evals.asking.data import Row
from moa.evals.reading.measured import Measured


@dataclass(frozen=True, slots=True)
class Work:
    """TFLOPs of one query: of all calls, and of the dearest call of each layer, one layer after another."""

    total: float
    longest: float


def work(measured: Measured, billions: Mapping[str, float]) -> Work | None:
    """What a query took, on average.

    Args:
        measured: a run.
        billions: active parameters by ``provider/name``, in billions.

    Returns:
        None where the size of a model that was called is not given.
    """
    total = longest = 0.0
    for row in measured.answers:
        done = _work(row, billions)
        if done is None:
            return None
        total, longest = total + done.total, longest + done.longest
    return Work(total / measured.queries, longest / measured.queries) if measured.queries else None


def unsized(measured: Measured, billions: Mapping[str, float]) -> list[str]:
    """The models of a run whose size is not given, in order."""
    return sorted({call["model"] for row in measured.answers for call in _leaves(row)} - {*billions})


def _leaves(row: Row) -> Iterator[Row]:
    """The calls that models made; a mixture's own is the sum of its agents'."""
    if not row.get("calls"):
        yield row
    for call in row.get("calls") or ():
        yield from _leaves(call)


def _work(row: Row, billions: Mapping[str, float]) -> Work | None:
    if not row.get("calls"):
        usage = row.get("usage")
        if usage is None:
            return Work(0.0, 0.0)  # it never got an answer: nothing is known to have been done
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


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indices of the points (cost, quality) that none beats: no other costs as little and is better, or costs less
    and is as good. Ordered by cost."""
    front: list[int] = []
    best = float("-inf")
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        cost, quality = points[index]
        alike = bool(front) and points[front[-1]] == (cost, quality)
        if quality > best or alike:
            front.append(index)
            best = quality
    return front
