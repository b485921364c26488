"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from moa.cli.terminal import Show

MixtureName = Annotated[
    str | None,
    typer.Option("-m", "--mixture", metavar="NAME", help="A mixture, or one model as provider/name."),
]
ConfigFile = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Default: $MOA_CONFIG, ./moa.toml or ~/.config/moa/moa.toml."),
]
Shown = Annotated[
    Show | None,
    typer.Option("--show", help="Show whole proposals, or only the answer. Default: the start of each proposal."),
]
Explain = Annotated[bool, typer.Option("--explain", help="Then show which proposals each sentence resembles.")]


def group(about: str, **settings: Any) -> typer.Typer:
    """A command that has commands of its own."""
    # Plain help: Rich's takes a third of a second of CPU before the first letter.
    return typer.Typer(
        help=about, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **settings
    )
