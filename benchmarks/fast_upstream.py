"""An upstream that costs nothing: it answers every chat request with the same short stream, after a given wait.

    uv run python benchmarks/fast_upstream.py [--first SECONDS] [--chunks N]

Prints its base URL. It reads as little of a request as possible, so that measurements show its client's cost.
"""

from __future__ import annotations

import argparse
import asyncio

from free_stream import stream_of


class Upstream(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, for POST requests with a Content-Length."""

    first = 0.0
    response = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while b"\r\n\r\n" in self.data:
            head, rest = self.data.split(b"\r\n\r\n", 1)
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ),
                0,
            )
            if len(rest) < length:
                return
            self.data = rest[length:]
            if self.first:
                asyncio.get_running_loop().call_later(self.first, self.respond)
            else:
                self.respond()

    def respond(self) -> None:
        self.transport.write(self.response)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--chunks", type=int, default=20, metavar="N")
    arguments = parser.parse_args()
    body = stream_of(f"word{number} " for number in range(arguments.chunks))
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    Upstream.first, Upstream.response = arguments.first, head + body
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


asyncio.run(main())
