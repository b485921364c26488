"""``moa cache``: the answers that endpoints with ``cache = true`` keep on disk."""

from __future__ import annotations

import typer

from moa.cli.options import ConfigFile, group
from moa.cli.terminal import write

app = group("Show or clear the cached answers.")


@app.callback(invoke_without_command=True)
def cache(context: typer.Context, config: ConfigFile = None) -> None:
    """Show or clear the cached answers."""
    if context.invoked_subcommand is None:
        _show(config)


@app.command()
def clear(config: ConfigFile = None) -> int:
    """Delete every cached answer."""
    from moa.config.config import Config

    settings = Config(config)
    if not settings.cache_path.exists():
        write(f"{settings.cache_path}: no cached answers")
        return 0
    with settings.cache() as answers:
        count, size = len(answers), answers.bytes
        answers.clear()
    write(f"{settings.cache_path}: {_counted(count)} deleted, {size / 1e6:.1f} MB")
    return 0


def _show(config: str | None) -> None:
    from moa.config.config import Config

    settings = Config(config)
    if not settings.cache_path.exists():
        write(f"{settings.cache_path}: no cached answers")
        return
    with settings.cache() as answers:
        write(f"{settings.cache_path}: {_counted(len(answers))}, {answers.bytes / 1e6:.1f} MB")


def _counted(count: int) -> str:
    return f"{count:,} answer{'s' if count != 1 else ''}"
