"""Commands that measure: ``moa bench``, ``moa analyse``, ``moa report``. Declared here, loaded when they are used."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from moa.cli.options import ConfigFile, MixtureName

bench = typer.Typer(
    help="Measure a mixture as the paper did, or score judgments that are there already.", rich_markup_mode=None
)

_Judge = Annotated[
    str | None, typer.Option("--judge", metavar="MODEL", help="Who judges; the official judge otherwise.")
]
_Judgments = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Score these judgments, one result a system; nobody is asked.")
]
_Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Your copy of the benchmark. Otherwise $MOA_DATA, or downloaded on first use."),
]
_Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The run's folder; continued where it is there. Otherwise moa-bench/…"),
]
_Limit = Annotated[int | None, typer.Option(help="Only the first so many.", min=1)]
_MaxCost = Annotated[float | None, typer.Option(help="US dollars to stop at.", min=0)]
_Concurrency = Annotated[int, typer.Option(help="Items at a time.", min=1)]
_Json = Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")]


@bench.command("alpaca-eval")
def _bench_alpaca_eval(
    mixture: MixtureName = None,
    judge: _Judge = None,
    judgments: _Judgments = None,
    data: _Data = None,
    out: _Out = None,
    limit: _Limit = None,
    max_cost: _MaxCost = None,
    concurrency: _Concurrency = 8,
    json: _Json = False,
    config: ConfigFile = None,
) -> int:
    """AlpacaEval 2.0: 805 instructions against gpt4_1106_preview, win rate with and without control for length."""
    from moa.cli.bench import Wanted, bench

    return bench(
        Wanted(
            "alpaca-eval",
            mixture,
            judge,
            judgments,
            data,
            out,
            limit,
            max_cost,
            concurrency,
            as_json=json,
            config=config,
        )
    )


@bench.command("mt-bench")
def _bench_mt_bench(
    mixture: MixtureName = None,
    judge: _Judge = None,
    judgments: _Judgments = None,
    data: _Data = None,
    out: _Out = None,
    limit: _Limit = None,
    max_cost: _MaxCost = None,
    concurrency: _Concurrency = 8,
    json: _Json = False,
    config: ConfigFile = None,
) -> int:
    """MT-Bench: 80 questions of two turns, each answer graded from 1 to 10."""
    from moa.cli.bench import Wanted, bench

    return bench(Wanted("mt-bench", mixture, judge, judgments, data, out, limit, max_cost, concurrency, json, config))


@bench.command("flask")
def _bench_flask(
    mixture: MixtureName = None,
    judge: _Judge = None,
    judgments: _Judgments = None,
    data: _Data = None,
    out: _Out = None,
    limit: _Limit = None,
    max_cost: _MaxCost = None,
    concurrency: _Concurrency = 8,
    hard: Annotated[bool, typer.Option("--hard", help="The 89 hard items.")] = False,
    json: _Json = False,
    config: ConfigFile = None,
) -> int:
    """FLASK: 1,740 items, each graded from 1 to 5 in the skills that it asks for."""
    from moa.cli.bench import Wanted, bench

    return bench(
        Wanted(
            "flask",
            mixture,
            judge,
            judgments,
            data,
            out,
            limit,
            max_cost,
            concurrency,
            as_json=json,
            config=config,
            hard=hard,
        )
    )


@bench.command("compare")
def _compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run's folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another, of the same benchmark.")],
    confidence: Annotated[float, typer.Option(help="How much the interval holds.", min=0.5, max=0.999)] = 0.95,
    json: _Json = False,
) -> int:
    """A minus B on the items that both have, with a bootstrap interval."""
    from moa.cli.report import compare

    return compare(first, second, confidence=confidence, as_json=json)


# -- analyses ---------------------------------------------------------------------------------------------------------

analyse = typer.Typer(help="The paper's analyses, on any mixture.", rich_markup_mode=None)


class Benchmark(StrEnum):
    """What a sweep is measured by."""

    ALPACA_EVAL = "alpaca-eval"
    MT_BENCH = "mt-bench"
    FLASK = "flask"


_On = Annotated[Benchmark, typer.Option("--on", help="The benchmark.")]
_Runs = Annotated[list[Path], typer.Argument(metavar="RUN…", help="Runs' folders, or folders of them.")]
_Parameters = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=BILLIONS", help="A model's active parameters; also [parameters] in moa.toml."),
]


@analyse.command("merge")
def _merge(
    answers: Annotated[
        Path, typer.Argument(metavar="ANSWERS", help="A mixture's run, or its outputs in AlpacaEval's format.")
    ],
    quality: Annotated[
        list[str],
        typer.Option(
            metavar="WHAT",
            help="How good the proposers are: NAME=FIGURE, a leaderboard's CSV, or runs of them. Repeatable.",
        ),
    ],
    proposals: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A proposer's outputs. Not needed for a run, which holds them. Repeatable."),
    ] = None,
    control: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Answers of a model that saw no proposals: a run or outputs. Repeatable."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A proposer to leave out, as the aggregator's own model. Repeatable."),
    ] = None,
    column: Annotated[str, typer.Option(help="The leaderboard's column.")] = "win_rate",
    layer: Annotated[int | None, typer.Option(help="Whose proposals; those of the last otherwise.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the result, for moa report.")] = None,
    json: _Json = False,
) -> int:
    """Does the aggregator pick or merge?

    Correlates how good proposals are with how like them the answer is, and takes off what models show that saw none.
    """
    from moa.cli.analyse import merge

    return merge(
        answers,
        proposals or [],
        quality,
        control or [],
        column=column,
        without=without or [],
        layer=layer,
        out=out,
        as_json=json,
    )


@analyse.command("proposers")
def _proposers(
    on: _On = Benchmark.ALPACA_EVAL,
    mixture: MixtureName = None,
    counts: Annotated[str, typer.Option(help="How many proposers to try.")] = "1,2,3,6",
    single: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Whose samples; otherwise the aggregator's model.")
    ] = None,
    judge: _Judge = None,
    data: _Data = None,
    out: _Out = None,
    limit: _Limit = None,
    max_cost: _MaxCost = None,
    concurrency: _Concurrency = 8,
    json: _Json = False,
    config: ConfigFile = None,
) -> int:
    """How many proposers, samples of one model or each another model."""
    from moa.cli.analyse import swept
    from moa.cli.bench import Wanted
    from moa.errors import ConfigError
    from moa.evals.paper import sweep
    from moa.mixture.agent import Agent

    try:
        numbers = [int(count) for count in counts.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise ConfigError(f"--counts takes numbers from 1, such as 1,2,3,6, not {counts!r}")
    wanted = Wanted(on, mixture, judge, None, data, out, limit, max_cost, concurrency, json, config)
    return swept(
        "proposers",
        wanted,
        lambda of, config: sweep.proposers(of, numbers, Agent(config.model(single)) if single else None),
    )


@analyse.command("layers")
def _layers(
    on: _On = Benchmark.ALPACA_EVAL,
    mixture: MixtureName = None,
    deepest: Annotated[int, typer.Option(help="The most layers, the aggregator's among them.", min=1)] = 4,
    judge: _Judge = None,
    data: _Data = None,
    out: _Out = None,
    limit: _Limit = None,
    max_cost: _MaxCost = None,
    concurrency: _Concurrency = 8,
    json: _Json = False,
    config: ConfigFile = None,
) -> int:
    """How many layers: from the aggregator alone up."""
    from moa.cli.analyse import swept
    from moa.cli.bench import Wanted
    from moa.evals.paper import sweep

    wanted = Wanted(on, mixture, judge, None, data, out, limit, max_cost, concurrency, json, config)
    return swept("layers", wanted, lambda of, _: sweep.layers(of, deepest))


@analyse.command("ranker")
def _ranker(
    on: _On = Benchmark.ALPACA_EVAL,
    mixture: MixtureName = None,
    judge: _Judge = None,
    data: _Data = None,
    out: _Out = None,
    limit: _Limit = None,
    max_cost: _MaxCost = None,
    concurrency: _Concurrency = 8,
    json: _Json = False,
    config: ConfigFile = None,
) -> int:
    """Writing against picking: the aggregator writes, ranks, is left out, or answers alone."""
    from moa.cli.analyse import swept
    from moa.cli.bench import Wanted
    from moa.evals.paper import sweep

    wanted = Wanted(on, mixture, judge, None, data, out, limit, max_cost, concurrency, json, config)
    return swept("ranker", wanted, lambda of, _: sweep.rankers(of))


@analyse.command("roles")
def _roles(
    on: _On = Benchmark.ALPACA_EVAL,
    mixture: MixtureName = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="MODEL", help="A model to try; otherwise the mixture's own. Repeatable."),
    ] = None,
    judge: _Judge = None,
    data: _Data = None,
    out: _Out = None,
    limit: _Limit = None,
    max_cost: _MaxCost = None,
    concurrency: _Concurrency = 8,
    json: _Json = False,
    config: ConfigFile = None,
) -> int:
    """Who proposes well, who aggregates well: every model in both roles."""
    from moa.cli.analyse import swept
    from moa.cli.bench import Wanted
    from moa.evals.paper import sweep

    wanted = Wanted(on, mixture, judge, None, data, out, limit, max_cost, concurrency, json, config)
    return swept(
        "roles", wanted, lambda of, config: sweep.roles(of, [config.model(name) for name in models] if models else None)
    )


@analyse.command("cost")
def _cost(runs: _Runs, parameters: _Parameters = None, json: _Json = False, config: ConfigFile = None) -> int:
    """Dollars and TFLOPs a query against quality; says which runs no other beats."""
    from moa.cli.analyse import cost

    return cost(runs, parameters or [], as_json=json, config=config)


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="RUN…", help="Runs' folders, folders of them, files of moa analyse merge --out."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page and its drawings go.")] = Path("moa-report"),
    parameters: _Parameters = None,
    config: ConfigFile = None,
) -> int:
    """Show runs side by side: tables and plots as one HTML page, and SVGs."""
    from moa.cli.report import report

    return report(paths, out, parameters or [], config=config)
