"""``moa check``: each model of a mixture called once."""

from __future__ import annotations

from typing import Annotated

import typer

from moa.cli.options import ConfigFile


def check(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A mixture, or one model as provider/name.")
    ] = None,
    continuation: Annotated[
        bool, typer.Option("--continuation", help="Also test how each continues a text; 5 more calls.")
    ] = False,
    config: ConfigFile = None,
) -> int:
    """Call each model of a mixture once.

    Reports for each model whether it responds and how fast, or what failed and how to fix it. Exits 1 if any model fails.
    """
    import asyncio

    from moa.cli import findings

    return asyncio.run(findings.check(name, config, continuation))
