"""``moa key``: the API keys that ``moa serve`` requires."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moa.cli.options import group
from moa.cli.terminal import notify, write

app = group("Create, list and remove API keys of serve.")

_Keys = Annotated[Path | None, typer.Option("--keys", metavar="FILE", help="Default: ~/.config/moa/keys.json.")]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The key's name, as logs show it.")]


@app.command()
def add(
    name: _Name,
    keys: _Keys = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="COUNT", help="Rate limit. Default: none.", min=1)
    ] = None,
    dollars_per_day: Annotated[
        float | None, typer.Option(metavar="USD", help="Spending limit per day (UTC). Default: none.", min=0)
    ] = None,
) -> int:
    """Create a key and print it once."""
    from moa.server.keys import Keys, default_place

    ring = Keys(keys or default_place())
    secret = ring.add(name, requests_per_minute=requests_per_minute, dollars_per_day=dollars_per_day)
    write(secret)
    notify(f"this is the API key of {name!r}; it is not shown again ({ring.path} holds only its hash)")
    return 0


@app.command("list")
def list_keys(keys: _Keys = None) -> int:
    """List the names and limits of all keys."""
    from moa.server.keys import Keys, default_place

    for key in Keys(keys or default_place()):
        minute = "no limit" if key.requests_per_minute is None else f"{key.requests_per_minute} requests a minute"
        day = "no limit" if key.dollars_per_day is None else f"${key.dollars_per_day:g} a day"
        write(f"{key.name}\t{minute}\t{day}")
    return 0


@app.command()
def remove(name: _Name, keys: _Keys = None) -> int:
    """Remove a key.

    Servers that are running accept it until they restart.
    """
    from moa.server.keys import Keys, default_place

    Keys(keys or default_place()).remove(name)
    return 0
