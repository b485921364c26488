"""``moa models``: the single models that the configured servers offer."""

from __future__ import annotations

from typing import Annotated

import typer

from moa.cli.options import ConfigFile


def models(
    provider: Annotated[str | None, typer.Argument(metavar="PROVIDER", help="Only models of this provider.")] = None,
    config: ConfigFile = None,
) -> int:
    """List the models that can be called now.

    Exits 1 if PROVIDER is given and offers none.
    """
    import asyncio

    from moa.cli import offers

    return asyncio.run(offers.list_models(provider, config))
