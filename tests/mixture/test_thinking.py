from __future__ import annotations

from typing import Literal

import pytest

from moa import Mixture, Scripted, fold
from moa.messages import Answer
from moa.schedules import Staircase
from tests.fakes.virtual_time import run_in_virtual_time
from tests.mixture.panels import events_of, model, prompt_of
from tests.mixture.writers import run

THOUGHTS = ["<think>\nSECRET\n</think>\n\nVisible", "SECRET\n</think>\n\nVisible"]


@pytest.mark.anyio
@pytest.mark.parametrize("text", THOUGHTS)
async def test_thinking_reaches_neither_the_next_agent_nor_the_answer(text: str) -> None:
    """What a proposer or an aggregator thinks in its text is reasoning, with and without an opening tag."""
    last = model(text, "scripted/last")
    events = await events_of(Mixture([[model(text)], [model(text, "scripted/b")]], last))
    answer = fold(events)
    assert (answer.text, answer.reasoning.strip()) == ("Visible", "SECRET")
    assert [call.text for call in answer.proposals] == ["Visible", "Visible"]
    assert "SECRET" not in prompt_of(last) and "Visible" in prompt_of(last)
    assert answer.degraded == ()


@pytest.mark.anyio
async def test_a_streamed_answer_says_that_its_beginning_was_reasoning() -> None:
    """Where the reader has seen the text, it stays there, and ``degraded`` says so; the record holds the answer."""
    mixture = Mixture([[model("one")]], model(THOUGHTS[1], "scripted/last"))
    run = mixture.run("Why?", restart=False)
    async for _ in run:
        pass
    assert run.answer.text == "Visible"
    assert run.answer.degraded == (
        "the answer of last began with reasoning: it has a closing tag without an opening one",
    )


@pytest.mark.anyio
async def test_the_most_central_proposal_is_compared_without_its_thinking() -> None:
    """``central`` and early exit see what proposers answered, not what they thought."""
    layer = [
        model(f"<think>{'water ' * 9}</think>{said}", f"x/{name}")
        for name, said in (("a", "no"), ("b", "yes"), ("c", "yes"))
    ]
    answer = fold(await events_of(Mixture([layer], model("", "x/last"), aggregate="central")))
    assert answer.text == "yes"


@pytest.mark.anyio
async def test_a_proposer_that_only_thinks_is_dropped() -> None:
    """A proposal that was cut inside its thinking is no reference."""
    cut = model("<think>on and on", "scripted/cut", finish_reason="length")
    answer = fold(await events_of(Mixture([[cut, model("one")]], model("merged", "scripted/last"))))
    assert answer.degraded == ("cut (layer 1) was dropped: it hit max_tokens while reasoning and returned no text",)


@pytest.mark.parametrize("way", ["prefix", "turns"])
def test_pieces_of_a_staircase_may_each_begin_with_thinking(way: Literal["prefix", "turns"]) -> None:
    """An agent that thinks before each piece it writes adds only its answers to its text."""
    proposer = Scripted(
        " ".join(f"word{number}" for number in range(400)), name="x/p", first_token=0.1, tokens_per_second=40
    )
    pieces = [
        f"<think>SECRET {number}</think>piece{number} " + " ".join(f"w{number}x{n}" for n in range(120))
        for number in range(8)
    ]
    writer = Scripted(pieces, name="x/last", tokens_per_second=40, continuation=way)
    _, answer = run(Mixture([[proposer]], writer, schedule=Staircase()))
    assert "SECRET" not in answer.text and "<think>" not in answer.text
    assert "SECRET" in answer.reasoning
    assert all("SECRET" not in str(request.messages) for request in writer.requests)


@pytest.mark.parametrize("restart", [True, False])
def test_thinking_without_an_opening_tag_may_span_the_pieces_of_a_staircase(restart: bool) -> None:
    """A model that continues its thinking to the letter answers behind the closing tag; its next answer streams right."""
    thoughts = " ".join(f"SECRET{number}" for number in range(300))
    said = " ".join(f"word{number}" for number in range(60))
    proposer = Scripted(" ".join(f"p{number}" for number in range(400)), name="x/p", tokens_per_second=40)
    last = Scripted(f"{thoughts}\n</think>\n\n{said}", name="x/last", tokens_per_second=40, continuation="prefix")

    async def ask(mixture: Mixture) -> Answer:
        run = mixture.run("Why?", restart=restart)
        async for _ in run:
            pass
        return run.answer

    first = run_in_virtual_time(ask(Mixture([[proposer]], last, schedule=Staircase())))
    next_one = run_in_virtual_time(ask(Mixture([], last)))
    assert (first.text, next_one.text) == (said, said)
    assert (bool(first.degraded), next_one.degraded) == (not restart, ())
