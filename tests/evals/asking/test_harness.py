"""Calls for a benchmark: concurrent, within limits, and never repeated."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from moa.errors import ConfigError, KeyRejected, RateLimited
from moa.evals.asking.data import read_rows
from moa.evals.asking.harness import Measurement
from moa.evals.asking.journal import Lines
from moa.evals.asking.tally import Progress
from moa.messages import Delta, Request, Usage, text_of
from moa.mixture.mixture import Mixture
from moa.models.scripted import Scripted
from moa.prices import Price, Prices
from tests.fakes.small_benchmarks import TokenJudge
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio

SETTINGS = {"benchmark": "small", "system": "scripted/model"}
DEAR = Prices({"*": Price(1_000_000, 1_000_000)}, free=frozenset())
"""A dollar a token."""


def echo(request: Request) -> str:
    return f"echo of {text_of(request.messages[-1])}"


async def call_all(measurement: Measurement, model: Scripted, count: int = 4) -> int:
    async def one(number: int) -> None:
        reply = await measurement.call(f"answer/{number}", model, f"question {number}")
        measurement.write("answers", str(number), {"output": reply.text})

    return await measurement.each(range(count), one)


async def test_an_answered_call_is_not_repeated(tmp_path: Path) -> None:
    """A second measurement in the same folder makes no call and has the same rows."""
    model = Scripted(echo)
    with Measurement(tmp_path, SETTINGS) as measurement:
        assert await call_all(measurement, model) == 0
        rows = measurement.rows("answers")
    with Measurement(tmp_path, SETTINGS) as measurement:
        await call_all(measurement, model)
        assert measurement.rows("answers") == rows
    assert len(model.requests) == 4
    assert [row["output"] for row in rows] == [f"echo of question {number}" for number in range(4)]


async def test_a_reply_to_another_prompt_is_not_reused(tmp_path: Path) -> None:
    """The journal is searched by key, model and request together."""
    first, other = Scripted(echo), Scripted(echo, name="scripted/other")
    with Measurement(tmp_path, SETTINGS) as measurement:
        await measurement.call("answer/1", first, "old")
        assert (await measurement.call("answer/1", first, "new")).text == "echo of new"
        await measurement.call("answer/1", other, "old")
        assert (await measurement.call("answer/1", first, "old")).text == "echo of old"
    assert (len(first.requests), len(other.requests)) == (2, 1)


async def test_rows_lost_in_a_kill_are_derived_from_the_journal_again(tmp_path: Path) -> None:
    """A kill between the journal's line and the answer's row costs no call; an incomplete line is removed."""
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
    assert len(model.requests) == 5, "only the call whose line was cut is repeated"
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


def test_a_damaged_line_does_not_affect_the_others(tmp_path: Path) -> None:
    """Only the text after the last line feed is removed; a line that is not JSON is skipped."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n\0\0nonsense\n{"a": 2}\n{"a": 3')
    lines = Lines(path)
    lines.add({"a": 4})
    lines.close()
    assert lines.rows == [{"a": 1}, {"a": 2}, {"a": 4}]
    assert path.read_bytes().endswith(b'nonsense\n{"a": 2}\n{"a": 4}\n')


async def test_concurrency_is_limited(tmp_path: Path) -> None:
    """As many items are in flight as allowed, and no more."""
    model = Scripted(echo, first_token=0.01)
    peak = 0

    def watch(_: Progress) -> None:
        nonlocal peak
        peak = max(peak, model.running)

    with Measurement(tmp_path, SETTINGS, concurrency=3, on_progress=watch) as measurement:
        await call_all(measurement, model, 12)
    assert peak in (2, 3)
    assert len(model.requests) == 12


async def test_a_failed_call_is_counted_and_retried_by_the_next_start(tmp_path: Path) -> None:
    """The other items continue; failures.jsonl has the error; the next start makes only the missing call."""
    failing = Scripted([RateLimited("scripted/model", "slow down"), "one", "two", "three"])
    with Measurement(tmp_path, SETTINGS, concurrency=1) as measurement:
        assert await call_all(measurement, failing) == 1
        (failure,) = measurement.failures.rows
    assert "slow down" in failure["error"]
    model = Scripted(echo)
    with Measurement(tmp_path, SETTINGS) as measurement:
        assert await call_all(measurement, model) == 0
    assert len(model.requests) == 1


async def test_a_rejected_api_key_ends_the_measurement_at_once(tmp_path: Path) -> None:
    """No other item is tried, since each would fail in the same way."""
    model = Scripted(lambda request: KeyRejected("scripted/model", "wrong key"))
    with Measurement(tmp_path, SETTINGS, concurrency=1) as measurement, pytest.raises(KeyRejected):
        await call_all(measurement, model, 50)
    assert len(model.requests) == 1


async def test_twenty_failures_without_a_success_end_the_measurement(tmp_path: Path) -> None:
    """A server that is down does not get 805 calls."""
    model = Scripted(lambda request: RateLimited("scripted/model", "no"))
    with Measurement(tmp_path, SETTINGS, concurrency=1) as measurement, pytest.raises(RateLimited):
        await call_all(measurement, model, 50)
    assert len(model.requests) == 20


async def test_a_cost_limit_includes_the_cost_of_earlier_starts(tmp_path: Path) -> None:
    """No item starts that would exceed the limit."""
    model = Scripted(echo, usage=Usage(5, 5))
    for _ in range(2):
        with Measurement(tmp_path, SETTINGS, DEAR, max_cost=35, concurrency=8) as measurement:
            await call_all(measurement, model, 9)
            assert measurement.cost.dollars == 30
            assert measurement.stopped == "--max-cost 35: 6 of 9 items were left out"
    assert len(model.requests) == 3


async def test_a_cost_limit_needs_a_price(tmp_path: Path) -> None:
    """A limit that cannot be enforced is an error after the first answer, which the journal keeps."""
    with Measurement(tmp_path, SETTINGS, Prices(free=frozenset()), max_cost=1) as measurement:
        with pytest.raises(ConfigError, match="price of scripted/model is unknown"):
            await call_all(measurement, Scripted(echo))
        assert len(measurement.journal.rows) == 1


async def test_progress_reports_cost_and_time_left(tmp_path: Path) -> None:
    """After each item: items done and failed, dollars spent, and the estimated time left."""
    reported: list[Progress] = []
    model = Scripted([RateLimited("scripted/model", "no"), "a", "b"], usage=Usage(1, 1))
    with Measurement(tmp_path, SETTINGS, DEAR, concurrency=1, on_progress=reported.append) as measurement:
        await call_all(measurement, model, 3)
    assert [(one.done, one.failed, one.total, one.cost.dollars) for one in reported] == [
        (0, 1, 3, 0),
        (1, 1, 3, 2),
        (2, 1, 3, 4),
    ]
    assert reported[-1].seconds_left == 0


async def test_a_folder_holds_one_measurement(tmp_path: Path) -> None:
    """Other settings, a concurrent process, and a damaged run.json are errors."""
    with Measurement(tmp_path, SETTINGS), pytest.raises(ConfigError, match="another process"):
        Measurement(tmp_path, SETTINGS)
    with pytest.raises(ConfigError, match="its system differs"):
        Measurement(tmp_path, {**SETTINGS, "system": "scripted/other"})
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        Measurement(tmp_path, SETTINGS)


async def test_a_mixture_is_called_like_any_model(tmp_path: Path) -> None:
    """Its cost is that of all its calls, and the journal has the text of each."""
    ann = Scripted("proposal", name="priced/ann", usage=Usage(1, 1))
    boss = Scripted("answer", name="priced/boss", usage=Usage(2, 2))
    mixture = Mixture([[ann]], boss, name="duo", prices=DEAR)
    with Measurement(tmp_path, SETTINGS) as measurement:
        reply = await measurement.call("answer/1", mixture, "question")
        row = json.loads((tmp_path / "journal.jsonl").read_text())
    assert (reply.text, reply.cost.dollars) == ("answer", 6)
    assert [(call["agent"], call["text"]) for call in row["calls"]] == [("ann", "proposal"), ("boss", "answer")]


async def test_the_journal_keeps_log_probabilities_of_the_first_token(tmp_path: Path) -> None:
    """A reply from the journal has them as well."""
    judge = TokenJudge(0.25)
    for _ in range(2):
        with Measurement(tmp_path, SETTINGS) as measurement:
            reply = await measurement.call("judgment/1", judge, "which?")
            assert reply.logprobs == pytest.approx({"M": -0.28768, "m": -1.38629}, abs=1e-5)
    assert len(judge.requests) == 1


async def test_cancellation_stops_every_call(tmp_path: Path) -> None:
    """Cancelling a measurement cancels the calls in flight and unlocks the folder."""
    model = Scripted(echo, first_token=60)
    with Measurement(tmp_path, SETTINGS, concurrency=2) as measurement:
        task = asyncio.create_task(call_all(measurement, model))
        await holds(lambda: model.running == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (model.running, model.cancelled) == (0, 2)
    Measurement(tmp_path, SETTINGS).close()


async def test_an_answer_without_a_finish_reason_is_a_failure(tmp_path: Path) -> None:
    """Its text is not kept as an answer."""
    with Measurement(tmp_path, SETTINGS) as measurement:
        assert await call_all(measurement, Scripted("half", finish_reason=None), 1) == 1
        assert measurement.journal.rows == []


def test_deltas_may_have_no_log_probabilities() -> None:
    """Extra fields may be absent or None."""
    from moa.evals.asking.logprobs import first_token

    assert first_token([Delta(text="m", extra={"logprobs": None}), Delta(extra={"refusal": "no"})]) is None
