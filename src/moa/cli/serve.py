"""``moa serve``: mixtures as models behind an OpenAI-compatible API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from moa.cli.options import ConfigFile


def _size(text: str | int) -> int:
    """Bytes from ``32 MiB``, ``512 KiB`` or a plain number."""
    match = re.fullmatch(r"(\d+)\s*(KiB|MiB|GiB)?", str(text).strip(), re.IGNORECASE)
    size = int(match[1]) * 1024 ** ("", "kib", "mib", "gib").index((match[2] or "").lower()) if match else 0
    if size < 1024:
        raise typer.BadParameter(f"{text!r} is not a size of at least 1 KiB, such as '32 MiB' or a number of bytes")
    return size


def serve(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="Port; 0 picks a free one.", min=0, max=65535)] = 8000,
    config: ConfigFile = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Require an API key of this file. Default: the file of moa key, if it has keys. Needed beyond loopback.",
        ),
    ] = None,
    no_auth: Annotated[
        bool,
        typer.Option("--no-auth", help="Disable authentication: anyone who can reach this address can use the server."),
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name under which callers reach a server without keys, beside localhost and IP addresses; repeatable.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="Web pages that may use the server, such as https://chat.example.com; repeatable."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|off",
            help='SQLite file for saved runs, per-key spending and tool-loop state; "off" keeps them in memory.',
        ),
    ] = None,
    keep: Annotated[
        bool | None,
        typer.Option(
            "--keep/--no-keep",
            help="Save every run, including its text. On by default on loopback addresses without keys.",
        ),
    ] = None,
    keep_for: Annotated[
        float | None,
        typer.Option(
            metavar="DAYS",
            min=0.001,
            help="Delete saved runs, files and batches after so many days. Default: keep runs while they fit.",
        ),
    ] = None,
    keep_size: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            parser=_size,
            help="Delete the oldest saved runs when the store takes more. Default: 2 GiB.",
            show_default=False,
        ),
    ] = None,
    max_runs: Annotated[int, typer.Option(metavar="COUNT", help="Maximum number of concurrent runs.", min=1)] = 64,
    max_queue: Annotated[int, typer.Option(metavar="COUNT", help="Maximum number of queued requests.", min=0)] = 256,
    max_body: Annotated[
        int,
        typer.Option(
            metavar="SIZE", parser=_size, help="Maximum size of a request body. Default: 32 MiB.", show_default=False
        ),
    ] = 32 * 2**20,
    drain: Annotated[
        int,
        typer.Option(
            metavar="SECONDS",
            help="Time after SIGTERM in which /readyz returns 503 and the server still accepts requests.",
            min=0,
        ),
    ] = 0,
    grace: Annotated[
        int, typer.Option(metavar="SECONDS", help="Time to finish requests in flight after that.", min=0)
    ] = 30,
) -> int:
    """Serve mixtures as an OpenAI-compatible API.

    Clients select moa/NAME as the model at http://127.0.0.1:8000/v1.
    """
    from moa.cli.serving import serve
    from moa.server.parts import Settings

    return serve(
        host=host,
        port=port,
        config=config,
        keys=keys,
        no_auth=no_auth,
        allow_hosts=allow_host or (),
        allow_origins=allow_origin or (),
        store=store,
        keep=keep,
        keep_for=keep_for,
        keep_size=keep_size,
        settings=Settings(max_runs, max_queue, max_body),
        drain=drain,
        grace=grace,
    )
