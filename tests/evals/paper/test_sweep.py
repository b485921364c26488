"""Mixtures that differ in one setting, measured side by side; and the cost of a query."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from moa.errors import ConfigError
from moa.evals.benchmarks import mt_bench
from moa.evals.paper import sweep
from moa.evals.pareto import pareto
from moa.evals.reading.cost import sizes, unsized, work
from moa.evals.reading.measured import measured
from moa.mixture.agent import Agent
from moa.mixture.mixture import Mixture
from moa.mixture.plan import Plan
from moa.mixture.schedules.early_exit import EarlyExit
from moa.mixture.schedules.quorum import Quorum
from moa.models.scripted import Scripted
from moa.prices import Price, Prices
from tests.evals.test_bench_cli import TOML, verdict
from tests.fakes import small_benchmarks
from tests.fakes.measured_runs import measure
from tests.fakes.terminal import run
from tests.fakes.upstream import Upstream, say


def mixture(count: int = 3, layers: int = 1, **settings: Any) -> Mixture:
    layer = [Agent(Scripted(f"says {n}", name=f"scripted/m{n}"), sampling={"temperature": 0.7}) for n in range(count)]
    return Mixture([layer] * layers, Scripted("the answer", name="scripted/boss"), name="base", **settings)


def shape(variant: sweep.Variant) -> tuple[str, list[list[str]], str]:
    made = variant.mixture
    layers = [[agent.model.name.removeprefix("scripted/") for agent in layer.values()] for layer in made.layers]
    return variant.label, layers, made.aggregator.model.name.removeprefix("scripted/")


def test_proposers_are_samples_of_one_model_or_different_models() -> None:
    """There is no multiple without enough different models; samples of one model have different seeds."""
    variants = [*sweep.proposers(mixture(), (1, 3, 6))]
    assert [shape(variant) for variant in variants] == [
        ("multiple-1", [["m0"]], "boss"),
        ("single-1", [["boss"]], "boss"),
        ("multiple-3", [["m0", "m1", "m2"]], "boss"),
        ("single-3", [["boss"] * 3], "boss"),
        ("single-6", [["boss"] * 6], "boss"),
    ]
    six = variants[-1].mixture
    assert [agent.sample for agent in six.layers[0].values()] == [1, 2, 3, 4, 5, 6]
    assert variants[2].setting == {"models": "multiple", "proposers": 3}


def test_layers_start_with_the_aggregator_alone_and_repeat_the_last_one() -> None:
    """As in the paper, the aggregator's layer counts."""
    assert [shape(variant) for variant in sweep.layers(mixture(2), 3)] == [
        ("layers-1", [], "boss"),
        ("layers-2", [["m0", "m1"]], "boss"),
        ("layers-3", [["m0", "m1"]] * 2, "boss"),
    ]


def test_synthesizing_is_compared_with_selecting() -> None:
    """The proposers are the same; only the aggregation differs."""
    made = [(variant.label, variant.mixture) for variant in sweep.rankers(mixture())]
    ways = {label: (model.aggregate, len(model.layers)) for label, model in made if isinstance(model, Mixture)}
    assert ways == {
        "writes": ("synthesize", 1),
        "picks": ("select", 1),
        "central": ("central", 1),
        "alone": ("synthesize", 0),
    }


def test_every_model_is_tried_in_both_roles() -> None:
    """As a proposer it fills the layer; as an aggregator it reads the mixture's own proposals."""
    found = {label: (layers, aggregator) for label, layers, aggregator in map(shape, sweep.roles(mixture(2)))}
    assert [*found] == [
        f"{role}-scripted_{name}" for name in ("m0", "m1", "boss") for role in ("proposer", "aggregator")
    ]
    assert found["proposer-scripted_m1"] == ([["m1", "m1"]], "boss")
    assert found["aggregator-scripted_m1"] == ([["m0", "m1"]], "m1")


def test_a_variant_keeps_every_other_setting() -> None:
    """All settings of the plan but those that are varied; a smaller layer needs fewer proposals, also for a quorum."""
    of = mixture(
        references="system",
        prompt="Merge these.",
        min_proposals=2,
        anonymous=False,
        schedule=EarlyExit(Quorum(2, grace=3.0)),
        deadline=9.0,
        patience=30.0,
        max_cost=0.5,
        fanout="every",
        exact=True,
        progress=True,
        prices=Prices({"paid/*": Price(1, 1)}),
    )
    (variant, *_) = sweep.proposers(of, [1])
    plan, default = variant.mixture.plan, mixture().plan
    varied = {"name", "layers", "aggregators", "aggregate", "min_proposals", "memory", "aggregation", "schedule"}
    varied |= {"has_aggregator", "reads", "keep", "when", "first", "effort", "member_effort"}
    for field in fields(Plan):
        if field.name not in varied:
            assert getattr(plan, field.name) == getattr(of.plan, field.name) != getattr(default, field.name)
    assert (plan.name, plan.min_proposals) == ("moa/base-multiple-1", 1)
    assert repr(plan.schedule) == repr(EarlyExit(Quorum(1, grace=3.0)))
    assert next(iter(plan.layers[0].values())).sampling == {"temperature": 0.7}


def test_a_mixture_without_proposers_has_no_variants() -> None:
    """There is nothing to vary."""
    with pytest.raises(ConfigError, match="has no proposers"):
        [*sweep.layers(Mixture([], Scripted("x"), name="lone"))]


def test_the_front_has_every_point_that_no_other_beats() -> None:
    """It is ordered by cost; equal points are both on it."""
    assert pareto([(3, 5), (1, 2), (2, 2), (2, 4), (1, 2), (4, 5)]) == [1, 4, 3, 0]
    assert pareto([]) == []


@pytest.mark.anyio
async def test_work_needs_the_size_of_every_model(tmp_path: Path) -> None:
    """It is 2 x parameters x tokens; the longest path has each layer's largest call; one unknown size makes it unknown."""
    found = measured(await measure(tmp_path, mixture(2), limit=3))
    sizes = {"scripted/m0": 1.0, "scripted/m1": 10.0, "scripted/boss": 100.0}
    calls = {
        name: sum(
            call["usage"]["input_tokens"] + call["usage"]["output_tokens"]
            for row in found.answers
            for call in row["calls"]
            if call["model"] == name
        )
        for name in sizes
    }
    done = work(found, sizes)
    assert done is not None
    assert done.total == pytest.approx(sum(2e9 * size * calls[name] for name, size in sizes.items()) / 1e12 / 3)
    assert done.longest == pytest.approx(done.total - 2e9 * calls["scripted/m0"] / 1e12 / 3)
    assert work(found, {"scripted/m0": 1.0}) is None
    assert unsized(found, {"scripted/m0": 1.0}) == ["scripted/boss", "scripted/m1"]


@pytest.mark.anyio
async def test_the_cost_of_a_query_is_that_of_all_its_calls_or_unknown(tmp_path: Path) -> None:
    """Two turns of a question are one query; a model without a price makes the sum a lower bound, or unknown."""
    paid = Scripted("word", name="paid/one")
    found = measured(await measure(tmp_path, paid, mt_bench.BENCHMARK))
    tokens = sum(row["usage"]["input_tokens"] + row["usage"]["output_tokens"] for row in found.answers)
    assert (found.queries, len(found.answers)) == (3, 6)
    assert found.cost.dollars == pytest.approx(tokens * 1000 / 1e6 / 3)
    unknown = measured(await measure(tmp_path, Scripted("word", name="nobody/knows"), limit=2))
    assert unknown.cost.dollars is None
    prices = Prices({"paid/*": Price(1000, 1000)})
    both = Mixture([[Scripted("x", name="nobody/knows")]], Scripted("y", name="paid/boss"), name="both", prices=prices)
    partly = measured(await measure(tmp_path, both, limit=2))
    assert partly.cost.at_least
    assert partly.cost.dollars


@pytest.mark.anyio
async def test_one_command_measures_all_variants_and_tabulates_them(tmp_path: Path, upstream: Upstream) -> None:
    """Each variant has its own folder; a second start makes no call; the table has quality, cost and work."""
    toml = TOML.format(base_url=upstream.base_url) + '\n[parameters]\n"up/ann" = 1\n"up/bob" = 2\n"up/boss" = 3\n'
    (tmp_path / "moa.toml").write_text(toml)
    small_benchmarks.alpaca_eval(tmp_path / "data")
    for name in ("ann", "bob", "boss"):
        upstream.script(name, say(f"What {name} says."))
    upstream.script("judge", verdict)
    places = [
        "--config",
        str(tmp_path / "moa.toml"),
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "sweep"),
    ]
    command = ["analyse", "layers", "-m", "duo", "--judge", "up/judge", "--limit", "3", "--deepest", "2", *places]
    ended = await run(*command, "--json")
    assert ended.code == 0, ended.err
    rows = json.loads(ended.out)["rows"]
    assert [(row["layers"], row["judged"], row["failed"]) for row in rows] == [(1, 3, 0), (2, 3, 0)]
    assert [row["dollars"] for row in rows] == [pytest.approx(0.015), pytest.approx(0.045)]
    assert [row["tflops"] for row in rows] == [pytest.approx(2e9 * 15 * size / 1e12) for size in (3, 6)]
    assert rows[1]["tflops_longest_path"] == pytest.approx(2e9 * 15 * 5 / 1e12)
    calls = len(upstream.requests)
    again = await run(*command)
    assert again.code == 0
    assert again.out.startswith("layers\tscore\t")
    assert len(upstream.requests) == calls
    ended = await run("analyse", "cost", str(tmp_path / "sweep"), "--parameters", "up/boss=4", "--json", *places[:2])
    assert [row["system"] for row in json.loads(ended.out)["runs"]] == ["moa/duo-layers-1", "moa/duo-layers-2"]
    assert json.loads(ended.out)["runs"][0]["front, $"] == "yes"


def test_sizes_are_positive_numbers() -> None:
    """Anything else is refused."""
    assert sizes(["a/b=0.135", "a/c=110"]) == {"a/b": 0.135, "a/c": 110}
    for wrong in ("a/b", "a/b=big", "=3", "a/b=-1"):
        with pytest.raises(ConfigError, match="takes NAME=BILLIONS"):
            sizes([wrong])
