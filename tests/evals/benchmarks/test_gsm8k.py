"""GSM8K, from its command to its report: a benchmark without a judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moa.evals.benchmarks.gsm8k import last_number
from tests.evals.test_bench_cli import TOML
from tests.fakes.terminal import run
from tests.fakes.upstream import Upstream, say

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("text", "number"), [("2 + 2 = 4", 4), ("#### 1,234", 1234), ("It is -0.5.", -0.5), ("none", None)]
)
def test_the_answer_is_the_last_number(text: str, number: float | None) -> None:
    """Commas between thousands are no part of it."""
    assert last_number(text) == number


async def test_it_is_measured_compared_and_reported_without_a_judge(tmp_path: Path, upstream: Upstream) -> None:
    """Only the system is called; no file of the run names a judge; compare, report and a sweep take the run."""
    config, data = tmp_path / "moa.toml", tmp_path / "data" / "gsm8k"
    config.write_text(TOML.format(base_url=upstream.base_url))
    data.mkdir(parents=True)
    items = [{"question": f"How much is {number} + 1?", "answer": f"#### {number + 1}"} for number in range(4)]
    (data / "test.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))

    for name in ("ann", "bob"):
        upstream.script(name, say("I think it is 2."))
    upstream.script("boss", say("It is 2."))
    places = ["--config", str(config), "--data", str(data.parent)]
    ended = await run("bench", "gsm8k", "-m", "duo", *places, "--out", str(tmp_path / "duo"), "--json")
    assert ended.code == 0, ended.err
    (result,) = json.loads(ended.out)["results"]
    assert (result["accuracy"], result["judged"], result["standard_error"]) == (25, 4, pytest.approx(25))
    assert len(upstream.requests) == 12
    assert "judge" not in {**result, **json.loads((tmp_path / "duo" / "run.json").read_text())}
    ended = await run("bench", "gsm8k", "-m", "up/ann", *places, "--out", str(tmp_path / "ann"))
    assert "accuracy                       25.00 ± 25.00 %\n  scored" in ended.out
    ended = await run("bench", "compare", str(tmp_path / "duo"), str(tmp_path / "ann"))
    assert "difference +0.00" in ended.out
    ended = await run("report", str(tmp_path), "--out", str(tmp_path / "page"), "--config", str(config))
    assert ended.code == 0, ended.err
    page = (tmp_path / "page" / "report.html").read_text()
    assert "How far to trust the score" in page
    assert "accuracy, %" in page
    ended = await run(
        "analyse",
        "layers",
        "-m",
        "duo",
        "--on",
        "gsm8k",
        "--deepest",
        "1",
        *places,
        "--out",
        str(tmp_path / "sweep"),
        "--json",
    )
    assert json.loads(ended.out)["rows"][0]["score"] == 25
    ended = await run("bench", "gsm8k", "--judge", "up/boss")
    assert ended.code == 2
    ended = await run("analyse", "layers", "--on", "gsm8k", "--judge", "up/boss", *places)
    assert (ended.code, "gsm8k has no judge; remove --judge up/boss" in ended.err) == (2, True)
