"""Asking for a benchmark: at once, within limits, and never twice."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from moa.errors import ConfigError, KeyRejected, RateLimited
from moa.evals.asking.data import read_rows
from moa.evals.asking.harness import Measurement, Progress
from moa.evals.asking.journal import Lines
from moa.messages import Delta, Request, Usage, text_of
from moa.mixture.mixture import Mixture
from moa.models.scripted import Scripted
from moa.prices import Price, Prices
from tests.fakes.small_benchmarks import TokenJudge

pytestmark = pytest.mark.anyio

SETTINGS = {"benchmark": "small", "system": "scripted/model"}
DEAR = Prices({"*": Price(1_000_000, 1_000_000)}, free=frozenset())
"""A dollar a token."""


def echo(request: Request) -> str:
    return f"heard {text_of(request.messages[-1])}"


async def call_all(measurement: Measurement, model: Scripted, count: int = 4) -> int:
    async def one(number: int) -> None:
        said = await measurement.call(f"answer/{number}", model, f"question {number}")
        measurement.write("answers", str(number), {"output": said.text})

    return await measurement.each(range(count), one)


async def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    """A second run over the same folder makes no call and has the same rows."""
    model = Scripted(echo)
    with Measurement(tmp_path, SETTINGS) as measurement:
        assert await call_all(measurement, model) == 0
        rows = measurement.rows("answers")
    with Measurement(tmp_path, SETTINGS) as measurement:
        await call_all(measurement, model)
        assert measurement.rows("answers") == rows
    assert len(model.requests) == 4
    assert [row["output"] for row in rows] == [f"heard question {number}" for number in range(4)]


async def test_an_answer_to_another_prompt_is_not_taken(tmp_path: Path) -> None:
    """The journal is searched by key, model and request together."""
    first, other = Scripted(echo), Scripted(echo, name="scripted/other")
    with Measurement(tmp_path, SETTINGS) as measurement:
        await measurement.call("answer/1", first, "old")
        assert (await measurement.call("answer/1", first, "new")).text == "heard new"
        await measurement.call("answer/1", other, "old")
        assert (await measurement.call("answer/1", first, "old")).text == "heard old"
    assert (len(first.requests), len(other.requests)) == (2, 1)


async def test_rows_lost_to_a_kill_are_made_again_from_the_journal(tmp_path: Path) -> None:
    """A kill after the journal's line and before the answer's costs nothing; a half-written line is removed."""
    model = Scripted(echo)
    with Measurement(tmp_path, SETTINGS) as measurement:
        await call_all(measurement, model)
    answers, journal = tmp_path / "answers.jsonl", tmp_path / "journal.jsonl"
    whole = answers.read_bytes()
    answers.write_bytes(whole[: len(whole) - 25])
    lines = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join(lines[:3]) + b"\n" + lines[3][:40])
    with Measurement(tmp_path, SETTINGS) as measurement:
        await call_all(measurement, model)
    assert len(model.requests) == 5, "only the call whose line was cut is made again"
    assert answers.read_bytes() == whole
    assert len(journal.read_bytes().split(b"\n")) == 5


def test_lines_hold_every_character(tmp_path: Path) -> None:
    """Line separators inside strings and lone surrogates survive."""
    rows = [{"text": "a\u2028b\u0085c\n"}, {"text": "\ud800"}]
    lines = Lines(tmp_path / "x.jsonl")
    for row in rows:
        lines.add(row)
    lines.close()
    again = Lines(tmp_path / "x.jsonl")
    assert again.rows == rows == read_rows(tmp_path / "x.jsonl")
    again.close()


def test_a_damaged_line_takes_no_other_with_it(tmp_path: Path) -> None:
    """Only what stands after the last line feed is removed; a line that cannot be read is passed over."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n\0\0nonsense\n{"a": 2}\n{"a": 3')
    lines = Lines(path)
    lines.add({"a": 4})
    lines.close()
    assert lines.rows == [{"a": 1}, {"a": 2}, {"a": 4}]
    assert path.read_bytes().endswith(b'nonsense\n{"a": 2}\n{"a": 4}\n')


async def test_no_more_than_so_many_at_a_time(tmp_path: Path) -> None:
    """Concurrency is a bound, and it is used."""
    model = Scripted(echo, first_token=0.01)
    peak = 0

    def watch(_: Progress) -> None:
        nonlocal peak
        peak = max(peak, model.running)

    with Measurement(tmp_path, SETTINGS, concurrency=3, on_progress=watch) as measurement:
        await call_all(measurement, model, 12)
    assert peak in (2, 3)
    assert len(model.requests) == 12


async def test_a_failed_call_is_counted_and_tried_again_next_time(tmp_path: Path) -> None:
    """The others go on; the failure is noted; the next run asks only for what is missing."""
    failing = Scripted([RateLimited("scripted/model", "slow down"), "one", "two", "three"])
    with Measurement(tmp_path, SETTINGS, concurrency=1) as measurement:
        assert await call_all(measurement, failing) == 1
        (failure,) = measurement.failures.rows
    assert "slow down" in failure["error"]
    model = Scripted(echo)
    with Measurement(tmp_path, SETTINGS) as measurement:
        assert await call_all(measurement, model) == 0
    assert len(model.requests) == 1


async def test_a_key_that_is_refused_ends_the_run_at_once(tmp_path: Path) -> None:
    """What fails for every item alike is not tried for every item."""
    model = Scripted(lambda request: KeyRejected("scripted/model", "wrong key"))
    with Measurement(tmp_path, SETTINGS, concurrency=1) as measurement, pytest.raises(KeyRejected):
        await call_all(measurement, model, 50)
    assert len(model.requests) == 1


async def test_twenty_failures_without_a_success_end_the_run(tmp_path: Path) -> None:
    """A server that is down is not asked 805 times."""
    model = Scripted(lambda request: RateLimited("scripted/model", "no"))
    with Measurement(tmp_path, SETTINGS, concurrency=1) as measurement, pytest.raises(RateLimited):
        await call_all(measurement, model, 50)
    assert len(model.requests) == 20


async def test_a_limit_on_cost_holds_over_several_runs(tmp_path: Path) -> None:
    """No item is begun that would go beyond the limit, and what earlier runs cost counts."""
    model = Scripted(echo, usage=Usage(5, 5))
    for _ in range(2):
        with Measurement(tmp_path, SETTINGS, DEAR, max_cost=35, concurrency=8) as measurement:
            await call_all(measurement, model, 9)
            assert measurement.cost.dollars == 30
            assert measurement.stopped == "--max-cost 35: 6 of 9 items were left out"
    assert len(model.requests) == 3


async def test_a_limit_on_cost_needs_a_price(tmp_path: Path) -> None:
    """A limit that cannot be held is refused after the first answer, which is kept."""
    with Measurement(tmp_path, SETTINGS, Prices(free=frozenset()), max_cost=1) as measurement:
        with pytest.raises(ConfigError, match="price of scripted/model is unknown"):
            await call_all(measurement, Scripted(echo))
        assert len(measurement.journal.rows) == 1


async def test_progress_tells_cost_and_time_left(tmp_path: Path) -> None:
    """After each item: done, failed, what was spent, and how long the rest may take."""
    told: list[Progress] = []
    model = Scripted([RateLimited("scripted/model", "no"), "a", "b"], usage=Usage(1, 1))
    with Measurement(tmp_path, SETTINGS, DEAR, concurrency=1, on_progress=told.append) as measurement:
        await call_all(measurement, model, 3)
    assert [(one.done, one.failed, one.total, one.cost.dollars) for one in told] == [
        (0, 1, 3, 0),
        (1, 1, 3, 2),
        (2, 1, 3, 4),
    ]
    assert told[-1].seconds_left == 0


async def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    """Other settings, a second process at the same time, and a damaged description are refused."""
    with Measurement(tmp_path, SETTINGS), pytest.raises(ConfigError, match="another process"):
        Measurement(tmp_path, SETTINGS)
    with pytest.raises(ConfigError, match="its system differs"):
        Measurement(tmp_path, {**SETTINGS, "system": "scripted/other"})
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        Measurement(tmp_path, SETTINGS)


async def test_a_mixture_is_asked_like_any_model(tmp_path: Path) -> None:
    """Its cost is that of all its calls, and the journal keeps who said what."""
    ann = Scripted("proposal", name="priced/ann", usage=Usage(1, 1))
    boss = Scripted("answer", name="priced/boss", usage=Usage(2, 2))
    mixture = Mixture([[ann]], boss, name="duo", prices=DEAR)
    with Measurement(tmp_path, SETTINGS) as measurement:
        said = await measurement.call("answer/1", mixture, "question")
        row = json.loads((tmp_path / "journal.jsonl").read_text())
    assert (said.text, said.cost.dollars) == ("answer", 6)
    assert [(call["agent"], call["text"]) for call in row["calls"]] == [("ann", "proposal"), ("boss", "answer")]


async def test_log_probabilities_of_the_first_token_are_kept(tmp_path: Path) -> None:
    """They are there when the answer is read from the journal, too."""
    judge = TokenJudge(0.25)
    for _ in range(2):
        with Measurement(tmp_path, SETTINGS) as measurement:
            said = await measurement.call("judgment/1", judge, "which?")
            assert said.logprobs == pytest.approx({"M": -0.28768, "m": -1.38629}, abs=1e-5)
    assert len(judge.requests) == 1


async def test_an_interruption_stops_every_call(tmp_path: Path) -> None:
    """Cancelling a run cancels what is under way, and leaves the folder to others."""
    model = Scripted(echo, first_token=60)
    with Measurement(tmp_path, SETTINGS, concurrency=2) as measurement:
        task = asyncio.create_task(call_all(measurement, model))
        await asyncio.sleep(0.05)
        assert model.running == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (model.running, model.cancelled) == (0, 2)
    Measurement(tmp_path, SETTINGS).close()


async def test_an_answer_without_an_end_is_no_answer(tmp_path: Path) -> None:
    """A stream that stops without a finish reason is a failure, and what it said is not kept as an answer."""
    with Measurement(tmp_path, SETTINGS) as measurement:
        assert await call_all(measurement, Scripted("half", finish_reason=None), 1) == 1
        assert measurement.journal.rows == []


def test_deltas_without_logprobs_are_fine() -> None:
    """A delta's extra fields may be there and hold none."""
    from moa.evals.asking.journal import first_token

    assert first_token([Delta(text="m", extra={"logprobs": None}), Delta(extra={"refusal": "no"})]) is None
