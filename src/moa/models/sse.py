"""Server-Sent Events out of a byte stream, packet by packet.

Notable decisions:
- Lines are split as bytes and decoded when complete, so a packet boundary inside a character does no harm.
- The pieces of an unfinished line are joined once, when its end arrives: a line of a megabyte in a thousand packets costs
  its length, not its length times the number of packets.
- The standard drops an event that no blank line follows. Servers that end with ``data: [DONE]\\n`` and close are common
  enough that :meth:`EventSplitter.end` returns such an event instead.
- JSON without ``data:`` is data, up to the next blank line, and ``error:`` is the data of an event ``error``: servers write
  an error into a stream that way (llama.cpp: ggml-org/llama.cpp#16486).
- A data line that is a whole JSON object is an event of its own where another data line follows it: servers leave out the
  blank line, or send JSON lines. Some proxies write ``data: data: {…}``; the field counts once.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import json
from typing import NamedTuple

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ServerEvent(NamedTuple):
    """One event: its ``data`` lines joined by newlines, and its ``event`` name, empty when it has none."""

    data: str
    name: str = ""


class EventSplitter:
    """Splits packets, cut anywhere, into events. One splitter reads one stream."""

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the pieces of the unfinished line
        self._data: list[bytes] = []  # the data lines of the unfinished event
        self._name = b""
        self._bare = False  # inside JSON that stands without "data:"
        self._at_start = True
        self._after_return = False  # the previous packet ended in \r: a leading \n belongs to it

    def feed(self, packet: bytes) -> list[ServerEvent]:
        """The events that this packet completes, in order. Comments and the fields ``id`` and ``retry`` are ignored."""
        if self._after_return and packet.startswith(b"\n"):
            packet, self._after_return = packet[1:], False
        if not packet:
            return []
        self._after_return = packet.endswith(b"\r")
        lines = packet.splitlines()
        unfinished = b"" if packet.endswith((b"\n", b"\r")) else lines.pop()
        events: list[ServerEvent] = []
        for line in lines:
            if self._line:
                self._line.append(line)
                line = b"".join(self._line)
                self._line.clear()
            self._read(line, events)
        if unfinished:
            self._line.append(unfinished)
        return events

    def end(self) -> list[ServerEvent]:
        """The unfinished event at the end of the stream, if there is one."""
        events: list[ServerEvent] = []
        self._read(b"".join(self._line), events)
        self._read(b"", events)
        self._line.clear()
        return events

    def _read(self, line: bytes, events: list[ServerEvent]) -> None:
        if self._at_start:
            line, self._at_start = line.removeprefix(_BYTE_ORDER_MARK), False
        if not line:
            self._emit(events)
            self._name, self._bare = b"", False
            return
        if self._bare or line.lstrip().startswith(b"{"):
            self._bare = True
            self._add(line, events)
            return
        field, _, value = line.partition(b":")
        if field == b"error":
            self._name = self._name or b"error"
            self._data.append(value.removeprefix(b" "))
        elif field == b"data":
            value = value.removeprefix(b" ")
            self._add(value[5:].lstrip() if value.startswith(b"data:") else value, events)
        elif field == b"event":
            self._name = value.removeprefix(b" ")

    def _add(self, line: bytes, events: list[ServerEvent]) -> None:
        if len(self._data) == 1 and _is_object(self._data[0]):
            self._emit(events)
        self._data.append(line)

    def _emit(self, events: list[ServerEvent]) -> None:
        if self._data:
            data = b"\n".join(self._data).decode("utf-8", "replace")
            events.append(ServerEvent(data, self._name.decode("utf-8", "replace")))
            self._data.clear()


class WholeBody:
    """Takes an event splitter's place where the body is no stream of events: JSON, one JSON array, JSON lines or text."""

    def __init__(self) -> None:
        self._packets: list[bytes] = []

    def feed(self, packet: bytes) -> list[ServerEvent]:
        self._packets.append(packet)
        return []

    def end(self) -> list[ServerEvent]:
        """The events: one for each item of an array, each line of JSON lines, or the whole body."""
        body = b"".join(self._packets).lstrip(_BYTE_ORDER_MARK + b" \t\r\n")
        text = body.decode("utf-8", "replace")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            splitter = EventSplitter()
            return [*splitter.feed(body), *splitter.end()] or [ServerEvent(text)]
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return [ServerEvent(json.dumps(item)) for item in value]
        return [ServerEvent(text)]


def _is_object(line: bytes) -> bool:
    if not line.rstrip().endswith(b"}"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
