"""A Chat Completions server on a real loopback socket that follows the script of a test.

A script is what one call gets, as a sum of steps; most tests need one word of it::

    async with Upstream() as up:
        up.script("wise", say("Four."))
        up.script("busy", refuse(429, retry_after=1), say("Four."))  # one script per call; the last one stays
        up.script("rude", words("Fo") + drop())
        up.script("parrot", lambda body: say(body["messages"][-1]["content"]))

    whole answers       say, echo, think, call_tool, whole, refuse, without_stream_options
    pieces of answers   words, chunk, finish, usage, done
    the wire            data, comment, raw, head, garbage
    time                pause, until, hang
    ends                drop

A script that does not end in ``done`` ends the response properly, without ``[DONE]``; ``drop`` cuts the connection.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.fakes.waiting import PATIENCE

Body = Mapping[str, Any]


@dataclass(eq=False)
class Received:
    """One request as it came, and how far its answer is.

    Attributes:
        path, body, headers: what came; the body is None for a GET.
        peer: the client's port, the same for calls over one connection.
        started: set when the first byte of the answer was sent.
        finished: set when the answer was sent to its end.
        disconnected: set when the client went away before that.
    """

    path: str
    body: Any
    headers: Mapping[str, str]
    peer: int
    http: web.Request = field(repr=False)
    started: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    finished: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    response: web.StreamResponse | None = field(default=None, repr=False)

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return str(self.body["messages"][-1]["content"])

    async def begin(self, status: int = 200, headers: Mapping[str, str] | None = None) -> web.StreamResponse:
        """The response, its head sent; the first call decides status and headers."""
        if self.response is None:
            self.response = web.StreamResponse(status=status, headers=headers or {"Content-Type": "text/event-stream"})
            await self.response.prepare(self.http)
            self.started.set()
        return self.response

    async def send(self, data: bytes) -> None:
        await (await self.begin()).write(data)


Step = Callable[[Received], Awaitable[None]]


@dataclass(frozen=True)
class Script:
    """What one call gets: steps, one after another. Scripts add up."""

    steps: tuple[Step, ...] = ()

    def __add__(self, other: Script) -> Script:
        return Script(self.steps + other.steps)


Scripted = Script | Callable[[Body], Script]
"""A script, or a function that writes one when it has seen the request's body."""


def step(action: Step) -> Script:
    """A script of one step: any async function that takes the :class:`Received`."""
    return Script((action,))


def raw(data: bytes, *more: bytes) -> Script:
    """These bytes as they are, each in a packet of its own."""

    async def action(call: Received) -> None:
        for packet in (data, *more):
            await call.send(packet)
            await asyncio.sleep(0.002 if more else 0)  # apart, or the kernel hands them over as one

    return step(action)


def data(payload: str) -> Script:
    """One event with this payload."""
    return raw(f"data: {payload}\n\n".encode())


def comment(text: str) -> Script:
    """A comment, as servers send to keep a connection open."""
    return raw(f": {text}\n\n".encode())


def chunk(delta: Mapping[str, Any] | None, finish_reason: str | None = None, **fields: Any) -> Script:
    """One chunk; further fields stand in its choice."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, **fields}
    return data(json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}))


def words(text: str, pace: float = 0.0) -> Script:
    """The text, a chunk for each word, ``pace`` seconds apart."""
    return sequence(pause(pace) + chunk({"content": word}) for word in re.findall(r"\s*\S+\s*$|\s*\S+", text))


def thoughts(text: str, field_name: str = "reasoning_content") -> Script:
    """The text as reasoning, a chunk for each word."""
    return sequence(chunk({field_name: word}) for word in re.findall(r"\s*\S+", text))


def finish(reason: str = "stop") -> Script:
    """The chunk with the finish reason."""
    return chunk({}, reason)


def usage(prompt_tokens: int = 10, completion_tokens: int = 5, **fields: Any) -> Script:
    """The chunk that counts tokens; sent only if the request has include_usage, as servers do."""
    counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, **fields}

    async def action(call: Received) -> None:
        if (call.body.get("stream_options") or {}).get("include_usage"):
            await call.send(f"data: {json.dumps({'choices': [], 'usage': counts})}\n\n".encode())

    return step(action)


def done() -> Script:
    """``[DONE]``."""
    return data("[DONE]")


def say(text: str, pace: float = 0.0, *, reason: str = "stop", tokens: tuple[int, int] | None = (10, 5)) -> Script:
    """A whole answer, a word at a time. ``tokens`` are its prompt and completion tokens; None leaves the usage out."""
    opening = chunk({"role": "assistant", "content": ""})
    return opening + words(text, pace) + finish(reason) + (usage(*tokens) if tokens else Script()) + done()


def echo(body: Body) -> Script:
    """A whole answer that repeats the last message. ``up.script("parrot", echo)``."""
    return say(str(body["messages"][-1]["content"]))


def think(reasoning: str, text: str = "") -> Script:
    """A whole answer with reasoning before its text, or reasoning alone."""
    return thoughts(reasoning) + words(text) + finish() + usage() + done()


def call_tool(name: str, arguments: Mapping[str, Any], call_id: str = "call_1") -> Script:
    """A whole answer that is one tool call, its arguments in pieces."""
    written = json.dumps(arguments)
    half = len(written) // 2
    first = {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
    pieces = [first, *({"index": 0, "function": {"arguments": part}} for part in (written[:half], written[half:]))]
    return sequence(chunk({"tool_calls": [piece]}) for piece in pieces) + finish("tool_calls") + usage() + done()


def whole(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Script:
    """A body that is not streamed: an object as JSON; a string as it is, a web page where it begins with ``<``."""
    is_text = isinstance(body, str)
    kind = "application/json" if not is_text else "text/html" if str(body).startswith("<") else "text/plain"
    payload = str(body) if is_text else json.dumps(body)

    async def action(call: Received) -> None:
        response = await call.begin(status, {"Content-Type": kind, **(headers or {})})
        await response.write(payload.encode())

    return step(action)


def refuse(
    status: int,
    message: str = "no",
    *,
    retry_after: float | str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Script:
    """An error in OpenAI's shape, with ``Retry-After`` where it is given."""
    wait = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return whole({"error": {"message": message, "code": None}}, status=status, headers={**wait, **(headers or {})})


def without_stream_options(script: Script) -> Callable[[Body], Script]:
    """The script for those who do not send ``stream_options``; 400 for those who do."""
    return lambda body: refuse(400, "Unknown argument: stream_options") if "stream_options" in body else script


def error_event(message: str, **fields: Any) -> Script:
    """An error in the middle of a stream."""
    return data(json.dumps({"error": {"message": message, **fields}}))


def pause(seconds: float) -> Script:
    """Nothing for so long."""
    return step(lambda call: asyncio.sleep(seconds))


def until(event: asyncio.Event) -> Script:
    """Nothing until the test sets the event."""

    async def action(call: Received) -> None:
        await event.wait()

    return step(action)


def hang() -> Script:
    """Nothing until the client goes away; before any other step, not even a head."""
    return until(asyncio.Event())


def head() -> Script:
    """The head of a stream, and nothing of its body."""

    async def action(call: Received) -> None:
        await call.begin()

    return step(action)


def drop() -> Script:
    """The connection is cut."""

    async def action(call: Received) -> None:
        if call.http.transport is not None:
            call.http.transport.abort()

    return step(action)


def garbage(data: bytes = b"SSH-2.0-OpenSSH_9.6\r\n\r\n") -> Script:
    """Bytes that are not HTTP, before any other step."""

    async def action(call: Received) -> None:
        if call.http.transport is not None:
            call.http.transport.write(data)
            call.http.transport.close()

    return step(action)


def sequence(scripts: Iterable[Script]) -> Script:
    """These scripts, one after another."""
    return Script(tuple(action for script in scripts for action in script.steps))


class Upstream:
    """The server. Use it with ``async with``, or take the ``upstream`` fixture.

    Attributes:
        requests: every request, in the order they came.
        open_calls: how many chat calls are being answered now.
        peak: the most that were at once.
    """

    def __init__(self, tls: SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Received] = []
        self.open_calls = 0
        self.peak = 0
        self._scripts: dict[str, list[Scripted]] = {}
        self._origin = ""
        self._arrival = asyncio.Event()
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/{place:.+}/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01, access_log=None)

    def script(self, model: str, *scripts: Scripted) -> None:
        """Say what calls to a model get: the first call the first script, and so on; the last one stays.

        The name ``*`` stands for every model without a script, and ``/models`` for the list of models, which otherwise names
        those that have a script.
        """
        self._scripts[model] = list(scripts)

    @property
    def base_url(self) -> str:
        return f"{self._origin}/v1"

    async def received(self, count: int) -> None:
        """Wait until that many requests have come."""
        async with asyncio.timeout(PATIENCE):
            while len(self.requests) < count:
                self._arrival.clear()
                await self._arrival.wait()

    def calls(self, model: str) -> list[Received]:
        """The chat calls to a model, in the order they came."""
        return [call for call in self.requests if call.body is not None and call.model == model]

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        host, port = self._runner.addresses[0][:2]
        self._origin = f"{'https' if self._tls else 'http'}://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _models(self, http: web.Request) -> web.StreamResponse:
        call = self._received(http, None)
        if listing := self._scripts.get("/models"):
            return await self._played(call, listing)
        return web.json_response(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in self._scripts]}
        )

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        call = self._received(http, await http.json())
        unknown = refuse(404, f"The model `{call.model}` does not exist")
        self.open_calls += 1
        self.peak = max(self.peak, self.open_calls)
        try:
            return await self._played(call, self._scripts.get(call.model) or self._scripts.get("*", [unknown]))
        finally:
            self.open_calls -= 1

    def _received(self, http: web.Request, body: Any) -> Received:
        assert http.transport is not None
        self.requests.append(
            Received(http.path_qs, body, http.headers, http.transport.get_extra_info("peername")[1], http)
        )
        self._arrival.set()
        return self.requests[-1]

    async def _played(self, call: Received, scripts: list[Scripted]) -> web.StreamResponse:
        scripted = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        script = scripted if isinstance(scripted, Script) else scripted(call.body)
        try:
            for action in script.steps:
                await action(call)
            response = await call.begin()
            await response.write_eof()
        except (asyncio.CancelledError, ConnectionError):
            call.disconnected.set()
            raise
        call.finished.set()
        return response
