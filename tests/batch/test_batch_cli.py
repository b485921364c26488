"""``moa batch`` as its users see it: processes that are killed, interrupted and started again."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import config
from tests.fakes.terminal import run, start
from tests.fakes.upstream import Upstream, echo, hang, refuse, say
from tests.fakes.waiting import PATIENCE, holds

pytestmark = pytest.mark.anyio
__all__ = ["config"]


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"r{number}", "prompt": f"question {number}"}) + "\n" for number in range(5))
    )
    return str(path)


def arguments(config: str, rows: str, *more: str) -> tuple[str, ...]:
    return ("batch", rows, "--config", config, "-o", str(Path(rows).with_name("answers.jsonl")), *more)


def answers(rows: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(rows).with_name("answers.jsonl").read_text().splitlines()]


async def test_a_summary_says_what_was_done(config: str, rows: str) -> None:
    """A pipe gets the summary, exit code 0 means that every row has an answer, and a second start calls nothing."""
    ended = await run(*arguments(config, rows))
    assert ended.code == 0, ended.err
    assert "5 of 5 rows answered" in ended.out
    assert [row["id"] for row in answers(rows)] == [f"r{number}" for number in range(5)]
    again = await run(*arguments(config, rows))
    assert (again.code, "5 of 5 rows answered" in again.out) == (0, True)


async def test_a_dry_run_prints_rows_calls_and_dollars(config: str, rows: str, upstream: Upstream) -> None:
    """It calls nothing."""
    ended = await run(*arguments(config, rows, "--dry-run"))
    assert ended.out.startswith("5 rows, 15 calls, about $")
    assert not any(upstream.calls(model) for model in ("ann", "bob", "boss"))


async def test_json_is_lines_for_logs(config: str, rows: str) -> None:
    """The last line is the summary."""
    ended = await run(*arguments(config, rows, "--json"))
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert (lines[-1]["event"], lines[-1]["answered"], lines[-1]["left"]) == ("summary", 5, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_a_job_that_is_ended_continues_with_the_same_command(
    config: str, rows: str, upstream: Upstream, number: signal.Signals
) -> None:
    """Ctrl-C, SIGTERM and a kill: proposals and answers that were complete are not paid again."""
    upstream.script("boss", lambda body: hang() if "question 3" in str(body) else say("Four."))
    process = await start(*arguments(config, rows))
    journal = Path(rows).with_name("answers.jsonl.job") / "journal.sqlite"
    await holds(lambda: len(upstream.calls("boss")) == 5)
    await holds(lambda: _committed(journal) == (4, 2))
    process.send_signal(number)
    async with asyncio.timeout(PATIENCE):
        _, errors = await process.communicate()
    if number != signal.SIGKILL:
        assert b"interrupted: 4 of 5 rows are in" in errors
        assert b"to continue: moa batch" in errors
        assert len(answers(rows)) == 4
    upstream.script("boss", say("Four."))
    before = {model: len(upstream.calls(model)) for model in ("ann", "bob", "boss")}
    ended = await run(*arguments(config, rows))
    assert ended.code == 0, ended.err
    assert {model: len(upstream.calls(model)) - count for model, count in before.items()} == {
        "ann": 0,
        "bob": 0,
        "boss": 1,
    }
    assert [row["id"] for row in answers(rows)] == [f"r{number}" for number in range(5)]


def _committed(journal: Path) -> tuple[int, int]:
    import sqlite3

    with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as file:
        found: tuple[int, int] = file.execute(
            "SELECT (SELECT count(*) FROM answers), (SELECT count(*) FROM proposals)"
        ).fetchone()
    return found


async def test_a_wrong_key_is_one_clear_line(config: str, rows: str, upstream: Upstream) -> None:
    """Not one error a row: the job stops, and says that nothing is lost."""
    upstream.script("ann", refuse(401, "invalid api key"))
    ended = await run(*arguments(config, rows, "--concurrency", "1"))
    assert ended.code == 1
    assert "every row would lack this model: up/ann" in ended.err
    assert "0 of 5 rows are answered and kept; the same command continues" in ended.err


async def test_rows_come_from_standard_input(config: str, rows: str, upstream: Upstream) -> None:
    """``-`` reads JSON Lines."""
    upstream.script("boss", echo)
    process = await start(*arguments(config, rows)[:1], "-", *arguments(config, rows)[2:])
    out, errors = await process.communicate(b'{"prompt": "one"}\n{"prompt": "two"}\n')
    assert b"2 of 2 rows answered" in out, errors
