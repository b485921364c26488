"""What every test gets: asyncio, no network but loopback, and neither API keys nor files of the user who runs the suite."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from moa.models import thinking
from moa.models.provider import is_loopback
from moa.models.providers import PROVIDERS
from tests.fakes.upstream import Upstream

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


# Property tests try the same examples in every run and have no time limit, so that a busy machine does not fail them.
# `--hypothesis-profile=search` tries new examples.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts a background job with SIGINT ignored, and the processes that tests interrupt would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> str | None:
    if config.option.markexpr == "not slow":
        return "slow tests are left out: uv run pytest -m slow"
    return None


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_learned() -> Iterator[None]:
    """What one test's models showed of their thinking is unknown to the next test."""
    yield
    thinking.forget()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A scripted Chat Completions server; see :mod:`upstream` for its vocabulary."""
    async with Upstream() as running:
        yield running


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Any connection or look-up beyond this machine fails the test that makes it, with the address in the message."""

    def checked(host: object) -> None:
        name = host.decode() if isinstance(host, bytes) else host
        # No name and the addresses for "any" are where servers listen.
        if isinstance(name, str) and name not in ("", "0.0.0.0", "::") and not is_loopback(name.partition("%")[0]):
            raise AssertionError(f"a test must not reach {name!r}: only this machine is allowed")

    def guarded(connect: Callable[[socket.socket, Any], Any]) -> Callable[[socket.socket, Any], Any]:
        def call(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                checked(address[0])
            return connect(self, address)

        return call

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        checked(host)
        return look_up(host, *args, **kwargs)

    look_up = socket.getaddrinfo
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


@pytest.fixture(autouse=True)
def nobodys_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, address or proxy from the environment; configuration and caches in a directory of the test's own."""
    known = {variable for row in PROVIDERS.values() for variable in (row.key_variable, row.url_variable) if variable}
    for variable in list(os.environ):
        if variable in known or variable.startswith("MOA_") or variable.lower() in _PROXIES:
            monkeypatch.delenv(variable)
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable.removeprefix("XDG_").removesuffix("_HOME").lower()))
