"""Programs run as a user runs them: in a terminal of a given size, or with pipes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.fakes import processes
from tests.fakes.processes import Process
from tests.fakes.waiting import PATIENCE

ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[78=>]")
"""The escape sequences that a program of ours may write: colours and the cursor."""


@dataclass(frozen=True)
class Ended:
    """How a program with pipes ended."""

    code: int
    out: str
    err: str


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {
        key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    }
    return {**kept, "TERM": "xterm-256color", "PYTHONWARNINGS": "default", **(changes or {})}


async def start(*args: str, env: Mapping[str, str] | None = None, new: bool = False) -> Process:
    """The program with pipes, running. ``new``: as a new interpreter."""
    return await processes.start(*args, env=environment(env), new=new)


async def run(*args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, new: bool = False) -> Ended:
    """The program with pipes, from its start to its end."""
    process = await start(*args, env=env, new=new)
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


class Terminal:
    """The program in a terminal; use it with ``async with``, which ends it.

    Attributes:
        raw: everything it wrote, escape sequences and all.
    """

    def __init__(self, *args: str, columns: int = 80, lines: int = 24, env: Mapping[str, str] | None = None) -> None:
        self._args, self._size, self._env = args, (lines, columns), env
        self._changed, self._closed = asyncio.Event(), asyncio.Event()
        self._bytes = b""

    @property
    def raw(self) -> str:
        return self._bytes.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """What it wrote, without escape sequences: also what was drawn over later."""
        return ESCAPE.sub("", self.raw).replace("\r", "")

    async def __aenter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *self._size, 0, 0))
        self.process = await processes.start(*self._args, env=environment(self._env), terminal=slave)
        os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        os.close(self._master)

    def _read(self) -> None:
        try:
            self._bytes += os.read(self._master, 1 << 16)
        except OSError:  # every process with this terminal has ended, and all of its output was read
            asyncio.get_running_loop().remove_reader(self._master)
            self._closed.set()
        self._changed.set()

    def type(self, keys: str) -> None:
        """What a user types; ``\\x03`` is Ctrl-C, ``\\x04`` Ctrl-D."""
        os.write(self._master, keys.encode())

    async def interrupt(self, text: str, *, times: int = 1) -> None:
        """Press Ctrl-C until it has written this so often: readline misses a signal just before it begins to wait."""
        while self.text.count(text) < times:
            self.type("\x03")
            with suppress(AssertionError):
                await self.until(text, times=times, patience=1.0)

    async def until(self, text: str, *, times: int = 1, patience: float = PATIENCE) -> None:
        """Wait until it has written this so often."""
        try:
            async with asyncio.timeout(patience):
                while self.text.count(text) < times:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} did not appear {times} times in:\n{self.text[-4000:]}") from None

    async def end(self) -> int:
        """Wait until it has ended; its exit code."""
        try:
            async with asyncio.timeout(PATIENCE):
                code = await self.process.wait()
                await self._closed.wait()
        except TimeoutError:
            raise AssertionError(f"it did not end:\n{self.text[-4000:]}") from None
        return code
