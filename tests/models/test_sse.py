"""Server-Sent Events come out the same however the network cuts the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.models.sse import EventSplitter, ServerEvent, WholeBody

LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20)


def events_of(*packets: bytes) -> list[ServerEvent]:
    splitter = EventSplitter()
    return [event for packet in packets for event in splitter.feed(packet)] + splitter.end()


@st.composite
def cut(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


@given(st.data(), st.lists(st.tuples(VALUES, st.lists(VALUES, min_size=1, max_size=3), LINE_ENDS), max_size=4))
def test_any_cut_gives_the_events_that_were_sent(data: st.DataObject, sent: list[tuple[str, list[str], str]]) -> None:
    """Events written with any line ends and cut into any packets are read back as they were written."""
    stream = "".join(
        line_end.join([f"event: {name}", *(f"data: {line}" for line in lines), "", ""])
        for name, lines, line_end in sent
    ).encode()
    assert events_of(*data.draw(cut(stream))) == [ServerEvent("\n".join(lines), name) for name, lines, _ in sent]


@given(st.data(), st.binary(max_size=80))
def test_noise_is_read_the_same_in_any_cut(data: st.DataObject, noise: bytes) -> None:
    """Bytes that are no event stream raise nothing, and give the same events in one packet and in many."""
    assert events_of(*data.draw(cut(noise))) == events_of(noise)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param("data: one\n\ndata: two\n\n", [ServerEvent("one"), ServerEvent("two")], id="two events"),
        pytest.param("data: one\ndata:\ndata: three\n\n", [ServerEvent("one\n\nthree")], id="data of several lines"),
        pytest.param(": keep-alive\n\ndata: x\n\n", [ServerEvent("x")], id="a comment is no event"),
        pytest.param(
            "event: error\ndata: x\n\ndata: y\n\n",
            [ServerEvent("x", "error"), ServerEvent("y")],
            id="a name holds once",
        ),
        pytest.param("event: ping\n\n", [], id="a name without data is no event"),
        pytest.param("\ufeffdata: x\n\n", [ServerEvent("x")], id="a byte order mark"),
        pytest.param(
            "data:x\n\ndata:  x\n\n",
            [ServerEvent("x"), ServerEvent(" x")],
            id="one space is taken off, no more",
        ),
        pytest.param("id: 7\nretry: 10\nwhat\ndata: x\n\n", [ServerEvent("x")], id="other fields"),
        pytest.param("data\n\n", [ServerEvent("")], id="a field without a colon"),
        pytest.param("data: a\u2028b\x0b\x85c\n\n", [ServerEvent("a\u2028b\x0b\x85c")], id="only CR and LF end a line"),
        pytest.param("data: x", [ServerEvent("x")], id="the end of the stream ends line and event"),
        pytest.param("data: x\n", [ServerEvent("x")], id="the end of the stream ends the event"),
        pytest.param("", [], id="nothing"),
        pytest.param(
            'data: {"a": 1}\ndata: {"b": 2}\ndata: [DONE]\n',
            [ServerEvent('{"a": 1}'), ServerEvent('{"b": 2}'), ServerEvent("[DONE]")],
            id="objects without blank lines between them",
        ),
        pytest.param('data: {\ndata: "a": 1}\n\n', [ServerEvent('{\n"a": 1}')], id="an object on two lines"),
        pytest.param('data: data: {"a": 1}\n\n', [ServerEvent('{"a": 1}')], id="the field's name twice"),
    ],
)
def test_reads(stream: str, expected: list[ServerEvent]) -> None:
    """Each rule of the format holds for the stream in one packet and byte by byte."""
    encoded = stream.encode()
    assert events_of(encoded) == expected
    assert events_of(*(encoded[place : place + 1] for place in range(len(encoded)))) == expected


def test_an_event_is_complete_with_its_blank_line() -> None:
    """An event does not wait for the next packet, not even when its blank line ends in a lone CR."""
    assert EventSplitter().feed(b"data: x\n\n") == [ServerEvent("x")]
    assert EventSplitter().feed(b"data: x\r\n\r") == [ServerEvent("x")]


def test_a_line_of_a_megabyte_in_small_packets() -> None:
    """A line of a megabyte in packets of 64 bytes is read completely."""
    line = "é" * 500_000
    stream = f"data: {line}\n\n".encode()
    assert events_of(*(stream[place : place + 64] for place in range(0, len(stream), 64))) == [ServerEvent(line)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param('{"a": 1}', ['{"a": 1}'], id="JSON"),
        pytest.param('\ufeff\n{"a": 1}', ['{"a": 1}'], id="JSON behind a byte order mark"),
        pytest.param('[{"a": 1}, {"b": 2}]', ['{"a": 1}', '{"b": 2}'], id="an array, as Gemini streams"),
        pytest.param('{"a": 1}\n{"b": 2}\r\n', ['{"a": 1}', '{"b": 2}'], id="JSON lines"),
        pytest.param("Internal Server Error: no memory", ["Internal Server Error: no memory"], id="text"),
    ],
)
def test_a_body_that_is_no_stream_of_events_is_read(body: str, expected: list[str]) -> None:
    """A body of JSON in any of its usual forms gives an event for each object; text gives one event."""
    reader = WholeBody()
    encoded = body.encode()
    assert [*reader.feed(encoded[:3]), *reader.feed(encoded[3:])] == []
    assert [event.data for event in reader.end()] == expected
