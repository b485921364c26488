"""GGUF models on this machine, without a separate server and without an API key.

Notable decisions:
- An embedded model is an endpoint that starts with the first request and stops with the model: llama.cpp's server in a
  process of its own (:mod:`moa.models.llama`), on a loopback port, with a key that only this process knows.
- Loading takes all cores, so models load one after another.
- A slow model never times out: it may take minutes to read a long prompt. If it fails, its process ends, which is noticed
  at once.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass, field
from importlib.util import find_spec

from moa.closing import AsyncClosing
from moa.errors import ConfigError, ModelError
from moa.messages import Cost, Delta, Request
from moa.models import Traits, weights
from moa.models.endpoint import Endpoint, Timeouts
from moa.models.gguf import calls_tools
from moa.models.llama_process import LlamaProcess
from moa.models.profile import Profile
from moa.models.real_calls import check_real_call
from moa.models.weights import Weights

_PATIENT = Timeouts(connect=10, first_token=None, stall=None)
# llama.cpp may close a connection after an answer, unannounced, just as the next call begins.
_ONE_CALL_PER_CONNECTION = {"Connection": "close"}
_ONE_AT_A_TIME = threading.Lock()  # held while a model of this process loads


class EmbeddedModel(AsyncClosing):
    """A model on this machine; a :class:`~moa.models.Model` whose calls cost nothing.

    It loads with the first request, or with :meth:`load`, and takes the memory of its weights and its context (23 KB per
    token for 135 million parameters, 128 KB for 8 billion) until :meth:`aclose`::

        not loaded ── load() ──▶ loading ── its process listens ──▶ loaded
            ▲                       │                                  │
            ├── fails, or aclose() ─┘                                  │
            └── its process ends, or aclose() ─────────────────────────┘

    One object may serve any number of event loops and threads, one after another or at the same time, and processes forked
    from this one: all of them share one load and one server.

    Args:
        source: weights, or the name after ``local/``; see :func:`moa.models.weights.find`.
        context: the most tokens of a question and its answer together. A longer question is refused with
            :class:`~moa.errors.CallRejected`; a longer answer ends with the finish reason ``length``.
        slots: answers written at the same time, each with a context of its own; further requests wait. On a CPU, more slots
            take more memory and hardly write more in all.
        threads: for reading prompts, and for writing several answers at once; by default the number of cores.
        on_notice: receives a line about each step that takes time: loading, and downloading weights. Called from another
            thread.

    Raises:
        UnknownName: no weights have this name.
        ConfigError: the name is of a file that is missing or not GGUF; or llama.cpp is not installed.
    """

    def __init__(
        self,
        source: str | Weights,
        *,
        context: int = 8192,
        slots: int = 3,
        threads: int | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        if min(context, slots, threads or 1) < 1:
            raise ConfigError(
                f"an embedded model needs a context, slots and threads of at least 1: {context}, {slots}, {threads}"
            )
        self.model_id = source if isinstance(source, str) else source.name
        self.context, self.slots, self.threads = context, slots, threads or _cores()
        if find_spec("xllamacpp") is None:
            raise ConfigError(
                f"{self.name} needs llama.cpp: pip install 'mixture-of-agents[local]' "
                "(with uv: uv add 'mixture-of-agents[local]')"
            )
        self._weights = weights.find_local(source) if isinstance(source, str) else source
        self._notify = on_notice or (lambda notice: None)
        self._tools: bool | None = None  # known when the weights are
        self._guard = threading.Lock()  # held only for an instant; guards the next line and every load's fields
        self._load: _Load | None = None

    @property
    def name(self) -> str:
        """``local/`` and the name of the weights."""
        return f"local/{self.model_id}"

    @property
    def traits(self) -> Traits:
        sampling = self._weights.sampling if self._weights else {}
        settings = "".join(f", {name} {value}" for name, value in sampling.items())
        identity = f"{self.name} with a context of {self.context} tokens{settings}"
        return Traits(
            provider="local",
            model_id=self.model_id,
            identity=identity,
            continuation="prefix",
            may_be_silent=True,
            profile=self._profile,
        )

    @property
    def _profile(self) -> Profile:
        return Profile(images=False, tools=self._tools, context_tokens=self.context, continuation="prefix")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_id!r})"

    @property
    def loaded(self) -> bool:
        """Whether it is in memory, ready to answer."""
        load = self._load
        return load is not None and load.usable and load.server.done()

    async def load(self) -> None:
        """Load it into memory, once for all callers; again after a failure, or when its process has ended.

        Cancelling a wait leaves the load running for other callers; :meth:`aclose` ends it.

        Raises:
            ConfigError: the weights cannot be downloaded.
            ModelError: llama.cpp does not load them, for the reason that it gives; or :meth:`aclose` came first; or real
                calls are forbidden.
        """
        await self._server()

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the answer; the delta with the usage has a cost of $0.

        Where something killed the process since the last answer, and the answer has not begun, it is started again, once.
        Closing the generator stops the writing within a token, or the reading of a prompt within 512 tokens.

        Raises:
            ModelError: the model could not be loaded.
            CallRejected: the question is longer than the context, or malformed.
            StreamBroken: its process ended, or it was closed, in the middle of the answer.
        """
        load, began = self._load, False
        idle = load.process if load else None  # a process that this call itself starts is not started again
        try:
            async with aclosing(self._answer(request)) as deltas:
                async for delta in deltas:
                    began = True
                    yield delta
            return
        except ModelError as error:
            if (
                began or error.status is not None or idle is None or self._load is not load
            ):  # the last: aclose() ended it
                raise
            if not await _has_ended(idle):
                raise
        async with aclosing(self._answer(request)) as deltas:
            async for delta in deltas:
                yield delta

    async def _answer(self, request: Request) -> AsyncGenerator[Delta, None]:
        """One answer of a server, which is loaded first where there is none; raises as :meth:`stream` does."""
        try:
            server = await self._server()
        except ConfigError as error:
            # At this point it is one failed call, and other models may answer in its place.
            raise ModelError(self.name, str(error).removeprefix(f"{self.name}: ")) from error
        if not server.process.alive:
            raise ModelError(self.name, "closed before it could answer")
        sampled = self._weights.sampled(request) if self._weights else request
        async with aclosing(server.endpoint.model(self.model_id).stream(sampled)) as deltas:
            async for delta in deltas:
                yield delta.replaced(cost=Cost(0.0)) if delta.usage else delta

    async def aclose(self) -> None:
        """Free its memory, and end answers and a load in progress. A later request loads it again."""
        with self._guard:
            load, self._load = self._load, None
            if load:
                load.cancelled = True
        if load and load.process:
            await asyncio.to_thread(load.process.end)
        if load and (server := load.result):
            await server.endpoint.aclose()

    async def _server(self) -> _Server:
        """The server of this model, loaded first where it is not; raises as :meth:`load` does."""
        check_real_call(self.name)
        with self._guard:
            before = self._load
            if before is not None and before.usable:
                load = before
            else:
                load = self._load = _Load()
                # A daemon, and not a worker of a pool: leaving the program must not wait for gigabytes to arrive.
                threading.Thread(target=self._run, args=(load,), daemon=True).start()
        if before is not None and before is not load and (ended := before.result):
            await ended.endpoint.aclose()
        return await asyncio.shield(asyncio.wrap_future(load.server))

    def _run(self, load: _Load) -> None:
        """The thread of a load; its outcome goes into ``load.server``."""
        try:
            found = self._weights or weights.find(self.model_id, on_progress=self._fetching(load))
            with _ONE_AT_A_TIME:
                server = self._start(found, load)
        except BaseException as error:
            load.server.set_exception(error)
        else:
            self._weights = found
            load.server.set_result(server)

    def _start(self, found: Weights, load: _Load) -> _Server:
        """Start the process and wait until it listens."""
        self._check_wanted(load)
        self._tools = calls_tools(found.path)
        self._notify(f"loading {self.name}: {found.path.stem}, {found.bytes / 1e6:.0f} MB …")
        api_key = secrets.token_urlsafe()
        with self._guard:
            self._check_wanted(load)
            process = load.process = LlamaProcess(
                {
                    "path": str(found.path),
                    "name": self.model_id,
                    "api_key": api_key,
                    "context": self.context,
                    "slots": self.slots,
                    "threads": self.threads,
                }
            )
        address = process.address()
        self._check_wanted(load)
        if address is None:
            raise ModelError(self.name, f"llama.cpp does not load {found.path}: {process.reason()}")
        return _Server(
            process,
            Endpoint(
                "local",
                f"{address}/v1",
                api_key=api_key,
                headers=_ONE_CALL_PER_CONNECTION,
                timeouts=_PATIENT,
                profile_of=lambda _: self._profile,
            ),
        )

    def _fetching(self, load: _Load) -> Callable[[int, int], None]:
        """Gives a notice for every tenth of a download, and ends it when the load is cancelled."""
        last = -1

        def progress(done: int, total: int) -> None:
            nonlocal last
            self._check_wanted(load)
            tenths = 10 * done // total if total else 0
            if tenths > last:
                last = tenths
                self._notify(f"fetching {self.name}: {10 * tenths} % of {total / 1e6:.0f} MB …")

        return progress

    def _check_wanted(self, load: _Load) -> None:
        if load.cancelled:
            raise ModelError(self.name, "closed while it was loading")


@dataclass(frozen=True, slots=True)
class _Server:
    """A model in memory: its process, and the endpoint that it is."""

    process: LlamaProcess
    endpoint: Endpoint


@dataclass(eq=False, slots=True)
class _Load:
    """One load, from its start to its server's end.

    Attributes:
        server: the outcome.
        process: set as soon as there is one, so that a load can be ended before its outcome.
        cancelled: set when the load, or the server that it became, is no longer wanted.
    """

    server: Future[_Server] = field(default_factory=Future)
    process: LlamaProcess | None = None
    cancelled: bool = False

    @property
    def result(self) -> _Server | None:
        """The server; None while loading, and after a failure."""
        return self.server.result() if self.server.done() and self.server.exception() is None else None

    @property
    def usable(self) -> bool:
        """Whether it is loading, or has become a server that runs."""
        if self.cancelled:
            return False
        return not self.server.done() or ((server := self.result) is not None and server.process.alive)


async def _has_ended(process: LlamaProcess) -> bool:
    """Whether the process has ended. Its connections close a moment before the system reports its end."""
    for _ in range(50):
        if not process.alive:
            return True
        await asyncio.sleep(0.01)
    return False


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
