"""Pydantic AI, by each of the three APIs that it speaks with a base URL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.fakes.packages import needs
from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream, call_tool, say

pytestmark = [pytest.mark.anyio, pytest.mark.slow, needs("pydantic_ai", "anthropic", install="uv sync --group clients")]


class City(BaseModel):
    name: str
    rains: bool


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


@pytest.fixture(params=["chat", "responses", "messages"])
async def model(request: pytest.FixtureRequest, server: Served) -> AsyncIterator[Any]:
    from anthropic import AsyncAnthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.providers.openai import OpenAIProvider

    if request.param == "messages":
        async with AsyncAnthropic(base_url=server.origin, api_key="none", max_retries=0) as client:
            yield AnthropicModel("moa/trio", provider=AnthropicProvider(anthropic_client=client))
    else:
        kind = OpenAIChatModel if request.param == "chat" else OpenAIResponsesModel
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
            yield kind("moa/trio", provider=OpenAIProvider(openai_client=client))


async def test_a_question_is_answered(model: Any) -> None:
    """The answer of the aggregator is the agent's, with its usage."""
    from pydantic_ai import Agent

    result = await Agent(model, instructions="Be brief.").run("Why?")
    assert result.output == "the whole answer"
    assert result.usage.total_tokens == 15


async def test_a_stream_has_every_word(model: Any) -> None:
    """The pieces together are the answer."""
    from pydantic_ai import Agent

    async with Agent(model).run_stream("Why?") as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
    assert "".join(pieces) == "the whole answer"
    assert len(pieces) > 1


async def test_a_tool_loop(model: Any, upstream: Upstream) -> None:
    """The agent runs the call, and the aggregator reads its result."""
    from pydantic_ai import Agent

    upstream.script("last", call_tool("weather", {"city": "Bern"}), say("It rains."))
    result = await Agent(model, tools=[weather]).run("Weather?")
    assert result.output == "It rains."
    assert upstream.calls("last")[-1].body["messages"][-1]["content"] == "rain in Bern"


async def test_an_object_is_an_answer(model: Any, upstream: Upstream) -> None:
    """A schema as a tool, which is the default, gives the object."""
    from pydantic_ai import Agent

    city = City(name="Bern", rains=True)
    upstream.script("last", call_tool("final_result", city.model_dump()))
    assert (await Agent(model, output_type=City).run("Weather?")).output == city
