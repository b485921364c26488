"""GGUF models on this machine, without a server to run and without a key.

Notable decisions:
- An embedded model is an endpoint that is started with the first request and stopped with the model: llama.cpp's server in
  a process of its own (:mod:`moa.models.llama`), on a loopback port that only this process has the key of.
- Loading takes all cores, so models load one after another.
- It is never given up for being slow: a long prompt may take minutes to read. If it fails, its process ends, and that is
  noticed at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from moa.errors import ConfigError, ModelError
from moa.messages import Cost, Delta, Request
from moa.models import Traits, weights
from moa.models.endpoint import Endpoint, Timeouts
from moa.models.real_calls import check_real_call
from moa.models.weights import Weights

_PROGRAM = Path(__file__).with_name("llama.py")
_PATIENT = Timeouts(connect=10, first_token=None, stall=None)
_ONE_CALL_EACH = {
    "Connection": "close"
}  # llama.cpp may hang up after an answer, unannounced, just as the next call begins
_ONE_AT_A_TIME = threading.Lock()  # held while a model of this process loads
_COMPLAINT = re.compile(r"^[\d.]+ E .*?: (?:error loading model: )?(?P<reason>.+)$", re.MULTILINE)


class EmbeddedModel:
    """A model on this machine; a :class:`~moa.models.Model` whose calls cost nothing.

    It is loaded with the first request, or by :meth:`load`, and takes the memory of its weights and of its context (for 135
    million parameters 23 KB per token, for 8 billion 128 KB) until :meth:`aclose`. It may be used from several event loops.

    Args:
        source: weights, or what stands after ``local/``; see :func:`moa.models.weights.find`.
        context: tokens that a question and its answer may have together. A longer question is refused with
            :class:`~moa.errors.CallRejected`; a longer answer ends with the finish reason ``length``.
        slots: answers written at the same time, each with a context of its own; further ones wait. On a CPU, more slots take
            more memory and hardly write more in all.
        threads: that read prompts, and write where several answers are written; as many as there are cores where None.
        on_notice: told in one line what takes time: loading, and fetching weights. Called from another thread.

    Raises:
        UnknownName: no weights have this name.
        ConfigError: the name is of a file that is missing or no GGUF; or what runs models here is not installed.
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
                f"{self.name} needs what runs models on this machine: pip install 'mixture-of-agents[local]' "
                "(with uv: uv add 'mixture-of-agents[local]')"
            )
        self._weights = weights.here(source) if isinstance(source, str) else source
        self._notify = on_notice or (lambda notice: None)
        self._guard = threading.Lock()  # held only for an instant; the four below change together
        self._process: _Process | None = None
        self._endpoint: Endpoint | None = None
        self._loading: Future[None] | None = None
        self._abandoned = threading.Event()  # set when the load under way is not wanted any more

    @property
    def name(self) -> str:
        """``local/`` and the name of the weights."""
        return f"local/{self.model_id}"

    @property
    def traits(self) -> Traits:
        identity = f"{self.name} with a context of {self.context} tokens"
        return Traits(provider="local", model_id=self.model_id, identity=identity, continuation="prefix")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_id!r})"

    @property
    def loaded(self) -> bool:
        """Whether it is in memory, ready to answer."""
        return self._endpoint is not None and self._process is not None and self._process.alive

    async def load(self) -> None:
        """Have it in memory. Done once however many ask; after a failure, or when its process has ended, done again.

        Cancelling a wait leaves the load to others who wait for it; :meth:`aclose` ends it.

        Raises:
            ConfigError: the weights cannot be fetched.
            ModelError: llama.cpp does not load them, for the reason that it gives; or :meth:`aclose` came first.
        """
        check_real_call(self.name)
        with self._guard:
            if self.loaded:
                return
            stale, self._endpoint = self._endpoint, None
            if self._loading is None or self._loading.done() or self._abandoned.is_set():
                self._abandoned = threading.Event()
                self._loading = Future()
                # A daemon, and not a worker of a pool: leaving the program must not wait for gigabytes to arrive.
                load = threading.Thread(target=self._load, args=(self._loading, self._abandoned), daemon=True)
                load.start()
            loading = self._loading
        if stale:
            await stale.aclose()
        await asyncio.shield(asyncio.wrap_future(loading))

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Say the answer piece by piece; the delta with the usage says that it cost nothing.

        Closing the generator stops the writing within a token, or the reading of a prompt within 512.

        Raises:
            ModelError: it could not be loaded.
            CallRejected: the question is longer than the context, or malformed.
            StreamBroken: its process ended, or it was closed, in the middle of the answer.
        """
        try:
            await self.load()
        except ConfigError as error:
            # By now it is one call that fails, and others may answer in its place.
            raise ModelError(self.name, str(error).removeprefix(f"{self.name}: ")) from error
        endpoint = self._endpoint
        if endpoint is None:
            raise ModelError(self.name, "closed before it could answer")
        async with aclosing(endpoint.model(self.model_id).stream(request)) as deltas:
            async for delta in deltas:
                yield replace(delta, cost=Cost(0.0)) if delta.usage else delta

    async def aclose(self) -> None:
        """Give its memory back, ending answers and a load under way. A later request loads it again."""
        with self._guard:
            self._abandoned.set()
            process, self._process = self._process, None
            endpoint, self._endpoint = self._endpoint, None
        if process:
            await asyncio.to_thread(process.end)
        if endpoint:
            await endpoint.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _load(self, loading: Future[None], abandoned: threading.Event) -> None:
        """What the loading thread does; how it went goes into ``loading``."""
        try:
            found = self._weights or weights.find(self.model_id, on_progress=self._fetching(abandoned))
            with _ONE_AT_A_TIME:
                self._start(found, abandoned)
        except BaseException as error:
            loading.set_exception(error)
        else:
            loading.set_result(None)

    def _start(self, found: Weights, abandoned: threading.Event) -> None:
        self._check_wanted(abandoned)
        self._notify(f"loading {self.name}: {found.path.stem}, {found.bytes / 1e6:.0f} MB …")
        api_key = secrets.token_urlsafe()
        settings: dict[str, object] = {
            "path": str(found.path),
            "name": self.model_id,
            "api_key": api_key,
            "import_path": sys.path,
        }
        settings |= {"context": self.context, "slots": self.slots, "threads": self.threads}
        with self._guard:
            self._check_wanted(abandoned)
            process = self._process = _Process(settings)
        address = process.address()
        with self._guard:
            self._check_wanted(abandoned)
            if address:
                self._weights = found
                self._endpoint = Endpoint(
                    "local", f"{address}/v1", api_key=api_key, headers=_ONE_CALL_EACH, timeouts=_PATIENT
                )
                return
            self._process = None
        raise ModelError(self.name, f"llama.cpp does not load {found.path}: {process.complaint()}")

    def _fetching(self, abandoned: threading.Event) -> Callable[[int, int], None]:
        """Tells of every tenth of what is fetched."""
        told = -1

        def progress(done: int, total: int) -> None:
            nonlocal told
            self._check_wanted(abandoned)
            tenths = 10 * done // total if total else 0
            if tenths > told:
                told = tenths
                self._notify(f"fetching {self.name}: {10 * tenths} % of {total / 1e6:.0f} MB …")

        return progress

    def _check_wanted(self, abandoned: threading.Event) -> None:
        if abandoned.is_set():
            raise ModelError(self.name, "closed while it was loading")


class _Process:
    """A :mod:`moa.models.llama` process, which ends with this object, or with this process, at the latest."""

    def __init__(self, settings: dict[str, object]) -> None:
        # A file and not a pipe: nobody reads it while all is well, and a full pipe would stop the writer.
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the finalizer)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )
        weakref.finalize(self, _end, self._process, self._complaints)
        assert self._process.stdin
        self._process.stdin.write(json.dumps(settings).encode() + b"\n")
        self._process.stdin.flush()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def address(self) -> str | None:
        """Where it listens, once it has loaded; None when it has ended instead."""
        assert self._process.stdout
        reply = self._process.stdout.readline()
        return str(json.loads(reply)["address"]) if reply else None

    def end(self) -> None:
        """Stop it at once; its memory is free when this returns."""
        self._process.kill()
        self._process.wait()

    def complaint(self) -> str:
        """Why it ended by itself, in one line."""
        status = self._process.wait()
        self._complaints.seek(0)
        said = self._complaints.read().decode("utf-8", "replace").strip()
        if complaint := _COMPLAINT.search(said):
            return complaint["reason"]
        return said.splitlines()[-1] if said else f"its process ended with {status}"


def _end(process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, complaints):
        if pipe:
            pipe.close()


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
