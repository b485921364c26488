"""What commands load. Only ``moa serve`` needs the web framework; ``moa --help`` needs almost nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

WEB = ("starlette", "fastapi", "uvicorn")
HEAVY = (*WEB, "aiohttp", "pydantic", "rich", "moa.mixture.mixture")
WORK = ("conversation", "drawing", "findings", "history", "keeping", "offers", "output", "session")


def loaded(module: str, names: tuple[str, ...]) -> str:
    """The names that a new process has loaded after importing a module."""
    script = f"import {module}, sys; print([name for name in {names} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", WORK)
def test_only_serve_loads_the_web_framework(module: str) -> None:
    """The work of every other command loads neither Starlette, nor FastAPI, nor uvicorn."""
    assert loaded(f"moa.cli.{module}", WEB) == "[]\n"


def test_declaring_the_commands_loads_nothing_heavy() -> None:
    """Importing the command line loads no HTTP client, no validation, no layout and no mixture."""
    assert loaded("moa.cli", HEAVY) == "[]\n"
