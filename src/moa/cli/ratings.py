"""Ratings of saved runs, and the file of questions that rated runs become."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moa.cli.history import find, saved_runs
from moa.cli.keeping import ID_SHOWN
from moa.cli.terminal import notify, write
from moa.errors import ConfigError
from moa.store.archive import Archive, Row, SavedRun
from moa.store.ratings import LONGEST_NOTE, RATINGS
from moa.store.record import answer_of

AT_ONCE = 200
"""Runs of a list in memory at a time."""


def rate(run_id: str, rating: str, note: str, store: Path | None) -> int:
    """Rate a run, or remove its rating."""
    if rating not in (*RATINGS, "none"):
        raise ConfigError(f"a rating is up, down or none, not {rating!r}")
    if len(note) > LONGEST_NOTE:
        raise ConfigError(f"the note has {len(note)} characters; at most {LONGEST_NOTE} are kept")
    with saved_runs(store) as archive:
        run = find(archive, run_id).begun.run
        archive.rate(run, None, None if rating == "none" else rating, note)
    notify(f"{run[:ID_SHOWN]}: {'no rating' if rating == 'none' else f'rated {rating}'}")
    return 0


def export_tasks(store: Path | None, *, rated: bool) -> int:
    """Print kept runs as JSON Lines for ``moa bench tasks``, the latest first.

    Args:
        rated: only runs with a rating.
    """
    written = left_out = up = 0
    with saved_runs(store) as archive:
        for row in _latest_first(archive):
            if rated and row.rating is None:
                continue
            saved = archive.saved(row.run)
            task = task_row(saved) if saved else None
            if task is None:
                left_out += 1
                continue
            written += 1
            up += task["rating"] == "up"
            write(json.dumps(task, ensure_ascii=False))
    notify(f"{written} questions, {up} of them with a reference: the answer that was rated up")
    if left_out:
        notify(f"{left_out} runs are left out: they have not ended, or their question is a tool's result")
    return 0 if written else 1


def task_row(saved: SavedRun) -> dict[str, Any] | None:
    """A run as a row of a file of questions; None if it is none: in progress, or the last message is not the user's.

    The reference is the answer of a run that was rated up. The note of one that was rated down becomes a judge's rubric.
    """
    messages = saved.begun.request["messages"]
    if saved.outcome == "running" or messages[-1]["role"] != "user":
        return None
    content = messages[0].get("content")
    alone = len(messages) == 1 and isinstance(content, str)
    rating = saved.rating
    row: dict[str, Any] = {"id": saved.begun.run, **({"question": content} if alone else {"messages": messages})}
    if rating and rating.rating == "up":
        row["answer"] = answer_of(saved.lines).text
    elif rating and rating.note:
        row["rubric"] = f"The reply does not have the fault of an earlier one: {rating.note}"
    note = {"note": rating.note} if rating and rating.note else {}
    return {
        **row,
        "rating": rating and rating.rating,
        **note,
        "model": saved.begun.model,
        "started": saved.begun.started,
    }


def _latest_first(archive: Archive) -> Iterator[Row]:
    before = None
    while rows := archive.rows(before=before, limit=AT_ONCE):
        yield from rows
        before = rows[-1].number
