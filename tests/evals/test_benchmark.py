"""What every benchmark promises, and the least that one needs: no judge, no section and no figures of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import pytest

from moa.config.config import Config
from moa.errors import ConfigError
from moa.evals import benchmarks
from moa.evals.asking.data import File, Row, Shelf
from moa.evals.asking.harness import Measurement
from moa.evals.benchmark import Benchmark, Options
from moa.evals.benchmarks import ALL, alpaca_eval, named
from moa.evals.measuring import Measuring, fetch, judge_of
from moa.evals.metric import Metric, standard_error
from moa.evals.reading import report
from moa.evals.reading.compare import compared
from moa.evals.reading.measured import measured
from moa.models import Model
from moa.models.scripted import Scripted
from tests.fakes.measured_runs import Preferring, grader, shelf

pytestmark = pytest.mark.anyio

VARIANTS = [
    (benchmark, Options(2, flags))
    for benchmark in ALL
    if benchmark.needs(Options())
    for flags in (frozenset[str](), *(frozenset({flag.name}) for flag in benchmark.flags))
]


class Watched(Shelf):
    """A shelf that records the files that are requested of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.requested: set[File] = set()

    def path(self, file: File) -> Path:
        self.requested.add(file)
        return super().path(file)


@pytest.mark.parametrize(("benchmark", "options"), VARIANTS)
async def test_a_run_reads_only_files_that_were_downloaded_before_it(
    benchmark: Benchmark, options: Options, tmp_path: Path
) -> None:
    """No file is downloaded inside the event loop, and none that the run does not read: the hard items come alone."""
    files = Watched(shelf(tmp_path).folder or tmp_path)
    judge = Preferring("", name="scripted/judge") if benchmark is alpaca_eval.BENCHMARK else grader()
    with Measurement(tmp_path / "run", {}) as measurement:
        await benchmark.measure(measurement, files, Scripted("an answer"), judge, options)
    read = set(files.requested)
    files.requested.clear()
    fetch(benchmark, options, files)
    assert read == files.requested


@pytest.mark.parametrize("benchmark", ALL)
def test_help_fits_its_column(benchmark: Benchmark) -> None:
    """Descriptions of commands and flags have at most 45 characters."""
    for line in (benchmark.about, *(flag.help for flag in benchmark.flags)):
        assert len(line) <= 45


def test_an_unknown_benchmark_is_refused_with_the_known_names() -> None:
    """The message lists them."""
    with pytest.raises(ConfigError, match="no benchmark 'x'; there are alpaca-eval, mt-bench, flask"):
        named("x")


# -- a benchmark without a judge --------------------------------------------------------------------------------------

ACCURACY = Metric("accuracy", "accuracy", "standard_error", 0, 100, unit="%")
ITEMS = File("sums", ("sums.jsonl",))


async def _measure(
    measurement: Measurement, shelf: Shelf, system: Model, judge: Model | None, options: Options
) -> tuple[list[Row], int]:
    assert judge is None

    async def one(item: Row) -> None:
        answer = await measurement.call(f"answer/{item['id']}", system, item["question"])
        measurement.write("answers", item["id"], {"output": answer.text})
        measurement.write("judgments", item["id"], {"right": answer.text == item["answer"]})

    failed = await measurement.each(shelf.rows(ITEMS)[: options.limit], one)
    return measurement.rows("judgments"), failed


def _score(rows: Sequence[Row], shelf: Shelf, system: str = "") -> list[Row]:
    scores = [100.0 * row["right"] for row in rows]
    figures = {"accuracy": mean(scores), "standard_error": standard_error(scores)}
    return [{"benchmark": "sums", "system": system, "judged": len(rows), "failed": 0, **figures, "notes": []}]


SUMS = Benchmark(
    name="sums",
    title="Sums",
    about="Sums, exact match.",
    licence="",
    judge=None,
    metric=ACCURACY,
    needs=lambda options: (ITEMS,),
    measure=_measure,
    score=_score,
    grade=lambda row: (row["moa"]["id"], [100.0 * row["right"]]),
)


async def test_a_benchmark_without_a_judge_is_measured_compared_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files name no judge; its score, its comparison and its section of the report come from the metric alone."""
    for module in (benchmarks, report):
        monkeypatch.setattr(module, "ALL", (SUMS,))
    rows = [{"id": str(number), "question": f"{number} + 1?", "answer": str(number + 1)} for number in range(4)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    measuring = Measuring(benchmark=SUMS, options=Options(), shelf=Shelf(tmp_path))
    right = Scripted(
        lambda request: str(int(str(request.messages[-1]["content"]).split()[0]) + 1), name="scripted/right"
    )
    for model in (right, Scripted("2", name="scripted/two")):
        result = await measuring.measure(model, {}, tmp_path / model.name)
        settings = json.loads((tmp_path / model.name / "run.json").read_text())
        assert "judge" not in {**result, **settings}
        assert "judgments_cost" not in result
    assert [*SUMS.described(result)] == [("accuracy", "25.00 % (standard error 25.00)", False)]
    runs = [measured(tmp_path / "scripted" / name) for name in ("right", "two")]
    assert compared(*runs).difference == 75
    html = report.write(runs, tmp_path / "page")[0].read_text()
    assert "<h2>Sums</h2>" in html
    assert "How far to trust the score" in html
    assert "judging cost" not in html


def test_a_judge_for_a_benchmark_without_one_is_refused() -> None:
    """The message names what to remove."""
    with pytest.raises(ConfigError, match="sums has no judge; remove --judge some/model"):
        judge_of(SUMS, "some/model", Config())
    assert judge_of(SUMS, None, Config()) is None
