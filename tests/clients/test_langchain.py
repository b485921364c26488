"""LangChain's ``ChatOpenAI``, by Chat Completions, which is its default, and by Responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from tests.fakes.packages import needs
from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream, call_tool, say

pytestmark = [pytest.mark.anyio, pytest.mark.slow, needs("langchain_openai", install="uv sync --group clients")]


class City(BaseModel):
    """A city and its weather."""

    name: str
    rains: bool


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


@pytest.fixture(params=["chat", "responses"])
async def model(request: pytest.FixtureRequest, server: Served) -> AsyncIterator[Any]:
    from langchain_openai import ChatOpenAI

    by_responses = request.param == "responses"
    async with httpx.AsyncClient() as http:
        yield ChatOpenAI(
            model="moa/trio",
            base_url=server.url,
            api_key="none",
            max_retries=0,
            use_responses_api=by_responses,
            http_async_client=http,
        )


async def test_a_question_is_answered(model: Any) -> None:
    """The answer of the aggregator comes with its usage."""
    answer = await model.ainvoke([("system", "Be brief."), ("user", "Why?")])
    assert answer.text == "the whole answer"
    assert answer.usage_metadata["total_tokens"] == 15


async def test_a_stream_has_every_word(model: Any) -> None:
    """The pieces together are the answer."""
    pieces = [piece.text async for piece in model.astream("Why?")]
    assert "".join(pieces) == "the whole answer"
    assert len(list(filter(None, pieces))) > 1


async def test_a_tool_loop(model: Any, upstream: Upstream) -> None:
    """The call has its arguments, and the aggregator reads its result."""
    from langchain_core.messages import HumanMessage
    from langchain_core.tools import tool

    upstream.script("last", call_tool("weather", {"city": "Bern"}), say("It rains."))
    tools = tool(weather)
    bound, question = model.bind_tools([tools]), HumanMessage("Weather?")
    call = await bound.ainvoke([question])
    result = await tools.ainvoke(call.tool_calls[0])
    assert (await bound.ainvoke([question, call, result])).text == "It rains."
    assert upstream.calls("last")[-1].body["messages"][-1]["content"] == "rain in Bern"


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
async def test_an_object_is_an_answer(model: Any, upstream: Upstream, method: str) -> None:
    """A schema as a format, or as a tool, gives the object."""
    city = City(name="Bern", rains=True)
    as_text, as_tool = say(city.model_dump_json()), call_tool("City", city.model_dump())
    upstream.script("last", as_text if method == "json_schema" else as_tool)
    assert await model.with_structured_output(City, method=method).ainvoke("Weather?") == city
