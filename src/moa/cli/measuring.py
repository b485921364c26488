"""Commands that measure: ``moa bench``, ``moa analyse``, ``moa report``. Declared here, loaded when they run."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from moa.cli.options import ConfigFile
from moa.cli.shared_options import Json, SharedOptions, with_shared_options

if TYPE_CHECKING:
    from moa.evals.benchmark import Benchmark

_Judgments = Annotated[Path | None, typer.Option(metavar="FILE", help="Score these judgments; call no model.")]
_File = Annotated[Path | None, typer.Argument(metavar="FILE", help="Questions: JSON Lines, CSV or Parquet.")]
_Answers = Annotated[Path | None, typer.Option(metavar="RUN", help="Judge this run's answers; call no system.")]
_Repeat = Annotated[int, typer.Option(metavar="TIMES", help="Have the system answer so often.", min=1)]
_Matrix = Annotated[Path | None, typer.Option(metavar="FILE", help="Add the answers to a matrix for moa search.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show items, calls and dollars; call nothing.")]
_Parameters = Annotated[
    list[str] | None, typer.Option(metavar="NAME=BILLIONS", help="A model's active parameters. Repeatable.")
]


# -- moa bench --------------------------------------------------------------------------------------------------------


class _Benchmarks(TyperGroup):
    """Adds a command for each benchmark when ``moa bench`` is used: importing them takes 0.1 s of every other command."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        self._complete()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        self._complete()
        return super().list_commands(ctx)

    def _complete(self) -> None:
        from moa.evals.benchmarks import ALL

        if ALL[0].name not in self.commands:
            benchmarks = typer.Typer(rich_markup_mode=None)
            for benchmark in ALL:
                benchmarks.command(benchmark.name, help=benchmark.about)(_bench(benchmark))
            self.commands = {**typer.main.get_group(benchmarks).commands, **self.commands}


bench = typer.Typer(cls=_Benchmarks, help="Measure a mixture, or score judgments.", rich_markup_mode=None)


def _bench(benchmark: Benchmark) -> Callable[..., int]:
    """The command of a benchmark."""

    def command(
        shared: SharedOptions,
        judgments: Path | None,
        answers: Path | None,
        repeat: int,
        dry_run: bool,
        matrix: Path | None,
        file: Path | None = None,
        **flags: bool,
    ) -> int:
        from moa.cli.bench import Wanted, bench

        set_flags = frozenset(name for name, is_set in flags.items() if is_set)
        wanted = Wanted(
            judgments=judgments,
            answers=answers,
            repeat=repeat,
            dry_run=dry_run,
            file=file,
            flags=set_flags,
            matrix=matrix,
        )
        return bench(benchmark, shared, wanted)

    own = [
        Parameter("judgments", Parameter.KEYWORD_ONLY, default=None, annotation=_Judgments),
        Parameter("answers", Parameter.KEYWORD_ONLY, default=None, annotation=_Answers),
        Parameter("repeat", Parameter.KEYWORD_ONLY, default=1, annotation=_Repeat),
        Parameter("dry_run", Parameter.KEYWORD_ONLY, default=False, annotation=_DryRun),
        Parameter("matrix", Parameter.KEYWORD_ONLY, default=None, annotation=_Matrix),
    ]
    if benchmark.takes_file:
        own.insert(0, Parameter("file", Parameter.KEYWORD_ONLY, default=None, annotation=_File))
    for flag in benchmark.flags:
        option = Annotated[bool, typer.Option(f"--{flag.name}", help=flag.help)]
        own.append(Parameter(flag.name, Parameter.KEYWORD_ONLY, default=False, annotation=option))
    return with_shared_options(command, own, judged=benchmark.judge is not None)


@bench.command("list")
def _list(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Benchmark files; else $MOA_DATA or download.")
    ] = None,
    json: Json = False,
) -> int:
    """List the benchmarks and what each needs."""
    from moa.cli.bench_list import bench_list

    return bench_list(data, as_json=json)


@bench.command("compare")
def _compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run's folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another run of the same benchmark.")],
    confidence: Annotated[float, typer.Option(metavar="LEVEL", help="Confidence level.", min=0.5, max=0.999)] = 0.95,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Benchmark files; else $MOA_DATA or download.")
    ] = None,
    json: Json = False,
) -> int:
    """Compare two runs, item by item.

    Prints A minus B on the items that both have, with a bootstrap confidence interval. For AlpacaEval also the difference
    of the length-controlled win rates, for which both systems are fitted again to each resample.
    """
    from moa.cli.report import compare

    return compare(first, second, confidence=confidence, data=data, as_json=json)


# -- moa analyse ------------------------------------------------------------------------------------------------------

analyse = typer.Typer(help="Run the paper's analyses on a mixture.", rich_markup_mode=None)

_On = Annotated[str, typer.Option("--on", metavar="BENCHMARK", help="A benchmark of moa bench.")]
_ON = "alpaca-eval"


@analyse.command("merge")
def _merge(
    answers: Annotated[Path, typer.Argument(metavar="ANSWERS", help="A mixture's run, or a file of outputs.")],
    quality: Annotated[
        list[str], typer.Option(metavar="NAME=FIGURE|CSV|RUN", help="Quality of proposers. Repeatable.")
    ],
    proposals: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A proposer's outputs. Repeatable.")
    ] = None,
    control: Annotated[
        list[Path] | None, typer.Option(metavar="RUN|FILE", help="Answers without proposals. Repeatable.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A proposer to leave out. Repeatable.")
    ] = None,
    column: Annotated[str, typer.Option(metavar="NAME", help="The CSV's column with the quality.")] = "win_rate",
    layer: Annotated[
        int | None, typer.Option(metavar="LAYER", help="Use this layer's proposals; default: last.", min=1)
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the result for moa report.")] = None,
    json: Json = False,
) -> int:
    """Does the aggregator pick or merge?

    Correlates the quality of the proposals with the answer's similarity to each of them, and subtracts the same correlation
    for models that never saw the proposals (--control).

    A run of a mixture holds its proposals; for a file of outputs in AlpacaEval's format, give them with --proposals. Quality
    comes from runs of the proposers (by prompt), from a leaderboard's CSV, or as NAME=FIGURE.
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
@with_shared_options
def _proposers(
    shared: SharedOptions,
    on: _On = _ON,
    counts: Annotated[str, typer.Option(metavar="N,N,…", help="Numbers of proposers.")] = "1,2,3,6",
    single: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Sample this model, not the aggregator's.")
    ] = None,
) -> int:
    """Vary the number of proposers.

    Measures n different models, and n samples of one model.
    """
    from moa.cli.analyse import swept
    from moa.errors import ConfigError
    from moa.evals.paper import sweep
    from moa.mixture.agent import Agent

    try:
        numbers = [int(count) for count in counts.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise ConfigError(f"--counts takes numbers from 1, such as 1,2,3,6, not {counts!r}")
    return swept(
        "proposers",
        on,
        shared,
        lambda mixture, config: sweep.proposers(mixture, numbers, Agent(config.model(single)) if single else None),
    )


@analyse.command("layers")
@with_shared_options
def _layers(
    shared: SharedOptions,
    on: _On = _ON,
    deepest: Annotated[int, typer.Option(metavar="LAYERS", help="Most layers, with the aggregator's.", min=1)] = 4,
) -> int:
    """Vary the number of layers.

    Starts with the aggregator alone.
    """
    from moa.cli.analyse import swept
    from moa.evals.paper import sweep

    return swept("layers", on, shared, lambda mixture, _: sweep.layers(mixture, deepest))


@analyse.command("ranker")
@with_shared_options
def _ranker(shared: SharedOptions, on: _On = _ON) -> int:
    """Compare synthesizing with selecting.

    The aggregator writes the answer, picks a proposal, is left out, or answers without proposals.
    """
    from moa.cli.analyse import swept
    from moa.evals.paper import sweep

    return swept("ranker", on, shared, lambda mixture, _: sweep.rankers(mixture))


@analyse.command("roles")
@with_shared_options
def _roles(
    shared: SharedOptions,
    on: _On = _ON,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="MODEL", help="A model to try; default: all. Repeatable."),
    ] = None,
) -> int:
    """Try each model as proposer and aggregator."""
    from moa.cli.analyse import swept
    from moa.evals.paper import sweep

    return swept(
        "roles",
        on,
        shared,
        lambda mixture, config: sweep.roles(mixture, [config.model(name) for name in models] if models else None),
    )


@analyse.command("cost")
def _cost(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Runs' folders, or folders of runs.")],
    parameters: _Parameters = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Show cost and work per query by quality.

    Dollars and TFLOPs per query, with the runs on the Pareto front marked. TFLOPs need the sizes of the models, from
    --parameters or [parameters] in moa.toml.
    """
    from moa.cli.analyse import cost

    return cost(runs, parameters or [], as_json=json, config=config)


@analyse.command("ceiling")
def _ceiling(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Runs, folders of runs, or one matrix.")],
    mixture: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A system that mixes the others. Repeatable.")
    ] = None,
    passes: Annotated[float, typer.Option(metavar="SCORE", help="From 0 to 1: solved from here.", min=0, max=1)] = 0.5,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the result for moa report.")] = None,
    json: Json = False,
) -> int:
    """Show how good a mixture can be.

    How often all members fail together, what the best choice among their answers would score (the oracle), how far mixtures
    stay behind it, and which members complement each other. Calls no model.
    """
    from moa.cli.ceiling import ceiling

    return ceiling(paths, mixture or [], passes=passes, out=out, as_json=json)


# -- moa report -------------------------------------------------------------------------------------------------------


def report(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Runs, folders of runs, saved analyses.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the page and its drawings.")] = Path(
        "moa-report"
    ),
    parameters: _Parameters = None,
    config: ConfigFile = None,
) -> int:
    """Show runs side by side on an HTML page.

    The page needs no other file; its drawings are also saved as SVG. A saved analysis is a file of moa analyse merge --out.
    """
    from moa.cli.report import report

    return report(paths, out, parameters or [], config=config)
