"""A mark for tests of packages that not every installation has."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(*packages: str, install: str = "uv sync") -> pytest.MarkDecorator:
    """Skip where one of these packages is missing, with the command that installs it.

    Import the packages inside tests and fixtures: then collecting the tests neither fails nor takes seconds.
    """
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}; run: {install}")
