"""A table on standard output: aligned on a terminal, tab-separated in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from moa.cli.terminal import one_line, screen, write


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows under the keys of all of them; a missing value, or None, is an empty cell."""
    headings = list(dict.fromkeys(name for row in rows for name in row))
    cells = [["" if row.get(name) is None else one_line(str(row[name])) for name in headings] for row in rows]
    if not sys.stdout.isatty():
        for line in [headings, *cells]:
            write("\t".join(line))
        return
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in headings:
        drawn.add_column(one_line(name))
    for row in cells:
        drawn.add_row(*map(Text, row))
    screen().print(drawn)
