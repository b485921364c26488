"""An answer without text is an answer where OpenAI's API gives it as one, and no answer otherwise."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from moa.errors import AggregatorFailed, RateLimited
from moa.messages import Delta, Request, Usage
from moa.mixture.mixture import Mixture
from moa.models.retries import Retried
from moa.models.scripted import Scripted

pytestmark = pytest.mark.anyio


class Deltas:
    """A model that answers with these deltas, and counts its calls."""

    def __init__(self, *deltas: Delta, name: str = "x/odd") -> None:
        self.name, self.calls, self._deltas = name, 0, deltas

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.calls += 1
        for delta in self._deltas:
            yield delta


STOP, FALLBACK = Delta(finish_reason="stop"), Scripted("from the fallback", name="x/fallback")
# Each shape as https://platform.openai.com/docs/api-reference/chat-streaming gives it.
WITHOUT_TEXT = [
    # openai/openai-agents-js#1686
    pytest.param([Delta(extra={"refusal": "I can"}), Delta(extra={"refusal": "not."}), STOP], "stop", id="refusal"),
    # BerriAI/litellm#8953
    pytest.param([Delta(finish_reason="content_filter")], "content_filter", id="filtered to nothing"),
    # BerriAI/litellm#37710
    pytest.param([Delta(reasoning="Hm"), Delta(finish_reason="length")], "length", id="cut while reasoning"),
    pytest.param([Delta(extra={"images": [{"type": "image_url"}]}), STOP], "stop", id="images"),
    pytest.param([Delta(extra={"audio": {"id": "a", "data": "AA"}}), STOP], "stop", id="audio"),
    pytest.param(
        [Delta(extra={"function_call": {"name": "f", "arguments": "{}"}}), Delta(finish_reason="function_call")],
        "function_call",
        id="function call",
    ),
]


@pytest.mark.parametrize(("deltas", "reason"), WITHOUT_TEXT)
async def test_it_is_an_answer(deltas: list[Delta], reason: str) -> None:
    """The run succeeds with the model's own finish reason, and no fallback is called."""
    model = Deltas(*deltas)
    fallback = Scripted("from the fallback", name="x/fallback")
    result = await Mixture([[Scripted("p")]], model, fallbacks=[fallback]).answer("Why?")
    assert (result.text, result.finish_reason, result.error) == ("", reason, None)
    assert (model.calls, fallback.requests) == (1, [])
    assert bool(result.degraded) == (reason in ("content_filter", "length"))


async def test_a_stop_sequence_may_end_a_text_at_once() -> None:
    """Our own reading of the API: with ``stop`` in the request, an empty text with the reason ``stop`` is complete."""
    model = Deltas(STOP)
    result = await Mixture([[Scripted("p")]], model).answer(
        {"messages": [{"role": "user", "content": "?"}], "stop": ["\n"]}
    )
    assert (result.text, result.finish_reason, model.calls) == ("", "stop", 1)


# algorithmicsuperintelligence/optillm#60: empty answers
@pytest.mark.parametrize(
    "text", ["", " \n", "\u200b\u200b", "\ufeff", "\u2060 \u00ad\u200e", "\ufe0f\u034f", "\u2800\u3164\uffa0\u115f"]
)
async def test_nothing_to_see_is_no_answer(text: str) -> None:
    """Nothing, or only invisible characters, calls the fallback; without one, the run fails."""
    result = await Mixture([[Scripted("p")]], Deltas(Delta(text), STOP), fallbacks=[FALLBACK]).answer("Why?")
    assert result.text == "from the fallback"
    with pytest.raises(AggregatorFailed, match="returned no text"):
        await Mixture([[Scripted("p")]], Deltas(Delta(text), STOP)).answer("Why?")


@pytest.mark.parametrize("deltas", [[Delta("\u200b"), STOP], [Delta(extra={"refusal": "No."}), STOP]])
async def test_it_is_no_proposal(deltas: list[Delta]) -> None:
    """A proposal without visible text is dropped, and ``degraded`` says why."""
    last = Scripted("fine", name="x/last")
    result = await Mixture([[Deltas(*deltas), Scripted("p")]], last).answer("Why?")
    assert [proposal.text for proposal in result.proposals] == ["p"]
    assert "was dropped: it re" in result.degraded[0]


BOOKKEEPING: list[Any] = [
    # Azure's chunks: https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-streaming
    pytest.param(Delta(extra={"content_filter_results": {"hate": {"filtered": False}}}), id="filter results"),
    pytest.param(Delta(usage=Usage(10, 0)), id="usage"),  # our own reading: servers that count in every chunk
]


@pytest.mark.parametrize("delta", BOOKKEEPING)
async def test_bookkeeping_begins_no_answer(delta: Delta) -> None:
    """A call that fails after bookkeeping alone is retried; when the answer begins, the bookkeeping precedes it."""

    class Busy:
        name = "x/busy"
        calls = 0

        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            self.calls += 1
            yield delta
            if self.calls == 1:
                raise RateLimited(self.name, "slow down", status=429)
            yield Delta("fine", finish_reason="stop")

    busy = Busy()
    stream = Retried(busy, wait_initial=0, wait_jitter=0).stream(Request.of("Why?"))
    deltas = [each async for each in stream]
    assert [each for each in deltas if each.in_flight is None] == [delta, Delta("fine", finish_reason="stop")]
    assert busy.calls == 2
