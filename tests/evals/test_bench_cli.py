"""``moa bench`` as users run it: real processes, a scripted server, killed runs."""

from __future__ import annotations

import gzip
import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.fakes import small_benchmarks
from tests.fakes.recordings import DATA
from tests.fakes.terminal import Terminal, run, start
from tests.fakes.upstream import Body, Script, Scripted, Upstream, chunk, done, finish, pause, refuse, say, usage
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio

needs_judgments = pytest.mark.skipif(
    not (DATA / "alpaca_eval" / "annotations.jsonl.gz").is_file(),
    reason=f"no recordings in {DATA}; set MOA_DATA to them",
)

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


def verdict(body: Body) -> Script:
    """The answer shown first is better, with probability 0.75."""
    likely = [{"token": "m", "logprob": -0.2876820724}, {"token": "M", "logprob": -1.3862943611}]
    logprobs = {"content": [{"token": "m", "logprob": likely[0]["logprob"], "top_logprobs": likely}]}
    assert body["logprobs"] is True
    return chunk({"content": "m"}, logprobs=logprobs) + finish("length") + usage() + done()


def slowly(script: Scripted) -> Scripted:
    """The same script after a pause, in which a run can be killed."""
    return lambda body: pause(0.08) + (script if isinstance(script, Script) else script(body))


@pytest.fixture
def folder(tmp_path: Path, upstream: Upstream) -> Path:
    """A folder with a configuration and small benchmarks."""
    (tmp_path / "moa.toml").write_text(TOML.format(base_url=upstream.base_url))
    for make in (small_benchmarks.alpaca_eval, small_benchmarks.mt_bench, small_benchmarks.flask):
        make(tmp_path / "data")
    for name in ("ann", "bob", "boss"):
        upstream.script(name, say(f"What {name} says."))
    upstream.script("judge", verdict)
    return tmp_path


def options(folder: Path, *more: str) -> list[str]:
    places = ["--config", str(folder / "moa.toml"), "--data", str(folder / "data"), "--out", str(folder / "run")]
    return ["-m", "duo", "--judge", "up/judge", *places, *more]


async def test_a_mixture_is_measured_from_end_to_end(folder: Path, upstream: Upstream) -> None:
    """Every figure that makes a score trustworthy is next to it, in words and in JSON."""
    ended = await run("bench", "alpaca-eval", *options(folder, "--limit", "6", "--json"))
    assert ended.code == 0, ended.err
    (result,) = json.loads(ended.out)["results"]
    assert Counter(request.model for request in upstream.requests) == {"ann": 6, "bob": 6, "boss": 6, "judge": 7}
    assert (result["system"], result["judge"], result["judged"], result["failed"]) == ("moa/duo", "up/judge", 6, 0)
    assert 25 <= result["win_rate"] <= 75
    assert result["order"]["baseline_first"]["judged"] + result["order"]["system_first"]["judged"] == 6
    assert {"standard_error", "length_controlled_winrate", "lc_standard_error", "date"} <= result.keys()
    assert (result["avg_length"], result["baseline_avg_length"] > 0) == (15, True)
    assert result["cost"] == {"dollars": pytest.approx(25 * 0.015), "at_least": False}
    assert result["judgments_cost"]["dollars"] == pytest.approx(7 * 0.015)
    assert result["calls"] == {"now": 13, "in_all": 13}
    assert upstream.requests[0].model == "judge", "it is tried before an answer is paid for"
    assert result == json.loads((folder / "run" / "result.json").read_text())
    assert sorted(path.name for path in (folder / "run").iterdir()) == [
        "annotations.json",
        "answers.jsonl",
        "failures.jsonl",
        "journal.jsonl",
        "judgments.jsonl",
        "lock",
        "model_outputs.json",
        "result.json",
        "run.json",
    ]
    again = await run("bench", "alpaca-eval", *options(folder, "--limit", "6"))
    assert len(upstream.requests) == 25, "a finished run makes no call"
    assert "  calls                          0 now, 13 in total" in again.out
    assert "length-controlled win rate" in again.out
    assert "$0.3750 (answers $0.2700, judgments $0.1050)" in again.out


async def test_a_killed_run_resumes_and_repeats_no_call(folder: Path, upstream: Upstream) -> None:
    """After SIGKILL, answered calls are not repeated; calls in flight are, once."""
    for name in ("ann", "bob", "boss"):
        upstream.script(name, slowly(say(f"What {name} says.")))
    upstream.script("judge", slowly(verdict))
    arguments = ("bench", "alpaca-eval", *options(folder, "--concurrency", "3", "--json"))
    process = await start(*arguments)
    journal = folder / "run" / "journal.jsonl"
    await holds(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 7)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept = journal.read_bytes().split(b"\n")[:-1]
    calls_before = len(upstream.requests)
    half = journal.read_bytes() + b'{"key": "answer/11", "dig'
    journal.write_bytes(half)
    ended = await run(*arguments)
    assert ended.code == 0, ended.err
    (result,) = json.loads(ended.out)["results"]
    assert (result["judged"], result["calls"]["in_all"]) == (12, 25)
    assert result["calls"]["now"] == 25 - len(kept)
    # An answer takes three calls, a judgment one: 49 with the trial, without a kill. The others were in flight at the kill,
    # in at most three concurrent items: two proposals, or one other call, of each.
    assert 49 <= len(upstream.requests) <= 49 + 3 * 2
    judged = Counter(request.prompt for request in upstream.requests if request.model == "judge")
    judged_before = {json.loads(line)["key"] for line in kept if b'"judgment/' in line} - {"judgment/trial"}
    assert sum(judged.values()) - len(judged) <= 3
    assert len(judged) == 13
    rows = [json.loads(line) for line in (folder / "run" / "judgments.jsonl").read_text().splitlines()]
    assert len({row["instruction"] for row in rows}) == len(rows) == 12
    assert judged_before <= {f"judgment/{row['moa']['id']}" for row in rows}
    assert calls_before < len(upstream.requests)


async def test_mt_bench_and_flask_run_from_end_to_end(folder: Path, upstream: Upstream) -> None:
    """A single model is measured like a mixture; each run has its own folder."""
    upstream.script("judge", say("Rating: [[8]] {'Readability': 4, 'Logical Correctness': 5}"))
    scores = {}
    for name in ("mt-bench", "flask"):
        arguments = options(folder, "--json")
        arguments[1], arguments[-2] = "up/ann", str(folder / name)
        ended = await run("bench", name, *arguments)
        assert ended.code == 0, ended.err
        (result,) = json.loads(ended.out)["results"]
        scores[name] = (result["system"], result["judged"], result["score"])
    assert scores == {"mt-bench": ("up/ann", 6, 8), "flask": ("up/ann", 4, 4.5)}
    assert Counter(request.model for request in upstream.requests) == {"ann": 6 + 4, "judge": 7 + 5}


async def test_the_folder_of_another_run_is_refused(folder: Path, upstream: Upstream) -> None:
    """Another judge, or the same mixture with other members, is another run; no call is made."""
    upstream.script("judge", say("{'Readability': 4}"))
    assert (await run("bench", "flask", *options(folder, "--limit", "1"))).code == 0
    calls = len(upstream.requests)
    other = options(folder)
    other[3] = "up/boss"
    ended = await run("bench", "flask", *other)
    assert (ended.code, "its judge differs; give another --out" in ended.err) == (2, True)
    text = (folder / "moa.toml").read_text()
    (folder / "moa.toml").write_text(text.replace('"up/ann", "up/bob"', '"up/ann"'))
    ended = await run("bench", "flask", *options(folder))
    assert (ended.code, "its definition differs" in ended.err) == (2, True)
    assert len(upstream.requests) == calls


async def test_failures_are_reported_with_the_remedy(folder: Path, upstream: Upstream) -> None:
    """The other items are judged; the same command retries the failed ones."""
    upstream.script("boss", refuse(500, "no room"), say("Here."))
    ended = await run("bench", "alpaca-eval", *options(folder, "--limit", "3", "--concurrency", "1"))
    assert ended.code == 0, ended.err
    assert "judged                         2, failed 0" in ended.out
    assert "1 item failed (see " in ended.out
    ended = await run("bench", "alpaca-eval", *options(folder, "--limit", "3"))
    assert "judged                         3, failed 0" in ended.out
    assert "item failed" not in ended.out


async def test_a_cost_limit_is_enforced(folder: Path, upstream: Upstream) -> None:
    """At $0.06 per item, $0.20 pays for three items; the result notes that the others were left out."""
    ended = await run("bench", "alpaca-eval", *options(folder, "--max-cost", "0.2", "--json"))
    (result,) = json.loads(ended.out)["results"]
    assert (result["judged"], len(upstream.requests)) == (3, 13)
    assert "--max-cost 0.2: 9 of 12 items were left out" in result["notes"]


async def test_progress_is_drawn_on_a_terminal(folder: Path, upstream: Upstream) -> None:
    """Items done and failed, cost and time left, in a bar that the result replaces."""
    upstream.script("judge", slowly(verdict))
    arguments = ("bench", "alpaca-eval", *options(folder, "--limit", "4", "--concurrency", "1"))
    async with Terminal(*arguments, columns=120) as terminal:
        await terminal.until("done, 0 failed, $0.")
        await terminal.until("left")
        await terminal.until("folder")
        assert await terminal.end() == 0


async def test_judgments_are_scored_without_a_call(folder: Path, upstream: Upstream) -> None:
    """From an official file, gzipped; one result for each system."""
    rows = [
        {"question_id": number, "model": model, "judge": ["gpt-4", "single-v1"], "turn": 1, "score": score}
        for model, score in (("A", 7), ("B", -1))
        for number in (1, 2)
    ]
    (folder / "grades.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    places = ["--judgments", str(folder / "grades.jsonl.gz"), "--data", str(folder / "data")]
    ended = await run("bench", "mt-bench", *places, "--json")
    assert ended.code == 0, ended.err
    results = [(one["system"], one["score"], one["failed"]) for one in json.loads(ended.out)["results"]]
    assert results == [("A", 7, 0), ("B", None, 2)]
    assert upstream.requests == []


async def test_unusable_judgments_are_a_one_line_error(folder: Path) -> None:
    """The file of another benchmark, a malformed row, contradicting options."""
    ended = await run("bench", "alpaca-eval", "--judgments", str(folder / "data" / "flask" / "prompt.jsonl"))
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "prompt.jsonl: expected judgments of AlpacaEval" in ended.err
    (folder / "odd.json").write_text('[{"model": "A", "score": 1, "turn": "first"}]')
    ended = await run("bench", "mt-bench", "--judgments", str(folder / "odd.json"))
    assert (ended.code, "unknown format" in ended.err) == (2, True)
    ended = await run("bench", "flask", "--judgments", "x", "-m", "duo")
    assert (ended.code, "calls no model" in ended.err) == (2, True)


@needs_judgments
async def test_recorded_judgments_are_scored_on_the_command_line(tmp_path: Path) -> None:
    """As JSON, one result a system."""
    wanted = (b'"FuseChat-Llama-3.1-8B-Instruct"', b'"generator_2": "gpt4_1106_preview"')
    lines = gzip.decompress((DATA / "alpaca_eval" / "annotations.jsonl.gz").read_bytes()).split(b"\n")
    (tmp_path / "some.jsonl").write_bytes(b"\n".join(line for line in lines if any(name in line for name in wanted)))
    places = ["--judgments", str(tmp_path / "some.jsonl"), "--data", str(DATA)]
    ended = await run("bench", "alpaca-eval", *places, "--json")
    assert ended.code == 0, ended.err
    results = {one["system"]: one for one in json.loads(ended.out)["results"]}
    assert round(results["FuseChat-Llama-3.1-8B-Instruct"]["win_rate"], 4) == 63.3316
    assert round(results["FuseChat-Llama-3.1-8B-Instruct"]["length_controlled_winrate"], 2) == 65.39
    assert results["gpt4_1106_preview"]["length_controlled_winrate"] == 50


async def test_a_forecast_several_judges_and_old_answers_on_the_command_line(folder: Path, upstream: Upstream) -> None:
    """A forecast calls nothing; a second judge and a later one judge answers that are there."""
    for name in ("one", "two", "three"):
        upstream.script(name, say("Rating: [[8]]" if name == "one" else "Rating: [[6]]"))
    places = ["--config", str(folder / "moa.toml"), "--data", str(folder / "data"), "--json"]
    first = ["-m", "up/ann", "--out", str(folder / "run"), "--sample", "2", "--seed", "5", *places]
    ended = await run("bench", "mt-bench", *first, "--judge", "up/one", "--dry-run")
    forecast = json.loads(ended.out)["forecast"]
    assert (forecast["items"], forecast["answers"], forecast["judgments"], len(upstream.requests)) == (2, 4, 5, 0)
    ended = await run("bench", "mt-bench", *first, "--judge", "up/one", "--judge", "up/two")
    (result,) = json.loads(ended.out)["results"]
    assert [judge["score"] for judge in result["judges"]] == [8, 6]
    calls = len(upstream.requests)
    ended = await run("bench", "mt-bench", "--answers", str(folder / "run"), "--judge", "up/three", *places)
    (result,) = json.loads(ended.out)["results"]
    assert (result["system"], result["judge"], result["score"], result["sample"]) == ("up/ann", "up/three", 6, 2)
    assert {request.model for request in upstream.requests[calls:]} == {"three"}
    ended = await run("bench", "mt-bench", "--answers", str(folder / "run"), "-m", "duo", *places)
    assert (ended.code, "remove --mixture and --repeat" in ended.err) == (2, True)
