"""A forward proxy on a loopback socket that sends everything to one server, whatever host a client names."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from yarl import URL


class ForwardProxy:
    """The proxy. Use it with ``async with``.

    It understands ``CONNECT`` and requests with an absolute URL, and closes the client's connection after each.

    Attributes:
        requests: the first line and the headers (names in lower case) of each request, in order.
    """

    def __init__(self, target: str, *, refuses: bool = False) -> None:
        """
        Args:
            target: the URL of the server behind the proxy.
            refuses: answer everything with 407.
        """
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._target, self._refuses = URL(target), refuses
        self._pipes: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Host and port."""
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = dict(_header(line) for line in lines)
        self.requests.append((first, headers))
        if self._refuses:
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            writer.close()
            return
        assert self._target.host
        assert self._target.port
        up_reader, up_writer = await asyncio.open_connection(self._target.host, self._target.port)
        method, url, version = first.split(" ")
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            kept = "".join(f"{line}\r\n" for line in lines if not line.lower().startswith(("proxy-", "connection:")))
            up_writer.write(f"{method} {URL(url).raw_path_qs} {version}\r\n{kept}Connection: close\r\n\r\n".encode())
        for source, sink in ((reader, up_writer), (up_reader, writer)):
            pipe = asyncio.create_task(_pipe(source, sink))
            self._pipes.add(pipe)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name.lower(), value


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while packet := await source.read(2**16):
            sink.write(packet)
            await sink.drain()
    except ConnectionError:
        pass
    finally:
        sink.close()
