"""Saved runs in the terminal: the rows of a list, one run, two side by side, and continuing one."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from moa.attribution import attribution_of
from moa.cli.explain import explain_answer
from moa.cli.keeping import ID_SHOWN, keeping
from moa.cli.output import fail, show_run
from moa.cli.session import Session
from moa.cli.terminal import Show, can_redraw, notify, one_line, screen, seconds, write
from moa.config.tables import MixtureTable
from moa.errors import ConfigError
from moa.messages import Answer
from moa.mixture.codec import events_of
from moa.mixture.events import Event
from moa.mixture.mixture import Mixture
from moa.prices import Prices
from moa.store.archive import Archive, Row, SavedRun
from moa.store.changes import Begun
from moa.store.file import store_path
from moa.store.record import answer_of, finished_proposals, record_of, taken_apart
from moa.store.recordings import NotStopped, Recordings

if TYPE_CHECKING:
    from rich.console import RenderableType

MARKS = {
    "answered": ("✓", "green"),
    "degraded": ("!", "yellow"),
    "failed": ("✗", "red"),
    "stopped": ("■", "yellow"),
    "running": ("…", "cyan"),
    "broken off": ("✗", "red"),
}


@contextmanager
def saved_runs(store: Path | None) -> Iterator[Archive]:
    """The archive in a store's file; the default file if None.

    Raises:
        ConfigError: the file does not exist.
    """
    path = store or store_path()
    if not path.is_file():
        raise ConfigError(f"no saved runs: {str(path)!r} does not exist; `moa serve` and `moa ask --keep` save runs")
    with Archive(path) as archive:
        yield archive


def find(archive: Archive, prefix: str) -> SavedRun:
    """The run whose ID starts with this prefix.

    Raises:
        ConfigError: no run matches, or more than one does.
    """
    matches = archive.named(prefix)
    if not matches:
        raise ConfigError(f"no run has the ID {prefix!r} (`moa runs` lists all runs)")
    if len(matches) > 1:
        some = ", ".join(each[: len(prefix) + 4] for each in matches[:4])
        raise ConfigError(f"{prefix!r} matches several runs: {some}")
    saved = archive.saved(matches[0])
    if saved is None:
        raise ConfigError(f"run {matches[0]} has just been deleted")
    return saved


def _date(started: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(started))


def rows(store: Path | None, search: str, limit: int) -> int:
    """List runs, one per line, newest first."""
    with saved_runs(store) as archive:
        found = archive.rows(search=search, limit=limit)
    if not found:
        notify("no run matches" if search else "no runs yet")
    if not sys.stdout.isatty():
        for row in found:
            dollars = "" if row.cost.dollars is None else f"{row.cost.dollars:g}"
            took = "" if row.duration is None else f"{row.duration:.1f}"
            write(
                "\t".join((row.run, row.outcome, _date(row.started), row.model, dollars, took, one_line(row.question)))
            )
        return 0
    _draw_rows(found)
    return 0


def _draw_rows(found: Iterable[Row]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = screen()
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0), expand=False)
    wide = console.width >= 90
    for number in range(6 if wide else 3):
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1 if number == (5 if wide else 2) else None)
    for row in found:
        mark, style = MARKS.get(row.outcome, ("?", ""))
        run_id, question = Text(row.run[:ID_SHOWN], "bold"), Text(one_line(row.question))
        took = "" if row.duration is None else seconds(row.duration)
        details = (
            Text(_date(row.started), "dim"),
            Text(row.model.removeprefix("moa/")),
            Text(f"{row.cost} {took}", "dim"),
        )
        table.add_row(Text(mark, style), run_id, *(details if wide else ()), question)
    console.print(table)


async def show(run_id: str, store: Path | None, how: Show | None, explain: bool) -> int:
    """Show a run as ``moa ask`` leaves it on the screen."""
    with saved_runs(store) as archive:
        saved = find(archive, run_id)
    if can_redraw():
        from rich.text import Text

        console = screen()
        console.print(Text(f"> {one_line(saved.begun.question)}", "bold"))
        console.print(
            Text(f"{saved.begun.run} · {saved.begun.model} · {_date(saved.begun.started)} · {saved.outcome}", "dim")
        )
    answer = await show_run(_events_of(saved), how)
    if answer.error:
        fail(answer.error, answer)
    if explain:
        explain_answer(answer)
    return 0 if answer.text else 1


async def follow(run_id: str, store: Path | None, how: Show | None) -> int:
    """Show a run that another process runs, from its start to its end."""
    async with _all_runs(store) as (archive, recordings):
        run = find(archive, run_id).begun.run
        answer = await show_run(_followed(recordings, run), how)
        outcome = archive.outcome(run)
    if answer.error:
        fail(answer.error, answer)
    elif outcome in ("broken off", "stopped", None):
        notify(f"run {run[:ID_SHOWN]} was {outcome or 'deleted'}")
    return 0 if answer.text and not answer.error else 1


async def _followed(recordings: Recordings, run: str) -> AsyncGenerator[Event, None]:
    async with aclosing(recordings.follow(run)) as groups:
        async for _, lines in groups:
            for event in events_of(lines):
                yield event


async def stop(run_ids: Iterable[str], store: Path | None) -> int:
    """Stop runs in progress, whichever process runs them."""
    async with _all_runs(store) as (archive, recordings):
        for saved in [find(archive, run_id) for run_id in run_ids]:
            run, short = saved.begun.run, saved.begun.run[:ID_SHOWN]
            if saved.outcome != "running":
                notify(f"run {short} is not in progress: {saved.outcome}")
                continue
            with _in_time(run):
                await recordings.stop(run, saved.begun.owner)
            notify(f"stopped {short}")
    return 0


@contextmanager
def _in_time(run: str) -> Iterator[None]:
    try:
        yield
    except NotStopped:
        raise ConfigError(f"the process that runs {run[:ID_SHOWN]} did not stop it in time; try again") from None


@asynccontextmanager
async def _all_runs(store: Path | None) -> AsyncGenerator[tuple[Archive, Recordings], None]:
    with saved_runs(store) as archive:
        recordings = Recordings(archive)
        try:
            yield archive, recordings
        finally:
            await recordings.aclose()


async def _events_of(saved: SavedRun) -> AsyncGenerator[Event, None]:
    for event in events_of(saved.lines):
        yield event


def compare(one: str, other: str, store: Path | None) -> int:
    """Show two runs: side by side on a terminal that is wide enough, else one after the other."""
    with saved_runs(store) as archive:
        both = [find(archive, run_id) for run_id in (one, other)]
    answers = [answer_of(saved.lines) for saved in both]
    if not sys.stdout.isatty():
        for saved, answer in zip(both, answers, strict=True):
            write(f"## {saved.begun.run[:ID_SHOWN]} {saved.begun.model}: {_figures(answer)}\n\n{answer.text.strip()}\n")
        return 0
    from rich.table import Table
    from rich.text import Text

    console = screen()
    sides = [_side(saved, answer) for saved, answer in zip(both, answers, strict=True)]
    console.print(Text(f"> {one_line(both[0].begun.question)}", "bold"))
    if both[0].begun.question != both[1].begun.question:
        console.print(Text(f"> {one_line(both[1].begun.question)}", "bold"))
    table = Table.grid(padding=(0, 1), expand=True)
    if console.width >= 80:
        table.add_column(ratio=1)
        table.add_column(ratio=1)
        table.add_row(*sides)
    else:
        table.add_column(ratio=1)
        for side in sides:
            table.add_row(side)
    console.print(table)
    return 0


def _side(saved: SavedRun, answer: Answer) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    from moa.cli.prose import Rendered

    origin = attribution_of(answer)
    details = [Text(_figures(answer), "dim")]
    if origin:
        layer = origin.layers[-1]
        shares = sorted(layer.shares.items(), key=lambda each: -each[1])
        parts = [f"{one_line(name)} {share * 100:.0f} %" for name, share in (*shares, ("new", layer.new))]
        details.append(Text(f"resembles {', '.join(parts)}", "dim"))
    body = Rendered(answer.text) if answer.text else Text(f"no answer: {answer.error or saved.outcome}", "red")
    title = Text(f"{saved.begun.run[:ID_SHOWN]} {saved.begun.model}")
    return Panel(Group(body, Text(), *details), title=title, title_align="left", border_style="dim")


def _figures(answer: Answer) -> str:
    from moa.cli.live import footer

    return " · ".join([*footer(answer), f"{len(answer.text.split())} words"])


def export(run_id: str, store: Path | None) -> int:
    """Print the run as one JSON object, as ``GET /runs/ID`` returns it."""
    with saved_runs(store) as archive:
        saved = find(archive, run_id)
    write(json.dumps(record_of(saved, Prices()), ensure_ascii=False, indent=2))
    return 0


async def delete(run_ids: Iterable[str], store: Path | None) -> int:
    """Delete runs; those in progress are stopped first. If one of them does not exist, none is deleted."""
    async with _all_runs(store) as (archive, recordings):
        runs = [find(archive, run_id).begun for run_id in run_ids]
        for begun in runs:
            with _in_time(begun.run):
                await recordings.delete(begun.run, begun.owner)
    notify(f"deleted {', '.join(begun.run[:ID_SHOWN] for begun in runs)}")
    return 0


async def continue_run(run_id: str, store: Path | None, how: Show | None, config: str | None) -> int:
    """Run it again with its finished proposals. The result is a new run."""
    with saved_runs(store) as archive:
        saved = find(archive, run_id)
    begun = saved.begun
    async with Session(config) as session:
        request, panel = taken_apart(begun.request)
        mixture, proposals = _mixture(session, begun).suited(request, panel), finished_proposals(saved.lines)
        notify(f"reusing {len(proposals)} proposal{'s' if len(proposals) != 1 else ''}")
        async with keeping(session.config, begun.model, request, store=store, continues=begun) as recorded:
            events = mixture.run(request, restart=can_redraw(), kept=proposals)
            answer = await show_run(recorded(events), how, session=session)
    if answer.error:
        fail(answer.error, answer if can_redraw() else None)
    return 0 if answer.error is None else 1


def _mixture(session: Session, begun: Begun) -> Mixture:
    """The mixture that the run had. A run of a single model has no table; it is opened by its name."""
    if begun.mixture is None:
        return session.mixture(begun.model)
    return session.config.build(begun.model.removeprefix("moa/"), MixtureTable.model_validate(begun.mixture))
