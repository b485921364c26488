"""The part of a mixture that answers: with_panel."""

from __future__ import annotations

import re
from typing import Any

import pytest

from moa import Mixture, Scripted
from moa.errors import ConfigError
from moa.schedules import Quorum
from tests.mixture.panels import model

pytestmark = pytest.mark.anyio


def mixture(**settings: Any) -> Mixture:
    """Two layers, an aggregator and a fallback."""
    ann, bob, cat = (model(name, f"x/{name}") for name in ("ann", "bob", "cat"))
    return Mixture([[ann, bob], [bob, cat]], model("last", "x/last"), fallbacks=[model("spare", "x/spare")], **settings)


@pytest.mark.parametrize(
    ("chosen", "layers", "answers"),
    [
        ({"only": ["ann"]}, [["ann"]], "last"),
        ({"only": ["x/bob"]}, [["bob"], ["bob"]], "last"),
        ({"without": ["bob"]}, [["ann"], ["cat"]], "last"),
        ({"layers": 1}, [["ann", "bob"]], "last"),
        ({"layers": 0}, [], "last"),
        ({"aggregator": "cat", "layers": 1}, [["ann", "bob"]], "cat"),
        ({"aggregator": "x/spare"}, [["ann", "bob"], ["bob", "cat"]], "spare"),
    ],
)
async def test_a_panel_is_the_part_that_is_called(
    chosen: dict[str, Any], layers: list[list[str]], answers: str
) -> None:
    """Proposers are named by name or by model; the aggregator is any agent of the mixture."""
    answer = await mixture().with_panel(**chosen).answer("Why?")
    called = [[call.agent for call in answer.calls if call.layer == number] for number in range(1, len(layers) + 1)]
    assert (called, answer.text) == (layers, answers)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"only": ["anne"]}, "no proposer of moa/mixture is called 'anne'; did you mean 'ann'"),
        ({"without": ["dora"]}, "no proposer of moa/mixture is called 'dora'"),
        ({"aggregator": "lost"}, "no agent of moa/mixture is called 'lost'; did you mean 'last'"),
        ({"only": ["ann"], "without": ["ann"]}, "leave no proposer"),
        ({"only": ["ann"], "layers": 3}, "layers is 3"),
        ({"when": "disagree"}, "first is 2, but the first layer has 2"),
        ({"when": "sometimes"}, "when is 'sometimes'; expected one of always, disagree, tool"),
        ({"when": "tool", "layers": 0}, "there is no layer of proposers"),
    ],
)
def test_a_panel_that_cannot_be_is_refused(chosen: dict[str, Any], message: str) -> None:
    """The error names the value, and the nearest name."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        mixture().with_panel(**chosen)


def test_a_panel_has_an_identity_of_its_own() -> None:
    """Caches and the memory of turns never serve the proposals of one panel to another; equal panels are one object."""
    whole = mixture()
    parts = [whole, *(whole.with_panel(only=[name]) for name in ("ann", "bob")), whole.with_panel(aggregator="spare")]
    assert len({part.traits.identity for part in parts}) == 4
    assert len({part.proposal_identity for part in parts}) == 3
    assert whole.with_panel(only=["ann"]) is whole.with_panel(only=["ann"])
    assert whole.with_panel() is whole


def test_limits_for_more_members_give_way() -> None:
    """min_proposals and a quorum that fewer members cannot reach do not forbid the panel."""
    part = mixture(min_proposals=2, schedule=Quorum(2)).with_panel(only=["ann"])
    assert part.min_proposals == 1
    assert repr(part.plan.schedule) == "Barrier()"


async def test_a_mixture_without_an_aggregator_answers_requests_with_tools_by_a_member_of_the_panel() -> None:
    """Where the first proposer stands in as the aggregator and the panel lacks it, the first of the panel does."""
    whole = Mixture([[model("ann", "x/ann"), model("bob", "x/bob")]], aggregate="central")
    assert [*whole.with_panel(without=["ann"]).aggregators] == ["bob"]


LEVELS: dict[str, Any] = {
    "low": {"model": Scripted("alone", name="x/alone")},
    "high": {"samples": 2, "rounds": 3, "only": ["bob"]},
}


@pytest.mark.parametrize(
    ("effort", "called"),
    [
        (None, ["ann", "bob", "bob", "cat", "last"]),
        ("medium", ["ann", "bob", "bob", "cat", "last"]),
        ("minimal", ["alone"]),
        ("low", ["alone"]),
        ("high", ["bob", "bob-2"] * 4 + ["last"]),
        ("xhigh", ["bob", "bob-2"] * 4 + ["last"]),
        ("a vendor's own", ["ann", "bob", "bob", "cat", "last"]),
    ],
)
async def test_effort_chooses_the_part_that_answers(effort: str | None, called: list[str]) -> None:
    """A level that the table lacks is the nearest lower one, else the lowest; medium is the mixture itself."""
    answer = await mixture(effort=LEVELS).answer("Why?", reasoning_effort=effort)
    assert [call.agent for call in answer.calls] == called


async def test_models_get_the_effort_of_the_request_unless_the_level_has_one_for_them() -> None:
    """Without a value in the level, members receive what they receive without a table."""
    ann, last = model("ann", "x/ann"), model("last", "x/last")
    both = Mixture([[ann]], last, effort={"high": {"samples": 2}, "low": {"layers": 0, "reasoning_effort": "none"}})
    await both.answer("Why?", reasoning_effort="high")
    await both.answer("Why?", reasoning_effort="low")
    assert [request.body["reasoning_effort"] for request in ann.requests + last.requests] == ["high"] * 3 + ["none"]


@pytest.mark.parametrize(
    ("effort", "message"),
    [
        ({"lots": {}}, "effort.lots: no such level"),
        ({"low": {"only": ["dora"]}}, "effort.low: no proposer of moa/mixture is called 'dora'"),
        ({"low": {"only": "ann"}}, "effort.low: only is 'ann'; expected a list"),
        ({"low": {"sample": 2}}, "effort.low: no such field 'sample'"),
        ({"low": {"samples": 0}}, "effort.low: samples is 0"),
        ({"low": {"model": "x/ann", "samples": 2}}, "effort.low: model answers alone"),
        ({"high": {"when": "disagree"}}, "effort.high: moa/mixture: first is 2"),
    ],
)
def test_a_level_that_cannot_answer_is_refused(effort: dict[str, Any], message: str) -> None:
    """When the mixture is made, not when somebody asks for that level."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        mixture(effort=effort)
