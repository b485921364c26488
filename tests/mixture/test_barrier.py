from __future__ import annotations

import asyncio
from typing import Any

import pytest

from moa import Mixture, Scripted
from moa.messages import Request, text_of
from moa.mixture.draft import Draft
from moa.mixture.events import AgentStarted
from moa.schedules import Barrier
from tests.mixture.writers import long_text, run, writer


@pytest.mark.anyio
async def test_the_barrier_gives_the_usable_proposals_in_the_order_of_the_layer() -> None:
    """It waits for every draft, leaves out those that were dropped, and ignores the order of arrival."""
    drafts = [Draft(name, 1) for name in "abc"]
    reading = asyncio.ensure_future(anext(Barrier().readings([drafts], lambda draft, reason: None)))
    drafts[2].finish()
    drafts[1].drop("failed")
    await asyncio.sleep(0)
    assert not reading.done()
    drafts[0].finish()
    assert [reference.agent for reference in (await reading).references] == ["a", "c"]
    assert reading.result().last


def test_a_warm_barrier_sends_the_growing_prompt_ahead() -> None:
    """Each warming prompt is a prefix of the next one and of the answer's; references are in order of arrival."""
    last = writer("answer")
    layer = [writer("slow", words=60), writer("quick", words=20), writer("middle", words=40)]
    events, answer = run(Mixture([layer], last, schedule=Barrier(warm=True)))
    prompts = [text_of(request.messages[0]) for request in last.requests]
    assert len(prompts) == 3
    assert prompts[1].startswith(prompts[0]) and prompts[2].startswith(prompts[1])
    assert [request.body.get("max_tokens") for request in last.requests] == [1, 1, None]
    assert prompts[2].index("quick0") < prompts[2].index("middle0") < prompts[2].index("slow0")
    assert answer.text == long_text("answer")
    assert len(answer.calls) == 4
    assert sum(isinstance(event, AgentStarted) and event.agent == "answer" for event in events) == 1
    assert answer.calls[-1].usage is not None
    assert answer.calls[-1].usage.input_tokens > sum(len(prompt) for prompt in prompts) / 4 - 10


def test_a_warming_call_that_fails_changes_nothing() -> None:
    """The failure is ignored, and the answer is the same as without warming."""

    def refuse_short(request: Request) -> str:
        if request.body.get("max_tokens") == 1:
            raise OSError("no")
        return "fine"

    last = Scripted(refuse_short, name="scripted/last")
    _, answer = run(Mixture([[writer("p", words=10), writer("q")]], last, schedule=Barrier(warm=True)))
    assert answer.text == "fine"
    assert answer.degraded == ()


@pytest.mark.parametrize("settings", [{"references": "system"}, {"aggregate": "central"}])
def test_a_prompt_that_is_not_append_only_is_not_warmed(settings: dict[str, Any]) -> None:
    """References in the system message precede the question, so no prefix could be reused."""
    last = writer("answer")
    run(Mixture([[writer("p", words=10), writer("q")]], last, schedule=Barrier(warm=True), **settings))
    assert len(last.requests) == (settings.get("aggregate") != "central")
