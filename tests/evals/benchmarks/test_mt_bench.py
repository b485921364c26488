"""MT-Bench: two turns, graded separately, some with a reference answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moa.errors import ConfigError
from moa.evals.asking.data import Shelf, read_rows
from moa.evals.asking.harness import Measurement
from moa.evals.benchmark import Options
from moa.evals.benchmarks import mt_bench
from moa.messages import Request, text_of
from moa.models.scripted import Scripted
from tests.fakes import small_benchmarks
from tests.fakes.recordings import DATA

pytestmark = pytest.mark.anyio

RECORDED = DATA / "mt_bench" / "judgments_gpt-4_single.jsonl.gz"
needs_judgments = pytest.mark.skipif(
    not RECORDED.is_file(), reason=f"no recorded judgments in {DATA}; set MOA_DATA to them"
)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    small_benchmarks.mt_bench(tmp_path / "data")
    return Shelf(tmp_path / "data")


@pytest.mark.parametrize(
    ("judgment", "grade"),
    [
        ("Good. Rating: [[7]]", 7),
        ("[[8.5]] and not [[2]]", 8.5),
        ("see [1]: [[9]]", 9),
        ("Rating: [6]", 6),
        ("Rating: 6/10", -1),
        ("$ERROR$", -1),
    ],
)
def test_the_grade_is_the_first_number_in_double_brackets_else_in_single_ones(judgment: str, grade: float) -> None:
    """As in the original; -1 without one."""
    assert mt_bench.rating(judgment) == grade


async def test_both_turns_are_answered_and_graded(shelf: Shelf, tmp_path: Path) -> None:
    """The second turn contains the first; the category sets the temperature; maths is graded with its reference answer."""
    system = Scripted(lambda request: f"to {text_of(request.messages[-1])}", name="scripted/system")
    judge = Scripted(
        lambda request: "Rating: [[9]]" if "8" in text_of(request.messages[-1]) else "[[5]]", name="scripted/judge"
    )
    with Measurement(tmp_path / "run", {}) as measurement:
        rows, failed = await mt_bench.measure(measurement, shelf, system, judge, Options())
        answers = measurement.rows("answers")
    assert (len(system.requests), len(judge.requests), failed) == (6, 6, 0)
    first, second = (request for request in system.requests if "2 + 2" in text_of(request.messages[0]))
    assert (first.body["temperature"], first.body["max_tokens"], len(first.messages)) == (0.0, 1024, 1)
    assert [message["content"] for message in second.messages] == ["What is 2 + 2?", "to What is 2 + 2?", "Twice that?"]
    assert answers[0]["choices"] == [{"index": 0, "turns": ["to Write a line.", "to Make it rhyme."]}]
    by_key = {(row["question_id"], row["turn"]): row for row in rows}
    assert by_key[2, 1]["judge"] == ["scripted/judge", "single-math-v1"]
    assert by_key[2, 1]["user_prompt"] == "Right is [4]. Grade [What is 2 + 2?] [to What is 2 + 2?]"
    assert by_key[3, 2]["judge"] == ["scripted/judge", "single-v1-multi-turn"]
    assert by_key[3, 2]["user_prompt"] == "Grade [What is in it?] [to What is an atom?] [to What is in it?]"
    (result,) = mt_bench.score(rows, shelf)
    assert (result["first_turn"], result["second_turn"]) == (5, pytest.approx(19 / 3))
    assert result["categories"]["math"] == {"score": 7, "first_turn": 5, "second_turn": 9}


async def test_a_second_start_makes_only_the_missing_calls(shelf: Shelf, tmp_path: Path) -> None:
    """An answered first turn is not repeated if the second turn failed."""

    def flaky(request: Request) -> str | Exception:
        return RuntimeError("killed") if len(request.messages) == 3 else "fine"

    broken, whole = Scripted(flaky, name="scripted/system"), Scripted("fine", name="scripted/system")
    with Measurement(tmp_path / "run", {}, concurrency=1) as measurement, pytest.raises(RuntimeError, match="killed"):
        await mt_bench.measure(measurement, shelf, broken, Scripted("[[5]]"), Options(1))
    with Measurement(tmp_path / "run", {}) as measurement:
        await mt_bench.measure(measurement, shelf, whole, Scripted("[[5]]"), Options(1))
    assert (len(broken.requests), len(whole.requests)) == (2, 1)


def grade(number: int, turn: int, score: object, model: str = "A", judge: str = "gpt-4") -> dict[str, Any]:
    return {"question_id": number, "model": model, "judge": [judge, "single-v1"], "turn": turn, "score": score}


def test_failed_judgments_are_left_out_and_counted(shelf: Shelf) -> None:
    """They are -1, None and NaN; the average is over judgments, not over turns."""
    rows = [
        grade(1, 1, 9),
        grade(2, 1, 7),
        grade(1, 2, 2),
        grade(2, 2, -1),
        grade(3, 1, None),
        grade(3, 2, float("nan")),
    ]
    (result,) = mt_bench.score(rows, shelf)
    assert (result["judged"], result["failed"]) == (3, 3)
    assert (result["first_turn"], result["second_turn"], result["score"]) == (8, 2, 6)
    assert result["categories"]["math"] == {"score": 7, "first_turn": 7, "second_turn": None}


def test_systems_and_judges_have_separate_results(shelf: Shelf) -> None:
    """A file of failures alone has a result, too."""
    results = mt_bench.score([grade(1, 1, 3), grade(1, 1, -1, "B"), grade(1, 1, 4, judge="other")], shelf)
    assert [(one["system"], one["judge"], one["score"]) for one in results] == [
        ("A", "gpt-4", 3),
        ("B", "gpt-4", None),
        ("A", "other", 4),
    ]


def test_without_the_questions_there_are_no_categories(tmp_path: Path) -> None:
    """The scores need no file."""
    (result,) = mt_bench.score([grade(1, 1, 3)], Shelf(tmp_path))
    assert (result["score"], result["categories"]) == (3, {})
    assert "question.jsonl" in result["notes"][0]


@pytest.mark.parametrize("rows", [[], [{"generator_2": "A", "preference": 1}], [{"g1_winner": "model_1"}]])
def test_rows_of_another_benchmark_are_refused(rows: list[dict[str, Any]], shelf: Shelf) -> None:
    """Preferences and pairwise judgments are no single-answer grades."""
    with pytest.raises(ConfigError, match="single-answer grades"):
        mt_bench.score(rows, shelf)


@needs_judgments
def test_recorded_judgments_give_the_recorded_scores() -> None:
    """9.22, 9.21 and 6.10; the failed half of the first run's rows is counted."""
    results = mt_bench.score(read_rows(RECORDED), Shelf(DATA))
    assert [(round(one["score"], 2), one["judged"], one["failed"]) for one in results] == [
        (9.22, 160, 160),
        (9.21, 160, 0),
        (6.10, 160, 0),
    ]
    assert [(round(one["first_turn"], 2), round(one["second_turn"], 2)) for one in results] == [
        (9.28, 9.16),
        (9.24, 9.18),
        (6.73, 5.47),
    ]
    assert all(len(one["categories"]) == 8 for one in results)


@needs_judgments
def test_recorded_judgments_are_parsed_as_by_the_original() -> None:
    """The grade in the text is the recorded grade."""
    rows = read_rows(RECORDED)
    assert [row["question_id"] for row in rows if mt_bench.rating(row["judgment"]) != row["score"]] == []
