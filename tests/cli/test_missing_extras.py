"""What to install, where a package of an extra is missing."""

from __future__ import annotations

import pytest

from moa.cli.status import extra_with


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("numpy", "evals"),
        ("numpy.typing", "evals"),
        ("rapidfuzz", "evals"),
        ("matplotlib", "plots"),
        ("huggingface_hub", "local"),
        ("inspect_ai", "inspect"),
        ("mcp.server", "mcp"),
        ("pydantic_ai", "vendors"),
        ("aiohttp", None),
        ("json", None),
        ("", None),
        (None, None),
    ],
)
def test_the_extra_of_a_module_is_found_in_the_packages_metadata(module: str | None, extra: str | None) -> None:
    """A part of a module counts as the module; a package that is always installed is in no extra."""
    assert extra_with(module) == extra
