"""Tool calls of custom models: they come out whole, with an identity each, or the model has failed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from moa import Answer, Delta, Mixture, Request
from moa.errors import AggregatorFailed
from tests.mixture.panels import model
from tests.mixture.test_tool_loops import tool_step

pytestmark = pytest.mark.anyio


class Calling:
    """Streams these pieces of tool calls, then its finish reason."""

    name = "mine/calling"

    def __init__(self, *pieces: Mapping[str, Any], finish_reason: str = "tool_calls") -> None:
        self.pieces, self.finish_reason = pieces, finish_reason

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        for piece in self.pieces:
            yield Delta(tool_calls=(piece,))
        yield Delta(finish_reason=self.finish_reason)


async def answer(calling: Calling) -> Answer:
    return await Mixture([[model("advice")]], calling).answer(tool_step(0))


@pytest.mark.parametrize(
    ("piece", "why"),
    [
        ({"index": 0, "function": {"arguments": '{"a":'}}, "a tool call has no name"),
        ({"index": 0, "id": "c", "function": {"name": "look", "arguments": '{"a":'}}, "in the middle of its arguments"),
    ],
)
async def test_half_a_call_is_no_answer(piece: Mapping[str, Any], why: str) -> None:
    """A call without a name, or with half of its arguments, is a failure and never a whole answer."""
    with pytest.raises(AggregatorFailed, match=why):
        await answer(Calling(piece))


@pytest.mark.parametrize("finish_reason", ["tool_calls", "stop"])
async def test_what_a_call_lacks_is_added(finish_reason: str) -> None:
    """Calls without IDs, types or arguments get their own, and the finish reason says that there are calls."""
    calling = Calling({"function": {"name": "one"}}, {"function": {"name": "two"}}, finish_reason=finish_reason)
    received = await answer(calling)
    assert [call["function"] for call in received.tool_calls] == [
        {"name": "one", "arguments": "{}"},
        {"name": "two", "arguments": "{}"},
    ]
    assert len({call["id"] for call in received.tool_calls}) == 2
    assert (received.finish_reason, received.tool_calls[0]["type"]) == ("tool_calls", "function")


async def test_a_cut_call_keeps_its_half() -> None:
    """At max_tokens the client gets what there is, with the finish reason that says so."""
    half = {"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": '{"a":'}}
    received = await answer(Calling(half, finish_reason="length"))
    assert (received.finish_reason, received.tool_calls[0]["function"]["arguments"]) == ("length", '{"a":')
