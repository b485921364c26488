"""OpenAI's Agents SDK, by Responses, which is its default, and by Chat Completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.fakes.packages import needs
from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream, call_tool, say

pytestmark = [pytest.mark.anyio, pytest.mark.slow, needs("agents", install="uv sync --group clients")]


class City(BaseModel):
    name: str
    rains: bool


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


@pytest.fixture(params=["responses", "chat"])
async def model(request: pytest.FixtureRequest, server: Served) -> AsyncIterator[Any]:
    from agents import OpenAIChatCompletionsModel, OpenAIResponsesModel, set_tracing_disabled

    set_tracing_disabled(True)
    kind = OpenAIResponsesModel if request.param == "responses" else OpenAIChatCompletionsModel
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        yield kind("moa/trio", client)


async def test_a_question_is_answered(model: Any) -> None:
    """The answer of the aggregator is the agent's, with its usage."""
    from agents import Agent, Runner

    result = await Runner.run(Agent(name="one", instructions="Be brief.", model=model), "Why?")
    assert result.final_output == "the whole answer"
    assert result.context_wrapper.usage.total_tokens == 15


async def test_a_stream_has_every_word(model: Any) -> None:
    """The pieces together are the answer."""
    from agents import Agent, Runner

    result = Runner.run_streamed(Agent(name="one", model=model), "Why?")
    pieces = [
        event.data.delta
        async for event in result.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    assert "".join(pieces) == result.final_output == "the whole answer"
    assert len(pieces) > 1


async def test_a_tool_loop(model: Any, upstream: Upstream) -> None:
    """The agent runs the call, and the aggregator reads its result."""
    from agents import Agent, Runner, function_tool

    upstream.script("last", call_tool("weather", {"city": "Bern"}), say("It rains."))
    result = await Runner.run(Agent(name="one", model=model, tools=[function_tool(weather)]), "Weather?")
    assert result.final_output == "It rains."
    assert upstream.calls("last")[-1].body["messages"][-1]["content"] == "rain in Bern"


async def test_an_object_is_an_answer(model: Any, upstream: Upstream) -> None:
    """The schema of ``output_type`` reaches the aggregator, and its JSON comes back as the object."""
    from agents import Agent, Runner

    upstream.script("last", say('{"name": "Bern", "rains": true}'))
    result = await Runner.run(Agent(name="one", model=model, output_type=City), "Weather?")
    assert result.final_output == City(name="Bern", rains=True)
    assert upstream.calls("last")[-1].body["response_format"]["type"] == "json_schema"
