from __future__ import annotations

import pytest

from moa import Request, Scripted
from moa.messages import text_of
from moa.models.embedded import EmbeddedModel
from moa.models.probe import BEGUN, ways_to_continue
from moa.models.weights import available

pytestmark = pytest.mark.anyio

WHOLE = f"{BEGUN} nine, ten, eleven"


async def test_ways_that_work_are_found() -> None:
    """The probe recognizes servers that continue the last message, that need a flag for it, and that continue in turns."""

    def continues(request: Request) -> str:
        return " nine, ten" if request.messages[-1]["role"] == "assistant" else WHOLE

    def wants_a_flag(request: Request) -> str:
        return " nine, ten" if request.messages[-1].get("prefix") else WHOLE

    def wants_partial(request: Request) -> str:
        return " nine, ten" if request.messages[-1].get("partial") else WHOLE

    def takes_turns(request: Request) -> str:
        return "nine, ten" if "Go on" in text_of(request.messages[-1]) else WHOLE

    assert await ways_to_continue(Scripted(continues)) == ["prefix", "vllm", "flag", "partial"]
    assert await ways_to_continue(Scripted(wants_a_flag)) == ["flag"]
    assert await ways_to_continue(Scripted(wants_partial)) == ["partial"]
    assert await ways_to_continue(Scripted(takes_turns)) == ["turns"]


async def test_a_model_that_starts_over_or_fails_cannot_continue() -> None:
    """Repeating the text, commenting on the request, or refusing it does not count as continuing."""
    assert await ways_to_continue(Scripted(WHOLE)) == []
    assert await ways_to_continue(Scripted("Sure! Here is the rest: nine")) == []


@pytest.mark.slow
@pytest.mark.skipif(not available(), reason="no embedded weights are installed")
async def test_an_embedded_model_continues_its_message() -> None:
    """llama.cpp continues the assistant's last message."""
    async with EmbeddedModel("smollm2", context=1024, slots=1) as model:
        assert "prefix" in await ways_to_continue(model)
