"""Agents that read a part of the answers before them, or those of earlier layers, too; and rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa import Mixture, Scripted, fold
from moa.errors import ConfigError, NoProposals
from moa.events import AgentStarted, AnswerBegan, Event
from moa.messages import Reference
from moa.mixture.prompts import LATER, REFINE, SYNTHESIZE
from moa.mixture.subsets import drawing
from moa.schedules import Barrier, Quorum, Staircase
from tests.mixture.panels import model, prompt_of
from tests.mixture.writers import run, writer

pytestmark = pytest.mark.anyio

FOUR = "abcd"


def four(**changed: Any) -> list[Scripted]:
    """Four models that answer with their name; ``changed`` are other scripts by name."""
    return [Scripted(changed.get(name, f"by {name}"), name=f"x/{name}") for name in FOUR]


def read_by(events: Sequence[Event], layer: int) -> dict[str, tuple[str, ...]]:
    """The references of each agent of a layer."""
    return {
        event.agent: event.references for event in events if isinstance(event, AgentStarted) and event.layer == layer
    }


async def seeded(mixture: Mixture, seed: int) -> list[Event]:
    return [event async for event in mixture.run("Why?", seed=seed)]


async def test_each_agent_reads_other_answers_and_the_same_seed_draws_the_same() -> None:
    """Each agent of the second layer reads two of four, no two the same; each is read twice; another seed draws others."""
    drawn = [read_by(await seeded(Mixture([four(), four()], model("end"), reads=2), seed), 2) for seed in (1, 1, 2)]
    assert all(len(names) == 2 for names in drawn[0].values())
    assert len({frozenset(names) for names in drawn[0].values()}) == 4
    assert sorted(name for names in drawn[0].values() for name in names) == sorted("aabbccdd")
    assert drawn[0] == drawn[1] != drawn[2]


async def test_the_runs_own_seed_draws_where_the_request_has_none() -> None:
    """Over several runs the draws differ."""
    mixture = Mixture([four(), four()], model("end"), reads=2)
    draws = {str(read_by([event async for event in mixture.run("Why?")], 2)) for _ in range(8)}
    assert len(draws) > 1


async def test_the_aggregator_reads_the_whole_last_layer() -> None:
    """A subset is for proposers; the answer is made from all of the last population."""
    last = model("end", "x/last")
    events = [event async for event in Mixture([four(), four()], last, reads=2).run("Why?")]
    assert read_by(events, 3) == {"last": tuple(FOUR)}


async def test_a_proposer_that_failed_is_replaced_in_a_subset() -> None:
    """Two of four fail: every agent reads the two others; three fail: every agent reads the one that is left."""
    gone: Any = [RuntimeError("gone")]
    for names in ("ab", "abc"):
        layers = [four(**dict.fromkeys(names, gone)), four()]
        events = [event async for event in Mixture(layers, model("end"), reads=2).run("Why?")]
        left = tuple(name for name in FOUR if name not in names)
        assert set(read_by(events, 2).values()) == {left}
        assert fold(events).text == "end"


async def test_too_few_proposals_for_the_layer_are_still_too_few() -> None:
    """``min_proposals`` counts the layer, not the subset."""
    gone: Any = [RuntimeError("gone")]
    with pytest.raises(NoProposals, match="only 2 usable proposals in layer 1, and 3 are needed"):
        await Mixture([four(a=gone, b=gone), four()], model("end"), reads=2, min_proposals=3).answer("Why?")


async def test_more_than_there_are_reads_all() -> None:
    """K of the size of the layer or above reads the whole layer; so does a layer of one."""
    for reads in (4, 9):
        events = [event async for event in Mixture([four(), four()], model("end"), reads=reads).run("Why?")]
        assert set(read_by(events, 2).values()) == {tuple(FOUR)}
    one = [event async for event in Mixture([[model("one")]], model("end"), reads=1, rounds=2).run("Why?")]
    assert read_by(one, 2) == {"a": ("a",)}


async def test_rounds_repeat_the_last_layer() -> None:
    """Three rounds of one layer are three layers of the same agents, and each reads the one before."""
    mixture = Mixture([four()], model("end", "x/last"), rounds=3)
    events = [event async for event in mixture.run("Why?")]
    assert mixture.depth == 4
    assert [len(read_by(events, layer)) for layer in (1, 2, 3, 4)] == [4, 4, 4, 1]
    assert set(read_by(events, 3).values()) == {tuple(FOUR)}
    assert fold(events).text == "end"


async def test_a_round_of_recursive_aggregation_has_a_prompt_of_its_own() -> None:
    """Proposers that read a subset improve on attempts; the aggregator merges; a prompt of the user's stays as it is."""
    proposers, last = four(), model("end", "x/last")
    await Mixture([proposers], last, reads=2, rounds=2).answer("Why?")
    assert REFINE in prompt_of(proposers[0], 1)
    assert SYNTHESIZE in prompt_of(last)
    mine, last = four(), model("end", "x/last")
    await Mixture([mine], last, reads=2, rounds=2, prompt="Merge these.").answer("Why?")
    assert "Merge these." in prompt_of(mine[0], 1)
    assert REFINE not in prompt_of(mine[0], 1)


@pytest.mark.parametrize("schedule", [Barrier(), Barrier(warm=True), Quorum(3), Staircase((8, 32))])
def test_every_schedule_gives_at_most_so_many(schedule: Any) -> None:
    """Whatever an agent reads, while proposals grow or at the end, it is two answers, and those it has begun stay."""
    layers = [[writer(name, first=0.1 * place, words=60) for place, name in enumerate(FOUR)] for _ in range(2)]
    events, answer = run(Mixture(layers, writer("z", words=20), schedule=schedule, reads=2))
    read: dict[str, list[set[str]]] = {}
    for event in events:
        if getattr(event, "layer", 0) == 2 and (names := getattr(event, "references", None)) is not None:
            read.setdefault(event.agent, []).append(set(names))  # type: ignore[attr-defined]
    assert read
    for readings in read.values():
        assert all(len(names) <= 2 for names in readings)
        assert len(readings[-1]) == 2
        assert all(one <= readings[-1] for one in readings)
    assert answer.text


async def test_all_layers_reach_every_agent_and_the_aggregator() -> None:
    """An agent reads the first layer, then the next ones; the aggregator, too, and the prompt says which read which."""
    third, last = [model("three", "x/e")], model("end", "x/last")
    layers = [[model("one", "x/a"), model("uno", "x/b")], [model("two", "x/c")], third]
    events = [event async for event in Mixture(layers, last, reads="all-layers").run("Why?")]
    assert read_by(events, 2) == {"c": ("a", "b")}
    assert read_by(events, 3) == {"e": ("a", "b", "c")}
    assert read_by(events, 4) == {"last": ("a", "b", "c", "e")}
    assert [prompt_of(last).index(text) for text in ("one", "uno", "two", "three")] == sorted(
        prompt_of(last).index(text) for text in ("one", "uno", "two", "three")
    )
    assert LATER in prompt_of(third[0])
    assert LATER not in prompt_of(last).replace(LATER, "", 1)


async def test_a_selection_chooses_from_the_last_layer() -> None:
    """With ``all-layers`` an aggregation that selects sees no proposal twice refined and once not."""
    layers = [[model("one", "x/a")], [model("two", "x/b"), model("two", "x/c"), model("six", "x/d")]]
    answer = await Mixture(layers, aggregate="central", reads="all-layers").answer("Why?")
    assert answer.text == "two"


async def test_kept_proposals_of_every_layer_are_reused() -> None:
    """A resumed run calls the agents that are missing, and draws for them."""
    again = four()
    kept = [Reference(name, f"by {name}", layer=1) for name in FOUR] + [Reference("a", "better", layer=2)]
    mixture = Mixture([again], model("end", "x/last"), reads=2, rounds=2)
    events = [event async for event in mixture.run("Why?", kept=kept)]
    assert [len(each.requests) for each in again] == [0, 1, 1, 1]
    assert all(len(names) == 2 for names in read_by(events, 2).values())


async def test_a_turn_keeps_what_the_aggregator_read() -> None:
    """While tool calls continue, the proposals of all layers come back, and no proposer is called."""
    one, two = model("one", "x/a"), model("two", "x/b")
    mixture = Mixture([[one], [two]], model("end", "x/last"), reads="all-layers")
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    asked: list[Any] = [{"role": "user", "content": "Why?"}]
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    results: list[Any] = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]
    await mixture.answer({"messages": asked, "tools": tools})
    events = [event async for event in mixture.run({"messages": [*asked, *results], "tools": tools})]
    began = next(event for event in events if isinstance(event, AnswerBegan))
    assert [(each.agent, each.layer) for each in began.references] == [("a", 1), ("b", 2)]
    assert len(one.requests) == 1


async def test_nested_mixtures_draw_for_themselves() -> None:
    """A mixture that reads subsets is a member like any other."""
    inner = Mixture([four()], model("inner", "x/inner"), reads=2, rounds=2, name="deep")
    assert (await Mixture([[inner, model("other")]], model("end", "x/last")).answer("Why?")).text == "end"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"reads": 0, "rounds": 2}, 'reads is 0; expected a number of answers from 1, or "all-layers"'),
        ({"reads": True, "rounds": 2}, "reads is True; expected"),
        ({"reads": "some", "rounds": 2}, "reads is 'some'; expected"),
        ({"reads": 2}, "reads is 2, which applies to the layers after the first, and there is none"),
        ({"rounds": 0}, "rounds is 0; expected 1 or more"),
        ({"rounds": 1.5}, "rounds is 1.5; expected 1 or more"),
    ],
)
def test_a_wrong_value_is_named(settings: dict[str, Any], expected: str) -> None:
    """A mistake is an error when the mixture is made."""
    with pytest.raises(ConfigError) as caught:
        Mixture([four()], model("end"), **settings)
    assert expected in str(caught.value)


def test_what_proposals_depend_on_includes_what_is_read() -> None:
    """Mixtures that differ in what their agents read, or in rounds, share no proposals."""
    layers, last = [four()], model("end")
    made = [
        Mixture(layers, last, **settings)
        for settings in ({}, {"rounds": 2}, {"rounds": 2, "reads": 2}, {"rounds": 2, "reads": "all-layers"})
    ]
    assert len({each.proposal_identity for each in made}) == len({each.traits.identity for each in made}) == 4


@given(st.integers(1, 8), st.integers(1, 8), st.integers(), st.sets(st.integers(0, 7)))
def test_a_draw_is_a_subset_in_order(size: int, count: int, seed: int, gone: set[int]) -> None:
    """It has K references, or all where there are fewer; each was given, in this order; and it can be repeated."""
    lanes = {(1, str(lane)): lane for lane in range(size)}
    given_ = [Reference(str(lane), "text") for lane in range(size) if lane not in gone]
    drawn = [drawing(count, seed, 2, place, lanes)(given_) for place in range(size)]
    for place, references in enumerate(drawn):
        assert len(references) == min(count, len(given_))
        assert list(references) == [each for each in given_ if each in references]
        assert references == drawing(count, seed, 2, place, lanes)(given_)
    if count < len(given_):
        first = drawn[: len(given_)]
        assert len({tuple(references) for references in first}) == len(first)


def test_requests_are_unchanged_without_the_settings() -> None:
    """A mixture without ``reads`` sends what it sent before: references of several layers get no further words."""
    layout = Mixture([four(), four()], model("end")).plan.layout
    assert (layout.later, layout.prompt) == ("", SYNTHESIZE)
