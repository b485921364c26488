"""HTTP/1.0: its clients cannot read chunks, so a stream to them is the bare events until the connection closes.

Uvicorn's protocol on ``httptools``, several times faster than the one on ``h11``, sends chunks to every client. So a
connection whose first request is of HTTP/1.0 (nginx's default for upstreams, ``ab``) is handed to the other one.
https://github.com/Kludex/uvicorn/issues/1360
"""

from __future__ import annotations

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_LINE = 65536
"""Bytes of a first line after which it is read no further."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    _beginning: bytes | None = b""

    def data_received(self, data: bytes) -> None:
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
