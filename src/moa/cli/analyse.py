"""``moa analyse``: the paper's analyses, on any mixture. Each prints a table; on a pipe, or with ``--json``, JSON."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moa.cli import ask
from moa.cli.bench import FOLDER, Wanted, asking
from moa.cli.terminal import one_line, say, screen, tell
from moa.config.config import Config
from moa.errors import ConfigError
from moa.evals.asking.data import Row
from moa.evals.paper import sweep
from moa.evals.reading.cost import pareto, unsized, work
from moa.evals.reading.measured import Measured, measured, runs_in
from moa.messages import Cost
from moa.mixture.mixture import Mixture

Variants = Callable[[Mixture, Config], Iterator[sweep.Variant]]


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
    """Correlate the proposals' quality with their likeness to the answers; see :mod:`moa.evals.paper.analyses`."""
    from moa.evals.paper import analyses

    texts = (
        {analyses.name_of(path): analyses.outputs(path) for path in proposals}
        if proposals
        else analyses.proposals_of(answers, layer)
    )
    texts = {name: said for name, said in texts.items() if name not in without}
    told = _qualities(quality, texts, column)
    blind = {analyses.name_of(path): analyses.outputs(path) for path in controls}
    cases = analyses.cases_of(analyses.outputs(answers), texts, told, blind)
    found = analyses.merging(cases, list(blind))
    result = {
        "analysis": "merging",
        "system": analyses.name_of(answers),
        "proposers": [*texts],
        "quality": {name: told[name] for name in texts if isinstance(told[name], float)},
        "prompts": len(cases),
        **asdict(found),
    }
    if out:
        out.write_text(json.dumps(result, indent=1, allow_nan=True) + "\n", encoding="utf-8")
    if as_json:
        say(json.dumps(result))
        return 0
    say(one_line(f"{result['system']}: {len(cases)} prompts, {found.proposals:.1f} proposals each"))
    rows = []
    for each in found.correlations:
        row = {"likeness": each.measure, "rho": f"{each.rho:.3f} ± {each.standard_error:.3f}"}
        for name, value in each.controls.items():
            gap = each.excess[name]
            row[name] = f"{value:.3f}"
            row[f"excess over {name}"] = (
                "-" if gap is None else f"{gap.difference:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
            )
        rows.append(row)
    table(rows)
    say(f"copied nearly word for word: {found.copied:.1%} of answers")
    say(f"most like the best proposal: {found.closest_is_best:.1%}; by chance {1 / found.proposals:.1%}")
    if not blind:
        tell("without --control these figures say little: answers of models that saw no proposal correlate, too")
    return 0


def _qualities(given: Sequence[str], names: Any, column: str) -> dict[str, Any]:
    """``NAME=FIGURE``, a leaderboard's CSV, or runs of the proposers, whose judgments then count prompt by prompt."""
    from moa.evals.paper import analyses

    found: dict[str, Any] = {}
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
            "--quality is needed: how good each proposer is, as NAME=FIGURE, a leaderboard's CSV, or runs"
        )
    return analyses.chosen_quality(found, names)


def _by_prompt(run: Measured) -> dict[str, float]:
    from moa.evals.asking.data import read_rows
    from moa.evals.paper.analyses import prompt_of

    prompts = {row["moa"]["id"]: prompt_of(row, run.folder) for row in read_rows(run.folder / "answers.jsonl")}
    return {prompts[item]: score for item, score in run.scores.items() if item in prompts}


# -- sweeps -----------------------------------------------------------------------------------------------------------


def swept(kind: str, wanted: Wanted, variants: Variants) -> int:
    """Measure every variant of a mixture, each in a folder inside ``wanted.out``, and tabulate."""
    with asking(wanted) as ready:
        return asyncio.run(_swept(kind, wanted, variants, ready.measure))


async def _swept(kind: str, wanted: Wanted, variants: Variants, measure: Any) -> int:
    rows: list[Row] = []
    async with ask.opened(wanted.config) as here:
        mixture = here.mixture(wanted.mixture)
        name = re.sub(r"[^\w.-]+", "-", mixture.name.removeprefix("moa/"))
        out = wanted.out or FOLDER / f"{wanted.benchmark}-{kind}" / name
        for variant in variants(mixture, here.config):
            tell(f"{kind}: {variant.label}")
            model = variant.model
            told = model.proposal_identity if isinstance(model, Mixture) else model.name
            made_of = {"variant": dict(variant.setting), "of": told, "way": getattr(model, "aggregate", None)}
            aggregators = (
                [agent.model.name for agent in model.aggregators.values()] if isinstance(model, Mixture) else []
            )
            folder = out / re.sub(r"[^\w.-]+", "-", variant.label)
            await measure(here, model, {**made_of, "aggregators": aggregators}, folder)
            rows.append({**variant.setting, **_told(measured(folder), here.config)})
    if wanted.as_json:
        say(json.dumps({"sweep": kind, "mixture": mixture.name, "benchmark": wanted.benchmark, "rows": rows}, indent=1))
    else:
        table([_shown(row) for row in rows])
        say(f"kept in {one_line(str(out))}; moa report {one_line(str(out))} draws it")
    return 0 if any(row["score"] is not None for row in rows) else 1


def _told(run: Measured, config: Config) -> Row:
    """A run's row in a table, in numbers."""
    done = work(run, config.parameters)
    controlled = run.result.get("length_controlled_winrate")
    return {
        "score": run.result.get("win_rate", run.result.get("score")),
        **({"length_controlled": controlled} if controlled is not None else {}),
        "standard_error": run.result.get("standard_error"),
        "judged": run.result["judged"],
        "failed": run.result.get("failed", 0) + run.result.get("unasked", 0),
        "length": run.result.get("avg_length"),
        "dollars": run.cost.dollars,
        "at_least": run.cost.at_least,
        "tokens": run.tokens,
        "tflops": done.total if done else None,
        "tflops_longest_path": done.longest if done else None,
        "seconds": run.seconds,
    }


def _shown(row: Row) -> Row:
    """The same in words."""
    shown = dict(row)
    at_least = shown.pop("at_least")
    error = shown.pop("standard_error")
    if shown["score"] is not None:
        shown["score"] = f"{shown['score']:.2f}" + (f" ± {error:.2f}" if error is not None else "")
    for name, form in (("length", ".0f"), ("tokens", ".0f"), ("length_controlled", ".2f"), ("seconds", ".1f")):
        if shown.get(name) is not None:
            shown[name] = format(shown[name], form)
    shown["cost"] = str(Cost(shown.pop("dollars"), at_least)).replace("cost unknown", "unknown")
    for name in ("tflops", "tflops_longest_path"):
        value = shown.pop(name)
        shown["TFLOPs" if name == "tflops" else "longest path"] = "unknown" if value is None else f"{value:.3g}"
    return shown


# -- cost -------------------------------------------------------------------------------------------------------------


def cost(runs: Sequence[Path], billions: Sequence[str], *, as_json: bool = False, config: str | None = None) -> int:
    """Runs of one benchmark by what a query costs; those that none beats are marked."""
    known = Config(config)
    known.parameters = {**known.parameters, **sizes(billions)}
    found = runs_in(runs)
    rows = [{"system": run.name, "benchmark": run.benchmark, **_told(run, known)} for run in found]
    for name, column in (("dollars", "front, $"), ("tflops", "front, TFLOPs")):
        for benchmark in dict.fromkeys(run.benchmark for run in found):
            here = [
                place
                for place, run in enumerate(found)
                if run.benchmark == benchmark and rows[place][name] is not None and run.score is not None
            ]
            best = pareto([(rows[place][name], found[place].score or 0.0) for place in here])
            for place in best:
                rows[here[place]][column] = "yes"
    if as_json:
        say(json.dumps({"runs": rows}, indent=1))
    else:
        table([_shown(row) for row in rows])
        for model in sorted({model for run in found for model in unsized(run, known.parameters)}):
            tell(
                f"TFLOPs: the size of {model} is not known; give --parameters {model}=BILLIONS, or [parameters] in moa.toml"
            )
    return 0


def sizes(given: Sequence[str]) -> dict[str, float]:
    """``NAME=BILLIONS`` as numbers."""
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


# -- tables -----------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> None:
    """Rows under the headings of all of them; as tab-separated lines where nobody looks."""
    import sys

    headings = list(dict.fromkeys(name for row in rows for name in row))
    cells = [["" if row.get(name) is None else one_line(str(row[name])) for name in headings] for row in rows]
    if not sys.stdout.isatty():
        for line in [headings, *cells]:
            say("\t".join(line))
        return
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in headings:
        drawn.add_column(one_line(name))
    for row in cells:
        drawn.add_row(*map(Text, row))
    screen().print(drawn)
