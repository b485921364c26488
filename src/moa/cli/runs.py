"""``moa runs``: what the server and ``moa ask --keep`` have kept: list, show, compare, go on with, take away, delete."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from moa.attribution import attribution_of
from moa.cli.ask import Opened, fail, opened, shown
from moa.cli.explain import explain_drawn, explain_plainly
from moa.cli.terminal import Show, live, one_line, say, screen, seconds, tell
from moa.config.config import Config
from moa.config.names import full_name
from moa.config.tables import MixtureTable
from moa.errors import ConfigError
from moa.messages import Answer, Request
from moa.mixture.codec import events_of
from moa.mixture.events import Event
from moa.mixture.mixture import Mixture
from moa.prices import Prices
from moa.store.archive import Archive, Begun, Row, StoredRun
from moa.store.file import store_path
from moa.store.outcome import recorded
from moa.store.record import answer_of, finished_proposals, record_of
from moa.store.recording import Recordings

if TYPE_CHECKING:
    from rich.console import RenderableType

LETTERS = 8
"""Letters of a run's name that are shown, and enough to say which is meant."""

MARKS = {
    "answered": ("✓", "green"),
    "degraded": ("!", "yellow"),
    "failed": ("✗", "red"),
    "stopped": ("■", "yellow"),
    "running": ("…", "cyan"),
}


@contextmanager
def kept_runs(store: Path | None) -> Iterator[Archive]:
    """The archive of a store's file.

    Raises:
        ConfigError: there is no such file.
    """
    path = store or store_path()
    if not path.is_file():
        raise ConfigError(f"no runs are kept in {str(path)!r}: `moa serve` keeps them, and `moa ask --keep`")
    with Archive(path) as archive:
        yield archive


def _found(archive: Archive, name: str) -> StoredRun:
    """The run whose name begins so.

    Raises:
        ConfigError: there is none, or more than one.
    """
    names = archive.named(name)
    if not names:
        raise ConfigError(f"no run is called {name!r} (moa runs lists them)")
    if len(names) > 1:
        told = ", ".join(each[: len(name) + 4] for each in names[:4])
        raise ConfigError(f"{name!r} begins the names of several runs: {told}")
    kept = archive.kept(names[0])
    if kept is None:
        raise ConfigError(f"run {names[0]} was deleted just now")
    return kept


def _date(started: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(started))


def rows(store: Path | None, search: str, limit: int) -> int:
    """A run a line, the latest first."""
    with kept_runs(store) as archive:
        found = archive.rows(search=search, limit=limit)
    if not found:
        tell("nothing found" if search else "no runs yet")
    if not sys.stdout.isatty():
        for row in found:
            dollars = "" if row.cost.dollars is None else f"{row.cost.dollars:g}"
            took = "" if row.duration is None else f"{row.duration:.1f}"
            say("\t".join((row.run, row.outcome, _date(row.started), row.model, dollars, took, one_line(row.question))))
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
        name, question = Text(row.run[:LETTERS], "bold"), Text(one_line(row.question))
        took = "" if row.duration is None else seconds(row.duration)
        told = (
            Text(_date(row.started), "dim"),
            Text(row.model.removeprefix("moa/")),
            Text(f"{row.cost} {took}", "dim"),
        )
        table.add_row(Text(mark, style), name, *(told if wide else ()), question)
    console.print(table)


async def show(name: str, store: Path | None, how: Show | None, explain: bool) -> int:
    """A run as ``moa ask`` would have left it on the screen."""
    with kept_runs(store) as archive:
        kept = _found(archive, name)
    if live():
        from rich.text import Text

        console = screen()
        console.print(Text(f"> {one_line(kept.begun.question)}", "bold"))
        console.print(
            Text(f"{kept.begun.run} · {kept.begun.model} · {_date(kept.begun.started)} · {kept.outcome}", "dim")
        )
    answer = await shown(_replayed(kept), how)
    if answer.error:
        fail(answer.error, answer)
    if explain:
        (explain_drawn if live() else explain_plainly)(answer)
    return 0 if answer.text else 1


async def _replayed(kept: StoredRun) -> AsyncGenerator[Event, None]:
    for event in events_of(kept.lines):
        yield event


def compare(one: str, other: str, store: Path | None) -> int:
    """Two runs: side by side on a terminal that is wide enough, else one after the other."""
    with kept_runs(store) as archive:
        both = [_found(archive, name) for name in (one, other)]
    answers = [answer_of(kept.lines) for kept in both]
    if not sys.stdout.isatty():
        for kept, answer in zip(both, answers, strict=True):
            say(f"## {kept.begun.run[:LETTERS]} {kept.begun.model}: {_figures(answer)}\n\n{answer.text.strip()}\n")
        return 0
    from rich.table import Table
    from rich.text import Text

    console = screen()
    sides = [_side(kept, answer) for kept, answer in zip(both, answers, strict=True)]
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


def _side(kept: StoredRun, answer: Answer) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    from moa.cli.prose import Rendered

    origin = attribution_of(answer)
    told = [Text(_figures(answer), "dim")]
    if origin:
        layer = origin.layers[-1]
        shares = sorted(layer.shares.items(), key=lambda each: -each[1])
        parts = [f"{one_line(name)} {share * 100:.0f} %" for name, share in (*shares, ("new", layer.new))]
        told.append(Text(f"resembles {', '.join(parts)}", "dim"))
    body = Rendered(answer.text) if answer.text else Text(f"no answer: {answer.error or kept.outcome}", "red")
    title = Text(f"{kept.begun.run[:LETTERS]} {kept.begun.model}")
    return Panel(Group(body, Text(), *told), title=title, title_align="left", border_style="dim")


def _figures(answer: Answer) -> str:
    from moa.cli.live import footer

    return " · ".join([*footer(answer), f"{len(answer.text.split())} words"])


def export(name: str, store: Path | None) -> int:
    """The run as one JSON object, as ``GET /runs/ID`` gives it."""
    with kept_runs(store) as archive:
        kept = _found(archive, name)
    say(json.dumps(record_of(kept, kept.outcome, Prices()), ensure_ascii=False, indent=2))
    return 0


def delete(names: Iterable[str], store: Path | None) -> int:
    """Forget runs; none of them where one is not there."""
    with kept_runs(store) as archive:
        runs = [_found(archive, name).begun.run for name in names]
        for run in runs:
            archive.delete(run)
    tell(f"deleted {', '.join(run[:LETTERS] for run in runs)}")
    return 0


async def go_on(name: str, store: Path | None, how: Show | None, config: str | None) -> int:
    """Run it again from its finished proposals; what comes of it is a run of its own."""
    with kept_runs(store) as archive:
        kept = _found(archive, name)
    begun = kept.begun
    async with opened(config) as here:
        mixture, proposals, request = _mixture(here, begun), finished_proposals(kept.lines), Request(begun.request)
        tell(f"{len(proposals)} proposal{'s are' if len(proposals) != 1 else ' is'} there already")
        async with keeping(here.config, begun.model, request, store=store, continues=begun) as recorded:
            events = mixture.run(request, restart=live(), kept=proposals)
            answer = await shown(recorded(events), how, here=here)
    if answer.error:
        fail(answer.error, answer if live() else None)
    return 0 if answer.error is None else 1


def _mixture(here: Opened, begun: Begun) -> Mixture:
    """The one that it had; where no table was kept, a single model's, by its name."""
    if begun.mixture is None:
        return here.mixture(begun.model)
    return here.config.build(begun.model.removeprefix("moa/"), MixtureTable.model_validate(begun.mixture))


@asynccontextmanager
async def keeping(
    config: Config, name: str, request: Request, *, store: Path | None = None, continues: Begun | None = None
) -> AsyncGenerator[Callable[[AsyncGenerator[Event, None]], AsyncGenerator[Event, None]], None]:
    """Gives what makes a run's events the same events, each recorded. When this is left, the run is kept.

    Args:
        name: who answers.
        continues: the run that it goes on with, whose mixture it has.
    """
    recordings = Recordings(Archive(store or store_path()))
    full = full_name(name)
    written = config.written(full) if continues is None else continues.mixture
    recording = recordings.new(
        owner=continues.owner if continues else "",
        model=full,
        request=request.body,
        mixture=written,
        continues=continues.run if continues else None,
    )
    try:
        yield lambda events: recorded(events, request, config.prices, recording=recording)
    finally:
        await recordings.aclose()
        if recording.begun:
            tell(f"kept as {recording.begun.run[:LETTERS]}")
