"""Matrices from runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from moa.errors import ConfigError
from moa.evals.reading.measured import measured
from moa.evals.reading.recorded import record
from moa.evals.search.matrix import read_matrix


def run_folder(folder: Path, system: str, answers: Mapping[str, str], expected: str = "4") -> Path:
    """A finished run of the user's own questions, with these final answers by item."""
    folder.mkdir(parents=True)

    def write(name: str, rows: list[dict[str, object]]) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    (folder / "run.json").write_text(json.dumps({"system": system, "definition": {"model": system}}))
    (folder / "result.json").write_text(json.dumps({"benchmark": "tasks", "system": system, "judged": 1}))
    write(
        "answers.jsonl",
        [
            {"instruction": f"What is {name}?", "output": f"It is {answer}.", "moa": {"id": name}}
            for name, answer in answers.items()
        ],
    )
    write(
        "judgments.jsonl",
        [
            {"id": name, "passed": answer == expected, "check": "number", "answer": answer, "expected": [expected]}
            | {"tags": ["sums"], "moa": {"id": name}}
            for name, answer in answers.items()
        ],
    )
    write(
        "journal.jsonl",
        [
            {"key": f"answer/{name.replace('/', '%2F')}", "text": f"It is {answer}.", "seconds": 1.5}
            | {"cost": {"dollars": 0.25}, "calls": []}
            for name, answer in answers.items()
        ],
    )
    return folder


def test_runs_become_one_matrix(tmp_path: Path) -> None:
    """Each run adds its system; an item has its question, its right answer and its first tag."""
    path = tmp_path / "matrix.jsonl.gz"
    assert record(path, [measured(run_folder(tmp_path / "a", "groq/a", {"2/2": "4", "2x2": "5"}))]) == 2
    assert record(path, [measured(run_folder(tmp_path / "b", "groq/b", {"2/2": "3"}))]) == 2
    first, second = read_matrix(path)
    assert (first.id, first.question, first.gold, first.task) == ("2/2", "What is 2/2?", "4", "sums")
    sample = first.answers["groq/a"][0]
    assert (sample.answer, sample.correct, sample.text) == ("4", 1.0, "It is 4.")
    assert (sample.cost, sample.seconds, sample.characters) == (0.25, 1.5, 8)
    assert first.answers["groq/b"][0].correct == 0.0
    assert [*second.answers] == ["groq/a"]


def test_repetitions_are_samples_and_a_run_replaces_itself(tmp_path: Path) -> None:
    """Several runs of one system are its samples; the same runs again change nothing."""
    path = tmp_path / "matrix.jsonl"
    runs = [measured(run_folder(tmp_path / name, "groq/a", {"q": answer})) for name, answer in (("1", "4"), ("2", "5"))]
    record(path, runs)
    before = path.read_bytes()
    assert [sample.answer for sample in read_matrix(path)[0].answers["groq/a"]] == ["4", "5"]
    record(path, runs)
    assert path.read_bytes() == before


def test_other_questions_under_the_same_names_are_refused(tmp_path: Path) -> None:
    """A matrix mixes no two files whose items have equal names."""
    path = tmp_path / "matrix.jsonl"
    path.write_text(json.dumps({"id": "q", "question": "Another?", "answers": {}}) + "\n")
    with pytest.raises(ConfigError, match="another question under 'q'"):
        record(path, [measured(run_folder(tmp_path / "a", "groq/a", {"q": "4"}))])
