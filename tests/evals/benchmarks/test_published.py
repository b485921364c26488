"""Published benchmarks without a judge, in the form of their files: what is asked, and what passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from moa.errors import ConfigError
from moa.evals.asking.data import File, Shelf
from moa.evals.benchmark import Benchmark, Options
from moa.evals.benchmarks import named
from moa.evals.measuring import Measuring, fetch
from moa.messages import Request, text_of
from moa.models.scripted import Scripted
from tests.fakes import small_benchmarks

pytestmark = pytest.mark.anyio


def _by_line(line: Callable[[str], bool]) -> Callable[[str], str]:
    """The letter of the option that this is true of."""
    return lambda question: (
        "Answer: " + next(each[0] for each in question.split("\n") if each[1:2] == "." and line(each[3:]))
    )


RIGHT: dict[str, Callable[[str], str]] = {
    "gsm8k": lambda question: f"So she has\nAnswer: {2000 * int(question.split()[2])} eggs"[:-5],
    "math-500": lambda question: rf"It is $\boxed{{\dfrac{{{question[1]}}}{{2}}}}$.",
    "mmlu-pro": _by_line(lambda option: option == "y"),
    "gpqa": _by_line(lambda option: option.startswith("right")),
    "ifeval": lambda question: "One two three.",
}


@pytest.mark.parametrize("name", RIGHT)
async def test_right_replies_pass_and_others_do_not(name: str, tmp_path: Path) -> None:
    """Each file is read in the form in which it is published, from the user's folder or by its path."""
    small_benchmarks.published(tmp_path)
    benchmark, shelf = named(name), Shelf(tmp_path)
    (file,) = benchmark.needs(Options())
    for options in (Options(), Options(file=shelf.path(file))):
        fetch(benchmark, options, shelf)
        for kind, expected in (("right", 100), ("wrong", 0)):
            measuring = Measuring(benchmark=benchmark, options=options, shelf=shelf)
            system = Scripted(_replying(name) if kind == "right" else "I, for one, pass.", name=f"scripted/{kind}")
            folder = tmp_path / f"{kind}-{bool(options.file)}"
            result = await measuring.measure(system, {}, folder)
            assert (result["judged"], result["accuracy"]) == (2, expected)
    assert result["tags"] or name == "gsm8k"


def _replying(name: str) -> Callable[[Request], str]:
    return lambda request: RIGHT[name](text_of(request.messages[-1]))


@pytest.mark.parametrize("name", RIGHT)
def test_a_copy_that_is_missing_or_of_another_benchmark_is_refused(name: str, tmp_path: Path) -> None:
    """The error says where a copy goes, or which rows do not belong."""
    benchmark, shelf = named(name), Shelf(tmp_path)
    with pytest.raises(ConfigError, match="put a copy at DIR/"):
        fetch(benchmark, Options(), shelf)
    (tmp_path / "other.jsonl").write_text('{"something": "else"}\n')
    with pytest.raises(ConfigError, match="line 1: not a row of this benchmark: KeyError"):
        fetch(benchmark, Options(file=tmp_path / "other.jsonl"), shelf)


def test_prompts_that_cannot_be_checked_are_left_out_with_a_notice(tmp_path: Path) -> None:
    """IFEval's instructions on the language of the reply need a detector."""
    small_benchmarks.published(tmp_path)
    notices = fetch(named("ifeval"), Options(), Shelf(tmp_path))
    assert notices == ["input_data.jsonl: 1 of 3 rows cannot be checked and are left out"]


def test_options_of_gpqa_stand_in_the_same_order_in_every_run(tmp_path: Path) -> None:
    """The right one is not always in the same place."""
    from moa.evals.benchmarks.gpqa import converted

    rows = [
        {"Question": str(n), "Correct Answer": "r", **{f"Incorrect Answer {k}": f"w{k}" for k in (1, 2, 3)}}
        for n in range(40)
    ]
    answers = [converted(row)["answer"] for row in rows]
    assert answers == [converted(row)["answer"] for row in rows]
    assert {*answers} == {*"ABCD"}


def test_a_benchmark_of_tasks_takes_a_few_lines() -> None:
    """A file and a function from its rows to tasks."""
    from moa.evals.benchmarks.tasks import benchmark_of

    made = benchmark_of(
        "own", "Own", "Own.", file=File("own", ("own.jsonl",)), converted=lambda row: {"question": row["q"]}
    )
    assert isinstance(made, Benchmark)
    assert made.takes_file
