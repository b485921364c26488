"""An API key that may expire: fixed, or fetched by a command or a function.

Notable decisions:
- A fetched key is kept for five minutes, and fetched anew when a server refuses it: tokens of clouds live for an hour, and
  their tools hand out cached ones.
- A command runs without a shell, in a thread. No error holds its arguments or its output: both may hold a secret.
"""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from moa.errors import KeyRejected

KeySource: TypeAlias = str | Callable[[], str | Awaitable[str]] | None
"""A key, or a function (sync or async) that returns one, or None."""

LIFETIME = 300.0
"""Seconds for which a fetched key is used before it is fetched anew."""

TIMEOUT = 30.0
"""Seconds that a command has to print a key."""


class CannotFetch(Exception):
    """No key could be fetched; the message says why."""


class Credential:
    """The API key of one server.

    Args:
        source: the key, or a function that returns it. A sync function runs in a thread.
    """

    def __init__(self, source: KeySource) -> None:
        self._fixed = source.strip() if isinstance(source, str) else None
        self._fetch = source if callable(source) else None
        self._key: str | None = None
        self._until = 0.0
        self._fetched = deque[str](maxlen=4)
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._fixed or self._fetch)

    async def key(self, model: str) -> str | None:
        """The key to send; None where there is none.

        Raises:
            KeyRejected: it cannot be fetched; names ``model``.
        """
        if self._fetch is None:
            return self._fixed
        if self._key and time.monotonic() < self._until:
            return self._key
        try:
            fetched = await asyncio.to_thread(self._fetch_once)
            if inspect.isawaitable(fetched):
                return self._keep(await fetched)
        except CannotFetch as error:
            raise KeyRejected(model, str(error)) from None
        except Exception as error:  # of the caller's own function
            raise KeyRejected(model, f"the function for its key raised {type(error).__name__}") from error
        return fetched

    @property
    def secrets(self) -> list[str]:
        """The keys that a server may quote in an error."""
        return [self._fixed] if self._fixed else [*self._fetched]

    def expire(self, key: str | None) -> bool:
        """Forget a key that a server refused. Whether another one can be fetched."""
        if self._fetch is None:
            return False
        if self._key == key:
            self._key = None
        return True

    def _fetch_once(self) -> str | Awaitable[str]:
        """The key, fetched unless another thread has just done so; from an async function, what to await."""
        assert self._fetch is not None
        with self._lock:
            if self._key and time.monotonic() < self._until:
                return self._key
            fetched = self._fetch()
            return fetched if inspect.isawaitable(fetched) else self._keep(fetched)

    def _keep(self, fetched: str) -> str:
        key = fetched.strip() if isinstance(fetched, str) else ""
        if not key or any(character.isspace() for character in key):
            raise CannotFetch("the function for its key returned no key")
        self._key, self._until = key, time.monotonic() + LIFETIME
        self._fetched.append(key)
        return key


def command_key(command: Sequence[str], timeout: float = TIMEOUT) -> Callable[[], str]:
    """A function that runs a command and returns what it prints.

    Args:
        command: the program and its arguments, run without a shell.
        timeout: seconds.
    """

    def fetch() -> str:
        program = command[0]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        except FileNotFoundError:
            raise CannotFetch(f"the command for its key needs {program!r}, which is not installed") from None
        except subprocess.TimeoutExpired:
            raise CannotFetch(f"the command for its key ({program}) did not end within {timeout:g} s") from None
        except (OSError, ValueError):
            raise CannotFetch(f"the command for its key ({program}) cannot be run") from None
        if done.returncode:
            reason = f"ended with exit code {done.returncode}: run it in a terminal to see why"
            raise CannotFetch(f"the command for its key ({program}) {reason}")
        if len(done.stdout.split()) != 1:
            raise CannotFetch(f"the command for its key ({program}) must print the key and nothing else")
        return done.stdout

    return fetch
