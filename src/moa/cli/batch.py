"""``moa batch``: a file of prompts, answered row by row."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moa.cli.options import ConfigFile, MixtureName

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


class Engine(StrEnum):
    """What runs a job."""

    local = "local"
    ray = "ray"


def batch(
    rows: Annotated[
        str, typer.Argument(metavar="ROWS", help="A .jsonl, .csv or .parquet file, a folder, a pattern, or - .")
    ],
    out: Annotated[str, typer.Option("-o", "--out", metavar="FILE", help="Answers: .jsonl or .parquet.")],
    mixture: MixtureName = None,
    any_order: Annotated[bool, typer.Option("--any-order", help="Write answers as they come; faster.")] = False,
    proposals: Annotated[bool, typer.Option("--proposals", help="Write the proposals, too.")] = False,
    concurrency: Annotated[
        int | None, typer.Option(metavar="ROWS", help="Rows at a time. Default: what endpoints take.", min=1)
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(metavar="DOLLARS", help="Cost limit of the whole job.", min=0)
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="ROWS", help="Only the first ROWS.", min=1)] = None,
    sample: Annotated[
        int | None, typer.Option(metavar="ROWS", help="Only ROWS, spread over the input; they count.", min=1)
    ] = None,
    deadline: Annotated[str | None, typer.Option(metavar="TIME", help="Start no row after TIME: 90, 30m, 2h.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Answer failed rows again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print rows, calls and dollars; call nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print progress and summary as lines of JSON.")] = False,
    engine: Annotated[Engine, typer.Option(help="Where rows are answered.")] = Engine.local,
    address: Annotated[str | None, typer.Option(help="Ray: a cluster. Default: this machine.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Ray: processes that answer.", min=1)] = None,
    config: ConfigFile = None,
) -> int:
    """Answer a file of prompts.

    Each row has a prompt, messages, or a Chat Completions body; an OpenAI Batch file gives an OpenAI Batch output file. The
    same command continues a job that was interrupted: answered rows are not paid again.
    """
    if engine is Engine.ray:
        from moa.cli.batching_on_ray import RayOptions, answer_rows_on_ray

        given = {"--any-order": any_order, "--sample": sample, "--retry-failed": retry_failed, "--dry-run": dry_run}
        on_ray = RayOptions(
            address=address,
            workers=workers,
            proposals=proposals,
            concurrency=concurrency,
            max_cost=max_cost,
            limit=limit,
            deadline=_seconds(deadline),
        )
        return answer_rows_on_ray(rows, out, mixture, on_ray, config, given, as_json=json)
    import asyncio

    from moa.batch.job import Options
    from moa.cli.batching import answer_rows

    options = Options(
        any_order=any_order,
        proposals=proposals,
        concurrency=concurrency,
        max_cost=max_cost,
        limit=limit,
        sample=sample,
        deadline=_seconds(deadline),
        retry_failed=retry_failed,
    )
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        return runner.run(
            answer_rows(rows, Path(out).expanduser(), mixture, options, config, dry_run=dry_run, as_json=json)
        )


def _fast_loop() -> Callable[[], AbstractEventLoop] | None:
    """What makes event loops that take less CPU than asyncio's; None where there is none (Windows)."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    from moa.errors import ConfigError

    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    try:
        duration = float(number) * unit
    except ValueError:
        duration = -1
    if not 0 < duration < float("inf"):
        raise ConfigError(f"--deadline takes seconds, or a number with s, m, h or d, such as 2h, not {text!r}")
    return duration
