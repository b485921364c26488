"""Judges of many kinds: those that think first, refuse fields, or say nothing that can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moa.errors import CallRejected, KeyRejected, MoaError
from moa.evals.asking.data import Row
from moa.evals.benchmark import Benchmark, Options
from moa.evals.benchmarks import alpaca_eval, flask, mt_bench
from moa.evals.measuring import Measuring
from moa.messages import Request
from moa.models.scripted import Scripted
from tests.fakes.measured_runs import shelf

pytestmark = pytest.mark.anyio

SYSTEM = "scripted/system"
GRADE = "Good. Rating: [[7]] {'Readability': 4, 'Logical Correctness': 3}"


async def judged(
    folder: Path, judge: Any, benchmark: Benchmark = mt_bench.BENCHMARK, system: Scripted | None = None, **options: Any
) -> Row:
    measuring = Measuring(benchmark=benchmark, options=Options(**options), shelf=shelf(folder), judge=judge)
    return await measuring.measure(system or Scripted("an answer", name=SYSTEM), {}, folder / "run")


def refusing(
    *fields: str, text: str = GRADE, words: str = "Unsupported parameter: '{}'", status: int = 400
) -> Scripted:
    """A judge that refuses these fields, as OpenAI's reasoning models do."""

    def answer(request: Request) -> str | Exception:
        refused = next((name for name in fields if name in request.body), None)
        return text if refused is None else CallRejected("scripted/judge", words.format(refused), status=status)

    return Scripted(answer, name="scripted/judge")


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("module", [alpaca_eval, mt_bench, flask])
async def test_a_judge_that_refuses_fields_judges_without_them(module: Any, status: int, tmp_path: Path) -> None:
    """Temperature and log-probabilities are left out once it refuses them, and not sent again."""
    judge = refusing("temperature", "logprobs", text=f"{GRADE} M", status=status)
    result = await judged(tmp_path, judge, module.BENCHMARK)
    assert (result["failed"], result["unasked"]) == (0, 0)
    assert result["judged"] > 2
    refused = [request for request in judge.requests if "temperature" in request.body or "logprobs" in request.body]
    assert len(refused) < 5


async def test_a_judge_that_spends_its_limit_on_thinking_gets_none(tmp_path: Path) -> None:
    """A reply that the limit cut before its grade is followed by one without a limit, and later ones have none at once."""

    def thinks(request: Request) -> Scripted:
        limited = "max_tokens" in request.body
        return Scripted("" if limited else GRADE, reasoning="hm", finish_reason="length" if limited else "stop")

    judge = Scripted(thinks, name="scripted/judge")
    result = await judged(tmp_path, judge)
    assert (result["judged"], result["failed"], result["score"]) == (6, 0, 7)
    assert len(judge.requests) == 2 + 6, "the trial teaches it"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Rating: [[85]]", "the grade is off the scale of 1 to 10"),
        ("Rating: [[0]]", "the grade is off the scale of 1 to 10"),
        ("Rating: 7.5", "no grade in square brackets"),
        ("", "the judge said nothing"),
    ],
)
async def test_unreadable_grades_are_counted_with_their_commonest_reason(text: str, why: str, tmp_path: Path) -> None:
    """They are failed judgments, and the result quotes one."""
    notices: list[str] = []
    measuring = Measuring(
        benchmark=mt_bench.BENCHMARK,
        options=Options(1),
        shelf=shelf(tmp_path),
        judge=Scripted(text, name="scripted/judge"),
        on_notice=notices.append,
    )
    result = await measuring.measure(Scripted("an answer", name=SYSTEM), {}, tmp_path / "run")
    assert (result["judged"], result["failed"], result["score"], result["reasons"]) == (0, 2, None, {why: 2})
    assert notices[0] == f"the judge scripted/judge gave no verdict on a stand-in answer: {why}"
    assert any(note.startswith(f"2 judgments have no verdict, 2 of them because: {why}") for note in result["notes"])


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("[[10]]/10", 10),
        ("[[ 8 ]]", 8),
        ("[[8/10]]", 8),
        ("评分：[[8]]", 8),
        ("Note : [[7.5]]", 7.5),
        ("see [[85]] … Rating: [[9]]", 9),
    ],
)
async def test_grades_in_other_words_are_read(text: str, grade: float, tmp_path: Path) -> None:
    """The brackets count, not the language; a number off the scale is no grade."""
    assert (await judged(tmp_path, Scripted(text, name="scripted/judge"), limit=1))["score"] == grade


@pytest.mark.parametrize("text", ["M", " M", "**M**", "Die bessere Antwort: M", "m or M?\n\nM", "Ответ: M.", "M。"])
async def test_verdicts_in_other_words_are_read(text: str, tmp_path: Path) -> None:
    """A lone name counts, in any language; of both names, the one in the last line."""
    result = await judged(tmp_path, Scripted(text, name="scripted/judge"), alpaca_eval.BENCHMARK)
    assert (result["judged"], result["failed"]) == (12, 0)


async def test_a_judge_that_fails_is_found_out_before_an_answer_is_paid_for(tmp_path: Path) -> None:
    """The error says so; the system is not called."""
    system = Scripted("an answer", name=SYSTEM)
    rejected = KeyRejected("scripted/judge", "no such key")
    with pytest.raises(MoaError, match=r"the judge failed before any answer was paid for: .*no such key"):
        await judged(tmp_path, Scripted(rejected, name="scripted/judge"), system=system)
    assert system.requests == []


async def test_a_judge_without_verdicts_costs_few_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some judgments without one, the other items are left out."""
    from moa.evals.asking import harness

    monkeypatch.setattr(harness, "UNREADABLE", 2)
    system = Scripted("an answer", name=SYSTEM)
    measuring = Measuring(
        benchmark=alpaca_eval.BENCHMARK,
        options=Options(),
        shelf=shelf(tmp_path),
        judge=Scripted("Neither.", name="scripted/judge"),
        concurrency=1,
    )
    result = await measuring.measure(system, {}, tmp_path / "run")
    assert len(system.requests) == 2
    assert any("stopped after 2 judgments without a verdict" in note for note in result["notes"])


@pytest.mark.parametrize(
    ("review", "grades"),
    [
        ("{'Readability': 9, 'Factuality': 4}", {"factuality": 4}),
        ("{'Readability': '4/5'}", {"readability": 4}),
        ('{"Readability": 3, "Factuality": null}', {"readability": 3, "factuality": None}),
        ("{'Readability': 0}", {}),
    ],
)
def test_grades_of_skills_off_their_scale_are_none(review: str, grades: dict[str, float | None]) -> None:
    """JSON's null says that a skill does not apply."""
    assert flask.grades(review) == grades
