"""``moa serve`` and ``moa key``: the server, and who may ask it."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from moa.cli.terminal import tell
from moa.config.config import Config
from moa.errors import ConfigError
from moa.models.providers import is_loopback
from moa.server.app import Server, Settings, create_app
from moa.server.keys import Keys, default_place
from moa.store.archive import Archive
from moa.store.file import store_path
from moa.store.ledger import Ledger
from moa.store.turns import Turns


class _Server(uvicorn.Server):
    """Uvicorn, ending with exit code 0 when it is told to stop and has done what was under way.

    Args:
        grace: seconds that runs may go on. The server's own are stopped then, and a second later all connections are cut.
    """

    def __init__(self, config: uvicorn.Config, grace: int) -> None:
        super().__init__(config)
        self._grace, config.timeout_graceful_shutdown = grace, grace + 1

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()  # which it leaves out; what was paid for is kept all the same

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        server: Server = self.config.loaded_app.state.server
        if not self.should_exit:
            server.drain(self._grace)
            tell("stopping: no new requests; those under way may finish (once more to stop at once)")
        else:
            server.drain(0)
            self.force_exit = True
        self.should_exit = True


def serve(
    *,
    host: str,
    port: int,
    config: str | None,
    keys: Path | None,
    no_auth: bool,
    store: str | None,
    keep: bool | None,
    settings: Settings,
    grace: int,
) -> int:
    """Serve until told to stop; gives the exit code.

    Raises:
        ConfigError: the address is taken, or open to others without keys.
    """
    ring = _ring(host, keys, no_auth)
    place = None if store == "off" else Path(store) if store else store_path()
    if keep and place is None:
        raise ConfigError("--keep needs a store: leave out --store off")
    keep = place is not None and ring is None and is_loopback(host) if keep is None else keep
    turns, ledger, archive = Turns(place), Ledger(place), Archive(place) if keep else None
    configured = Config(config, memory=turns, on_notice=tell)
    listener = _listener(host, port)
    _log_to_stderr()
    app = create_app(configured, ledger=ledger, keys=ring, settings=settings, archive=archive)
    server = _Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            lifespan="on",
        ),
        grace,
    )
    address = listener.getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    print(f"http://{shown}:{address[1]}/v1", flush=True)  # noqa: T201 - what a script reads
    tell(f"in a browser: http://{shown}:{address[1]}/")
    tell(f"{len(configured.names())} mixtures; select one as moa/NAME; Ctrl-C stops")
    if configured.default == "auto":
        tell(f"moa/auto is {configured.auto_choice().mixture}: {configured.auto_choice().why}")
    if keep:
        tell(f"runs are kept in {place}, with what was asked and answered; --no-keep keeps none")
    server.run(sockets=[listener])
    app.state.server.recordings.close()  # where it could not shut down in order
    turns.close()
    return 0 if server.started else 1


def _ring(host: str, path: Path | None, no_auth: bool) -> Keys | None:
    """The keys that callers need; None where none is needed."""
    if no_auth:
        if not is_loopback(host):
            tell(f"WARNING: --no-auth on {host}: whoever reaches this address can ask, and spends your money")
        return None
    if path is None and is_loopback(host):
        return None
    ring = Keys(path or default_place())
    if not len(ring):
        raise ConfigError(
            f"{host} can be reached by others, and there are no keys in {ring.path}: "
            "make one with `moa key add NAME`, or say --no-auth"
        )
    return ring


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: asyncio turns off the delay of small packets only where it knows that a socket is TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # now: whoever reads the address may connect at once, and waits until all is up
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port"
        ) from None
    return listener


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    runs = logging.getLogger("moa.runs")
    runs.addHandler(handler)
    runs.setLevel(logging.INFO)
    runs.propagate = False


def add_key(name: str, path: Path | None, requests_per_minute: int | None, dollars_per_day: float | None) -> int:
    """Make a key and show it, this once."""
    ring = Keys(path or default_place())
    secret = ring.add(name, requests_per_minute=requests_per_minute, dollars_per_day=dollars_per_day)
    print(secret)  # noqa: T201
    tell(f"that is the key of {name!r}; it is shown this once and kept nowhere ({ring.path} holds its hash)")
    return 0


def list_keys(path: Path | None) -> int:
    """Names and limits; keys are not known."""
    for key in Keys(path or default_place()):
        minute = "no limit" if key.requests_per_minute is None else f"{key.requests_per_minute} requests a minute"
        day = "no limit" if key.dollars_per_day is None else f"${key.dollars_per_day:g} a day"
        print(f"{key.name}\t{minute}\t{day}")  # noqa: T201
    return 0


def remove_key(name: str, path: Path | None) -> int:
    """Take a key out of the file; servers that run read it at their next start."""
    Keys(path or default_place()).remove(name)
    return 0
