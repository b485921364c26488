"""The work of ``moa batch``: opens the mixture and the job, shows its progress, and its summary at the end."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moa.batch.job import STANDARD_INPUT, Job, Options
from moa.batch.pace import Paces
from moa.batch.progress import Progress
from moa.cli.progress import display
from moa.cli.session import Session
from moa.cli.signals import ending_on_signals
from moa.cli.terminal import figure, notify, notify_detail, one_line, seconds, write
from moa.errors import ConfigError, MoaError
from moa.messages import Cost

_BETWEEN_LINES = 1.0
"""Seconds between lines of JSON."""


async def answer_rows(
    rows: str, out: Path, mixture: str | None, options: Options, config: str | None, *, dry_run: bool, as_json: bool
) -> int:
    """Answer rows, or estimate what they will take.

    Returns:
        0 if every row has an answer, 1 if one failed or was left out.
    """
    if rows == STANDARD_INPUT and sys.stdin.isatty():
        raise ConfigError("- stands for standard input, which is a terminal; pipe the rows into moa batch")
    paces = Paces()
    async with Session(config, around=paces.around) as session:
        model = session.mixture(mixture)
        with display() as shown, ending_on_signals():
            lines = _Lines() if as_json else None
            on_progress = lines.progress if lines else shown.batch
            job = Job(rows, out, model, paces, options, on_rows=shown.reading, on_progress=on_progress)
            with job:
                if dry_run:
                    return _estimated(job, as_json=as_json)
                try:
                    result = await job.run()
                except asyncio.CancelledError:
                    _interrupted(job)
                    raise
                except MoaError as error:
                    raise _with_remedy(error, job) from error
    if as_json:
        write(json.dumps(result, ensure_ascii=False))
    else:
        _in_words(result, job)
    return 0 if result["failed"] == 0 and result["left"] == 0 else 1


class _Lines:
    """Progress as lines of JSON on standard output."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def progress(self, progress: Progress) -> None:
        if time.monotonic() - self._last >= _BETWEEN_LINES:
            self._last = time.monotonic()
            write(json.dumps(progress.line()))


def _estimated(job: Job, *, as_json: bool) -> int:
    estimate = job.estimate()
    if as_json:
        fields = {"event": "estimate", "rows": estimate.rows, "calls": estimate.calls, "cost": estimate.cost.dollars}
        write(json.dumps({**fields, "cost_is_at_least": estimate.cost.at_least, "basis": estimate.basis}))
    else:
        write(f"{figure(estimate.rows)} rows, {figure(estimate.calls)} calls, about {estimate.cost}")
        write(f"from {estimate.basis}")
    return 0


def _in_words(result: Mapping[str, Any], job: Job) -> None:
    cost = Cost(result["cost"], result["cost_is_at_least"])
    tokens = result["usage"]
    write(one_line(f"{result['output']}: {figure(result['answered'])} of {figure(result['rows'])} rows answered"))
    for name, count in result["errors"].items():
        write(f"  {name:<18}{figure(count)} rows failed")
    if result["degraded"]:
        write(f"  {'degraded':<18}{figure(result['degraded'])} rows without some of the agents")
    write(f"  {'tokens':<18}{figure(tokens['input_tokens'])} in, {figure(tokens['output_tokens'])} out")
    write(f"  {'cost':<18}{cost}")
    write(f"  {'time':<18}{seconds(result['seconds'])}")
    if result["stopped"]:
        write(f"  {'stopped':<18}{one_line(result['stopped'])}")
    if result["left"]:
        write(f"  {'left':<18}{figure(result['left'])} rows; the same command answers them")
    if result["failed"]:
        write(f"  {'failed':<18}{figure(result['failed'])} rows; --retry-failed answers them again")
    write(f"  {'summary':<18}{one_line(str(job.folder / 'summary.json'))}")


def _interrupted(job: Job) -> None:
    answered = job.journal_totals().answered
    notify(f"interrupted: {figure(answered)} of {figure(job.rows)} rows are in {job.out}; calls in flight were ended")
    notify_detail(f"to continue: {shlex.join(['moa', *sys.argv[1:]])}")


def _with_remedy(error: MoaError, job: Job) -> MoaError:
    answered = job.journal_totals().answered
    kept = f"{figure(answered)} of {figure(job.rows)} rows are answered and kept; the same command continues"
    kind = ConfigError if isinstance(error, ConfigError) else MoaError
    return kind(f"{error}. {kept}")
