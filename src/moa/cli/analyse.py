"""``moa analyse``: the paper's analyses, on any mixture. Each prints a table, or JSON with ``--json``."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from moa.cli.bench import FOLDER, Ready, folder_name, ready
from moa.cli.session import Session
from moa.cli.shared_options import SharedOptions
from moa.cli.tables import table
from moa.cli.terminal import notify, one_line, write
from moa.config.config import Config
from moa.errors import ConfigError
from moa.evals.asking.data import Row, read_rows
from moa.evals.benchmark import Options
from moa.evals.benchmarks import named
from moa.evals.paper.sweep import Variant
from moa.evals.pareto import pareto
from moa.evals.reading.cost import sizes, summary, unsized
from moa.evals.reading.measured import Measured, measured, runs_in
from moa.messages import Cost
from moa.mixture.mixture import Mixture

if TYPE_CHECKING:
    from moa.evals.paper.analyses import Merging

Variants = Callable[[Mixture, Config], Iterator[Variant]]


# -- does the aggregator pick or merge? -------------------------------------------------------------------------------


def merge(
    answers: Path,
    proposals: Sequence[Path],
    quality: Sequence[str],
    controls: Sequence[Path],
    *,
    column: str = "win_rate",
    without: Sequence[str] = (),
    layer: int | None = None,
    out: Path | None = None,
    as_json: bool = False,
) -> int:
    """Correlate the quality of the proposals with their similarity to the answers; see :mod:`moa.evals.paper.analyses`."""
    from moa.evals.paper import analyses

    texts = analyses.named_outputs(proposals) if proposals else analyses.proposals_of(answers, layer)
    texts = {name: by_prompt for name, by_prompt in texts.items() if name not in without}
    known = quality_of(quality, texts, column)
    blind = analyses.named_outputs(controls)
    cases = analyses.cases_of(analyses.outputs(answers), texts, known, blind)
    found = analyses.merging(cases, list(blind))
    result = {
        "analysis": "merging",
        "system": analyses.name_of(answers),
        "proposers": [*texts],
        "quality": {name: known[name] for name in texts if isinstance(known[name], float)},
        "prompts": len(cases),
        **asdict(found),
    }
    if out:
        out.write_text(json.dumps(result, indent=1, allow_nan=True) + "\n", encoding="utf-8")
    if as_json:
        write(json.dumps(result))
        return 0
    write(one_line(f"{result['system']}: {len(cases)} prompts, {found.proposals:.1f} proposals each"))
    table(_correlations(found))
    write(f"nearly a copy of a proposal: {found.copied:.1%} of answers")
    write(f"most similar to the best proposal: {found.closest_is_best:.1%}; by chance {1 / found.proposals:.1%}")
    if not blind:
        notify("these figures prove little without --control: answers of models that saw no proposal correlate as well")
    return 0


def _correlations(found: Merging) -> list[Row]:
    rows = []
    for each in found.correlations:
        row = {"similarity": each.measure, "rho": f"{each.rho:.3f} (standard error {each.standard_error:.3f})"}
        for name, value in each.controls.items():
            gap = each.excess[name]
            interval = "-" if gap is None else f"{gap.difference:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
            row |= {name: f"{value:.3f}", f"excess over {name}": interval}
        rows.append(row)
    return rows


def quality_of(given: Sequence[str], names: Iterable[str], column: str) -> dict[str, float | Mapping[str, float]]:
    """The quality of these proposers, from ``NAME=FIGURE``, a leaderboard's CSV, or runs (then prompt by prompt).

    Raises:
        ConfigError: nothing is given, or a file or column does not exist.
    """
    from moa.evals.paper import analyses

    found: dict[str, float | Mapping[str, float]] = {}
    for one in given:
        name, equals, figure = one.rpartition("=")
        if equals and re.fullmatch(r"-?\d+(\.\d*)?", figure):
            found[name] = float(figure)
        elif Path(one).is_dir():
            for run in runs_in([Path(one)]):
                found[run.name] = _by_prompt(run)
        else:
            found.update(analyses.leaderboard(Path(one), column))
    if not found:
        raise ConfigError(
            "the quality of the proposers is missing: give --quality NAME=FIGURE, a leaderboard's CSV, or runs"
        )
    return analyses.chosen_quality(found, names)


def _by_prompt(run: Measured) -> dict[str, float]:
    from moa.evals.paper.analyses import prompt_of

    prompts = {row["moa"]["id"]: prompt_of(row, run.folder) for row in read_rows(run.folder / "answers.jsonl")}
    return {prompts[item]: score for item, score in run.scores.items() if item in prompts}


# -- sweeps -----------------------------------------------------------------------------------------------------------


def swept(kind: str, on: str, shared: SharedOptions, variants: Variants) -> int:
    """Measure every variant of a mixture, each in its own subfolder of ``--out``, and tabulate them.

    Returns:
        0 if a variant has a score, 1 if none has.
    """
    if len(shared.judge or ()) > 1:
        raise ConfigError("a sweep has one judge; give --judge once")
    with ready(named(on), Options(shared.limit, sample=shared.sample, seed=shared.seed), shared) as work:
        return asyncio.run(_swept(kind, work, shared, variants))


async def _swept(kind: str, work: Ready, shared: SharedOptions, variants: Variants) -> int:
    rows: list[Row] = []
    benchmark = work.benchmark.name
    async with Session(shared.config) as here:
        mixture = here.mixture(shared.mixture)
        measuring = work.measuring(shared, here)[0]
        out = shared.out or FOLDER / f"{benchmark}-{kind}" / folder_name(mixture.name.removeprefix("moa/"))
        for variant in variants(mixture, here.config):
            notify(f"{kind}: {variant.label}")
            folder = out / folder_name(variant.label)
            await measuring.measure(variant.mixture, variant.definition, folder)
            rows.append({**variant.setting, **summary(measured(folder), here.config.parameters)})
    if shared.as_json:
        write(json.dumps({"sweep": kind, "mixture": mixture.name, "benchmark": benchmark, "rows": rows}, indent=1))
    else:
        table([_in_words(row) for row in rows])
        write(f"saved in {one_line(str(out))}; to plot it: moa report {one_line(str(out))}")
    return 0 if any(row["score"] is not None for row in rows) else 1


def _in_words(row: Row) -> Row:
    """A summary for readers."""
    shown = dict(row)
    at_least = shown.pop("at_least")
    error = shown.pop("standard_error")
    if shown["score"] is not None:
        shown["score"] = f"{shown['score']:.2f}"
        shown["standard error"] = "-" if error is None else f"{error:.2f}"
    for name, form in (("length", ".0f"), ("tokens", ".0f"), ("length_controlled", ".2f"), ("seconds", ".1f")):
        if shown.get(name) is not None:
            shown[name] = format(shown[name], form)
    shown["cost"] = str(Cost(shown.pop("dollars"), at_least)).replace("cost unknown", "unknown")
    for name, heading in (("tflops", "TFLOPs"), ("tflops_longest_path", "longest path")):
        value = shown.pop(name)
        shown[heading] = "unknown" if value is None else f"{value:.3g}"
    return shown


# -- cost -------------------------------------------------------------------------------------------------------------


def cost(runs: Sequence[Path], parameters: Sequence[str], *, as_json: bool = False, config: str | None = None) -> int:
    """Tabulate what a query costs in runs, and mark those on the Pareto front of their benchmark."""
    billions = {**Config(config).parameters, **sizes(parameters)}
    found = runs_in(runs)
    rows = [{"system": run.name, "benchmark": run.benchmark.name, **summary(run, billions)} for run in found]
    for name, column in (("dollars", "front, $"), ("tflops", "front, TFLOPs")):
        for benchmark in dict.fromkeys(run.benchmark.name for run in found):
            known = [
                (row, (row[name], run.score))
                for run, row in zip(found, rows, strict=True)
                if run.benchmark.name == benchmark and row[name] is not None and run.score is not None
            ]
            for place in pareto([point for _, point in known]):
                known[place][0][column] = "yes"
    if as_json:
        write(json.dumps({"runs": rows}, indent=1))
        return 0
    table([_in_words(row) for row in rows])
    for model in sorted({model for run in found for model in unsized(run, billions)}):
        notify(f"TFLOPs need the size of {model}: give --parameters {model}=BILLIONS, or [parameters] in moa.toml")
    return 0
