"""``moa show``: one mixture, drawn from the question down to the answer."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from moa.cli.options import ConfigFile
from moa.cli.terminal import screen, write

UNLIMITED = 10_000
"""Columns of a pipe."""

STYLES = {"title": "bold", "layer": "cyan", "aside": "dim", "agent": ""}


def show(name: Annotated[str, typer.Argument(metavar="NAME", help="The mixture.")], config: ConfigFile = None) -> int:
    """Draw a mixture: layers, agents, settings.

    Needs no API keys and calls no model.
    """
    from moa.cli.drawing import drawing
    from moa.config.config import Config

    settings = Config(config)
    listed, places = settings.described(name), list(map(str, settings.destinations(name)))
    if not sys.stdout.isatty():
        for _, line in drawing(listed, UNLIMITED, places):
            write(line)
        return 0
    from rich.text import Text

    console = screen()
    for kind, line in drawing(listed, console.width, places):
        indent = len(line) - len(line.lstrip(" │├└─▼"))
        head, gap, rest = line[indent:].partition("   ")
        text = Text(line[:indent], "dim", overflow="fold")
        console.print(text.append(head, f"not dim {STYLES[kind]}").append(gap + rest, "dim"), soft_wrap=True)
    return 0
