"""``moa search --check``: is the mixture that an earlier search found still right?"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from moa.cli.live_search import questions
from moa.cli.progress import display
from moa.cli.session import Session
from moa.cli.tables import table
from moa.cli.terminal import notify, one_line, write
from moa.errors import ConfigError
from moa.evals.search.live.recheck import recheck

SHARE = 0.1
"""The share of the search's money that a check may spend, unless ``--spend`` says otherwise."""

QUESTIONS = 20
"""Questions of a check, unless ``--limit`` says otherwise."""


def check(folder: Path, path: Path | None, spend: float | None, wanted: dict[str, Any]) -> int:
    """Ask a part of the questions again, and print what changed.

    Returns:
        0 if the mixture is still right, 1 if it should be searched anew.

    Raises:
        ConfigError: there is no finished search, or its questions are gone.
    """
    folder = _finished(folder)
    try:
        before = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        asked = before["asked"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder / 'result.json'} is damaged; search again into another --out") from None
    tasks = questions(path or Path(asked["questions"]), asked["limit"])
    allowed = spend if spend is not None else None if asked["spend"] is None else SHARE * asked["spend"]
    with display() as shown:

        async def run() -> dict[str, Any]:
            async with Session(wanted["config"]) as here:
                return await recheck(
                    here.config,
                    folder,
                    before,
                    tasks,
                    items=wanted["limit"] or QUESTIONS,
                    spend=allowed,
                    concurrency=wanted["concurrency"],
                    on_progress=shown.measuring,
                )

        found = asyncio.run(run())
    for note in found["notes"]:
        notify(one_line(note))
    if wanted["as_json"]:
        write(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        table([_row(each) for each in found["systems"]])
        for line in found["changes"] or ["nothing has changed beyond chance"]:
            write(one_line(line))
        write(
            "the mixture is still right"
            if found["still_right"]
            else "search again: the mixture may not be the best now"
        )
    return 0 if found["still_right"] else 1


def _finished(folder: Path) -> Path:
    """The folder of a finished search: this one, or the latest in it."""
    if (folder / "result.json").is_file():
        return folder
    inside = sorted(folder.glob("*/result.json"), key=lambda path: path.stat().st_mtime)
    if not inside:
        raise ConfigError(f"{folder} holds no finished search; name its folder with --out")
    return inside[-1].parent


def _row(each: dict[str, Any]) -> dict[str, Any]:
    price = [("" if cost is None else f"{cost:.4g}") for cost in (each["cost_before"], each["cost_now"])]
    return {
        "system": each["label"],
        "questions": each["items"],
        "right then": f"{each['before']:.1%}",
        "right now": f"{each['now']:.1%}",
        "only then": each["lost"],
        "only now": each["won"],
        "p": f"{each['p']:.3f}",
        "$ then": price[0],
        "$ now": price[1],
    }
