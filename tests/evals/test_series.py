"""Several runs, several judges, samples, both orders, forecasts, and old answers judged anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.evals.asking.data import Shelf
from moa.evals.benchmark import Benchmark, Options
from moa.evals.benchmarks import ALL, alpaca_eval, flask, mt_bench
from moa.evals.definition import definition, digest
from moa.evals.forecast import forecast
from moa.evals.measuring import Measuring, Silent
from moa.evals.reading.measured import measured
from moa.evals.sampling import chosen
from moa.evals.series import Series, agreed
from moa.messages import Cost
from moa.mixture.agent import Agent
from moa.mixture.mixture import Mixture
from moa.models import Model
from moa.models.scripted import Scripted
from moa.schedules import EarlyExit, Quorum
from tests.fakes.measured_runs import PRICES, Preferring, grader, shelf

pytestmark = pytest.mark.anyio


def measuring(files: Shelf, judge: Model, benchmark: Benchmark = mt_bench.BENCHMARK, **options: Any) -> Measuring:
    return Measuring(benchmark=benchmark, options=Options(**options), shelf=files, judge=judge, prices=PRICES)


async def test_repeated_runs_show_how_much_a_score_varies(tmp_path: Path) -> None:
    """The system answers again, in a folder of its own; a comparison takes the mean over the runs."""
    answers = iter(range(100))
    system = Scripted(lambda request: f"answer {next(answers)}", name="paid/system")
    series = Series([measuring(shelf(tmp_path), grader())], repeats=3)
    result = await series.measure(system, {}, tmp_path / "run")
    assert len(system.requests) == 3 * 6
    repeats = result["repeats"]
    assert (repeats["runs"], len(set(repeats["scores"]))) == (3, 3)
    assert repeats["score_low"] < repeats["score"] < repeats["score_high"]
    assert repeats["standard_deviation_of_runs"] > 0
    assert result == json.loads((tmp_path / "run" / "result.json").read_text())
    of_runs = [measured(tmp_path / "run" / name).scores for name in ("repeat-2", "repeat-3")]
    own = measured(tmp_path / "run").scores
    assert sum(own.values()) == pytest.approx((3 * result["score"] + sum(sum(one.values()) for one in of_runs)) / 3)


async def test_several_judges_judge_the_same_answers(tmp_path: Path) -> None:
    """The system answers once; each pair of judges has its agreement."""
    system = Scripted("an answer", name="paid/system")
    files, other = shelf(tmp_path), Scripted("[[5]]", name="paid/other")
    result = await Series([measuring(files, grader()), measuring(files, other)]).measure(system, {}, tmp_path / "run")
    assert len(system.requests) == 6
    assert [judge["judge"] for judge in result["judges"]] == ["scripted/judge", "paid/other"]
    (pair,) = result["agreement"]
    assert (pair["a"], pair["b"], pair["items"]) == ("scripted/judge", "paid/other", 3)
    inside = json.loads((tmp_path / "run" / "judge-paid-other" / "result.json").read_text())
    assert (inside["reused"], inside["calls"]["in_all"]) == (6, 7)
    assert inside["cost"] == inside["judgments_cost"], "the answers were paid for by the other run"


async def test_old_answers_are_judged_anew_without_the_system(tmp_path: Path) -> None:
    """An item without an old answer fails; the others are judged."""
    files = shelf(tmp_path)
    await measuring(files, grader(), limit=2).measure(Scripted("x", name="paid/system"), {}, tmp_path / "run")
    again = measuring(files, Scripted("[[5]]", name="paid/other"))
    result = await again.measure(Silent("paid/system", tmp_path / "run"), {}, tmp_path / "again", tmp_path / "run")
    assert (result["judged"], result["unasked"], result["score"]) == (4, 1, 5)
    assert any("has no answer to this item" in note for note in result["notes"])


async def test_both_orders_show_how_consistent_a_judge_is(tmp_path: Path) -> None:
    """A judge that prefers the answer shown first is never consistent, and its mean over both orders is a draw."""
    always_first = Scripted("m", name="scripted/judge")
    swap = measuring(shelf(tmp_path), always_first, alpaca_eval.BENCHMARK, flags=frozenset({"swap"}))
    result = await swap.measure(Scripted("an answer", name="paid/system"), {}, tmp_path / "run")
    assert (result["swapped"], result["consistency"], result["swap_win_rate"]) == (12, 0, 50)
    fair = Scripted(
        lambda request: "m" if "m says: an answer" in str(request.messages[-1]) else "M", name="scripted/fair"
    )
    one_sided = measuring(shelf(tmp_path), fair, alpaca_eval.BENCHMARK, flags=frozenset({"swap"}))
    result = await one_sided.measure(Scripted("an answer", name="paid/system"), {}, tmp_path / "other")
    assert result["consistency"] == 100
    assert result["swap_win_rate"] == pytest.approx(result["win_rate"])


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 45), st.integers(0, 5))
def test_a_sample_has_every_stratum_in_proportion(strata: list[str], size: int, seed: int) -> None:
    """Within two items of its share; a larger sample of the same seed contains a smaller one; the order stays."""
    items = [*enumerate(strata)]
    drawn = chosen(items, None, size, seed, lambda item: item[1])
    assert drawn == sorted(drawn)
    assert len(drawn) == min(size, len(items))
    assert {*drawn} <= {*chosen(items, None, size + 3, seed, lambda item: item[1])}
    for name in {*strata}:
        share = strata.count(name) * min(size, len(items)) / len(items)
        assert abs(sum(item[1] == name for item in drawn) - share) <= 2
    assert chosen(items, size, None, seed, lambda item: item[1]) == items[:size]


@pytest.mark.parametrize("module", [alpaca_eval, mt_bench, flask])
async def test_a_sample_is_measured_and_recorded(module: Any, tmp_path: Path) -> None:
    """Only its items are asked, and only they are scored, also where the folder holds others."""
    files, system = shelf(tmp_path), Scripted("an answer", name="paid/system")
    judge = Preferring("an answer") if module is alpaca_eval else grader()
    whole = await measuring(files, judge, module.BENCHMARK).measure(system, {}, tmp_path / "run")
    calls = len(system.requests)
    part = await measuring(files, judge, module.BENCHMARK, sample=2, seed=4).measure(system, {}, tmp_path / "run")
    assert (part["sample"], part["seed"], len(system.requests)) == (2, 4, calls)
    assert part["judged"] < whole["judged"]


@pytest.mark.parametrize("module", [alpaca_eval, mt_bench, flask])
async def test_a_forecast_calls_nothing_and_counts_every_call(module: Any, tmp_path: Path) -> None:
    """Its items and calls are those of the run that follows."""
    files, judge = shelf(tmp_path), Preferring("x", name="paid/judge") if module is alpaca_eval else grader()
    one, two, boss = (Scripted("x", name=f"paid/{name}") for name in ("one", "two", "boss"))
    system = Mixture([[one, two]], boss, name="duo", prices=PRICES)
    found = await forecast(module.BENCHMARK, files, Options(), system, [judge], PRICES, tmp_path / "run")
    assert (one.requests, boss.requests) == ([], [])
    assert found.answers_cost.dollars
    assert "assumed" in found.assumptions[0]
    result = await measuring(files, judge, module.BENCHMARK).measure(system, {}, tmp_path / "run")
    assert found.answers + found.judgments == result["calls"]["in_all"]
    assert found.agents == len(one.requests) + len(two.requests) + len(boss.requests)
    again = await forecast(module.BENCHMARK, files, Options(), system, [judge], PRICES, tmp_path / "run", repeats=2)
    assert (again.answers, "the mean of" in again.assumptions[0]) == (2 * found.answers, True)
    unknown = await forecast(
        module.BENCHMARK, files, Options(), Scripted("x", name="nobody/x"), [judge], PRICES, tmp_path / "none"
    )
    assert unknown.answers_cost == Cost(None)


def test_agreement_is_what_chance_does_not_explain() -> None:
    """Kappa is 1 for equal verdicts, 0 for independent ones; a difference of two grades weighs more than one of one."""
    rates, grades = alpaca_eval.BENCHMARK.metric, mt_bench.BENCHMARK.metric
    assert agreed(rates, [(90, 70), (10, 30), (60, 51), (20, 0)]) == {"same": 100, "kappa": 1}
    assert agreed(rates, [(90, 90), (90, 10), (10, 90), (10, 10)])["kappa"] == 0
    assert agreed(rates, [(90, 70)])["kappa"] is None
    assert agreed(grades, []) == {"same": None, "kappa": None}
    near, far = ([(1, 1), (9, 9), (5, 5 + gap)] for gap in (1, 4))
    assert agreed(grades, near)["kappa"] > agreed(grades, far)["kappa"]


def test_systems_differ_by_everything_that_defines_them() -> None:
    """A sampling field, a persona, a deadline, a schedule, a member's member; not the process, nor a setting's default."""

    def boss(**settings: Any) -> Agent:
        return Agent(Scripted("x", name="scripted/boss"), **settings)

    def made(aggregator: Agent | None = None, inner: str = "one", **settings: Any) -> Mixture:
        members = [Scripted("x", name=f"scripted/{name}") for name in (inner, "two")]
        return Mixture([[Mixture([members], boss(), name="inner"), *members]], aggregator or boss(), **settings)

    every = [
        made(),
        made(boss(sampling={"temperature": 0.1})),
        made(boss(persona="terse")),
        made(deadline=9),
        made(min_proposals=2),
        made(schedule=Quorum(1)),
        made(schedule=EarlyExit(Quorum(2))),
        made(exact=True),
        made(inner="other"),
    ]
    assert len({digest(each) for each in every}) == len(every)
    assert digest(made(references="user")) == digest(made())
    assert " at 0x" not in str(definition(every[6]))


def test_every_benchmark_with_a_judge_names_one_that_exists() -> None:
    """The official judges of the older ones were shut down; what they were is recorded."""
    for benchmark in ALL:
        assert benchmark.judge is None or "gpt-4" not in benchmark.judge
    assert alpaca_eval.BENCHMARK.official == "openai/gpt-4-1106-preview"
