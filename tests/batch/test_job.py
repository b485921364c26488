"""A job on this machine: every row is answered once, and paid once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moa.batch.job import Job
from moa.errors import CallRejected, ConfigError, KeyRejected, MoaError, UpstreamFailed
from moa.messages import Request, text_of
from moa.mixture.mixture import Mixture
from moa.models.scripted import Scripted
from tests.batch.conftest import DEAR, Bench, echo, mixture
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio

ROWS = [{"id": f"r{number}", "prompt": f"question {number}", "topic": number} for number in range(6)]


def asked(model: Scripted) -> list[str]:
    return [text_of(request.messages[0]) for request in model.requests]


async def test_each_row_has_an_answer_in_the_order_of_the_input(bench: Bench) -> None:
    """IDs and other columns pass through; usage and cost are over all calls."""
    bench.write(ROWS)
    result = await bench.run(mixture(Scripted("a point"), prices=DEAR))
    assert [(each["id"], each["answer"], each["topic"]) for each in bench.answers()] == [
        (row["id"], f"echo of {row['prompt']}", row["topic"]) for row in ROWS
    ]
    first = bench.answers()[0]
    assert first["usage"]["output_tokens"] == 2 + 5
    assert first["cost"] == sum(first["usage"][each] for each in ("input_tokens", "output_tokens"))
    assert (first["error"], first["degraded"], first["finish_reason"]) == (None, [], "stop")
    assert (result["answered"], result["failed"], result["left"]) == (6, 0, 0)
    written = json.loads((bench.folder / "answers.jsonl.job" / "summary.json").read_text())
    assert {**written, "seconds": 0} == {**result, "seconds": 0}


async def test_a_row_that_is_answered_is_not_asked_again(bench: Bench) -> None:
    """The same command makes no call, and more rows at the end of the input are answered alone."""
    boss = Scripted(echo)
    bench.write(ROWS[:4])
    await bench.run(mixture(boss=boss))
    before = bench.out.read_bytes()
    await bench.run(mixture(boss=boss))
    assert bench.out.read_bytes() == before
    bench.write(ROWS)
    await bench.run(mixture(boss=boss))
    assert len(boss.requests) == 6
    assert [each["id"] for each in bench.answers()] == [row["id"] for row in ROWS]


async def test_a_slow_row_holds_up_no_other(bench: Bench) -> None:
    """Rows behind a slow one are answered meanwhile, and written after it."""
    release = asyncio.Event()

    class Slow(Scripted):
        async def stream(self, request: Request) -> Any:
            if "question 0" in text_of(request.messages[0]):
                await release.wait()
            async for delta in super().stream(request):
                yield delta

    boss = Slow(echo)
    bench.write(ROWS)
    with bench.job(mixture(boss=boss)) as job:
        task = asyncio.create_task(job.run())
        await holds(lambda: job.tally.answered == 5)
        assert bench.answers() == []
        release.set()
        await task
    assert [each["id"] for each in bench.answers()] == [row["id"] for row in ROWS]


async def test_any_order_writes_answers_as_they_come(bench: Bench) -> None:
    """Every row is in the output once, over several starts, too."""
    bench.write(ROWS)
    await bench.run(mixture(), any_order=True, limit=3)
    await bench.run(mixture(), any_order=True)
    assert sorted(each["id"] for each in bench.answers()) == [row["id"] for row in ROWS]


async def test_a_cancelled_job_keeps_proposals_and_answers(bench: Bench) -> None:
    """Proposals of a row that broke off are paid once: the next start calls only the aggregator for it."""
    proposer, stuck = Scripted("a point", name="scripted/ann"), Scripted(echo, name="scripted/boss", first_token=100)
    bench.write(ROWS[:2])
    with bench.job(mixture(proposer, boss=stuck, prices=DEAR)) as job:
        task = asyncio.create_task(job.run())
        await holds(lambda: stuck.running == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stuck.running == 0
        paid = job.journal_totals().cost.dollars
        assert paid
    boss = Scripted(echo, name="scripted/boss")
    result = await bench.run(mixture(proposer, boss=boss, prices=DEAR))
    assert (len(proposer.requests), len(boss.requests)) == (2, 2)
    assert [each["answer"] for each in bench.answers()] == ["echo of question 0", "echo of question 1"]
    rows = sum(each["cost"] for each in bench.answers())
    assert result["cost"] == pytest.approx(
        rows + paid - 2 * 5
    )  # a proposal costs $5, and the calls that broke off the rest


async def test_an_output_that_was_cut_or_removed_is_written_again(bench: Bench) -> None:
    """The journal has every row: a half line at a kill, a missing file and foreign bytes at the end are all put right."""
    bench.write(ROWS)
    await bench.run(mixture(), limit=4)
    whole = bench.out.read_bytes()
    for damaged in (whole + b'{"id": "r4", "ans', whole[:-10], b""):
        bench.out.write_bytes(damaged)
        await bench.run(mixture(), limit=4)
        assert bench.out.read_bytes() == whole
    bench.out.unlink()
    await bench.run(mixture())
    assert [each["id"] for each in bench.answers()] == [row["id"] for row in ROWS]


async def test_bad_rows_are_data(bench: Bench) -> None:
    """A row that cannot be read or that a server refuses for what it holds has an error, and the others have answers."""

    def refuse_two(request: Request) -> str | Exception:
        if "two" in text_of(request.messages[0]):
            return CallRejected("scripted/boss", "no such tool", status=400)
        return echo(request)

    bench.write(["{", {"prompt": "one"}, {"id": "b", "prompt": "two"}, {"id": "c", "topic": "x"}])
    result = await bench.run(mixture(boss=Scripted(refuse_two, name="scripted/boss")))
    answers = bench.answers()
    assert [each["id"] for each in answers] == [1, 2, "b", "c"]
    assert [each["answer"] for each in answers] == [None, "echo of one", None, None]
    assert [each["error"]["type"] for each in answers if each["error"]] == [
        "RequestRejected",
        "CallRejected",
        "RequestRejected",
    ]
    assert answers[3]["topic"] == "x"
    assert (result["answered"], result["failed"], result["errors"]) == (
        1,
        3,
        {"RequestRejected": 2, "CallRejected": 1},
    )


async def test_failed_rows_are_answered_again_on_request_only(bench: Bench) -> None:
    """``retry_failed`` asks for failed rows, with the proposals that were paid for, and puts them in their place."""
    proposer = Scripted("a point", name="scripted/ann")

    def fail_two(request: Request) -> str | Exception:
        failing = "question 2" in text_of(request.messages[0])
        return UpstreamFailed("scripted/boss", "down", status=500) if failing else echo(request)

    bench.write(ROWS)
    model = mixture(proposer, boss=Scripted(fail_two, name="scripted/boss"), prices=DEAR)
    first = await bench.run(model)
    again = await bench.run(model)
    assert (first["failed"], again["failed"], len(proposer.requests)) == (1, 1, 6)
    result = await bench.run(
        mixture(proposer, boss=Scripted(echo, name="scripted/boss"), prices=DEAR), retry_failed=True
    )
    assert (result["failed"], len(proposer.requests)) == (0, 6)
    assert [each["answer"] for each in bench.answers()] == [f"echo of {row['prompt']}" for row in ROWS]
    assert result["cost"] >= first["cost"]


async def test_another_mixture_or_option_is_another_job(bench: Bench) -> None:
    """A changed prompt, model or option is noticed before anything is called, and the error says what to do."""
    bench.write(ROWS)
    await bench.run(mixture())
    changes: list[tuple[Mixture, dict[str, Any]]] = [
        (mixture(prompt="Merge:"), {}),
        (mixture(boss=Scripted(echo, name="scripted/other")), {}),
        (mixture(), {"proposals": True}),
        (mixture(), {"any_order": True}),
    ]
    for change, options in changes:
        with pytest.raises(ConfigError, match=r"holds another job: its .* differs; give another -o, or remove it"):
            bench.job(change, **options)


async def test_a_changed_row_is_noticed(bench: Bench) -> None:
    """An answer belongs to the row that was asked: a changed, moved or missing row is refused."""
    bench.write(ROWS)
    await bench.run(mixture(), limit=3)
    for changed in ([ROWS[1], ROWS[0], *ROWS[2:]], [{**ROWS[0], "topic": "new"}, *ROWS[1:]], ROWS[:2]):
        bench.write(changed)
        with pytest.raises(ConfigError, match=r"restore the input, or give another -o"):
            bench.job(mixture())


async def test_duplicate_ids_are_reported_before_the_start(bench: Bench) -> None:
    """The number 1 and the text "1" are two IDs; an ID that is another row's number is a duplicate."""
    boss = Scripted(echo)
    bench.write([{"id": 1, "prompt": "a"}, {"id": "1", "prompt": "b"}])
    await bench.run(mixture(boss=boss))
    assert [each["id"] for each in bench.answers()] == [1, "1"]
    bench.write([*ROWS, ROWS[1], {"id": 9, "prompt": "x"}, {"prompt": "y"}])
    with pytest.raises(ConfigError, match="rows 2 and 7 are both 'r1', rows 8 and 9 are both 9"):
        bench.job(mixture(boss=boss), out=bench.folder / "b.jsonl")
    assert len(boss.requests) == 2


async def test_two_processes_cannot_write_one_output(bench: Bench) -> None:
    """The second is refused."""
    bench.write(ROWS)
    with bench.job(mixture()), pytest.raises(ConfigError, match="another process is writing this job"):
        bench.job(mixture())


async def test_a_limit_on_cost_is_kept(bench: Bench) -> None:
    """No row starts that could exceed it, in later starts either."""
    bench.write(ROWS)
    model = mixture(prices=DEAR)
    with bench.job(model, max_cost=25.0) as job:
        result = await job.run()
    price = bench.answers()[0]["cost"]
    assert (result["answered"], result["left"]) == (25 // price, 6 - 25 // price)
    assert result["cost"] <= 25
    assert "--max-cost 25" in result["stopped"]
    again = await bench.run(model, max_cost=25.0)
    assert again["answered"] == result["answered"]
    assert (await bench.run(model))["left"] == 0


async def test_a_limit_on_cost_needs_prices(bench: Bench) -> None:
    """A model without a known price is named before the start."""
    bench.write(ROWS)
    with pytest.raises(ConfigError, match=r"the price of odd/boss is unknown"):
        bench.job(mixture(boss=Scripted(echo, name="odd/boss")), max_cost=1.0)


async def test_a_sample_is_spread_over_the_input_and_counts(bench: Bench) -> None:
    """Its rows are not asked again when the rest is answered."""
    boss = Scripted(echo)
    bench.write(ROWS)
    result = await bench.run(mixture(boss=boss), sample=3)
    assert [each["id"] for each in bench.answers()] == ["r0", "r2", "r4"]
    assert (result["rows"], result["answered"]) == (3, 3)
    await bench.run(mixture(boss=boss))
    assert sorted(asked(boss)) == [row["prompt"] for row in ROWS]
    assert [each["id"] for each in bench.answers()] == [row["id"] for row in ROWS]


async def test_an_estimate_calls_nothing_and_learns_from_a_sample(bench: Bench) -> None:
    """Rows, calls and dollars of what is left: from the prompts, then from the rows that are answered."""
    boss = Scripted(echo)
    model = mixture(Scripted("a point"), Scripted("another"), boss=boss, prices=DEAR)
    bench.write([{"prompt": f"question {number}"} for number in range(20)])
    with bench.job(model) as job:
        estimate = job.estimate()
    assert (estimate.rows, estimate.calls, len(boss.requests)) == (20, 60, 0)
    assert estimate.cost.dollars == pytest.approx(20 * (3 * 503 + 1000))
    result = await bench.run(model, sample=5)
    with bench.job(model) as job:
        estimate = job.estimate()
    assert (estimate.rows, estimate.calls) == (15, 45)
    assert estimate.cost.dollars == pytest.approx(result["cost"] * 3)
    assert "5 rows" in estimate.basis


async def test_a_deadline_starts_no_further_row(bench: Bench) -> None:
    """Rows in flight end; the others are left, and the summary says why."""
    bench.write(ROWS)
    result = await bench.run(mixture(boss=Scripted(echo, first_token=0.05)), deadline=0.01, concurrency=2)
    assert (result["answered"], result["left"]) == (2, 4)
    assert "--deadline" in result["stopped"]


async def test_at_most_so_many_rows_at_a_time(bench: Bench) -> None:
    """``concurrency`` counts rows, not calls."""
    running = list[int]()

    def count(request: Request) -> str:
        running.append(ann.running)
        return "a point"

    ann = Scripted(count, first_token=0.001)
    bench.write(ROWS)
    await bench.run(mixture(ann, boss=Scripted(echo, first_token=0.001)), concurrency=2)
    assert max(running) == 2


def reject_key(request: Request) -> Exception:
    return KeyRejected("scripted/ann", "invalid key", status=401)


def be_down(request: Request) -> Exception:
    return UpstreamFailed("scripted/ann", "down", status=500)


@pytest.mark.parametrize(("script", "most", "words"), [(reject_key, 4, "invalid key"), (be_down, 24, "20 rows failed")])
async def test_one_cause_of_all_failures_stops_the_job(
    bench: Bench, script: Callable[[Request], Exception], most: int, words: str
) -> None:
    """A wrong key stops at once, endpoints that are down after twenty rows; no row is recorded as failed."""
    bench.write([{"prompt": f"question {number}"} for number in range(60)])
    model = Scripted(script, name="scripted/ann")
    with bench.job(mixture(boss=model)) as job:
        with pytest.raises(MoaError, match=words):
            await job.run()
        assert job.journal_totals().answered == 0
    assert len(model.requests) <= most
    boss = Scripted(echo, name="scripted/ann")
    assert (await bench.run(mixture(boss=boss)))["answered"] == 60


async def test_a_key_that_one_proposer_lacks_stops_the_job(bench: Bench) -> None:
    """Otherwise every row would be paid for, and lack that proposer."""
    bench.write(ROWS)
    words = "every row would lack this model: scripted/ann: invalid key"
    model = mixture(Scripted(reject_key, name="scripted/ann"), Scripted("a point"))
    with bench.job(model) as job, pytest.raises(MoaError, match=words):
        await job.run()


async def test_a_bug_in_a_model_is_an_error_of_its_row(bench: Bench) -> None:
    """An exception of a custom model's own is written to its row."""

    def break_two(request: Request) -> str:
        return str(1 / 0) if "question 2" in text_of(request.messages[0]) else echo(request)

    bench.write(ROWS)
    result = await bench.run(mixture(boss=Scripted(break_two)))
    assert (result["answered"], result["failed"]) == (5, 1)
    assert "division by zero" in bench.answers()[2]["error"]["message"]


async def test_a_disk_that_is_full_stops_the_job_and_loses_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the journal; the next start continues."""
    import sqlite3

    bench.write(ROWS)
    with bench.job(mixture(boss=Scripted(echo, name="scripted/boss"))) as job:
        write = job.journal._write

        def full(answers: Any, proposals: Any, lost: float) -> None:
            if job.tally.answered:
                raise sqlite3.OperationalError("database or disk is full")
            write(answers, proposals, lost)

        monkeypatch.setattr(job.journal, "_write", full)
        with pytest.raises(MoaError, match=r"journal\.sqlite: cannot be written: database or disk is full"):
            await job.run()
    assert (await bench.run(mixture(boss=Scripted(echo, name="scripted/boss"))))["answered"] == 6
    assert len(bench.answers()) == 6


@pytest.mark.parametrize("name", ["answers.txt", "answers.jsonl.gz", "pipe.jsonl", "taken.jsonl"])
def test_an_output_that_cannot_be_continued_is_refused(bench: Bench, name: str) -> None:
    """A pipe, a compressed file, an unknown format, and a file that no job has written."""
    import os

    out = bench.folder / name
    if name.startswith("pipe"):
        os.mkfifo(out)
    if name.startswith("taken"):
        out.write_text("precious\n")
    bench.write(ROWS)
    with pytest.raises(ConfigError, match=f"-o {out}"):
        bench.job(mixture(), out=out)
    assert not name.startswith("taken") or out.read_text() == "precious\n"


async def test_standard_input_is_kept_for_the_next_start(bench: Bench, tmp_path: Path) -> None:
    """Piped rows are answered, and an empty pipe continues with those of the last start."""
    import io

    from moa.batch.job import Options
    from moa.batch.pace import Paces

    for piped in (b'{"prompt": "one"}\n{"prompt": "two"}\n', b""):
        options = Options(limit=1 if piped else None)
        with Job("-", bench.out, mixture(), Paces(), options, standard_input=io.BytesIO(piped)) as job:
            await job.run()
    assert [each["answer"] for each in bench.answers()] == ["echo of one", "echo of two"]
