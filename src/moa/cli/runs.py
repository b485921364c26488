"""``moa runs``: saved runs, listed, shown, followed, stopped, compared, continued, rated, exported and deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moa.cli.options import ConfigFile, Explain, Shown, group

app = group(
    """List, show and manage saved runs.

    moa serve and moa ask --keep save runs. Without a command, moa runs lists them.
    """
)

_Store = Annotated[
    Path | None, typer.Option("--store", metavar="FILE", help="Default: ~/.local/state/moa/runs.sqlite.")
]
_RunID = Annotated[str, typer.Argument(metavar="RUN", help="The run ID, or the start of it.")]


@app.callback(invoke_without_command=True)
def rows(
    context: typer.Context,
    search: Annotated[str, typer.Option(metavar="TEXT", help="Only runs with TEXT in question or answer.")] = "",
    limit: Annotated[
        int, typer.Option("-n", "--limit", metavar="COUNT", help="Show at most COUNT runs, newest first.", min=1)
    ] = 20,
    store: _Store = None,
) -> None:
    if context.invoked_subcommand is not None:
        if store is not None:  # moa runs --store FILE show RUN means the same as moa runs show RUN --store FILE
            context.default_map = {context.invoked_subcommand: {"store": str(store)}}
        return
    from moa.cli import history

    raise typer.Exit(history.rows(store, search, limit))


@app.command()
def show(run: _RunID, show: Shown = None, explain: Explain = False, store: _Store = None) -> int:
    """Show a run as moa ask shows it.

    A terminal shows the proposals and the answer. A pipe gets the text of the answer alone.
    """
    import asyncio

    from moa.cli import history

    return asyncio.run(history.show(run, store, show, explain))


@app.command()
def follow(run: _RunID, show: Shown = None, store: _Store = None) -> int:
    """Show a run in progress until it ends.

    A server or another terminal may run it.
    """
    import asyncio

    from moa.cli import history

    return asyncio.run(history.follow(run, store, show))


@app.command()
def stop(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run IDs, or the start of each.")],
    store: _Store = None,
) -> int:
    """Stop runs in progress.

    Runs of a server are stopped, too. What a run has said so far stays saved, and the run can be continued.
    """
    import asyncio

    from moa.cli import history

    return asyncio.run(history.stop(runs, store))


@app.command()
def compare(
    run: _RunID,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The ID of the other run, or its start.")],
    store: _Store = None,
) -> int:
    """Compare two runs side by side.

    Shows both answers, durations, tokens and costs, and which proposals each answer resembles.
    """
    from moa.cli import history

    return history.compare(run, other, store)


@app.command("continue")
def continue_(run: _RunID, show: Shown = None, config: ConfigFile = None, store: _Store = None) -> int:
    """Continue a failed or stopped run.

    Finished proposals are reused; only agents without one are called. The result is saved as a new run.
    """
    import asyncio

    from moa.cli import history

    return asyncio.run(history.continue_run(run, store, show, config))


@app.command()
def rate(
    run: _RunID,
    rating: Annotated[str, typer.Argument(metavar="up|down|none", help="none removes the rating.")],
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    store: _Store = None,
) -> int:
    """Rate the answer of a run.

    The page has the same thumbs. moa runs export --tasks makes questions for moa bench tasks from rated runs.
    """
    from moa.cli import ratings

    return ratings.rate(run, rating, note, store)


@app.command()
def export(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="The run ID, or the start of it.")] = None,
    tasks: Annotated[bool, typer.Option("--tasks", help="All runs, as questions for moa bench tasks.")] = False,
    rated: Annotated[bool, typer.Option("--rated", help="With --tasks: only rated runs.")] = False,
    store: _Store = None,
) -> int:
    """Print a run as JSON, or all as questions.

    With --tasks, each run is a line of JSON: its question, its answer as the reference if it was rated up, its rating.
    """
    from moa.cli import history, ratings
    from moa.errors import ConfigError

    if (run is None) != tasks or (rated and not tasks):
        raise ConfigError("moa runs export takes a run ID, or --tasks for all runs (--rated for the rated ones)")
    return ratings.export_tasks(store, rated=rated) if run is None else history.export(run, store)


@app.command()
def delete(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run IDs, or the start of each.")],
    store: _Store = None,
) -> int:
    """Delete runs and overwrite their text.

    Runs in progress are stopped first.
    """
    import asyncio

    from moa.cli import history

    return asyncio.run(history.delete(runs, store))
