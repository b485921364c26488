"""``moa mixtures``: the mixtures that can be called, with their layers. A table on a terminal, tab-separated in a pipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from moa.cli.options import ConfigFile
from moa.cli.terminal import one_line, screen, write

if TYPE_CHECKING:
    from moa.config.listing import Listed

WIDE = 72
"""Columns from which the mixtures are a table; below, each takes two lines."""


def mixtures(config: ConfigFile = None) -> int:
    """List the mixtures of moa.toml and presets."""
    from moa.config.config import Config

    settings = Config(config)
    default = settings.default.removeprefix("moa/")
    rows = [(one.name, _shape(one), one_line(settings.summary(one)), one.source) for one in settings.listed()]
    if sys.stdout.isatty():
        _draw(rows, default)
    else:
        for row in rows:
            write("\t".join([*row, "default" if row[0] == default else ""]))
    return 0


def _draw(rows: list[tuple[str, str, str, str]], default: str) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = screen()
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for heading in ("  mixture", "layers", "description", "from"):
        table.add_column(heading, no_wrap=heading != "description", overflow="ellipsis")
    for name, layers, description, source in rows:
        mark = Text("● ", "green") if name == default else Text("  ")
        about = Text(description)
        if name == default:
            about.append(" (default)" if about else "default", "green")
        mark.append(name, "bold")
        if console.width >= WIDE:
            table.add_row(mark, layers, about, Text(_short(source), "dim"))
        else:
            console.print(mark.append(f"  {layers}", "not bold"))
            console.print(Padding(about, (0, 0, 0, 2), style="dim"))
    if console.width >= WIDE:
        console.print(table)


def _shape(listed: Listed) -> str:
    """The number of agents per layer, ``6 → 6 → 1``; the last is how the answer is selected if no agent writes it."""
    aggregate = str(listed.settings.get("aggregate", "synthesize"))
    return " → ".join([*(str(len(layer)) for layer in listed.layers), "1" if aggregate == "synthesize" else aggregate])


def _short(source: str) -> str:
    """A path, relative to the working directory or to the home directory."""
    if source == "preset":
        return source
    path = Path(source).absolute()
    for start, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(start):
            return f"{prefix}{path.relative_to(start)}"
    return source
