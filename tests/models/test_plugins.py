"""Providers of other packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from moa import Config, Request
from moa.errors import ConfigError, UnknownName
from moa.models import Model
from moa.models.plugins import GROUP
from moa.models.scripted import Scripted

pytestmark = pytest.mark.anyio


def make(name: str) -> Model:
    """A provider of a package: its models say their name."""
    return Scripted(f"I am {name}.", name=f"acme/{name}")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages with these entry points are installed."""
    points = EntryPoints(
        EntryPoint(name, value, GROUP)
        for name, value in (
            ("acme", f"{__name__}:make"),
            ("broken", "no_such_module:make"),
            ("openai", f"{__name__}:make"),
        )
    )

    def entry_points(**wanted: Any) -> EntryPoints:
        return points.select(**wanted)

    monkeypatch.setattr("moa.models.plugins.entry_points", entry_points)


async def test_a_packages_provider_is_called_by_its_name() -> None:
    """A member of a mixture may be a model of an installed package's provider."""
    config = Config(environ={})
    assert "acme" in config.catalog.providers
    model = config.model("acme/small")
    assert "".join([delta.text async for delta in model.stream(request())]) == "I am small."
    assert str(config.catalog.destination("acme/small")) == "acme"


def request() -> Request:

    return Request.of("hi")


def test_a_package_that_cannot_be_imported_is_named() -> None:
    """The error names the provider and what went wrong; an unknown provider is still unknown."""
    config = Config(environ={})
    with pytest.raises(ConfigError, match=r"the provider 'broken' of .* cannot be imported: No module named"):
        config.model("broken/x")
    with pytest.raises(UnknownName):
        config.model("nobody/x")


def test_a_package_does_not_replace_a_known_provider() -> None:
    """Names of makers stay theirs: no package can take over where their text and keys go."""
    config = Config(environ={"OPENAI_API_KEY": "sk-test"})
    assert not config.catalog.is_made("openai")
