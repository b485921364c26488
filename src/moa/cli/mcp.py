"""``moa mcp``: mixtures as tools of the Model Context Protocol, over standard input and output."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from moa.cli.options import ConfigFile
from moa.cli.terminal import notify
from moa.errors import ConfigError


def mcp(
    store: Annotated[
        str | None, typer.Option(metavar="FILE|off", help="Default: ~/.local/state/moa/runs.sqlite; off: in memory.")
    ] = None,
    config: ConfigFile = None,
) -> int:
    """Serve mixtures as MCP tools on stdin/stdout.

    For agents that speak the Model Context Protocol. moa serve has the same tools at /mcp.
    """
    if find_spec("mcp") is None:
        raise ConfigError("the Model Context Protocol needs the extra 'mcp': pip install 'mixture-of-agents[mcp]'")
    from moa.cli.serving import serve_tools

    notify("serving tools over stdin and stdout; an agent starts this command")
    return serve_tools(config=config, store=store)
