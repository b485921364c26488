"""``moa bench tasks`` as users run it: a file, a killed run, two processes, a report and a comparison."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.fakes.packages import needs
from tests.fakes.terminal import run, start
from tests.fakes.upstream import Body, Script, Upstream, say, until
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio

TOML = """
[endpoints.up]
base_url = "{base_url}"
attempts = 1

[mixtures.duo]
layers = [["up/ann", "up/bob"]]
aggregator = "up/boss"

[prices."up/*"]
input = 1000
output = 1000
"""


def doubled(body: Body) -> Script:
    """Twice the number in the question."""
    return say(f"Answer: {2 * int(body['messages'][-1]['content'].split()[0])}")


@pytest.fixture
def folder(tmp_path: Path, upstream: Upstream) -> Path:
    """A folder with a configuration and a file of twelve questions, one of which has a wrong reference."""
    (tmp_path / "moa.toml").write_text(TOML.format(base_url=upstream.base_url))
    rows = [{"question": f"{n} doubled?", "answer": 2 * n + (n == 7), "tags": ["all"]} for n in range(12)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    upstream.script("ann", doubled)
    return tmp_path


def arguments(folder: Path, *more: str) -> tuple[str, ...]:
    places = ("--config", str(folder / "moa.toml"), "--out", str(folder / "run"))
    return ("bench", "tasks", str(folder / "q.jsonl"), "-m", "up/ann", *places, *more)


async def test_a_killed_run_resumes_and_asks_nothing_twice(folder: Path, upstream: Upstream) -> None:
    """After SIGKILL, and with the last line cut, the rest is asked; a second process in the folder is refused meanwhile."""
    gate = asyncio.Event()
    upstream.script("ann", lambda body: (until(gate) if len(upstream.requests) > 5 else Script()) + doubled(body))
    process = await start(*arguments(folder, "--concurrency", "2"))
    journal = folder / "run" / "journal.jsonl"
    await holds(lambda: journal.exists() and journal.read_bytes().count(b"\n") == 5 and len(upstream.requests) == 7)
    other = await run(*arguments(folder))
    assert (other.code, "another process is writing this run" in other.err) == (2, True)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    gate.set()
    journal.write_bytes(journal.read_bytes() + b'{"key": "answer/11", "dig')
    ended = await run(*arguments(folder, "--json"))
    (result,) = json.loads(ended.out)["results"]
    assert (result["judged"], result["accuracy"], result["calls"]["in_all"]) == (12, pytest.approx(100 * 11 / 12), 12)
    asked = Counter(request.prompt for request in upstream.requests)
    assert (len(asked), asked.total()) == (12, 12 + 2), "only what was in flight at the kill is asked again"


async def test_the_cost_has_a_limit_and_a_forecast(folder: Path, upstream: Upstream) -> None:
    """Items beyond it are left out, which the result says; the forecast calls nothing."""
    ended = await run(*arguments(folder, "--dry-run", "--json"))
    assert json.loads(ended.out)["forecast"]["items"] == 12
    assert upstream.requests == []
    ended = await run(*arguments(folder, "--max-cost", "0.05", "--json"))
    (result,) = json.loads(ended.out)["results"]
    assert result["judged"] == 3
    assert any("items were left out" in note for note in result["notes"])


async def test_bad_rows_are_reported_before_a_call(folder: Path, upstream: Upstream) -> None:
    """All of them, each with its line; the exit code is that of a wrong setting."""
    with (folder / "q.jsonl").open("a") as file:
        file.write('{"question": "cut\n{"question": "5 doubled?", "answer": 10}\n')
    ended = await run(*arguments(folder))
    assert ended.code == 2
    assert "2 rows cannot be used" in ended.err
    assert "line 13: the line is not JSON" in ended.err
    assert "line 14: the same id or question as line 6" in ended.err
    assert upstream.requests == []
    ended = await run("bench", "tasks")
    assert (ended.code, "moa bench tasks FILE" in ended.err) == (2, True)


@pytest.mark.slow
@needs("numpy", "matplotlib", "rapidfuzz")
async def test_two_systems_are_compared_and_reported(folder: Path, upstream: Upstream) -> None:
    """Item by item, and side by side on a page."""
    upstream.script("bob", say("Answer: 6"))
    for name in ("ann", "bob"):
        places = ("--config", str(folder / "moa.toml"), "--out", str(folder / name))
        ended = await run("bench", "tasks", str(folder / "q.jsonl"), "-m", f"up/{name}", *places)
        assert ended.code == 0, ended.err
    assert "checks guessed from the answers: number (12)" in ended.err
    assert "accuracy                       8.33 % (95 % interval 1.5 to 35.4)" in ended.out
    runs = [str(folder / name) for name in ("ann", "bob")]
    ended = await run("bench", "compare", *runs)
    assert "difference +83.33" in ended.out
    ended = await run("report", *runs, "--out", str(folder / "page"))
    assert ended.code == 0, ended.err
    assert "Your own questions" in (folder / "page" / "report.html").read_text()


async def test_the_benchmarks_are_listed_with_what_they_need(folder: Path) -> None:
    """A judge, a file, a copy of one's own."""
    ended = await run("bench", "list", "--json")
    rows = {row["name"]: row for row in json.loads(ended.out)["benchmarks"]}
    assert rows["tasks"]["needs"] == ["FILE", "a judge for rows that say so"]
    assert rows["gsm8k"]["needs"] == ["your copy of test.jsonl, or FILE"]
    assert "a judge" in rows["mt-bench"]["needs"]
    assert "gpqa" in (await run("bench", "list")).out
