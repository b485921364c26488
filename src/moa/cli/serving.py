"""Running the server: its address, its authentication, what it prints, and a shutdown that finishes runs in flight."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from moa.cli.terminal import notify, write
from moa.config.config import Config
from moa.errors import ConfigError
from moa.mixture.fences import keep_secret_in
from moa.models.provider import is_loopback
from moa.server.access import Access
from moa.server.app import create_app
from moa.server.batches.shelf_thread import ShelfThread
from moa.server.discretion import Discretion
from moa.server.graceful import GracefulServer
from moa.server.keys import Keys, default_place
from moa.server.parts import Parts, Settings
from moa.store.archive import Archive
from moa.store.bounds import BYTES_KEPT, Bounds
from moa.store.file import store_path
from moa.store.ledger import Ledger
from moa.store.turns import Turns
from moa.tracebacks import traceback_of


def serve(
    *,
    host: str,
    port: int,
    config: str | None,
    keys: Path | None,
    no_auth: bool,
    allow_hosts: Sequence[str],
    allow_origins: Sequence[str],
    store: str | None,
    keep: bool | None,
    keep_for: float | None,
    keep_size: int | None,
    settings: Settings,
    drain: int,
    grace: int,
) -> int:
    """Serve until a signal arrives, and give the exit code.

    Raises:
        ConfigError: the address is in use; others can reach it and there are no API keys; an option is invalid.
    """
    ring = _ring(host, keys, no_auth)
    beyond = not is_loopback(host)
    access = Access.of(allow_hosts, allow_origins, keys=ring, no_auth=no_auth, beyond_loopback=beyond)
    place = None if store == "off" else Path(store) if store else store_path()
    if keep and place is None:
        raise ConfigError("--keep needs a store: remove --store off")
    keep = place is not None and not access.keyed and not beyond if keep is None else keep
    if not keep and (keep_size is not None or (keep_for is not None and place is None)):
        raise ConfigError("this server saves no runs, so --keep-for and --keep-size have no effect: add --keep")
    bounds = Bounds(bytes=keep_size or BYTES_KEPT, days=keep_for)
    if place is not None:
        keep_secret_in(place.parent)
    turns, ledger, archive = Turns(place), Ledger(place), Archive(place, bounds=bounds) if keep else None
    shelf = ShelfThread(place and place.with_name(f"{place.stem}.batches.sqlite"), keep_for)
    configured = Config(config, memory=turns, on_notice=notify)
    listener = _listener(host, port)
    _log_to_stderr()
    app = create_app(
        configured, ledger=ledger, keys=ring, settings=settings, archive=archive, access=access, shelf=shelf
    )
    server = GracefulServer(app, drain=drain, grace=grace, on_notice=notify)
    with server.signals():
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        write(f"http://{shown}:{address[1]}/v1")  # scripts read this line
        notify(f"in a browser: http://{shown}:{address[1]}/")
        notify(f"serving {len(configured.names())} mixtures as moa/NAME; Ctrl-C stops")
        if configured.default == "auto":
            choice = configured.auto_choice()
            notify(f"moa/auto is {choice.mixture}: {choice.why}")
        if ring is not None and ring.apply:
            notify(f"callers need an API key of {ring.path}; --no-auth disables this")
        if keep:
            notify(f"saving runs with their text in {place}; --no-keep disables this")
        server.run(sockets=[listener])
        app.state.parts.recordings.close()  # also after a shutdown that failed
        turns.close()
    return 0 if server.started else 1


def serve_tools(*, config: str | None, store: str | None) -> int:
    """Serve the tools of the Model Context Protocol over standard input and output until the input ends."""
    from moa.server.mcp import mcp_server

    place = None if store == "off" else Path(store) if store else store_path()
    if place is not None:
        keep_secret_in(place.parent)
    turns, archive = Turns(place), Archive(place) if place else None
    configured = Config(config, memory=turns, on_notice=notify)
    _log_to_stderr()

    async def run() -> None:
        parts = Parts(configured, Ledger(), None, Settings(), archive, Discretion.of(configured, Access()))
        await parts.start()
        try:
            await mcp_server(parts.consulting).run_stdio_async()
        finally:
            await parts.aclose()

    asyncio.run(run())
    turns.close()
    return 0


def _ring(host: str, path: Path | None, no_auth: bool) -> Keys | None:
    """The API keys that are accepted; None if callers need none, whatever the file holds."""
    if no_auth:
        if not is_loopback(host):
            notify(f"WARNING: --no-auth on {host}: anyone who can reach this address can spend your money")
        return None
    optional = path is None and is_loopback(host)
    ring = Keys(path or default_place(), optional=optional)
    if not (optional or len(ring)):
        raise ConfigError(
            f"others can reach {host}, but {ring.path} has no API keys: create one with `moa key add NAME`, "
            "or disable authentication with --no-auth"
        )
    return ring


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables the delay of small packets only if the socket names its protocol, TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # clients may connect as soon as the address is printed; they wait until the server is up
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port"
        ) from None
    return listener


def _without_messages(record: logging.LogRecord) -> bool:
    """Show an exception by its classes and its stack: its message may quote a prompt."""
    if record.exc_info and (error := record.exc_info[1]):
        record.msg, record.args = f"{record.getMessage()}\n{traceback_of(error)}", ()
        record.exc_info = record.exc_text = None
    return True


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_without_messages)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    logging.getLogger().addHandler(handler)
    for name in ("moa.runs", "moa.server"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
