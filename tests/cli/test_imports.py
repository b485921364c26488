"""What commands load. Only ``moa serve`` needs the web framework; ``moa --help`` needs almost nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable

WEB = ("starlette", "fastapi", "uvicorn")
HEAVY = (*WEB, "aiohttp", "pydantic", "rich", "moa.mixture.mixture")
WORK = ("conversation", "drawing", "findings", "history", "keeping", "offers", "output", "session")


def loaded(modules: Iterable[str], names: tuple[str, ...]) -> dict[str, list[str]]:
    """The names that a new process has loaded after importing one module after another."""
    script = f"""
import importlib, json, sys
loaded = {{}}
for module in {[*modules]}:
    importlib.import_module(module)
    loaded[module] = [name for name in {names} if name in sys.modules]
print(json.dumps(loaded))
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return dict(json.loads(found))


def test_only_serve_loads_the_web_framework() -> None:
    """The work of every other command loads neither Starlette, nor FastAPI, nor uvicorn."""
    modules = [f"moa.cli.{module}" for module in WORK]
    assert loaded(modules, WEB) == {module: [] for module in modules}


def test_declaring_the_commands_loads_nothing_heavy() -> None:
    """Importing the command line loads no HTTP client, no validation, no layout and no mixture."""
    assert loaded(["moa.cli"], HEAVY) == {"moa.cli": []}


def test_help_loads_nothing_heavy() -> None:
    """moa --help prints at once: it loads none of these either."""
    program = [sys.executable, "-X", "importtime", "-m", "moa", "--help"]
    ended = subprocess.run(program, capture_output=True, text=True, check=True)
    names = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "ask" in ended.stdout and "moa.cli" in names
    assert names.isdisjoint(HEAVY)
