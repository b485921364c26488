"""The command line. Each command is declared in a module of its own, and imports its work when it is used."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from moa.cli import (
    ask,
    batch,
    cache,
    chat,
    check,
    client,
    key,
    mcp,
    measuring,
    mixtures,
    models,
    runs,
    search,
    serve,
    show,
)
from moa.cli.options import group
from moa.cli.status import status_of

app = group(
    "Several language models answer together, layer by layer, as one model.",
    name="moa",
    epilog="Without any configuration, moa ask uses small models on this machine.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(ask.ask)
app.command()(chat.chat)
app.command()(batch.batch)
app.command()(mixtures.mixtures)
app.command()(show.show)
app.command()(models.models)
app.command()(check.check)
app.command()(serve.serve)
app.command()(client.client)
app.command()(mcp.mcp)
app.add_typer(key.app, name="key")
app.add_typer(cache.app, name="cache")
app.add_typer(runs.app, name="runs")
app.add_typer(measuring.bench, name="bench")
app.add_typer(measuring.analyse, name="analyse")
app.command()(search.search)
app.command()(measuring.report)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"moa {version('mixture-of-agents')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _moa(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """The command ``moa``."""
    sys.exit(status_of(app))
