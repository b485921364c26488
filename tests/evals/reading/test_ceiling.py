"""How good a mixture can be: on made-up scores, on runs, on a matrix, and drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from moa.cli.ceiling import ceiling
from moa.cli.report import report
from moa.errors import ConfigError, UnknownName
from moa.evals.reading.ceiling import ceiling_of
from moa.evals.reading.systems import systems_in

MEMBERS = {"strong": [1.0, 1, 1, 0, 0], "weak": [0.0, 0, 0, 1, 0], "copy": [1.0, 1, 0, 0, 0]}


def run_folder(folder: Path, system: str, solved: Sequence[float], definition: Mapping[str, object]) -> Path:
    """A finished run of AlpacaEval with these preferences, from 0 to 1."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"system": system, "definition": definition}))
    (folder / "result.json").write_text(
        json.dumps({"benchmark": "alpaca-eval", "system": system, "judged": len(solved), "win_rate": 50.0})
    )
    rows = [{"index": index, "preference": 1 + score} for index, score in enumerate(solved)]
    (folder / "judgments.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "journal.jsonl").write_text("")
    return folder


def test_the_oracle_and_what_all_fail_together() -> None:
    """The oracle takes the best answer to each item; items that all fail have an exact interval."""
    found = ceiling_of(MEMBERS)
    assert [member.name for member in found.members] == ["strong", "copy", "weak"]
    assert found.oracle == pytest.approx(0.8)
    assert found.failing == 1
    assert [found.share, found.low, found.high] == pytest.approx([0.2, 0.00505, 0.71642], abs=1e-5)
    assert found.steps == (("strong", 0.6), ("weak", 0.8), ("copy", 0.8))


def test_members_that_complement_each_other_come_first() -> None:
    """The best pair is the one whose failures differ, not the one of the two best members."""
    best = ceiling_of(MEMBERS).pairs[0]
    assert (best.first, best.second) == ("strong", "weak")
    assert best.rescued == pytest.approx(0.5)
    assert best.together is not None
    assert best.together < 0


def test_what_a_mixture_reaches() -> None:
    """Its regret is the distance to the oracle; what every member fails and it solves is counted."""
    reached = ceiling_of(MEMBERS, {"moa/mixed": [1, 1, 1, 0, 1]}).reached[0]
    assert [reached.gain, reached.regret, reached.captured] == pytest.approx([0.2, 0, 1])
    assert reached.rescued == 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_members_that_are_equal_leave_no_way(value: float) -> None:
    """Where all members are equal, no share of a way and no correlation is given."""
    found = ceiling_of({"a": [value] * 3, "b": [value] * 3}, {"m": [value] * 3})
    assert found.reached[0].captured is None
    assert found.pairs[0].together is None


def test_one_member_has_no_ceiling() -> None:
    """It is an error that says how many members there are."""
    with pytest.raises(ConfigError, match="at least two members; here is a"):
        ceiling_of({"a": [1.0]})


def test_runs_of_single_models_are_members(tmp_path: Path) -> None:
    """Runs whose system is no single model are the mixtures; grades become scores from 0 to 1."""
    run_folder(tmp_path / "a", "groq/a", [1, 0, 0.25], {"model": "groq/a"})
    run_folder(tmp_path / "b", "groq/b", [0, 1], {"model": "groq/b"})
    run_folder(tmp_path / "m", "moa/m", [1, 1, 1], {"layers": [["groq/a", "groq/b"]]})
    found = systems_in([tmp_path])
    assert found.members == {"groq/a": [1, 0], "groq/b": [0, 1]}
    assert found.mixtures == {"moa/m": [1, 1]}
    assert found.notes == ["2 of 3 items have a score of every system"]


def test_a_sweep_of_mixtures_has_members_too(tmp_path: Path) -> None:
    """Where every system is a mixture, all are members, unless a name says which one mixes the others."""
    for name in "abc":
        run_folder(tmp_path / name, "moa/sweep", [1, 0], {"variant": {"n": name}})
    assert [*systems_in([tmp_path]).members] == ["moa/sweep (a)", "moa/sweep (b)", "moa/sweep (c)"]
    assert [*systems_in([tmp_path], ["moa/sweep (c)"]).mixtures] == ["moa/sweep (c)"]
    with pytest.raises(UnknownName):
        systems_in([tmp_path], ["moa/sweap"])


def test_a_matrix_gives_a_table_and_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the shares, saves the analysis, and the report draws it."""
    rows = [
        {
            "id": str(item),
            "question": "?",
            "answers": {name: [{"answer": "x", "correct": scores[item] > 0}] for name, scores in MEMBERS.items()},
        }
        for item in range(5)
    ]
    matrix, saved = tmp_path / "matrix.jsonl", tmp_path / "ceiling.json"
    matrix.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert ceiling([matrix], [], passes=0.5, out=saved) == 0
    printed = capsys.readouterr().out
    assert "all fail together: 1 items, 20.0% (95 % interval 0.5% to 71.6%)" in printed
    assert "strong + weak" in printed
    report([saved], tmp_path / "page", [])
    page = (tmp_path / "page" / "report.html").read_text()
    assert "All 3 members fail 1 of them together" in page
    assert "<svg" in (tmp_path / "page" / "ceiling.svg").read_text()
