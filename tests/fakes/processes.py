"""``moa …`` as a process: forked from one that has imported it already, or as a new interpreter.

:func:`start` gives the same few methods as :class:`asyncio.subprocess.Process`.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[2]

CAN_FORK = sys.platform == "linux"
"""Elsewhere every process is a new interpreter."""

HARMLESS = {"PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONWARNINGS"}
"""Python's own variables that a forked process need not obey; with any other, the process is a new interpreter."""


class Process(Protocol):
    """What tests need of a process."""

    stdin: asyncio.StreamWriter | None
    stdout: asyncio.StreamReader | None
    stderr: asyncio.StreamReader | None

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def send_signal(self, signal: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    async def wait(self) -> int: ...
    async def communicate(self, data: bytes = b"", /) -> tuple[bytes, bytes]: ...


def command(*args: str) -> list[str]:
    """The command line of a new interpreter."""
    return [sys.executable, "-m", "moa", *args]


async def start(*args: str, env: Mapping[str, str], terminal: int | None = None, new: bool = False) -> Process:
    """``moa`` with these arguments, running.

    Args:
        env: its whole environment.
        terminal: the file descriptor of a terminal that it gets as its own; None: it gets three pipes.
        new: whether it is a new interpreter in any case, for tests of how ``moa`` starts.
    """
    # The interpreter reads its variables only when it starts; the fork server has PYTHONWARNINGS=default.
    reads = {name: value for name, value in env.items() if name.startswith("PYTHON")}
    if not CAN_FORK or new or reads.keys() - HARMLESS:
        return await _executed(*args, env=env, terminal=terminal)
    return await Forked.start(*args, env=env, terminal=terminal)


async def _executed(*args: str, env: Mapping[str, str], terminal: int | None) -> Process:
    if terminal is None:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*command(*args), stdin=pipe, stdout=pipe, stderr=pipe, env=env)
    return await asyncio.create_subprocess_exec(
        *command(*args), stdin=terminal, stdout=terminal, stderr=terminal, env=env, preexec_fn=_take_terminal
    )


def _take_terminal() -> None:
    """In the child: a session of its own with this terminal, so that Ctrl-C reaches it, and a hangup ends it."""
    import fcntl
    import termios

    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored, and that is inherited
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Forked:
    """A process of the fork server."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._transports: list[asyncio.BaseTransport] = []
        self._ending = asyncio.create_task(self._end(connection))

    @classmethod
    async def start(cls, *args: str, env: Mapping[str, str], terminal: int | None) -> Forked:
        request = {"args": args, "env": dict(env), "cwd": str(Path.cwd()), "terminal": terminal is not None}
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pipes = [] if terminal is not None else [os.pipe() for _ in range(3)]
        theirs = [terminal] * 3 if terminal is not None else [pipes[0][0], pipes[1][1], pipes[2][1]]
        ours = [pipes[0][1], pipes[1][0], pipes[2][0]] if pipes else []
        try:
            connection.connect(fork_server())
            socket.send_fds(connection, [json.dumps(request).encode()], theirs)
            connection.setblocking(False)
            pid = await asyncio.get_running_loop().sock_recv(connection, 32)
            if not pid:
                raise RuntimeError("the fork server ended before it started the process")
        except BaseException:
            connection.close()
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            if pipes:
                for descriptor in theirs:
                    os.close(descriptor)
        process = cls(int(pid), connection)
        if ours:
            await process._open(*ours)
        return process

    async def _open(self, stdin: int, stdout: int, stderr: int) -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(stdin, "wb"))
        self.stdin = asyncio.StreamWriter(transport, protocol, None, loop)
        self._transports.append(transport)
        self.stdout, self.stderr = [await self._reader(descriptor) for descriptor in (stdout, stderr)]

    async def _reader(self, descriptor: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
        )
        self._transports.append(transport)
        return reader

    async def _end(self, connection: socket.socket) -> int:
        code = b""
        with connection, suppress(ConnectionError):
            code = await asyncio.get_running_loop().sock_recv(connection, 32)
        self.returncode = int(code or -signal.SIGKILL)  # nothing: the supervisor was killed, and the process with it
        if self.stdin:
            self.stdin.close()
        return self.returncode

    def send_signal(self, signal: int) -> None:
        if self.returncode is not None:
            raise ProcessLookupError(self.pid)
        os.kill(self.pid, signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    async def communicate(self, data: bytes = b"", /) -> tuple[bytes, bytes]:
        assert self.stdin and self.stdout and self.stderr
        with suppress(BrokenPipeError, ConnectionResetError):
            self.stdin.write(data)
            await self.stdin.drain()
        self.stdin.close()
        out, err = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        for transport in self._transports:
            transport.close()
        return out, err


def fork_server() -> str:
    """The address of this process's fork server, started on first use, and again if it has ended."""
    server, path = _start_fork_server()
    if server.poll() is not None:
        _start_fork_server.cache_clear()
        server, path = _start_fork_server()
    return path


@cache
def _start_fork_server() -> tuple[subprocess.Popen[bytes], str]:
    """A fork server and its address; it is stopped at exit."""
    folder = tempfile.mkdtemp(prefix="moa-fork-")
    path = f"{folder}/socket"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MOA_", "OPENAI_"))}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.fork_server", path],
        cwd=ROOT,
        env={**kept, "PYTHONWARNINGS": "default"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    @atexit.register
    def stop() -> None:
        assert server.stdin and server.stdout
        server.stdin.close()  # it ends, and so does each of its processes that is left
        server.stdout.close()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)

    assert server.stdout
    if server.stdout.readline() != b"ready\n":
        raise RuntimeError(f"the fork server did not start; its exit code is {server.wait()}")
    return server, path
