"""The benchmarks, one file or package each, to be read beside its source."""

from __future__ import annotations

from moa.errors import ConfigError
from moa.evals.benchmark import Benchmark
from moa.evals.benchmarks import alpaca_eval, flask, gpqa, gsm8k, ifeval, math_500, mmlu_pro, mt_bench, tasks

ALL: tuple[Benchmark, ...] = (
    alpaca_eval.BENCHMARK,
    mt_bench.BENCHMARK,
    flask.BENCHMARK,
    tasks.BENCHMARK,
    gsm8k.BENCHMARK,
    math_500.BENCHMARK,
    mmlu_pro.BENCHMARK,
    gpqa.BENCHMARK,
    ifeval.BENCHMARK,
)


def named(name: str) -> Benchmark:
    """The benchmark of this name; raises ConfigError with the names there are."""
    for benchmark in ALL:
        if benchmark.name == name:
            return benchmark
    raise ConfigError(f"no benchmark {name!r}; there are {', '.join(benchmark.name for benchmark in ALL)}")
