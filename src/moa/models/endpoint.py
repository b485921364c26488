"""Any server that speaks Chat Completions.

Notable decisions:
- The body is sent unchanged, except for ``model``, ``stream`` and ``n``: what a model takes is another idea, of
  :mod:`moa.models.learning`.
- Only a ``finish_reason`` or ``[DONE]`` completes an answer: without either it is broken, however properly the connection
  was closed; with one it is complete, however abruptly.
- There is no limit on a whole call, only on silence: to connect, before the first token, between tokens. Comments that
  keep a connection open count as silence. They prove that the connection stands, as TCP's own keep-alive does.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, MutableMapping
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext
from typing import Any

import aiohttp

from moa.closing import AsyncClosing
from moa.errors import ModelError, UpstreamFailed
from moa.messages import Delta, Request
from moa.models import Traits
from moa.models.chunks import AnswerReader
from moa.models.connection import LOST, Connection, Silence, next_packet, whole_body
from moa.models.contexts import context_of
from moa.models.continuations import Continuing
from moa.models.credential import Credential, KeySource
from moa.models.error_codes import parsed
from moa.models.learning import Learning
from moa.models.profile import Profile
from moa.models.profiles import profile_at
from moa.models.provider import is_remote
from moa.models.redaction import secrets_in, value_without_secrets
from moa.models.refusals import message_of, refused
from moa.models.sse import EventSplitter, WholeBody

_AFTER_FINISH = 2.0  # seconds to wait for the usage after the finish reason
_AFTER_DONE = 0.1  # seconds to wait for the end of the response, which lets the connection be reused

_FIELDS = (b"data", b"event", b"id", b"retry", b"error", b":")
"""How a stream of events may begin."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds of silence after which a call is given up; None is no limit. A call that keeps streaming has no limit.

    Attributes:
        connect: to find the host and connect to it, with TLS.
        first_token: from the start of the call to its first text, reasoning or tool call. Some models think for minutes
            without a word. A comment or an empty chunk does not count; a lost connection ends the call before.
        stall: between one token and the next.
    """

    connect: float | None = 10
    first_token: float | None = 600
    stall: float | None = 60


class Endpoint(AsyncClosing):
    """A Chat Completions server: an address, a key, and the connections to it. Make one per server and keep it.

    Args:
        name: the part before the slash in its models' names.
        base_url: the server's address, up to and with ``/v1``; a query (``?api-version=…``) is kept, and ``{model}`` stands
            for the model's ID.
        api_key: sent as a bearer token. It appears in no ``repr``, no error and no URL. A function (sync or async) that
            returns it is called at the first request, after five minutes, and when the server refuses the key.
        auth_header: the header that holds the key; another than ``Authorization`` holds the key alone.
        headers: sent with every call.
        timeouts: how long silence may last.
        profile_of: what is known of a model of this server, by its ID; by default what the table of
            :mod:`moa.models.profiles` says of the server's address.
        rename: request fields that this server calls by another name, from OpenAI's name to its own; overrides the profile.
        continuation: how its models continue a text that they have begun. With ``prefix``, ``vllm`` and ``flag`` the
            beginning is the last message, the assistant's: sent as it is (``prefix``, llama.cpp), with vLLM's
            ``continue_final_message`` (``vllm``), with ``"prefix": true`` in the message (``flag``, for Mistral and
            DeepSeek's beta) or with ``"partial": true`` (``partial``, for Moonshot and Qwen). ``turns``: a user message asks
            them to continue. ``none``: they cannot. ``auto``: test it where a schedule needs it, once. None: as the
            profile says; ``auto`` where it says nothing.
        ways: what tests have found about it; by default in this process alone. See :mod:`moa.models.saved_ways`.
        session: an aiohttp session to use for every call: its connector, cookies and tracing apply, and its proxy settings
            unless ``proxy`` is given. It stays the caller's to close, and works in its own event loop only. By default the
            endpoint opens and closes a session per event loop.
        ssl: a TLS context, for a private certificate authority or a client certificate. By default aiohttp's.
        proxy: the URL of an HTTP proxy, with user and password where it needs them. By default the environment's
            (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``), except for servers on this machine.

    Raises:
        ConfigError: ``base_url`` is not an HTTP URL, or holds a user or a password; or ``proxy`` is not an HTTP URL.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        api_key: KeySource = None,
        auth_header: str = "Authorization",
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        rename: Mapping[str, str] | None = None,
        continuation: str | None = None,
        profile_of: Callable[[str], Profile] | None = None,
        ways: MutableMapping[str, Continuing] | None = None,
        session: aiohttp.ClientSession | None = None,
        ssl: SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        self.name = name
        self.timeouts = timeouts or Timeouts()
        self._headers = {"User-Agent": "mixture-of-agents", **(headers or {})}
        self._credential, self._auth_header = Credential(api_key), auth_header
        self._secrets = secrets_in(self._headers, base_url)
        self._profile_of = profile_of or partial(profile_at, base_url)
        self._own = Profile(rename=dict(rename or {}), continuation=continuation)
        self._listed: dict[str, Profile] = {}
        self._learned: dict[str, Profile] = {}
        self._ways: MutableMapping[str, Continuing] = {} if ways is None else ways
        self._connection = Connection(
            name, base_url, self._headers, self.timeouts.connect, session=session, ssl=ssl, proxy=proxy
        )

    @property
    def base_url(self) -> str:
        """The server's address without the query, which may hold a key."""
        return self._connection.base_url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.base_url!r})"

    def model(self, model_id: str) -> Learning:
        """The model that this server calls ``model_id``."""
        profile = self._listed.get(model_id, Profile()).merged(self._profile_of(model_id)).merged(self._own)
        model = EndpointModel(self, model_id)
        fields = {"stream_options": {"include_usage": True}}
        return Learning(model, profile, fields=fields, memory=self._learned, ways=self._ways)

    async def models(self) -> list[str]:
        """The IDs of its models, in its order. https://platform.openai.com/docs/api-reference/models/list

        Where the list has the sizes of their contexts, it is remembered.

        Raises:
            ModelError: the server cannot be reached, refuses, or answers with something else.
        """
        if "{model}" in self.base_url:
            raise UpstreamFailed(self.name, f"{self.base_url} has an address for each model, and no list of them")
        silence = Silence(self.timeouts.first_token)
        with closing(await self._send(self.name, "models", None, silence)) as response:
            body = await whole_body(self.name, response, silence)
            if response.status != 200:
                raise self._refusal(self.name, response, body)
            try:
                listing = json.loads(body)
                models = listing["data"] if isinstance(listing, dict) else listing
                self._listed = {str(model["id"]): Profile(context_tokens=context_of(model)) for model in models}
                return list(self._listed)
            except (ValueError, TypeError, KeyError):
                raise UpstreamFailed(self.name, f"{self.base_url}/models does not return a list of models") from None

    async def aclose(self) -> None:
        """Close the connections made in the running event loop. A later call opens new ones."""
        await self._connection.aclose()

    async def _send(
        self, model: str, path: str, body: Mapping[str, Any] | None, silence: Silence
    ) -> aiohttp.ClientResponse:
        """Send a request with the key; once more with a new key where the server refuses one that can expire."""
        renewed = False
        while True:
            key = await self._credential.key(model)
            response = await self._connection.send(model, path, body, silence, self._key_header(key))
            if response.status != 401 or renewed or not self._credential.expire(key):
                return response
            response.close()
            renewed = True

    def _key_header(self, key: str | None) -> dict[str, str]:
        if key is None:
            return {}
        return {self._auth_header: f"Bearer {key}" if self._auth_header.lower() == "authorization" else key}

    async def _begin(self, model: EndpointModel, request: Request, silence: Silence) -> aiohttp.ClientResponse:
        """Send a request. The response has the status 200, and its body is still to be read."""
        body = self._body_for(model, request)
        response = await self._send(model.name, "chat/completions", body, silence)
        if response.status == 200:
            return response
        with closing(response):
            refusal = await whole_body(model.name, response, silence)
        raise self._refusal(model.name, response, refusal)

    def _body_for(self, model: EndpointModel, request: Request) -> dict[str, Any]:
        body = {key: value for key, value in request.body.items() if key != "n"}
        return body | {"model": model.model_id, "stream": True}

    def _refusal(self, model: str, response: aiohttp.ClientResponse, body: str) -> ModelError:
        body = self._redacted(body)
        if 300 <= response.status < 400:
            message = "it redirects, which is not followed: correct its base URL"
        else:
            message = message_of(body)
        if response.status == 401 and not self._credential and "Authorization" not in self._headers:
            message = f"{message} (no key was sent)".lstrip()
        if response.status == 404 and (isinstance(parsed(body), str) or message.lower() in ("", "not found")):
            message = f"no API answers at {self.base_url}: is the base URL right? It often ends in /v1"
        error = refused(model, response.status, message, body, response.headers)
        error.refusal = body
        return error

    def _redacted(self, said: Any) -> Any:
        """What the server said, as text or as a JSON value, without the keys."""
        return value_without_secrets(said, [*self._secrets, *self._credential.secrets])


class EndpointModel:
    """One model of an :class:`Endpoint`; a :class:`~moa.models.Model`.

    Attributes:
        provider: the endpoint's name.
        model_id: the server's name for the model.
    """

    def __init__(self, endpoint: Endpoint, model_id: str) -> None:
        self.provider, self.model_id, self._endpoint = endpoint.name, model_id, endpoint
        self._traits = Traits(
            provider=self.provider,
            model_id=model_id,
            identity=f"{endpoint.base_url} {model_id}",
            remote=is_remote(endpoint.base_url),
        )

    @property
    def name(self) -> str:
        """``provider/model_id``."""
        return f"{self.provider}/{self.model_id}"

    @property
    def traits(self) -> Traits:
        """Its identity is the server's address and the ID there, so that a cache never mixes up two servers."""
        return self._traits

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the answer; the last delta holds the usage, estimated where the server reports none.

        The part of a broken answer that arrived is paid for too: before this raises, a last delta holds the usage as far
        as it is known. Closing the generator closes the connection, so the server can stop; no usage follows.

        Raises:
            ModelError: of every kind; see :mod:`moa.errors`.
        """
        silence = Silence(self._endpoint.timeouts.first_token)
        with closing(await self._endpoint._begin(self, request, silence)) as response:
            answer = AnswerReader(self.name, request, self._endpoint._redacted)
            error: ModelError | None = None
            try:
                async with aclosing(self._deltas(response, answer, silence)) as deltas:
                    async for delta in deltas:
                        yield delta
            except ModelError as raised:
                if answer.finish_reason is None:  # otherwise the answer is complete, and only its usage may be missing
                    error = raised
            if error is None and answer.usage is None:
                await _read_rest(response, answer)
            if error is None or answer.began or answer.usage:
                yield answer.bill()
            if error is not None:
                raise error
            await _read_rest(response, answer)

    async def _deltas(
        self, response: aiohttp.ClientResponse, answer: AnswerReader, silence: Silence
    ) -> AsyncGenerator[Delta, None]:
        """The deltas of a response, without the usage.

        Raises:
            ModelError: the response is no answer, or it broke off, or the server was silent for too long.
        """
        stall = self._endpoint.timeouts.stall
        after_finish = _AFTER_FINISH if stall is None else min(stall, _AFTER_FINISH)
        splitter: WholeBody | EventSplitter | None = None
        while not answer.done:
            packet = await next_packet(self.name, response, silence)
            if splitter is None and (packet.strip() or not packet):
                # By its first character and not by its label: servers label streams as JSON, and JSON as a stream.
                start = packet.lstrip(b"\xef\xbb\xbf \t\r\n")
                is_json = start.startswith((b"{", b"["))
                is_text = not start.startswith(_FIELDS) and not any(field.startswith(start) for field in _FIELDS)
                if response.content_type == "text/html" and not is_json and (is_text or not start):
                    page = f"{self._endpoint.base_url} returns a web page: the API is elsewhere, often under /v1"
                    raise UpstreamFailed(self.name, page)
                splitter = WholeBody() if is_json or is_text else EventSplitter()
            if splitter is None:
                continue
            for delta in answer.deltas(splitter.feed(packet) if packet else splitter.end()):
                yield delta
                # Counted from the reader's return: the time it took over the delta is not the server's silence.
                if answer.finish_reason:
                    silence.restart(after_finish)
                elif delta.speaks:
                    silence.restart(stall)
            if not packet:
                break
        for delta in answer.end():
            yield delta


async def _read_rest(response: aiohttp.ClientResponse, answer: AnswerReader) -> None:
    """Read what comes after ``[DONE]``: the end of the response, so that the connection is reused, and sometimes usage."""
    with suppress(TimeoutError, *LOST):
        async with asyncio.timeout(_AFTER_DONE):
            for event in EventSplitter().feed(await response.content.readany()):
                answer.read_late(event)
