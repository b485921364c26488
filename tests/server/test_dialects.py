"""A further dialect: one object over the same runs, with a wire of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.messages import Delta, Request
from moa.server import app
from moa.server.body import OpenObject, checked, object_of
from moa.server.dialects.conversation import NO_RESULT, paired
from moa.server.dialects.dialect import Dialect, ParsedRequest, Result
from moa.server.dialects.functions import Origin, Tools
from moa.server.dialects.messages import MESSAGES
from moa.server.dialects.responses import RESPONSES
from moa.server.encoding import frame, json_bytes
from moa.server.failures import Refusal
from tests.fakes.local_server import in_this_process
from tests.fakes.serving import Served
from tests.fakes.upstream import Upstream, refuse, say

pytestmark = pytest.mark.anyio


class ShortBody(OpenObject):
    who: str
    question: str
    live: bool = False


class ShortEncoder:
    """Frames of plain text."""

    def start(self, run_id: str) -> None:
        self.run_id = run_id

    def keep_alive(self) -> bytes:
        return frame(b"waiting")

    def progress(self, text: str, index: int) -> bytes:
        return b""

    def delta(self, delta: Delta, index: int) -> bytes:
        return frame(delta.text.encode()) if delta.text else b""

    def end(self, results: Sequence[Result]) -> bytes:
        return frame(b"end")

    def error(self, refusal: Refusal) -> bytes:
        return frame(f"error {refusal.status}".encode())

    def whole(self, results: Sequence[Result]) -> bytes:
        return json_bytes({"run": self.run_id, "texts": [result.answer.text for result in results]})


def read_short(data: bytes) -> ParsedRequest:
    body = checked(ShortBody, object_of(data))
    return ParsedRequest(body.who, Request.of(body.question), ShortEncoder(), stream=body.live)


SHORT = Dialect(
    path="/short",
    name="short",
    tag="short",
    summary="Answer briefly",
    body=ShortBody,
    read=read_short,
    error=lambda refusal: json_bytes({"problem": refusal.message, "field": refusal.param}),
)


async def post(http: aiohttp.ClientSession, server: Served, **body: object) -> tuple[int, str]:
    origin = server.url.removesuffix("/v1")
    async with http.post(f"{origin}/short", json=body) as response:
        return response.status, await response.text()


async def test_a_dialect_is_one_object(
    http: aiohttp.ClientSession, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its bodies, streams, whole answers and errors have its own form; nothing else of the server knows it."""
    monkeypatch.setattr(app, "DIALECTS", (*app.DIALECTS, SHORT))
    async with in_this_process(upstream, tmp_path) as server:
        upstream.script("last", say("two words"))
        status, text = await post(http, server, who="moa/trio", question="Why?", live=True)
        assert status == 200 and text.endswith("data: end\n\n")
        assert "".join(line.removeprefix("data: ") for line in text.split("\n") if line) == "two wordsend"
        status, text = await post(http, server, who="moa/trio", question="Why?")
        whole = json.loads(text)
        assert (status, whole["texts"]) == (200, ["two words"]) and len(whole["run"]) == 32
        status, text = await post(http, server, who="moa/trio")
        assert (status, json.loads(text)["field"]) == (400, "question")
        upstream.script("last", refuse(500, "on fire"))
        status, text = await post(http, server, who="moa/trio", question="Why?", live=True)
        assert status == 502 and "on fire" in json.loads(text)["problem"]


CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
IDS = st.sampled_from(("c1", "c2", "c3"))
SENT = st.lists(
    st.one_of(
        st.just({"role": "user", "content": "Why?"}),
        st.builds(
            lambda ids: {"role": "assistant", "tool_calls": [{**CALL, "id": each} for each in ids]}, st.lists(IDS)
        ),
        st.builds(lambda call: {"role": "tool", "tool_call_id": call, "content": "seen"}, IDS),
    ),
    max_size=10,
)


@given(SENT)
def test_each_call_has_one_result_behind_it(messages: list[dict[str, Any]]) -> None:
    """Whatever order a client sends, and no result is lost."""
    made = paired(messages)
    assert str(made).count("seen") == str(messages).count("seen")
    rest = iter(made)
    for message in rest:
        assert message["role"] != "tool"
        for call in message.get("tool_calls", ()):
            result = next(rest)
            assert (result["role"], result["tool_call_id"]) == ("tool", call["id"])


def test_a_call_without_a_result_gets_one() -> None:
    """So does one whose result comes after the user's next message, which then follows it."""
    late = {"role": "tool", "tool_call_id": "c1", "content": "seen"}
    user = {"role": "user", "content": "Stop."}
    calls = {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]}
    none = {"role": "tool", "tool_call_id": "c2", "content": NO_RESULT}
    assert paired([calls, user, late]) == [calls, late, none, user]
    orphan = paired([user, late])[1]
    assert orphan["role"] == "user" and "seen" in str(orphan["content"])


def test_tools_have_names_that_servers_accept() -> None:
    """A long or unusual name is replaced, by the same one each time, and calls come back under the client's."""
    tools = Tools()
    long = "f" * 70
    for name, namespace in ((long, None), (long, "n"), ("a.b", None), ("a_b", None), ("b", "a"), ("a__b", None)):
        tools.add(Origin(name, namespace), {})
        tools.add(Origin(name, namespace), {})
    names = [tool["function"]["name"] for tool in tools.functions]
    assert len(set(names)) == len(names) == 6 and all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name) for name in names)
    assert names[3:5] == ["a_b", "a__b"]
    assert [tools.origin(name).name for name in names] == [long, long, "a.b", "a_b", "b", "a__b"]
    assert tools.function("a.b") == names[2] == Tools().function("a.b")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "martian", "content": "x"}]}, "input[0].role"),
        ({"input": []}, "input"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": 5}]}, "tools[0].parameters"),
        (
            {"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "function", "name": "g"}},
            "tool_choice",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": [{"role": "user", "content": 5}], "system": "x"}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "martian", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": []}]}, "messages"),
        ({"tools": [{"name": "f", "input_schema": 5}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "f"}], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice"),
        ({"tools": [{"name": "f"}], "tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"messages": [{"role": "user", "content": "x"}] * 6000}, "messages"),
        ({"input": [{"role": "user", "content": "x"}] * 6000}, "input"),
    ],
)
def test_an_error_names_the_field_as_the_client_sent_it(body: dict[str, Any], param: str) -> None:
    """Not the field of Chat Completions that it becomes."""
    is_messages = "messages" in body or any("name" in tool and "type" not in tool for tool in body.get("tools", ()))
    dialect = MESSAGES if is_messages else RESPONSES
    question = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9} if is_messages else {"input": "x"}
    with pytest.raises(Refusal) as caught:
        dialect.read(json_bytes({"model": "moa/trio", **question, **body}))
    assert caught.value.status == 400
    assert json.loads(dialect.error(caught.value))["error"]["param"] == param
