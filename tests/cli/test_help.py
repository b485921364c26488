"""Help fits a terminal of 80 columns: no description of a command is cut off, no line is wider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from moa.cli import app

LONGEST = 45
"""Characters of a command's line in the list of commands."""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command and group, with the words that select it."""
    waiting: list[tuple[str, Any]] = [("moa", typer.main.get_command(app))]
    while waiting:
        path, command = waiting.pop()
        yield path, command
        context = typer.Context(command)
        names = command.list_commands(context) if hasattr(command, "list_commands") else []
        waiting += [(f"{path} {name}", command.get_command(context, name)) for name in names]


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS)
def test_help_fits_80_columns(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than the terminal, and the list of commands cuts off no description."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = COMMANDS[path].get_help(typer.Context(COMMANDS[path], info_name=path))
    assert max(map(len, shown.splitlines())) <= 80
    _, _, listed = shown.partition("\nCommands:\n")
    assert "..." not in listed and "…" not in listed


@pytest.mark.parametrize("path", [path for path in COMMANDS if " " in path])
def test_a_command_describes_itself_in_one_short_line(path: str) -> None:
    """The first paragraph of a command's help is one line of at most 45 characters."""
    first, _, _ = (COMMANDS[path].help or "").strip().partition("\n\n")
    assert 0 < len(first) <= LONGEST
