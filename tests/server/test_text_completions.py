"""The Completions API, with OpenAI's SDK: prompts and their answers, and what a mixture refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream, refuse, say, think

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(server: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("prompt", ["Why?", ["Why?"]])
async def test_a_prompt_is_answered(client: openai.AsyncOpenAI, upstream: Upstream, prompt: Any) -> None:
    """It reaches the models as a user's message, with the sampling of the request, and the text comes back alone."""
    upstream.script("last", think("Hm.", "Because."))
    answer = await client.completions.create(model="moa/trio", prompt=prompt, max_tokens=50, stop=["!"], echo=False)
    (choice,) = answer.choices
    assert (answer.object, choice.text, choice.finish_reason) == ("text_completion", "Because.", "stop")
    assert answer.usage is not None and answer.usage.total_tokens == 15
    assert (answer.model_extra or {})["moa"]["run"] == answer.id.removeprefix("cmpl-")
    assert upstream.calls("a")[-1].body["messages"] == [{"role": "user", "content": "Why?"}]
    last = upstream.calls("last")[-1].body
    assert last["stop"] == ["!"] and not {"prompt", "echo"} & set(last)


@pytest.mark.parametrize("include_usage", [False, True])
async def test_a_stream_has_the_same_text(client: openai.AsyncOpenAI, upstream: Upstream, include_usage: bool) -> None:
    """Of two choices each has its pieces and its reason, and the usage is in a last chunk where the request wants it."""
    upstream.script("last", say("one two three"))
    options: Any = {"include_usage": True} if include_usage else openai.omit
    stream = await client.completions.create(model="moa/shown", prompt="Why?", n=2, stream=True, stream_options=options)
    chunks = [chunk async for chunk in stream]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    for index in (0, 1):
        mine = [choice for choice in choices if choice.index == index]
        assert "".join(choice.text for choice in mine) == "one two three"
        assert [choice.finish_reason for choice in mine if choice.finish_reason] == ["stop"]
    assert {(chunk.id, chunk.object) for chunk in chunks} == {(chunks[0].id, "text_completion")}
    assert bool(chunks[-1].usage) == include_usage
    assert (chunks[-1].model_extra or {})["moa"]["run"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", [1, 2, 3]),
        ("prompt", [[1, 2], [3]]),
        ("prompt", ["Why?", "How?"]),
        ("prompt", []),
        ("echo", True),
        ("suffix", "the end"),
        ("logprobs", 0),
        ("best_of", 3),
        ("stream_options", {"include_usage": True}),
        ("messages", [{"role": "user", "content": "Why?"}]),
        ("tools", [{"type": "function"}]),
    ],
)
async def test_what_a_mixture_cannot_do_is_refused(client: openai.AsyncOpenAI, field: str, value: Any) -> None:
    """The error names the field; nothing is ignored in silence."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/completions", body={"model": "moa/trio", "prompt": "Why?", field: value}, cast_to=object)
    assert caught.value.param == field and f"'{field}'" in caught.value.message


async def test_a_failure_has_a_status(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    """A stream without any words can still become an error."""
    upstream.script("last", refuse(429))
    with pytest.raises(openai.RateLimitError):
        await client.completions.create(model="moa/trio", prompt="Why not?", stream=True)
