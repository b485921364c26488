"""Data that changed or lacks something is reported before anything is paid for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moa.errors import ConfigError
from moa.evals.benchmark import Options
from moa.evals.benchmarks import alpaca_eval, flask, mt_bench
from moa.evals.measuring import Measuring, as_before
from moa.models.scripted import Scripted
from tests.fakes.measured_runs import grader, shelf

pytestmark = pytest.mark.anyio

QUESTION = {"question_id": 1, "category": "writing", "turns": ["a", "b"]}
ITEM = {"idx": 1, "instruction": "a", "answer": "b", "skill": ["Readability"]}
ROW = {"instruction": "a", "output": "b"}


@pytest.mark.parametrize(
    ("module", "file", "rows", "words"),
    [
        (mt_bench, "mt_bench/question.jsonl", [QUESTION, QUESTION], "two rows have the question_id 1"),
        (mt_bench, "mt_bench/question.jsonl", [{**QUESTION, "turns": "a"}], "question 1: 'turns' is one text"),
        (mt_bench, "mt_bench/question.jsonl", [{**QUESTION, "turns": ["a", 2]}], "a list with something else"),
        (mt_bench, "mt_bench/question.jsonl", [{**QUESTION, "turns": []}], "question 1 has 0 turns"),
        (mt_bench, "mt_bench/question.jsonl", [{**QUESTION, "turns": ["a"] * 3}], "question 1 has 3 turns"),
        (mt_bench, "mt_bench/question.jsonl", [{"turns": ["a"]}], "row 1 has no 'question_id'"),
        (mt_bench, "mt_bench/question.jsonl", [{"question_id": 1, "turns": ["a"]}], "question 1 has no 'category'"),
        (mt_bench, "mt_bench/judge_prompts.jsonl", [{"name": "single-v1"}], "no prompt 'single-v1'"),
        (mt_bench, "mt_bench/reference_answer/gpt-4.jsonl", [{"question_id": 2}], "expected rows of question_id"),
        (flask, "flask/flask_evaluation.jsonl", [ITEM, {**ITEM, "idx": "1"}], "two rows have the question_id 1"),
        (flask, "flask/flask_evaluation.jsonl", [{**ITEM, "skill": "Readability"}], "expected a list of skills"),
        (flask, "flask/flask_evaluation.jsonl", [{**ITEM, "skill": ["Charm"]}], "no rubric for 'Charm'"),
        (flask, "flask/flask_evaluation.jsonl", [{"idx": 1, "skill": ["Readability"]}], "item 1 has no 'instruction'"),
        (flask, "flask/flask_evaluation.jsonl", [{"instruction": "a"}], "row 1 has no 'question_id'"),
        (alpaca_eval, "alpaca_eval/alpaca_eval_gpt4_baseline.json", [ROW, ROW], "rows 1 and 2 have the same instruction"),
        (alpaca_eval, "alpaca_eval/alpaca_eval_gpt4_baseline.json", [{"instruction": "a"}], "a row has no 'output'"),
        (alpaca_eval, "alpaca_eval/alpaca_eval_gpt4_baseline.json", [{**ROW, "output": None}], "'output' of row 1"),
    ],
)  # fmt: skip
async def test_items_that_lack_something_are_refused_before_a_call(
    module: Any, file: str, rows: list[dict[str, Any]], words: str, tmp_path: Path
) -> None:
    """The error names the file and the item; neither the system nor the judge is called."""
    system, judge = Scripted("an answer", name="scripted/system"), grader()
    files = shelf(tmp_path)
    (tmp_path / "data" / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if file.endswith(".json"):
        (tmp_path / "data" / file).write_text(json.dumps(rows))
    measuring = Measuring(benchmark=module.BENCHMARK, options=Options(), shelf=files, judge=judge)
    with pytest.raises(ConfigError) as refused:
        await measuring.measure(system, {}, tmp_path / "run")
    assert words in str(refused.value)
    assert Path(file).name in str(refused.value)
    assert (system.requests, judge.requests) == ([], [])


async def test_a_question_without_a_reference_answer_is_graded_without_one(tmp_path: Path) -> None:
    """It is reported before the first call, and in the result."""
    files, notices = shelf(tmp_path), list[str]()
    (tmp_path / "data/mt_bench/reference_answer/gpt-4.jsonl").write_text("")
    judge = grader()
    measuring = Measuring(
        benchmark=mt_bench.BENCHMARK, options=Options(), shelf=files, judge=judge, on_notice=notices.append
    )
    result = await measuring.measure(Scripted("an answer", name="scripted/system"), {}, tmp_path / "run")
    assert (result["judged"], result["failed"]) == (6, 0)
    assert "gpt-4.jsonl has no reference answer for 1 questions of math (2): graded without one" in notices[0]
    assert notices[0] in result["notes"]
    assert not any("Right is" in str(request.messages[-1]) for request in judge.requests)


async def test_data_that_changed_is_another_run(tmp_path: Path) -> None:
    """The digests of the data are in run.json, with versions and the judge's parameters; a run without them resumes."""
    files, system = shelf(tmp_path), Scripted("an answer", name="scripted/system")
    measuring = Measuring(benchmark=flask.BENCHMARK, options=Options(), shelf=files, judge=grader())
    await measuring.measure(system, {}, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    settings = json.loads(path.read_text())
    assert settings["judge_parameters"] == {"temperature": 0, "max_tokens": 1024}
    assert {"moa", "python"} <= settings["versions"].keys()
    assert len(settings["data"]["flask_evaluation.jsonl"]) == 64
    items = tmp_path / "data/flask/flask_evaluation.jsonl"
    items.write_text(items.read_text().replace("Explain", "Describe"))
    with pytest.raises(ConfigError, match=r"holds another run: its flask_evaluation.jsonl has changed since"):
        await measuring.measure(system, {}, tmp_path / "run")
    path.write_text(json.dumps({name: settings[name] for name in ("benchmark", "system", "definition", "judge")}))
    await measuring.measure(system, {}, tmp_path / "run")


def test_a_definition_of_an_earlier_version_is_still_the_same_system(tmp_path: Path) -> None:
    """Settings that came later and have their default are no difference; other values are."""
    before = {"layers": [[{"model": "a/b"}]], "settings": {"exact": False}, "of": "gone"}
    (tmp_path / "run.json").write_text(json.dumps({"definition": before}))
    now: dict[str, Any] = {"layers": [[{"model": "a/b"}]], "settings": {"exact": False, "references": "user"}}
    assert as_before(now, tmp_path) == before
    now["settings"]["references"] = "system"
    assert as_before(now, tmp_path) == now
