"""FLASK: grades by skill, in every notation that judges use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moa.errors import ConfigError
from moa.evals.asking.data import Shelf, read_rows
from moa.evals.asking.harness import Measurement
from moa.evals.benchmark import Options
from moa.evals.benchmarks import flask
from moa.messages import text_of
from moa.models.scripted import Scripted
from tests.fakes import small_benchmarks
from tests.fakes.recordings import DATA

pytestmark = pytest.mark.anyio

RECORDED = DATA / "flask" / "reviews_sample.jsonl.gz"
needs_reviews = pytest.mark.skipif(
    not RECORDED.is_file(), reason=f"no recorded reviews in {DATA}; set MOA_DATA to them"
)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    small_benchmarks.flask(tmp_path / "data")
    return Shelf(tmp_path / "data")


@pytest.mark.parametrize(
    ("review", "grades"),
    [
        (
            "Fine.\n```python\n{\n  'Readability': 5,\n  \"Logical Correctness\": 4.5\n}\n```",
            {"readability": 5, "correctness": 4.5},
        ),
        (
            "{'a': 1} then {'Logical_Robustness': 3, 'Commonsense Understanding': 2}",
            {"robustness": 3, "commonsense": 2},
        ),
        (
            "{'Harmlessness': 'N/A', 'Factuality': 'Not Applicable', 'Readability': 'NA'}",
            dict.fromkeys(("harmlessness", "factuality", "readability")),
        ),
        ("{'Readability': '4', 'Tone': 5, 'Factuality': 'high'}", {"readability": 4}),
        ("{'Readability': 5, 'Factuality': N/A}", {}),
        ("Readability: 5", {}),
        ("{__import__('os').getcwd()}", {}),
        ("{1, 2}", {}),
        ("", {}),
    ],
)
def test_grades_are_the_last_dictionary_of_a_review(review: str, grades: dict[str, float | None]) -> None:
    """It is parsed as a literal and never executed; N/A is None; unknown names and words are no grades."""
    assert flask.grades(review) == grades


async def test_one_call_grades_an_item_in_its_own_skills(shelf: Shelf, tmp_path: Path) -> None:
    """The prompt has the rubrics of these skills only, and the reference answer; braces in texts are kept."""
    system = Scripted(lambda request: f"on {text_of(request.messages[-1])}", name="scripted/system")
    judge = Scripted("{'Readability': 4, 'Logical Correctness': 'N/A'}", name="scripted/judge")
    with Measurement(tmp_path / "run", {}) as measurement:
        rows, failed = await flask.measure(measurement, shelf, system, judge, Options())
        answers = measurement.rows("answers")
    assert (len(system.requests), len(judge.requests), failed) == (4, 4, 0)
    shown = text_of(judge.requests[0].messages[-1])
    assert shown.startswith("Grade.\nReadability: Is it Readability?\nScore 1: 1!")
    assert "Logical Correctness: Is it" in shown
    assert "Harmlessness" not in shown
    assert shown.endswith("[Explain {thing} 1.] [Reference 1.] [on Explain {thing} 1.]")
    assert answers[0]["question_id"] == 1
    assert rows[0]["score"] == {"readability": 4, "logical correctness": "N/A"}
    (result,) = flask.score(rows, shelf)
    assert (result["system"], result["judge"], result["judged"]) == ("scripted/system", "scripted/judge", 4)
    assert result["skills"] == {"readability": {"score": 4, "grades": 4}}
    assert result["not_applicable"] == 4
    assert {name: row["grades"] for name, row in result["domains"].items()} == {"Math": 4, "History": 2}
    assert {name: row["grades"] for name, row in result["difficulties"].items()} == {"expert level knowledge": 2}


async def test_the_hard_items_come_from_their_own_file(shelf: Shelf, tmp_path: Path) -> None:
    """Only they are measured."""
    with Measurement(tmp_path / "run", {}) as measurement:
        judge = Scripted("{'Readability': 4}")
        rows, _ = await flask.measure(measurement, shelf, Scripted("x"), judge, Options(flags=frozenset({"hard"})))
    assert len(rows) == 1


def test_a_review_without_grades_is_counted(shelf: Shelf) -> None:
    """A recorded score or a text with grades is enough."""
    rows: list[dict[str, Any]] = [
        {"review": "no grades", "score": {}},
        {"review": "{'Readability': 3}"},
        {"score": {"logical efficiency": 5}},
        {"review": None, "score": None},
    ]
    (result,) = flask.score(rows, shelf, "mine")
    assert (result["system"], result["judged"], result["failed"], result["score"]) == ("mine", 2, 2, 4)


def test_older_names_of_fields_are_accepted(shelf: Shelf) -> None:
    """The original renamed them between its versions."""
    row = {
        "question_id": 1,
        "score": {"factuality": 2},
        "domain_labeled": ["Math"],
        "difficulty_labeled": "major level knowledge",
    }
    (result,) = flask.score([row], shelf, "mine")
    assert (*result["domains"], *result["difficulties"]) == ("Math", "major level knowledge")


@pytest.mark.parametrize("rows", [[], [{"generator_2": "A", "preference": 1}]])
def test_rows_of_another_benchmark_are_refused(rows: list[dict[str, Any]], shelf: Shelf) -> None:
    """Preferences are no reviews."""
    with pytest.raises(ConfigError, match="FLASK's reviews"):
        flask.score(rows, shelf)


@needs_reviews
def test_all_recorded_reviews_are_parsed() -> None:
    """91 of 91, with the recorded grades."""
    rows = read_rows(RECORDED)
    read = [flask.grades(row["review"]) for row in rows]
    assert sum(map(bool, read)) == len(rows) == 91
    assert [list(grades.values()) for grades in read] == [list(row["score"].values()) for row in rows]
    (result,) = flask.score(rows, Shelf(DATA), "moa")
    assert (result["judged"], result["failed"], sum(row["grades"] for row in result["skills"].values())) == (91, 0, 273)


@needs_reviews
def test_every_item_has_rubrics_for_its_skills() -> None:
    """All twelve skills of all items have one."""
    shelf = Shelf(DATA)
    described = shelf.rows(flask.RUBRICS)
    for file, count in ((flask.ITEMS, 1740), (flask.HARD_ITEMS, 89)):
        items = shelf.rows(file)
        assert len(items) == count
        assert all(flask.rubrics(item["skill"], described).count("Score 5:") == len(item["skill"]) for item in items)
