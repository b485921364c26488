"""What a command loads: `moa runs` reads a file, so it starts without the web framework that `moa serve` needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

WEB = ("starlette", "fastapi", "uvicorn")


@pytest.mark.parametrize("module", ["moa.cli", "moa.cli.runs", "moa.cli.ask", "moa.cli.chat", "moa.cli.check"])
def test_no_command_but_serve_loads_the_web_framework(module: str) -> None:
    """Importing the module of a command loads neither Starlette, nor FastAPI, nor uvicorn."""
    script = f"import {module}, sys; print([name for name in {WEB} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
