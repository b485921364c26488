"""A mark for tests of packages that not every installation has."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def missing(*packages: str) -> list[str]:
    """Those of the packages that are not installed."""
    return [name for name in packages if find_spec(name) is None]


def needs(*packages: str, install: str = "uv sync") -> pytest.MarkDecorator:
    """Skip where one of these packages is missing, with the command that installs it.

    Import the packages inside tests and fixtures: then collecting the tests neither fails nor takes seconds.
    """
    absent = missing(*packages)
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}; run: {install}")
