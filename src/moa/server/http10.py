"""HTTP/1.0: its clients cannot read chunks, so a stream to them is the bare events until the connection closes.

Uvicorn's protocol on ``httptools``, several times faster than the one on ``h11``, sends chunks to every client. So a
connection whose first request is of HTTP/1.0 (nginx's default for upstreams, ``ab``) is handed to the other one.
https://github.com/Kludex/uvicorn/issues/1360
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from moa.server.failures import Refusal
from moa.server.sockets import Sockets, Stage, last_words, stage_of

LONGEST_LINE = 65536
"""Bytes of a first line after which it is read no further."""

LONGEST_HEAD = 65536
"""Bytes of headers, and of chunks' headers beside a body of chunks; the parser has no limit of its own."""


class Protocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        sockets: all connections of the server; None sets no bound on their number.
    """

    sockets: ClassVar[Sockets | None] = None

    _beginning: bytes | None = b""
    _received = _content = 0  # bytes of the present request after its first packet, and of its body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.sockets:
            self.sockets.admit(self)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._received = self._content = 0

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._content += len(body)

    def send_400_response(self, msg: str) -> None:
        self._refuse(Refusal(400, "this is not valid HTTP"))

    def _refuse(self, refusal: Refusal) -> None:
        """End the connection with this refusal, unless it is in the middle of an answer."""
        if stage_of(self) is not Stage.ANSWER:
            self.transport.write(last_words(refusal))
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._received > LONGEST_HEAD + 16 * self._content:
            self._refuse(Refusal(431, f"the headers are larger than {LONGEST_HEAD} bytes"))
            return
        self._received += len(data)
        if self._beginning is None:
            super().data_received(data)
            return
        self._beginning += data
        line, newline, _ = self._beginning.lstrip(b"\r\n").partition(b"\n")
        if newline or len(line) > LONGEST_LINE:
            received, self._beginning = self._beginning, None
            if line.rstrip().endswith(b"HTTP/1.0"):
                self._hand_over(received)
            else:
                super().data_received(received)

    def _hand_over(self, received: bytes) -> None:
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        protocol = H11Protocol(config=self.config, server_state=self.server_state, app_state=self.app_state)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.data_received(received)
