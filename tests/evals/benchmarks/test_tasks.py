"""A user's own questions, measured: scores, resuming, corrected references, a judge where rows ask for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from moa.config.config import Config
from moa.errors import ConfigError
from moa.evals.asking.data import Row, Shelf
from moa.evals.benchmark import Options
from moa.evals.benchmarks.tasks import BENCHMARK
from moa.evals.measuring import Measuring, fetch, judge_of
from moa.evals.metric import proportion
from moa.evals.reading import report
from moa.evals.reading.compare import compared
from moa.evals.reading.measured import measured
from moa.evals.tasks.reading import Tasks
from moa.messages import Request, text_of
from moa.models.scripted import Scripted

pytestmark = pytest.mark.anyio

ROWS: list[Row] = [
    {
        "id": f"sum/{number}",
        "question": f"{number} + {number}?",
        "answer": 2 * number,
        "tags": ["even" if number % 2 else "odd"],
    }
    for number in range(4)
] + [{"question": "Which?", "options": ["this", "that"], "answer": "that"}]

RIGHT = {f"{number} + {number}?": f"It is {2 * number}." for number in range(4)}


def answering(question: str) -> str:
    """Right sums, and the wrong option."""
    return RIGHT.get(question, "Answer: A")


def written(folder: Path, rows: list[Row]) -> Path:
    """A file of questions."""
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "q.jsonl"


class Asked(Scripted):
    """A model that lists the questions it got."""

    def __init__(self, answer: Callable[[str], str], name: str = "scripted/model") -> None:
        self.questions: list[str] = []

        def say(request: Request) -> str:
            self.questions.append(text_of(request.messages[-1]))
            return answer(self.questions[-1])

        super().__init__(say, name=name)


def measuring(file: Path, judge: Scripted | None = None, limit: int | None = None) -> Measuring:
    """What measures systems on a file."""
    return Measuring(benchmark=BENCHMARK, options=Options(limit, file=file), shelf=Shelf(file.parent), judge=judge)


async def test_each_question_is_scored_by_its_own_check(tmp_path: Path) -> None:
    """The accuracy has an interval, and so has each tag and each check; nothing is asked twice."""
    file, model = written(tmp_path, ROWS), Asked(answering)
    result = await measuring(file).measure(model, {}, tmp_path / "run")
    assert (result["judged"], result["failed"], result["accuracy"]) == (5, 0, 80)
    assert (result["accuracy_low"], result["accuracy_high"]) == tuple(100 * end for end in proportion(4, 5))
    assert {tag: (part["score"], part["items"]) for tag, part in result["tags"].items()} == {
        "even": (100, 2),
        "odd": (100, 2),
    }
    assert {check: part["score"] for check, part in result["checks"].items()} == {"choice": 0, "number": 100}
    assert [figure.text for figure in BENCHMARK.described(result)][:2] == [
        "80.00 % (95 % interval 37.6 to 96.4)",
        "100.00 % (95 % interval 34.2 to 100.0), 2 items",
    ]
    assert "judge" not in result
    asked = [*model.questions]
    assert (await measuring(file).measure(model, {}, tmp_path / "run"))["accuracy"] == 80
    assert model.questions == asked


async def test_a_corrected_reference_is_applied_to_the_replies_there_are(tmp_path: Path) -> None:
    """The verdicts are made anew; only a question that changed is asked again."""
    model = Asked(answering)
    await measuring(written(tmp_path, ROWS)).measure(model, {}, tmp_path / "run")
    model.questions.clear()
    rows = [*ROWS[:3], {**ROWS[3], "question": "3 + 3 = ?", "answer": 6}, {**ROWS[4], "answer": "this"}]
    result = await measuring(written(tmp_path, rows)).measure(model, {}, tmp_path / "run")
    assert result["accuracy"] == 80
    assert model.questions == ["3 + 3 = ?"]
    assert measured(tmp_path / "run").scores == {**{f"sum/{n}": 100 for n in range(3)}, "sum/3": 0, _id(tmp_path): 100}


def _id(folder: Path) -> str:
    rows = (folder / "run" / "judgments.jsonl").read_text().splitlines()
    return str(next(row["id"] for row in map(json.loads, rows) if row["check"] == "choice"))


async def test_a_judge_decides_where_a_row_has_a_rubric(tmp_path: Path) -> None:
    """It sees the question, the rubric and the reply; a judgment without a verdict is no wrong reply."""
    rows: list[Row] = [
        {"id": name, "question": f"Greet {name}.", "rubric": "It is polite."} for name in ("Ann", "Bob", "Eve")
    ]
    verdicts = {"Ann": "Fine.\n\n**Verdict:** PASS", "Bob": "Rude.\nVerdict: fail", "Eve": "Hm."}
    seen: list[str] = []

    def judge(request: Request) -> str:
        seen.append(text_of(request.messages[-1]))
        return verdicts[next((name for name in verdicts if f"Hello {name}" in seen[-1]), "Bob")]

    file = written(tmp_path, rows)
    system = Scripted(lambda request: f"Hello {text_of(request.messages[-1])[6:-1]}!")
    result = await measuring(file, Scripted(judge, name="scripted/judge")).measure(system, {}, tmp_path / "run")
    assert (result["accuracy"], result["judged"], result["failed"], result["judge"]) == (50, 2, 1, "scripted/judge")
    assert seen[0].endswith("# Reply\n\nI do not know."), "it is tried before an answer is paid for"
    assert all("# Question\n\nGreet" in text and "# Criteria\n\nIt is polite." in text for text in seen)


def test_a_judge_is_taken_only_where_a_row_needs_one(tmp_path: Path) -> None:
    """Checks that need none leave the judge uncalled, whether one is named or not."""
    options = Options(file=written(tmp_path, ROWS))
    assert BENCHMARK.judged is not None
    assert not BENCHMARK.judged(Shelf(tmp_path), options)
    assert judge_of(BENCHMARK, "some/model", Config(), needed=False) is None
    assert judge_of(BENCHMARK, None, Config(), needed=False) is None


def test_what_is_guessed_is_said_and_what_is_wrong_is_refused_before_a_call(tmp_path: Path) -> None:
    """Without a file, the command is named."""
    shelf = Shelf(tmp_path)
    (notice,) = fetch(BENCHMARK, Options(file=written(tmp_path, ROWS)), shelf)
    assert "checks guessed from the answers: number (4), choice (1)" in notice
    assert fetch(BENCHMARK, Options(file=written(tmp_path, [{**ROWS[0], "check": "number"}])), shelf) == []
    with pytest.raises(ConfigError, match="line 2: no answer"):
        fetch(BENCHMARK, Options(file=written(tmp_path, [ROWS[0], {"question": "?"}])), shelf)
    with pytest.raises(ConfigError, match="moa bench tasks FILE"):
        fetch(BENCHMARK, Options(), shelf)


async def test_two_systems_are_compared_and_reported(tmp_path: Path) -> None:
    """Item by item; the report has their intervals, tags and checks."""
    file = written(tmp_path, ROWS)
    await measuring(file).measure(Asked(answering, "x/right"), {}, tmp_path / "right")
    await measuring(file).measure(Asked(lambda question: "7", "x/wrong"), {}, tmp_path / "wrong")
    runs = [measured(tmp_path / name) for name in ("right", "wrong")]
    assert compared(*runs).difference == 80
    html = report.write(runs, tmp_path / "page")[0].read_text()
    assert "<h2>Your own questions</h2>" in html
    assert "37.55 to 96.38" in html
    assert "By tag" in html
    assert "By check" in html


async def test_a_sample_has_its_share_of_each_tag(tmp_path: Path) -> None:
    """It is the same in every run with the same seed, and decides alone whether a judge is needed."""
    rows: list[Row] = [{"question": f"{n}?", "answer": n, "tags": ["rare"] if n < 2 else ["usual"]} for n in range(10)]
    file = written(tmp_path, [*rows, {"question": "Greet.", "rubric": "Polite?", "tags": ["usual"]}])
    for seed in range(4):
        tasks = [*Tasks(file, sample=5, seed=seed)]
        assert tasks == [*Tasks(file, sample=5, seed=seed)]
        assert (len(tasks), [task.tags for task in tasks].count(("rare",))) == (5, 1)
        assert BENCHMARK.judged is not None
        options = Options(file=file, sample=5, seed=seed)
        assert BENCHMARK.judged(Shelf(tmp_path), options) == any(task.check == "judge" for task in tasks)


async def test_only_the_first_rows_are_measured_with_a_limit(tmp_path: Path) -> None:
    """A later run without it asks the rest."""
    file, model = written(tmp_path, ROWS), Asked(answering)
    assert (await measuring(file, limit=2).measure(model, {}, tmp_path / "run"))["judged"] == 2
    assert (await measuring(file).measure(model, {}, tmp_path / "run"))["judged"] == 5
    assert len(model.questions) == 5


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"), [(0, 10, 0, 27.75), (10, 10, 72.25, 100), (5, 10, 23.66, 76.34)]
)
def test_a_proportions_interval_holds_at_the_ends(successes: int, count: int, low: float, high: float) -> None:
    """Ten of ten is not certainty."""
    assert [round(100 * end, 2) for end in proportion(successes, count)] == [low, high]
