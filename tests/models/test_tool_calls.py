"""Tool calls arrive whole, each with an identity of its own, whatever shape their pieces have.

The pieces are those that servers are reported to send; each case names its report, or
says that it is our own reading of the API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.errors import StreamBroken
from moa.messages import Message, Request, collected
from moa.models.endpoint import Endpoint
from moa.models.tool_calls import ToolCallReader
from moa.pieces import joined_reasoning_details, joined_tool_calls
from tests.fakes.upstream import Script, Upstream, chunk, done, drop, finish, sequence, usage, whole
from tests.models.endpoints import answer, failure

pytestmark = pytest.mark.anyio

Piece = Mapping[str, Any]


def piece(name: str | None = None, arguments: object = None, **fields: Any) -> Piece:
    """A piece of a call; what is None is left out."""
    function = {"name": name, "arguments": arguments}
    return {**fields, "function": {key: value for key, value in function.items() if value is not None}}


def streamed(*chunks: list[Piece], reason: str = "tool_calls") -> Script:
    """An answer of tool calls: one chunk for each list of pieces."""
    return sequence(chunk({"tool_calls": pieces}) for pieces in chunks) + finish(reason) + usage() + done()


SHAPES = [
    # anomalyco/opencode#37841: later pieces repeat the fields, empty
    pytest.param(
        [
            [piece("search", "", index=0, id="a")],
            [piece("", '{"q": 1}', index=0, id="", type="")],
            [piece("", "", id="")],
        ],
        [("search", '{"q": 1}')],
        id="empty ID, name and type later",
    ),
    # our own reading, kin of opencode#37841: every piece repeats the ID and the name
    pytest.param(
        [[piece("search", '{"q"', index=0, id="a")], [piece("search", ": 1}", index=0, id="a")]],
        [("search", '{"q": 1}')],
        id="ID and name in every piece",
    ),
    # our own reading: a server that makes an ID for each chunk
    pytest.param(
        [[piece("search", '{"q"', index=0, id="a")], [piece(None, ": 1}", index=0, id="b")]],
        [("search", '{"q": 1}')],
        id="a new ID in every piece",
    ),
    # NousResearch/hermes-agent#62940: all calls of a turn have the index 0
    pytest.param(
        [[piece("search", '{"q": 1}', index=0, id="a")], [piece("search", '{"q": 2}', index=0, id="b")]],
        [("search", '{"q": 1}'), ("search", '{"q": 2}')],
        id="one index, two IDs",
    ),
    pytest.param(
        [
            [piece("search", '{"q"', index=0, id="a"), piece("open", '{"u"', index=0, id="b")],
            [piece(None, ": 1}", index=0, id="a"), piece(None, ": 2}", index=0, id="b")],
        ],
        [("search", '{"q": 1}'), ("open", '{"u": 2}')],
        id="one index, two IDs, in turns",
    ),
    pytest.param(
        [[piece("search", '{"q": 1}', index=0)], [piece("open", '{"u": 2}', index=0)]],
        [("search", '{"q": 1}'), ("open", '{"u": 2}')],
        id="one index, no ID, two names",
    ),
    # BerriAI/litellm#11262: whole calls without ID, index and type
    pytest.param(
        [[piece("search", {"q": 1}), piece("search", {"q": 2})]],
        [("search", '{"q": 1}'), ("search", '{"q": 2}')],
        id="no ID, no index, arguments as objects",
    ),
    pytest.param(
        [[piece("search", '{"q"')], [piece(None, ": 1}")], [piece("open", '{"u": 2}')]],
        [("search", '{"q": 1}'), ("open", '{"u": 2}')],
        id="no ID, no index, in pieces",
    ),
    # iOfficeAI/aionrs#99: an index and no ID
    pytest.param(
        [[piece("search", '{"q": 1}', index=0)], [piece("open", '{"u": 2}', index=1)]],
        [("search", '{"q": 1}'), ("open", '{"u": 2}')],
        id="no ID",
    ),
    pytest.param(
        [[piece("search", '{"q": 1}', index=0, id="x"), piece("open", '{"u": 2}', index=1, id="x")]],
        [("search", '{"q": 1}'), ("open", '{"u": 2}')],
        id="one ID for two calls",
    ),
    # our own reading: indexes that begin at 1 and have gaps
    pytest.param(
        [[piece("search", '{"q": 1}', index=1, id="a")], [piece("open", '{"u": 2}', index="4", id="b")]],
        [("search", '{"q": 1}'), ("open", '{"u": 2}')],
        id="indexes with gaps, one of them a string",
    ),
    pytest.param(
        [[piece("search", '{"q": 1}', index=0, id="a")], [piece("search", '{"q": 1}', index=0, id="a")]],
        [("search", '{"q": 1}')],
        id="the whole call once more at the end",
    ),
    # our own reading: a tool without parameters
    pytest.param([[piece("now", None, index=0, id="a")]], [("now", "{}")], id="no arguments"),
    pytest.param([[piece("now", "", index=0, id="a")]], [("now", "{}")], id="empty arguments"),
    pytest.param(
        [[{"index": 0, "id": "a"}], [piece("search", None, index=0)], [piece(None, '{"q": 1}', index=0)]],
        [("search", '{"q": 1}')],
        id="ID, name and arguments apart",
    ),
    # vllm-project/vllm#44098: the last piece repeats the name and the ID
    pytest.param(
        [
            [piece("search", "", index=0, id="a")],
            [piece(None, '{"q"', index=0)],
            [piece("search", ": 1}", index=0, id="a")],
        ],
        [("search", '{"q": 1}')],
        id="ID and name once more with the end of the arguments",
    ),
    pytest.param(
        [[piece("search", '{"q": 1}', index=0, id="a")], [piece("search", "", index=0, id="a")]],
        [("search", '{"q": 1}')],
        id="ID and name once more behind the arguments",
    ),
    # vllm-project/vllm#51697: all arguments once more at the end
    pytest.param(
        [
            [piece("search", "", index=0, id="a")],
            [piece(None, '{"q": 1}', index=0)],
            [piece(None, '{"q": 1}', index=0)],
        ],
        [("search", '{"q": 1}')],
        id="the arguments once more",
    ),
    pytest.param(
        [[piece("search", "{", index=0, id="a")], [piece(None, '{"q": 1}', index=0)]],
        [("search", '{"q": 1}')],
        id="the first bracket once more",
    ),
    # NousResearch/hermes-agent#35592 (Baidu Qianfan): each piece has all arguments so far
    pytest.param(
        [
            [piece("search", '{"q', index=0, id="a")],
            *([piece(None, text, index=0)] for text in ('{"q": ', '{"q": "{', '{"q": "{"', '{"q": "{"}', '{"q": "{"}')),
        ],
        [("search", '{"q": "{"}')],
        id="all arguments so far in each piece",
    ),
    pytest.param(
        [[piece("search", '{"q":', index=0, id="a")], [piece(None, '{"q":1}}', index=0)]],
        [("search", '{"q":{"q":1}}')],
        id="an object within an object of the same name",
    ),
    # open-webui/open-webui#22235: one index for the arguments of two calls
    pytest.param(
        [[piece("search", '{"q": 1}', index=0, id="a")], [piece(None, '{"q": 2}', index=0)]],
        [("search", '{"q": 1}'), ("search", '{"q": 2}')],
        id="two objects under one name",
    ),
    # an empty object before the real arguments, as adapters of Anthropic's API send it
    pytest.param(
        [[piece("search", {}, index=0, id="a")], [piece(None, '{"q"', index=0)], [piece(None, ": 1}", index=0)]],
        [("search", '{"q": 1}')],
        id="an empty object first",
    ),
    pytest.param([[piece("now", "null", index=0, id="a")]], [("now", "{}")], id="the text null as arguments"),
    pytest.param(
        [[piece("now", "{}", index=0, id="a")], [piece("now", "{}", index=0, id="a")]],
        [("now", "{}")],
        id="{} once more",
    ),
    # our own reading: an ID, an index, or both come late
    pytest.param(
        [[piece("search", '{"q"', index=0)], [piece(None, ": 1}", index=0, id="z")]],
        [("search", '{"q": 1}')],
        id="the ID in the last piece",
    ),
    pytest.param(
        [[piece("search", '{"q"')], [piece(None, ": 1}", id="z")]],
        [("search", '{"q": 1}')],
        id="the ID in the last piece, no index",
    ),
    pytest.param(
        [[piece("search", "", index=0, id="a")], [piece(None, '{"q"', index=1)], [piece(None, ": 1}", index=2)]],
        [("search", '{"q": 1}')],
        id="an index for each piece",
    ),
    pytest.param(
        [[piece(None, '{"q"', index=0)], [piece("search", ": 1}", index=0, id="a")]],
        [("search", '{"q": 1}')],
        id="the name in the last piece",
    ),
    pytest.param(
        [
            [piece("search", "", index=0, id="a"), piece("open", "", index=1, id="b")],
            [piece(None, '{"q"', index=1), piece(None, '{"u"', index=0)],
            [piece(None, ": 1}", id="a")],
            [piece(None, ": 2}", id="b")],
        ],
        [("search", '{"u": 1}'), ("open", '{"q": 2}')],
        id="in turns, by index and by ID",
    ),
    # continuedev/continue#5849 (Gemini): a name in pieces
    pytest.param(
        [[piece("sea", "", index=0, id="a")], [piece("rch", "", index=0)], [piece("", '{"q": 1}', index=0)]],
        [("search", '{"q": 1}')],
        id="a name in pieces",
    ),
    pytest.param(
        [[piece("search", "", index=0, id="a")], [piece("_all", '{"q": 1}', index=0, id="a")]],
        [("search_all", '{"q": 1}')],
        id="a name in pieces of which the first is another tool's",
    ),
    pytest.param(
        [[piece("now", "", index=0)], [piece("search", "", index=0)]],
        [("now", "{}"), ("search", "{}")],
        id="two names without arguments",
    ),
    pytest.param(
        [[piece("search", '{"q": nonsense}', index=0, id="a")]],
        [("search", '{"q": nonsense}')],
        id="wrong arguments are the caller's to see",
    ),
]


TOOLS = Request.of(
    {
        "messages": [{"role": "user", "content": "Search."}],
        "tools": [{"type": "function", "function": {"name": name}} for name in ("search", "search_all", "open", "now")],
    }
)


@pytest.mark.parametrize(("chunks", "calls"), SHAPES)
async def test_calls_of_any_shape_come_out_whole(
    upstream: Upstream, endpoint: Endpoint, chunks: list[list[Piece]], calls: list[tuple[str, str]]
) -> None:
    """Each call has its name, its arguments, a type, and an ID of its own, which is the server's where it gave one."""
    upstream.script("m", streamed(*chunks))
    deltas = await answer(endpoint, request=TOOLS)
    result = collected(deltas)
    assert [(call["function"]["name"], call["function"]["arguments"]) for call in result.tool_calls] == calls
    assert {call["type"] for call in result.tool_calls} == {"function"}
    assert result.finish_reason == "tool_calls"
    ids = [call["id"] for call in result.tool_calls]
    assert len(set(ids)) == len(calls)
    assert all(ids)
    first = next((given["id"] for given in chunks[0] if given.get("id")), None)
    assert first is None or ids[0] == first
    pieces = [each for delta in deltas for each in delta.tool_calls]
    assert sum("id" in each for each in pieces) == len(calls), "a client joins strings: an ID is sent once"
    named = [each for each in pieces if each["function"].get("name")]
    assert [each["id"] for each in named] == ids, "a client reads the name once: it is whole and in the first piece"


async def test_an_id_is_used_once_in_a_conversation(upstream: Upstream, endpoint: Endpoint) -> None:
    """Some models number their calls anew in each turn, and clients match results by ID. fw-ai/fireconnect#16 (Kimi K3)"""
    past = {"id": "list_dir:0", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    messages: list[Message] = [
        {"role": "user", "content": "Search."},
        {"role": "assistant", "content": None, "tool_calls": [past]},
        {"role": "tool", "tool_call_id": "list_dir:0", "content": "Nothing."},
    ]
    calls = [piece("search", "{}", index=0, id="list_dir:0"), piece("search", "{}", index=1, id="list_dir:1")]
    upstream.script("m", streamed(calls))
    result = collected(await answer(endpoint, request=Request.of(messages)))
    first, second = (call["id"] for call in result.tool_calls)
    assert first.startswith("call_")
    assert second == "list_dir:1"


async def test_null_in_place_of_a_piece_is_nothing(upstream: Upstream, endpoint: Endpoint) -> None:
    """So is a list without pieces, and null for the list."""
    script = sequence(chunk({"content": "Four.", "tool_calls": pieces}) for pieces in (None, [], [None]))
    upstream.script("m", script + finish() + done())
    result = collected(await answer(endpoint))
    assert (result.text, result.tool_calls, result.finish_reason) == ("Four." * 3, (), "stop")


async def test_a_held_call_of_a_cut_answer_arrives(upstream: Upstream, endpoint: Endpoint) -> None:
    """A name that could have become another tool's is sent when nothing follows."""
    upstream.script("m", streamed([piece("search", "", index=0, id="a")], reason="length"))
    [call] = collected(await answer(endpoint, request=TOOLS)).tool_calls
    assert (call["id"], call["function"]["name"], call["function"]["arguments"]) == ("a", "search", "")


async def test_other_fields_stay_with_their_call(upstream: Upstream, endpoint: Endpoint) -> None:
    """A thought signature (Gemini) is a field of its own call only. NousResearch/hermes-agent#62940"""
    signed = piece("search", '{"q": 1}', index=0, id="a", extra_content={"google": {"thought_signature": "S"}})
    upstream.script("m", streamed([signed], [piece("open", "{}", index=0, id="b")]))
    first, second = collected(await answer(endpoint)).tool_calls
    assert first["extra_content"] == {"google": {"thought_signature": "S"}}
    assert "extra_content" not in second


async def test_a_custom_tools_call_passes_through(upstream: Upstream, endpoint: Endpoint) -> None:
    """It has an input, which is no JSON, and no function: https://platform.openai.com/docs/guides/function-calling"""
    call = {"id": "a", "type": "custom", "custom": {"name": "run", "input": "1 +"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    upstream.script("m", whole({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}))
    assert collected(await answer(endpoint)).tool_calls == (call,)


async def test_a_custom_tools_input_in_pieces_is_joined(upstream: Upstream, endpoint: Endpoint) -> None:
    """As a function's arguments are."""
    first: Piece = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "run", "input": "1 "}}
    upstream.script("m", streamed([first], [{"index": 0, "custom": {"input": "+ 1"}}]))
    [call] = collected(await answer(endpoint)).tool_calls
    assert call["custom"] == {"name": "run", "input": "1 + 1"}


@pytest.mark.parametrize("reason", ["stop", "eos", "tool_use", "function_call"])
async def test_an_answer_with_tool_calls_ends_with_tool_calls(
    upstream: Upstream, endpoint: Endpoint, reason: str
) -> None:
    """Whatever word its server uses for the end. googleapis/python-genai#2868"""
    upstream.script("m", streamed([piece("search", "{}", index=0, id="a")], reason=reason))
    assert collected(await answer(endpoint)).finish_reason == "tool_calls"


async def test_an_answer_without_tool_calls_does_not_end_with_them(upstream: Upstream, endpoint: Endpoint) -> None:
    """The word alone is no call."""
    upstream.script("m", chunk({"content": "Four."}) + finish("tool_calls") + done())
    assert collected(await answer(endpoint)).finish_reason == "stop"


@pytest.mark.parametrize("arguments", ['{"q": "Lon', '{"q": ', "{", '{"q": tr', '{"q": "\\u00', '{"q": 1'])
@pytest.mark.parametrize("end", [finish("tool_calls") + done(), finish("stop"), done()])
async def test_half_a_call_is_no_answer(upstream: Upstream, endpoint: Endpoint, arguments: str, end: Script) -> None:
    """Arguments that stop in the middle are an error, whatever finish reason follows."""
    upstream.script("m", chunk({"tool_calls": [piece("search", arguments, index=0, id="a")]}) + end)
    _, error = await failure(endpoint)
    assert isinstance(error, StreamBroken)
    assert "search ends in the middle of its arguments" in str(error)


async def test_a_call_without_a_name_is_no_answer(upstream: Upstream, endpoint: Endpoint) -> None:
    """Nobody can run it."""
    upstream.script("m", streamed([piece(None, '{"q": 1}', index=0, id="a")]))
    _, error = await failure(endpoint)
    assert "a tool call has no name" in str(error)


async def test_a_call_cut_at_max_tokens_is_marked(upstream: Upstream, endpoint: Endpoint) -> None:
    """The client gets its half with the reason ``length``, as from OpenAI."""
    upstream.script("m", streamed([piece("search", '{"q": "Lon', index=0, id="a")], reason="length"))
    result = collected(await answer(endpoint))
    assert (result.finish_reason, result.tool_calls[0]["function"]["arguments"]) == ("length", '{"q": "Lon')


async def test_calls_of_a_lost_connection_are_no_answer(upstream: Upstream, endpoint: Endpoint) -> None:
    """A whole call without a finish reason may not have been the last one."""
    upstream.script("m", chunk({"tool_calls": [piece("search", "{}", index=0, id="a")]}) + drop())
    assert isinstance((await failure(endpoint))[1], StreamBroken)


@given(st.data())
def test_cut_anywhere_the_calls_are_the_same(data: st.DataObject) -> None:
    """Calls with an ID each, split at any place and with any of the repeatable fields left out, join to the same calls."""
    wanted = data.draw(
        st.lists(
            st.tuples(st.sampled_from(["f", "g"]), st.dictionaries(st.text(max_size=3), st.text(max_size=8))),
            min_size=1,
        )
    )
    has_index, repeats = data.draw(st.booleans()), data.draw(st.booleans())
    pieces: list[list[Piece]] = []
    for at, (name, arguments) in enumerate(wanted):
        text = json.dumps(arguments)
        cut = data.draw(st.integers(0, len(text) - 1))
        place = {"index": at} if has_index else {}
        pieces.append([piece(name, text[:cut], id=f"c{at}", **place)])
        again = {"id": f"c{at}", "name": name} if repeats else {}
        pieces.append([piece(again.get("name"), text[cut:], **place, **({"id": again["id"]} if again else {}))])
    reader = ToolCallReader()
    read = [each for chunk_ in pieces for each in reader.read(chunk_)]
    assert reader.half is None
    calls = joined_tool_calls([*read, *reader.rest(complete=True)])
    assert [(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls] == [
        (f"c{at}", name, arguments) for at, (name, arguments) in enumerate(wanted)
    ]


_TEXT = {"type": "reasoning.text", "format": "anthropic-claude-v1"}
DETAILS = [
    # agno-agi/agno#8794: https://openrouter.ai/docs/use-cases/reasoning-tokens streams blocks in pieces
    pytest.param(
        [
            {**_TEXT, "index": 0, "text": "A"},
            {**_TEXT, "index": 0, "text": "B"},
            {**_TEXT, "index": 0, "signature": "S"},
        ],
        [{**_TEXT, "index": 0, "text": "AB", "signature": "S"}],
        id="one block",
    ),
    pytest.param(
        [{**_TEXT, "index": 0, "text": "A"}, {**_TEXT, "index": 1, "text": "X"}, {**_TEXT, "index": 0, "text": "B"}],
        [{**_TEXT, "index": 0, "text": "AB"}, {**_TEXT, "index": 1, "text": "X"}],
        id="two blocks by index",
    ),
    pytest.param(
        [
            {**_TEXT, "text": "A", "signature": "S"},
            {**_TEXT, "text": "B"},
            {"type": "reasoning.encrypted", "data": "x"},
        ],
        [
            {**_TEXT, "text": "A", "signature": "S"},
            {**_TEXT, "text": "B"},
            {"type": "reasoning.encrypted", "data": "x"},
        ],
        id="no index: a signature closes a block",
    ),
    # https://docs.litellm.ai/docs/reasoning_content
    pytest.param(
        [
            {"type": "thinking", "thinking": "A", "signature": None},
            {"type": "thinking", "thinking": "B", "signature": ""},
            {"type": "thinking", "thinking": "", "signature": "S"},
        ],
        [{"type": "thinking", "thinking": "AB", "signature": "S"}],
        id="thinking blocks, an empty signature is none",
    ),
    pytest.param(["odd", {"type": "t"}], ["odd", {"type": "t"}], id="no blocks at all"),
]


@pytest.mark.parametrize(("pieces", "blocks"), DETAILS)
def test_reasoning_details_in_pieces_are_one_block(pieces: list[Any], blocks: list[Any]) -> None:
    """Texts of a block are joined, its signature is kept: replayed in pieces, Anthropic's check of it fails."""
    joined: list[Any] = []
    for each in pieces:
        joined = joined_reasoning_details(joined, [each])
    assert joined == blocks
