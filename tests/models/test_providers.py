"""The servers that this project knows by name."""

from __future__ import annotations

import pytest

from moa.errors import (
    KeyMissing,
)
from moa.models.endpoint import Endpoint
from moa.models.providers import PROVIDERS, ollama_url
from tests.models.endpoints import KEY

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", PROVIDERS)
async def test_every_known_server_makes_an_endpoint(name: str) -> None:
    """The facts about each known server make an endpoint; servers on other machines use TLS only."""
    provider = PROVIDERS[name]
    assert Endpoint(name, provider.url({}), rename=provider.renames).base_url == provider.base_url
    assert provider.base_url.startswith("http://127.0.0.1:" if provider.local else "https://")


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_key_comes_from_its_usual_variable(name: str) -> None:
    """A key that is set is used; without one, only a server on this machine can be called."""
    provider = PROVIDERS[name]
    assert provider.key_variable is not None
    assert provider.key({provider.key_variable: f" {KEY}\n"}) == KEY
    if provider.local:
        assert provider.key({}) is None
    else:
        with pytest.raises(KeyMissing, match=provider.key_variable):
            provider.key({provider.key_variable: ""})


async def test_openai_may_be_elsewhere() -> None:
    """``OPENAI_BASE_URL`` overrides the address, and a server on this machine needs no key there."""
    environ = {"OPENAI_BASE_URL": "http://localhost:9/v1"}
    assert PROVIDERS["openai"].url(environ) == "http://localhost:9/v1"
    assert PROVIDERS["openai"].key(environ) is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("[::]:5000", "http://[::1]:5000/v1"),
        (":5000", "http://127.0.0.1:5000/v1"),
        ("box", "http://box:11434/v1"),
        ("http://box", "http://box:80/v1"),
        ("https://box/ollama/", "https://box:443/ollama/v1"),
    ],
)
async def test_ollama_may_be_elsewhere(host: str, url: str) -> None:
    """``OLLAMA_HOST`` is read as Ollama reads it; "every address" becomes this machine."""
    assert ollama_url(host) == PROVIDERS["ollama"].url({"OLLAMA_HOST": host}) == url
