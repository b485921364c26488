"""An upstream for batches: answers after a lognormal time, refuses calls beyond its limit, and counts what it did.

    uv run python benchmarks/batch_upstream.py [--shortest SECONDS --longest SECONDS] [--limit CALLS]

Prints its base URL. The times lie between the shortest and the longest for 95 of 100 calls. A GET returns counts as JSON:
calls answered, refused and in flight, the most in flight at a time, the sum of their times, and how often each question was
asked more than once (by model and last message).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random

from free_stream import stream_of

REFUSAL = (
    b'{"error": {"message": "too many calls at a time", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}'
)


class Upstream(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, for POST requests with a Content-Length."""

    limit = 10**9
    median = spread = 0.0
    response = b""
    counts = False
    random = random.Random(1)
    answered = refused = in_flight = most = 0
    seconds = 0.0
    asked: dict[bytes, int] = {}  # noqa: RUF012 - shared by all connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while b"\r\n\r\n" in self.data:
            head, rest = self.data.split(b"\r\n\r\n", 1)
            place = head.lower().find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if len(rest) < length:
                return
            body, self.data = rest[:length], rest[length:]
            if head.startswith(b"GET"):
                self.send(b"200 OK", b"application/json", self.figures())
            else:
                self.call(body)

    def call(self, body: bytes) -> None:
        cls = Upstream
        if cls.in_flight >= cls.limit:
            cls.refused += 1
            self.send(b"429 Too Many Requests", b"application/json", REFUSAL)
            return
        cls.in_flight += 1
        cls.most = max(cls.most, cls.in_flight)
        key = b""
        if cls.counts:
            asked = json.loads(body)
            key = hashlib.blake2b(f"{asked['model']} {asked['messages']}".encode(), digest_size=8).digest()
        seconds = math.exp(cls.random.gauss(math.log(cls.median), cls.spread)) if cls.median else 0.0
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self.answer, seconds, key)
        else:
            self.answer(0.0, key)

    def answer(self, seconds: float, key: bytes) -> None:
        cls = Upstream
        cls.in_flight -= 1
        if self.transport.is_closing():
            return
        cls.answered += 1
        cls.seconds += seconds
        if key:
            cls.asked[key] = cls.asked.get(key, 0) + 1
        self.transport.write(cls.response)

    def figures(self) -> bytes:
        cls = Upstream
        names = ("answered", "refused", "in_flight", "most", "seconds")
        again = sum(count - 1 for count in cls.asked.values())
        return json.dumps({**{name: getattr(cls, name) for name in names}, "again": again}).encode()

    def send(self, status: bytes, kind: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(body))
        self.transport.write(head + body)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shortest", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--longest", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--limit", type=int, default=10**9, metavar="CALLS")
    parser.add_argument("--count", action="store_true", help="count questions that are asked more than once")
    given = parser.parse_args()
    if given.shortest:
        Upstream.median = math.sqrt(given.shortest * given.longest)
        Upstream.spread = math.log(given.longest / given.shortest) / 2 / 1.96
    Upstream.limit, Upstream.counts = given.limit, given.count
    body = stream_of(f"word{number} " for number in range(4))
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    Upstream.response = head + body
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


asyncio.run(main())
