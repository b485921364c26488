"""``moa key``: the API keys that ``moa serve`` requires."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from moa.cli.options import ConfigFile, group
from moa.cli.terminal import notify, write
from moa.errors import ConfigError, UnknownName

app = group("Manage the API keys of moa serve.")

_Keys = Annotated[Path | None, typer.Option("--keys", metavar="FILE", help="Default: ~/.config/moa/keys.json.")]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The key's name, as logs show it.")]


@app.command()
def add(
    name: _Name,
    keys: _Keys = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="COUNT", help="Most requests in any 60 seconds. Default: no limit.", min=1)
    ] = None,
    dollars_per_day: Annotated[
        float | None, typer.Option(metavar="USD", help="Most US dollars in any 24 hours. Default: no limit.", min=0)
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Last day (UTC) on which the key works, as 2027-12-31. Default: no end."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,…",
            help="Models that the key may call: moa/NAME, provider/name, or patterns such as 'openai/*'. Default: all.",
        ),
    ] = None,
    config: ConfigFile = None,
) -> int:
    """Create a key and print it once."""
    from moa.server.keys import Keys, default_place

    patterns = [name.strip() for value in models or () for name in value.split(",") if name.strip()] or None
    ring = Keys(keys or default_place())
    secret = ring.add(
        name, requests_per_minute=requests_per_minute, dollars_per_day=dollars_per_day, until=until, models=patterns
    )
    write(secret)
    notify(f"this is the API key of {name!r}; it is not shown again ({ring.path} holds only its hash)")
    if patterns:
        _warn_of_unknown(patterns, config)
    return 0


def _warn_of_unknown(patterns: Sequence[str], config: str | None) -> None:
    """Print a warning for each pattern that no model of the configuration matches."""
    from moa.config.config import Config
    from moa.server.keys import pattern_of

    try:
        settings = Config(config)
    except ConfigError as error:
        notify(f"WARNING: the names of the models are not checked: {error}")
        return
    mixtures = settings.names()
    known = {f"moa/{name}" for name in mixtures}
    for name in mixtures:
        with suppress(UnknownName):
            known.update(settings.single_models(name))
    for pattern in map(pattern_of, patterns):
        # Of an endpoint in moa.toml every model can be called, whatever its name.
        if pattern.partition("/")[0] not in settings.endpoints and not any(
            fnmatchcase(name, pattern) for name in known
        ):
            notify(f"WARNING: {pattern!r} matches no model of this configuration (`moa models` lists them)")


@app.command("list")
def list_keys(
    keys: _Keys = None,
    store: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The server's --store. Default: ~/.local/state/moa/runs.sqlite."),
    ] = None,
) -> int:
    """List all keys with limits and spending.

    The figures are those of today (UTC) and the total.
    """
    from moa.server.keys import Keys, default_place

    spent = _spent_by(store)
    for key in Keys(keys or default_place()):
        minute = "no limit" if key.requests_per_minute is None else f"{key.requests_per_minute} requests a minute"
        day = "no limit" if key.dollars_per_day is None else f"${key.dollars_per_day:g} a day"
        ended = " (expired)" if key.has_ended() else ""
        until = "no end" if key.until is None else f"until {key.until}{ended}"
        models = "all models" if key.models is None else ",".join(key.models)
        write("\t".join([key.name, minute, day, until, models, spent(key.id)]))
    return 0


def _spent_by(store: Path | None) -> Callable[[str], str]:
    """Says what the key with an ID has spent; nothing is known where the store does not exist or cannot be read."""
    from moa.store.file import store_path
    from moa.store.ledger import Ledger

    path = store or store_path()
    try:
        ledger = Ledger(path) if path.exists() else None
    except ConfigError as error:
        notify(f"WARNING: what keys have spent is not known: {error}")
        ledger = None

    def spent(key: str) -> str:
        if ledger is None:
            return "spending unknown"
        try:
            today, total = ledger.spent(key)
        except sqlite3.Error:
            return "spending unknown"
        return f"${today:.4g} today, ${total:.4g} in total"

    return spent


@app.command()
def remove(name: _Name, keys: _Keys = None) -> int:
    """Remove a key.

    Servers that are running refuse it from their next request on."""
    from moa.server.keys import Keys, default_place

    Keys(keys or default_place()).remove(name)
    return 0
