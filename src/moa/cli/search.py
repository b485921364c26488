"""``moa search``: which mixture answers your questions best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from moa.cli.options import ConfigFile
from moa.cli.shared_options import Json


def search(
    questions: Annotated[
        Path | None, typer.Argument(metavar="QUESTIONS", help="A file of questions, as for moa bench tasks.")
    ] = None,
    models: Annotated[str | None, typer.Option(metavar="A,B,…", help="Models that may be members.")] = None,
    mixture: Annotated[
        str | None, typer.Option("-m", "--mixture", metavar="NAME", help="Its agents may be members.")
    ] = None,
    spend: Annotated[float | None, typer.Option(metavar="DOLLARS", help="Money for the whole search.", min=0)] = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="M", help="Time for the whole search, roughly.", min=0)
    ] = None,
    samples: Annotated[int, typer.Option(metavar="K", help="Answers of each member to a question.", min=1)] = 1,
    recorded: Annotated[
        Path | None, typer.Option(metavar="MATRIX", help="Recorded answers of many models; no model is called.")
    ] = None,
    confirm: Annotated[
        Path | None, typer.Option(metavar="MATRIX", help="Report on these; search on all of --recorded.")
    ] = None,
    members: Annotated[int, typer.Option(metavar="N", help="Models in a mixture, at most.", min=1)] = 4,
    answer_cost: Annotated[
        float | None, typer.Option(metavar="DOLLARS", help="An answer costs at most this, on average.", min=0)
    ] = None,
    answer_seconds: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Its slowest call takes at most this, on average.", min=0)
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the split into search and confirmation.")] = 0,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Use only the first N questions.", min=2)] = None,
    concurrency: Annotated[int, typer.Option(metavar="N", help="Concurrent calls.", min=1)] = 8,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="New or resumed folder; else moa-search/…")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show calls and dollars; call nothing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Is the mixture in the folder still right?")] = False,
    writes: Annotated[bool, typer.Option("--write", help="Write the mixture into moa.toml.")] = False,
    name: Annotated[str, typer.Option(metavar="NAME", help="The mixture's name in moa.toml.")] = "found",
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Find the mixture for your questions.

    Half of the questions are searched on; the result is read on the other half. Prints a block for moa.toml with the
    figures, or says that one model is best.

    With QUESTIONS, each of --models answers each question once, and every mixture of them is tried on these answers; only
    aggregators are called again. The same command continues a search that was stopped.
    """
    from moa.errors import ConfigError

    if recorded is None:
        return _live(
            questions,
            check,
            models=[each.strip() for each in (models or "").split(",") if each.strip()],
            mixture=mixture,
            limits=(spend, answer_cost, answer_seconds, minutes),
            samples=samples,
            seed=seed,
            limit=limit,
            concurrency=concurrency,
            out=out,
            name=name,
            writes=writes,
            dry_run=dry_run,
            as_json=json,
            config=config,
        )
    if questions is not None or models or mixture or check:
        raise ConfigError("--recorded calls no model; remove QUESTIONS, --models, --mixture and --check")
    from moa.cli import searching

    return searching.recorded(
        recorded, confirm, members=members, cost=answer_cost, seconds=answer_seconds, seed=seed, as_json=json
    )


def _live(questions: Path | None, check: bool, *, limits: tuple[float | None, ...], **wanted: Any) -> int:
    """Search by calling models, or check an earlier search."""
    from moa.errors import ConfigError

    try:
        from moa.cli import live_search, search_check
        from moa.evals.search.live.scores import Limits
    except ModuleNotFoundError as error:
        raise ConfigError(f"moa search needs {error.name}: pip install 'mixture-of-agents[evals]'") from None
    if check:
        return search_check.check(wanted["out"] or live_search.FOLDER, questions, limits[0], wanted)
    if questions is None:
        raise ConfigError(
            "name a file of questions: moa search QUESTIONS.jsonl --models A,B,… --spend DOLLARS; or a file with recorded "
            "answers: moa search --recorded MATRIX.jsonl.gz"
        )
    return live_search.search(live_search.Wanted(questions=questions, limits=Limits(*limits), **wanted))
