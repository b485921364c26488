"""A model learns from refusals what it does not take."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moa.answers import collected
from moa.messages import Request
from moa.models.endpoint import Endpoint
from tests.fakes.upstream import Body, Script, Upstream, refuse, say
from tests.models.endpoints import answer

pytestmark = pytest.mark.anyio

QUESTION = {"messages": [{"role": "user", "content": "How much is two and two?"}]}


def without(*fields: str) -> Callable[[Body], Script]:
    """An upstream that refuses these fields one at a time, as OpenAI does."""

    def script(body: Body) -> Script:
        refused = next((field for field in fields if field in body), None)
        message = f"Unsupported parameter: '{refused}' is not supported with this model."
        return refuse(400, message) if refused else say("Four.")

    return script


async def test_a_refused_field_is_left_out_from_then_on(upstream: Upstream, endpoint: Endpoint) -> None:
    """The call is made again without the field, a notice says so once, and later calls never have it."""
    upstream.script("m", without("temperature"))
    request = Request.of({**QUESTION, "temperature": 0.2, "top_p": 0.5})
    first, second = await answer(endpoint, request=request), await answer(endpoint, request=request)
    assert collected(first).text == collected(second).text == "Four."
    assert ["temperature" in call.body for call in upstream.requests] == [True, False, False]
    assert all(call.body["top_p"] == 0.5 for call in upstream.requests)
    assert [delta.notice for delta in [*first, *second] if delta.notice] == [
        "here/m does not take temperature: left out"
    ]
