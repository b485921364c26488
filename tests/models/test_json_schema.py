"""Answers that follow a JSON schema, from models that lack it."""

from __future__ import annotations

from typing import Any

import pytest

from moa.messages import Request
from moa.models.endpoint import Endpoint
from moa.models.json_schema import checked
from moa.models.profile import Profile
from moa.pieces import collected
from tests.fakes.upstream import Body, Script, Upstream, refuse, say
from tests.models.endpoints import answer

pytestmark = pytest.mark.anyio

SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "sum", "strict": True, "schema": SCHEMA}}
REQUEST = Request.of({"messages": [{"role": "user", "content": "Two and two?"}], "response_format": FORMAT})


@pytest.fixture
def lacking(upstream: Upstream) -> Endpoint:
    """An endpoint whose models are known to lack JSON schemas."""
    return Endpoint("here", upstream.base_url, profile_of=lambda _: Profile(json_schema=False))


async def test_a_model_that_follows_schemas_gets_them_as_they_are(upstream: Upstream, endpoint: Endpoint) -> None:
    """Its answer streams, and is not looked at."""
    upstream.script("m", say("not JSON"))
    assert collected(await answer(endpoint, request=REQUEST)).text == "not JSON"
    assert upstream.requests[0].body["response_format"] == FORMAT


async def test_the_schema_reaches_a_model_that_lacks_it_in_words(upstream: Upstream, lacking: Endpoint) -> None:
    """A fence and words around the value are taken off."""
    upstream.script("m", say('Here it is:\n```json\n{"sum": 4}\n```\nAnything else?'))
    result = collected(await answer(lacking, request=REQUEST))
    assert (result.text, result.finish_reason) == ('{"sum": 4}', "stop")
    (call,) = upstream.requests
    assert "response_format" not in call.body
    assert '"required": ["sum"]' in call.body["messages"][0]["content"]


async def test_a_model_that_refuses_the_format_is_one_that_lacks_it(upstream: Upstream, endpoint: Endpoint) -> None:
    """DeepSeek's words: https://github.com/langchain-ai/langchain/issues/29282"""

    def script(body: Body) -> Script:
        refused = refuse(400, "This response_format type is unavailable now")
        return refused if "response_format" in body else say('{"sum": 4}')

    upstream.script("m", script)
    assert collected(await answer(endpoint, request=REQUEST)).text == '{"sum": 4}'
    assert endpoint.model("m").learned == Profile(json_schema=False)


async def test_an_answer_that_breaks_the_schema_is_repaired_once(upstream: Upstream, lacking: Endpoint) -> None:
    """The second call shows what is wrong; the first one counts as an attempt."""
    upstream.script("m", say('{"sum": "four"}'), say('{"sum": 4}'))
    deltas = await answer(lacking, request=REQUEST)
    assert collected(deltas).text == '{"sum": 4}'
    assert [delta.attempt.reason for delta in deltas if delta.attempt] == ["its answer did not follow the JSON schema"]
    shown = upstream.requests[1].body["messages"]
    assert shown[-2]["content"] == '{"sum": "four"}'
    assert "sum: 'four' is not of type 'integer'" in shown[-1]["content"]
    assert not [delta for delta in deltas if delta.notice]


@pytest.mark.parametrize("second", [say("still not"), refuse(400, "no")])
async def test_an_answer_that_cannot_be_repaired_is_marked(
    upstream: Upstream, lacking: Endpoint, second: Script
) -> None:
    """It arrives, with a notice that says what is wrong."""
    upstream.script("m", say("Four."), second)
    deltas = await answer(lacking, request=REQUEST)
    assert collected(deltas).text == "Four."
    assert [delta.notice for delta in deltas if delta.degrades] == [
        "here/m does not follow the JSON schema: it is not JSON"
    ]
    assert len(upstream.requests) == 2


FAULTS: list[tuple[str, Any, str]] = [
    ('{"sum": 4}', SCHEMA, ""),
    ('{"sum": 4, "x": 1}', SCHEMA, "Additional properties are not allowed ('x' was unexpected)"),
    ("{}", SCHEMA, "'sum' is a required property"),
    ("[1]", {"type": "array", "items": {"type": "string"}}, "[0]: 1 is not of type 'string'"),
    ("4", {"type": "wrong"}, ""),
    ("4", {"$ref": "http://127.0.0.1:9/schema"}, ""),
    (
        '{"a": 1}',
        {"$defs": {"n": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/n"}}},
        "a: 1 is not of type 'string'",
    ),
]


@pytest.mark.parametrize(("text", "schema", "fault"), FAULTS)
def test_what_is_wrong_is_said_with_its_place(text: str, schema: Any, fault: str) -> None:
    """A schema that is none, or that refers elsewhere, finds no fault; nothing is fetched."""
    assert checked(text, schema) == (text, fault)
