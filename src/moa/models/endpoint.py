"""Any server that speaks Chat Completions, over one pooled HTTP session.

Notable decisions:
- The body goes out as it came, but for ``model``, ``stream``, ``stream_options``, ``n`` and the provider's renames.
- Finished means that the server said so: an answer without a ``finish_reason`` is broken, however politely the
  connection was closed, and an answer with one is whole, however rudely.
- There is no limit on a whole call, only on silence: to connect, before the first token, between tokens. Comments that
  keep a connection open are silence too.
- A session belongs to the event loop it was made in. It is held by an async generator, so that the loop closes it when
  ``asyncio.run`` ends, whether or not anyone remembered to.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from moa.errors import ConfigError, ModelError, StreamBroken, TimedOut, Unreachable, UpstreamFailed
from moa.messages import Delta, Request
from moa.models import Traits
from moa.models.chunks import AnswerReader, WholeBody
from moa.models.providers import is_loopback
from moa.models.refusals import one_line, refused, retry_after_of, words_of
from moa.models.sse import EventSplitter

_AFTER_FINISH = 2.0  # seconds to wait for the usage once the finish reason has come
_AFTER_DONE = 0.1  # seconds to wait for the server's goodbye, which lets the connection be used again

_SECRET_HEADERS = ("auth", "key", "token", "secret")  # parts of their names


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds of silence before a call is given up; None is no limit. A call that keeps talking may talk for ever.

    Attributes:
        connect: to find the host and connect to it, with TLS.
        first_token: from the start of the call to its first text, reasoning or tool call.
        stall: between one token and the next.
    """

    connect: float | None = 10
    first_token: float | None = 120
    stall: float | None = 60


class Endpoint:
    """A Chat Completions server: a place, a key, and the connections to it. Make one per server and keep it.

    Args:
        name: what stands before the slash in its models' names.
        base_url: where it is, up to and with ``/v1``; a query (``?api-version=…``) is kept.
        api_key: sent as a bearer token. It is in no ``repr``, no error and no URL.
        headers: sent with every call.
        timeouts: how long silence may last.
        rename: request fields that this server calls by another name, from OpenAI's name to its own.
        continuation: how its models go on with a text that they have begun. The text may be the beginning of the last,
            assistant's message: ``prefix`` where the server takes that as it is (llama.cpp), ``vllm`` and ``flag`` where it
            wants it said (vLLM's ``continue_final_message``; ``"prefix": true`` in the message for Mistral and DeepSeek's
            beta). ``turns``: they are asked to go on, in turns. None or ``none``: they cannot, or nobody knows.

    Raises:
        ConfigError: ``base_url`` is no HTTP URL, or holds a user or a password.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        rename: Mapping[str, str] | None = None,
        continuation: str | None = None,
    ) -> None:
        try:
            self._url = URL(base_url)
        except ValueError:
            self._url = URL()
        if self._url.scheme not in ("http", "https") or not self._url.host or self._url.user:
            # Not quoted, since it may hold a password.
            raise ConfigError(f"the base URL of {name} must be http:// or https://, a host without a user, and a path")
        self.name = name
        self.timeouts = timeouts or Timeouts()
        self._headers = {"User-Agent": "mixture-of-agents", **(headers or {})}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key.strip()}"
        self._secrets = [
            value.split()[-1]
            for header, value in self._headers.items()
            if value.strip() and any(part in header.lower() for part in _SECRET_HEADERS)
        ]
        self._rename = dict(rename or {})
        self.continuation = None if continuation == "none" else continuation
        self._reports_usage = True
        self._sessions: dict[asyncio.AbstractEventLoop, _Session] = {}

    @property
    def base_url(self) -> str:
        """Where it is, without the query, which may hold a key."""
        return str(self._url.with_query(None))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.base_url!r})"

    def model(self, model_id: str) -> EndpointModel:
        """The model that this server calls ``model_id``."""
        return EndpointModel(self, model_id)

    async def models(self) -> list[str]:
        """The ids of the models it offers, in its order. https://platform.openai.com/docs/api-reference/models/list

        Raises:
            ModelError: it cannot be reached, refuses, or answers something else.
        """
        deadline = _from_now(self.timeouts.first_token)
        response = await self._ask(self.name, "models", None, deadline)
        try:
            body = await self._body_of(self.name, response, deadline)
            if response.status != 200:
                raise self._refusal(self.name, response, body)
            listing = json.loads(body)
            return [str(model["id"]) for model in (listing["data"] if isinstance(listing, dict) else listing)]
        except (ValueError, TypeError, KeyError):
            raise UpstreamFailed(self.name, f"{self.base_url}/models does not answer with a list of models") from None
        finally:
            response.close()

    async def aclose(self) -> None:
        """Close the connections made in the running event loop. A later call makes new ones."""
        if session := self._sessions.pop(asyncio.get_running_loop(), None):
            await session.keeper.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            for other in [other for other in self._sessions if other.is_closed()]:
                del self._sessions[other]
            keeper = self._open_session()
            # Nothing in there waits, so no other call comes between and opens a second session.
            self._sessions[loop] = _Session(await anext(keeper), keeper)
        return self._sessions[loop].http

    async def _open_session(self) -> AsyncGenerator[aiohttp.ClientSession, None]:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, connect=self.timeouts.connect),
            trust_env=not is_loopback(self._url.host),  # a proxy elsewhere cannot reach a server on this machine
        ) as http:
            yield http

    async def _begin(self, model: EndpointModel, request: Request, deadline: float | None) -> aiohttp.ClientResponse:
        """Send a request. The response has the status 200, and its body is still to be read."""
        with_usage = self._reports_usage
        while True:
            body = self._body_for(model.model_id, request, with_usage)
            response = await self._ask(model.name, "chat/completions", body, deadline)
            if response.status == 200:
                # Remembered only now: a server may quote the whole request when it is another field that it refuses.
                self._reports_usage = self._reports_usage and with_usage
                return response
            try:
                refusal = await self._body_of(model.name, response, deadline)
            finally:
                response.close()
            names_usage = "stream_options" in refusal or "include_usage" in refusal
            if not (with_usage and names_usage and response.status in (400, 422)):
                raise self._refusal(model.name, response, refusal)
            with_usage = False

    def _body_for(self, model_id: str, request: Request, with_usage: bool) -> dict[str, Any]:
        body = {key: value for key, value in request.body.items() if key not in ("n", "stream_options")}
        for ours, theirs in self._rename.items():
            if ours in body:
                value = body.pop(ours)
                body.setdefault(theirs, value)
        body |= {"model": model_id, "stream": True}
        *before, end = request.body["messages"]
        if end["role"] == "assistant" and self.continuation == "vllm":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if end["role"] == "assistant" and self.continuation == "flag":
            body["messages"] = [*before, {**end, "prefix": True}]
        if with_usage:
            body["stream_options"] = {**(request.body.get("stream_options") or {}), "include_usage": True}
        return body

    async def _ask(
        self, model: str, path: str, body: Mapping[str, Any] | None, deadline: float | None
    ) -> aiohttp.ClientResponse:
        """POST a body, or GET where there is none. The response has any status."""
        http = await self._session()
        url = (self._url / path).with_query(self._url.query)
        # A file and not bytes: aiohttp warns of bytes beyond a megabyte, which a long prompt may well have.
        data = io.BytesIO(json.dumps(body).encode()) if body is not None else None
        try:
            async with asyncio.timeout_at(deadline):
                # No redirect is followed: the key is for this server, not for where it points.
                return await http.request(
                    "GET" if data is None else "POST",
                    url,
                    data=data,
                    headers={"Content-Type": "application/json"} if data else None,
                    allow_redirects=False,
                )
        except aiohttp.ConnectionTimeoutError:
            raise Unreachable(model, f"no connection to {self.base_url} within {self.timeouts.connect:g} s") from None
        except TimeoutError:
            raise TimedOut(model, f"no token for {self.timeouts.first_token:g} s") from None
        except aiohttp.ClientConnectorDNSError:
            raise Unreachable(
                model, f"no host is called {self._url.host}: is the address right, and the network up?"
            ) from None
        except aiohttp.ClientSSLError as error:
            raise Unreachable(model, f"no secure connection to {self.base_url}: {one_line(str(error))}") from None
        except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError):
            raise Unreachable(model, f"the proxy in front of {self.base_url} does not let the call through") from None
        except aiohttp.ClientConnectorError:
            raise Unreachable(model, f"nothing answers at {self.base_url}: is the server running?") from None
        except (aiohttp.ClientError, OSError):
            raise UpstreamFailed(model, f"{self.base_url} broke off before it answered") from None

    async def _body_of(self, model: str, response: aiohttp.ClientResponse, deadline: float | None) -> str:
        try:
            async with asyncio.timeout_at(deadline):
                return (await response.read()).decode("utf-8", "replace")
        except TimeoutError:
            raise TimedOut(model, f"no token for {self.timeouts.first_token:g} s") from None
        except (aiohttp.ClientError, OSError):
            return ""

    def _refusal(self, model: str, response: aiohttp.ClientResponse, body: str) -> ModelError:
        if 300 <= response.status < 400:
            words = "it points elsewhere, which is not followed: correct its base URL"
        else:
            words = self._words(body)
        if response.status == 401 and "Authorization" not in self._headers:
            words = f"{words} (no key was sent)".lstrip()
        return refused(model, response.status, words, retry_after_of(response.headers))

    def _words(self, error: object) -> str:
        """What a server says about an error, without the key."""
        return words_of(error, self._secrets)


@dataclass(frozen=True, slots=True)
class _Session:
    """An HTTP session and the generator that closes it when it is closed, by us or by its event loop."""

    http: aiohttp.ClientSession
    keeper: AsyncGenerator[aiohttp.ClientSession, None]


class EndpointModel:
    """One model of an :class:`Endpoint`; a :class:`~moa.models.Model`.

    Attributes:
        provider: the endpoint's name.
        model_id: what the server calls it.
    """

    def __init__(self, endpoint: Endpoint, model_id: str) -> None:
        self.provider, self.model_id, self._endpoint = endpoint.name, model_id, endpoint

    @property
    def name(self) -> str:
        """``provider/model_id``."""
        return f"{self.provider}/{self.model_id}"

    @property
    def traits(self) -> Traits:
        """Its identity is the server's address and the ID there, so that a cache never mixes up two servers."""
        way = self._endpoint.continuation
        return Traits(
            provider=self.provider,
            model_id=self.model_id,
            identity=f"{self._endpoint.base_url} {self.model_id}",
            continuation="prefix" if way in ("prefix", "vllm", "flag") else "turns" if way == "turns" else None,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Say the answer piece by piece; the last delta holds the usage, estimated where the server reports none.

        What a broken answer had said is paid for too: before this raises, a last delta holds the usage as far as known.
        Closing the generator closes the connection, which tells the server to stop; the usage is then not said.

        Raises:
            ModelError: every kind of it; see :mod:`moa.errors`.
        """
        endpoint, timeouts = self._endpoint, self._endpoint.timeouts
        deadline = _from_now(timeouts.first_token)
        response = await endpoint._begin(self, request, deadline)
        try:
            if response.content_type == "text/html":
                raise UpstreamFailed(
                    self.name, f"a web page answers at {endpoint.base_url}: the API is elsewhere, often under /v1"
                )
            answer = AnswerReader(self.name, endpoint._words)
            splitter = WholeBody() if response.content_type == "application/json" else EventSplitter()
            try:
                while not answer.done:
                    packet = await self._packet(
                        response, deadline, timeouts.stall if answer.spoke else timeouts.first_token
                    )
                    for delta in answer.deltas(splitter.feed(packet) if packet else splitter.end()):
                        yield delta
                        # From when the reader is back: the time it took over the delta is not the server's silence.
                        deadline = _from_now(_after_finish(timeouts) if answer.finish_reason else timeouts.stall)
                    if not packet:
                        break
                if answer.finish_reason is None:
                    raise StreamBroken(self.name, "the answer ended without a finish reason")
            except ModelError:
                if answer.finish_reason is None:
                    if answer.spoke or answer.usage:
                        yield answer.bill(request)
                    raise
            yield answer.bill(request)
            with suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(_AFTER_DONE):
                    await response.content.readany()
        finally:
            response.close()

    async def _packet(self, response: aiohttp.ClientResponse, deadline: float | None, limit: float | None) -> bytes:
        """The next bytes of the body; none at its end."""
        try:
            async with asyncio.timeout_at(deadline):
                return await response.content.readany()
        except TimeoutError:
            raise TimedOut(self.name, f"no token for {limit:g} s") from None
        except (aiohttp.ClientError, OSError):
            raise StreamBroken(self.name, "the connection was lost in the middle of the answer") from None


def _from_now(seconds: float | None) -> float | None:
    """A moment on the running loop's clock."""
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


def _after_finish(timeouts: Timeouts) -> float:
    return _AFTER_FINISH if timeouts.stall is None else min(timeouts.stall, _AFTER_FINISH)
