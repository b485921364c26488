"""An upstream that costs nothing and counts its calls, for packages that stream and for packages that do not.

    uv run python benchmarks/counting_upstream.py

Prints its base URL.
"""

from __future__ import annotations

import asyncio
import json
import re

from free_stream import stream_of


class Upstream(asyncio.Protocol):
    """Answers each POST at once: with a stream if the body has ``stream: true``, else with ``n`` whole answers.

    A GET returns the number of POSTs so far.
    """

    calls = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while b"\r\n\r\n" in self.data:
            head, rest = self.data.split(b"\r\n\r\n", 1)
            header = re.search(rb"(?i)content-length: *(\d+)", head)
            length = int(header[1]) if header else 0
            if len(rest) < length:
                return
            body, self.data = rest[:length], rest[length:]
            if head.startswith(b"GET"):
                self.respond(b"text/plain", str(Upstream.calls).encode())
                continue
            Upstream.calls += 1
            if re.search(rb'"stream": ?true', body):
                self.respond(b"text/event-stream", STREAM)
            else:
                count = re.search(rb'"n": ?(\d+)', body)
                self.respond(b"application/json", completion(int(count[1]) if count else 1))

    def respond(self, kind: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (kind, len(body))
        self.transport.write(head + body)


HEAD = {"id": "c", "created": 0, "model": "a"}
COUNTS = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
WORDS = [f"word{number} " for number in range(20)]


def completion(number: int) -> bytes:
    """A completion with so many choices."""
    message = {"role": "assistant", "content": "".join(WORDS)}
    choices = [{"index": place, "message": message, "finish_reason": "stop"} for place in range(number)]
    return json.dumps({**HEAD, "object": "chat.completion", "choices": choices, "usage": COUNTS}).encode()


STREAM = stream_of(WORDS)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


asyncio.run(main())
