"""A mixture of vendors' own APIs: every maker proposes, and Claude calls tools through a loop of several steps."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from moa.messages import Request, collected
from moa.mixture.mixture import Mixture
from moa.models.endpoint import Endpoint
from moa.models.scripted import Scripted
from moa.models.vendors.endpoint import VendorEndpoint
from tests.fakes.packages import needs
from tests.fakes.upstream import Upstream, say
from tests.fakes.vendors import (
    VendorServer,
    candidate,
    claude,
    converse,
    converse_text,
    gemini,
    responses,
    says,
    thinks,
    uses,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,  # the SDKs take seconds to import
    needs("pydantic_ai", install="uv sync --group ci"),
]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


async def test_thinking_survives_a_tool_loop_of_a_mixture(upstream: Upstream) -> None:
    """Four makers propose once; the aggregator's prompt of each step begins as the one before, with all signed thinking.

    The request is one of an OpenAI client: a developer's message, an image three messages ago, ``store``, ``metadata`` and
    ``reasoning_effort``. A further question brings the thinking of the loop before to nobody.
    """
    upstream.script("open", say("Open."))
    steps = [
        claude(thinks(f"Step {n}", signature=f"SIG{n}"), uses("weather", "{}", call=f"toolu_{n}"), stop="tool_use")
        for n in range(3)
    ]
    async with VendorServer() as claudes, VendorServer() as others:
        claudes.answers(*steps, claude(says("Sunny.")))
        google = VendorEndpoint("google", "google", others.url, api_key="k")
        bedrock = VendorEndpoint("bedrock", "bedrock", others.url, api_key="k", region="us-east-1")
        sonar = VendorEndpoint("perplexity", "responses", f"{others.url}/v1", api_key="k")
        anthropic = VendorEndpoint("anthropic", "anthropic", claudes.url, api_key="k")
        chat = Endpoint("open", upstream.base_url)
        others.by_path(
            {
                "streamGenerateContent": gemini(candidate({"text": "Gem."}, finish="STOP")),
                "converse-stream": converse(*converse_text("Bed.")),
                "responses": responses("Pep."),
            }
        )
        async with google, bedrock, sonar, anthropic, chat:
            members = [google.model("gemini-3.8-flash"), bedrock.model("openai.gpt-oss-120b-1:0")]
            members += [sonar.model("perplexity/sonar"), chat.model("open")]
            mixture = Mixture([members], anthropic.model("claude-sonnet-5-5"))
            image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
            messages: list[dict[str, Any]] = [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Look."}, image]},
                {"role": "assistant", "content": "A dot."},
                {"role": "user", "content": "How is the weather?"},
            ]
            fields = {"tools": [{"type": "function", "function": TOOL}], "store": True, "metadata": {"a": "b"}}
            fields |= {"reasoning_effort": "high"}
            for _ in range(4):
                deltas = [delta async for delta in mixture.stream(Request.of({"messages": messages, **fields}))]
                answer = collected(deltas)
                details = [each for delta in deltas if delta.extra for each in delta.extra["reasoning_details"]]
                if not answer.tool_calls:
                    break
                messages += [
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [*answer.tool_calls],
                        "reasoning_details": details,
                    },
                    {"role": "tool", "tool_call_id": answer.tool_calls[0]["id"], "content": "sunny"},
                ]
            assert answer.text == "Sunny."
            prompts = [_unmarked(call.body["messages"]) for call in claudes.calls]
            assert all(text in str(prompts[0]) for text in ("Gem.", "Bed.", "Pep.", "Open."))
            assert len(others.calls) == 3
            assert all(after[: len(before)] == before for before, after in pairwise(prompts))
            assert [each["signature"] for each in _thinking(prompts[-1])] == ["SIG0", "SIG1", "SIG2"]

            messages += [{"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "And tomorrow?"}]
            async for _ in mixture.stream(Request.of({"messages": messages, **fields})):
                pass
            assert _thinking(claudes.calls[-1].body["messages"]) == []


async def test_signed_thinking_goes_back_with_the_call_that_asks_the_proposers() -> None:
    """The maker demands it with the result of a tool that was called after thinking."""
    asks = claude(
        thinks("Hard.", signature="SIG0"), uses("deliberate", '{"question": "Rain?"}', call="toolu_0"), stop="tool_use"
    )
    async with VendorServer() as claudes:
        claudes.answers(asks, claude(thinks("So.", signature="SIG1"), says("Sunny.")))
        async with VendorEndpoint("anthropic", "anthropic", claudes.url, api_key="k") as anthropic:
            model = anthropic.model("claude-sonnet-5-5")
            mixture = Mixture([[Scripted("No rain.", name="x/member")]], model, when="tool")
            answer = await mixture.answer("How is the weather?", reasoning_effort="high")
        assert answer.text == "Sunny." and not answer.tool_calls
        after = claudes.calls[1].body["messages"]
        assert [each["signature"] for each in _thinking(after)] == ["SIG0"]
        assert "No rain." in str(after[-1]) and "toolu_0" in str(after[-1])


def _unmarked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages without the marks of the cache, which move to the end."""
    plain: list[dict[str, Any]] = json.loads(json.dumps(messages))
    for message in plain:
        for part in message["content"]:
            part.pop("cache_control", None)
    return plain


def _thinking(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for message in messages for part in message["content"] if part["type"] == "thinking"]
