"""HTTP to one server: one pooled session per event loop, and every failure as an error of :mod:`moa.errors`.

Notable decisions:
- A session belongs to the event loop it was made in. An async generator holds it, so that the loop closes it when
  ``asyncio.run`` ends, whether or not the caller closed the endpoint.
- Redirects are not followed: the API key is for this server, not for the address that it redirects to.
- The environment's proxy (``HTTPS_PROXY``, ``NO_PROXY``, …) is read here and not by aiohttp's ``trust_env``, which also
  reads ``~/.netrc`` and fails every call with a key to a host that is listed there.
"""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from aiohttp import AddrInfoType
from yarl import URL

from moa.errors import ConfigError, StreamBroken, TimedOut, Unreachable, UpstreamFailed
from moa.models.provider import is_loopback
from moa.models.real_calls import check_real_call
from moa.models.refusals import one_line
from moa.models.trace_context import TRACE_HEADERS

_MODEL = "%7Bmodel%7D"
"""``{model}`` as it stands in a URL."""


class Silence:
    """How long a server may stay silent: a limit in seconds, and the moment on the loop's clock when it is reached."""

    def __init__(self, seconds: float | None) -> None:
        self.restart(seconds)

    def restart(self, seconds: float | None) -> None:
        """From now on, allow this many seconds; None is no limit."""
        self._seconds = seconds
        self._until = None if seconds is None else asyncio.get_running_loop().time() + seconds

    def limited(self) -> asyncio.Timeout:
        """A context that raises TimeoutError when the limit is reached."""
        return asyncio.timeout_at(self._until)

    def error(self, model: str) -> TimedOut:
        """The error for a silence that was too long."""
        return TimedOut(model, f"no token for {self._seconds:g} s")


class Connection:
    """Sends requests to one server and reads what comes back.

    Args:
        name: the endpoint's, for errors.
        base_url: up to and with ``/v1``; a query is kept, and ``{model}`` stands for the model's ID.
        headers: sent with every request.
        connect: seconds to find the host and connect to it, with TLS; None is no limit.
        session, ssl, proxy: as :class:`~moa.models.endpoint.Endpoint` documents them.

    Raises:
        ConfigError: ``base_url`` is not an HTTP URL, or holds a user or a password; or the proxy is not an HTTP URL.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        headers: Mapping[str, str],
        connect: float | None,
        *,
        session: aiohttp.ClientSession | None = None,
        ssl: SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        url = _http_url(base_url)
        if url is None or url.user:
            # The URL is not quoted, since it may hold a password.
            raise ConfigError(f"the base URL of {name} must be http:// or https://, a host without a user, and a path")
        if proxy is not None and _http_url(proxy) is None:
            raise ConfigError(f"the proxy of {name} must be http:// or https:// and a host")
        self._url, self._headers = url, headers
        self.base_url = str(url.with_query(None)).replace(_MODEL, "{model}")
        """The server's address without the query, which may hold a key."""
        self._own_session, self._sessions = session, dict[asyncio.AbstractEventLoop, _Session]()
        self._connect, self._ssl = connect, ssl
        self._proxy = proxy or (None if session else _environment_proxy(url))

    async def send(
        self,
        model: str,
        path: str,
        body: Mapping[str, Any] | None,
        silence: Silence,
        key: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        """POST a body, or GET where there is none. The response has any status, and its body is still to be read.

        Args:
            model: as ``name/model_id``.
            key: the header that holds the API key.

        Raises:
            ModelError: there is no response; names ``model``.
        """
        check_real_call(model)
        http = self._own_session or await self._session()
        if http.closed:
            raise Unreachable(model, f"the session passed to the endpoint of {self.base_url} is closed")
        url = URL(str(self._url).replace(_MODEL, quote(model.partition("/")[2], safe="")), encoded=True)
        headers = {**TRACE_HEADERS.get(), **self._headers, **(key or {})}
        # A file and not bytes: aiohttp warns of bytes beyond a megabyte, and a long prompt has more.
        data = io.BytesIO(_json(body)) if body is not None else None
        try:
            async with silence.limited():
                return await http.request(
                    "GET" if data is None else "POST",
                    (url / path).with_query(url.query),
                    data=data,
                    headers={**headers, "Content-Type": "application/json"} if data else headers,
                    timeout=aiohttp.ClientTimeout(total=None, connect=self._connect),
                    allow_redirects=False,
                    proxy=self._proxy,
                    ssl=self._ssl or True,
                )
        except aiohttp.ConnectionTimeoutError:
            raise Unreachable(model, f"no connection to {self.base_url} within {self._connect:g} s") from None
        except TimeoutError:
            raise silence.error(model) from None
        except aiohttp.ClientConnectorDNSError:
            raise Unreachable(
                model, f"cannot resolve the host {self._url.host}: check the address and the network"
            ) from None
        except aiohttp.ClientSSLError as error:
            raise Unreachable(model, f"no secure connection to {self.base_url}: {one_line(str(error))}") from None
        except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError):
            raise Unreachable(model, f"the proxy in front of {self.base_url} does not let the call through") from None
        except aiohttp.ClientConnectorError:
            raise Unreachable(model, f"cannot connect to {self.base_url}: is the server running?") from None
        except (aiohttp.ClientError, OSError):
            raise UpstreamFailed(model, f"{self.base_url} closed the connection before it answered") from None

    async def aclose(self) -> None:
        """Close the connections made in the running event loop. A session of the caller's stays open."""
        if session := self._sessions.pop(asyncio.get_running_loop(), None):
            await session.keeper.aclose()

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            for other in [other for other in self._sessions if other.is_closed()]:
                del self._sessions[other]
            keeper = _open_session()
            # The generator does not wait before its yield, so no other call can open a second session meanwhile.
            self._sessions[loop] = _Session(await anext(keeper), keeper)
        return self._sessions[loop].http


LOST = (aiohttp.ClientError, OSError, RuntimeError)
"""How reading a body fails where the connection is lost. aiohttp raises a RuntimeError where that happens at the end of a
chunk, before the reader of the chunk resumes."""


async def whole_body(model: str, response: aiohttp.ClientResponse, silence: Silence) -> str:
    """The body of a response; empty where the connection is lost.

    Raises:
        TimedOut: the server was silent for too long.
    """
    try:
        async with silence.limited():
            return (await response.read()).decode("utf-8", "replace")
    except TimeoutError:
        raise silence.error(model) from None
    except LOST:
        return ""


async def next_packet(model: str, response: aiohttp.ClientResponse, silence: Silence) -> bytes:
    """The next bytes of a body; empty at its end.

    Raises:
        TimedOut: the server was silent for too long.
        StreamBroken: the connection was lost.
    """
    try:
        async with silence.limited():
            return await response.content.readany()
    except TimeoutError:
        raise silence.error(model) from None
    except LOST:
        raise StreamBroken(model, "the connection was lost in the middle of the answer") from None


def _json(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. The fast encoder takes a quarter of the time, in which nothing else runs; it refuses lone surrogates
    and numbers of more than 64 bits."""
    try:
        return msgspec.json.encode(body)
    except (UnicodeEncodeError, OverflowError, TypeError):
        return json.dumps(body).encode()


@dataclass(frozen=True, slots=True)
class _Session:
    """An HTTP session, and the generator that closes it when it is closed itself, by us or by its event loop."""

    http: aiohttp.ClientSession
    keeper: AsyncGenerator[aiohttp.ClientSession, None]


_OPEN: set[aiohttp.ClientSession] = set()
"""Open sessions. They are held here so that a session whose endpoint is garbage is closed before it is garbage itself."""


async def _open_session() -> AsyncGenerator[aiohttp.ClientSession, None]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, socket_factory=_socket), cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        _OPEN.add(http)
        try:
            yield http
        finally:
            _OPEN.discard(http)


_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 30, "TCP_KEEPCNT": 3}
"""Seconds of silence before the first probe, seconds between two, and how many the other side may leave unanswered."""


def _socket(address: AddrInfoType) -> socket.socket:
    """A socket whose system probes the connection: a server that is gone is not taken for one that thinks for minutes.

    OpenAI's and Anthropic's clients do the same, as routers drop connections that are silent for some minutes.
    """
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if option := getattr(socket, name, None):  # macOS and Windows lack some
            opened.setsockopt(socket.IPPROTO_TCP, option, value)
    return opened


def _http_url(text: str) -> URL | None:
    try:
        url = URL(text)
    except ValueError:
        return None
    return url if url.scheme in ("http", "https") and url.host else None


def _environment_proxy(url: URL) -> str | None:
    """The proxy that the environment names for a URL; None for this machine, which no proxy elsewhere can reach."""
    host = url.host or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxy = getproxies().get(url.scheme)
    proxy = proxy if proxy is None or "://" in proxy else f"http://{proxy}"
    if proxy is not None and _http_url(proxy) is None:
        # The URL is not quoted, since it may hold a password.
        raise ConfigError(
            f"{url.scheme.upper()}_PROXY names a {proxy.partition(':')[0]} proxy; {host} is called through HTTP ones only: "
            f"name an http:// proxy, add {host} to NO_PROXY, or install aiohttp-socks and pass Endpoint a session with it"
        )
    return proxy
