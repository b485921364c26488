"""``moa search``: which mixture answers your questions best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moa.cli.shared_options import Json


def search(
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
    json: Json = False,
) -> int:
    """Find the mixture for your questions.

    Half of the questions are searched on; the result is read on the other half. Prints a block for moa.toml with the
    figures, or says that one model is best.
    """
    from moa.cli import searching
    from moa.errors import ConfigError

    if recorded is None:
        raise ConfigError("name a file with recorded answers: moa search --recorded MATRIX.jsonl.gz")
    return searching.recorded(
        recorded, confirm, members=members, cost=answer_cost, seconds=answer_seconds, seed=seed, as_json=json
    )
