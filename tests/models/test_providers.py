"""The servers that this project knows by name."""

from __future__ import annotations

from datetime import date

import pytest

from moa import Mixture
from moa.answers import Cost, Usage
from moa.errors import AddressMissing, ConfigError, KeyMissing
from moa.models.catalog import Access, Catalog
from moa.models.endpoint import Endpoint
from moa.models.provider import Provider, ollama_url
from moa.models.providers import PROVIDERS
from tests.models.endpoints import KEY

pytestmark = pytest.mark.anyio


CALLED = [name for name, row in PROVIDERS.items() if not row.retired]


@pytest.mark.parametrize("name", CALLED)
async def test_every_known_server_makes_an_endpoint(name: str) -> None:
    """The facts about each known server make an endpoint; servers on other machines use TLS only."""
    provider = PROVIDERS[name]
    own = not provider.base_url  # every user has an address of their own there
    environ = {provider.url_variable: "https://own.example"} if own and provider.url_variable else {}
    url = provider.url(environ)
    assert Endpoint(name, url).base_url == url
    assert url.startswith("http://127.0.0.1:" if provider.local else "https://")
    if own:
        assert provider.url_variable
        with pytest.raises(AddressMissing, match=provider.url_variable):
            provider.url({})


@pytest.mark.parametrize("name", [name for name in CALLED if PROVIDERS[name].key_variable])
async def test_a_key_comes_from_its_usual_variable(name: str) -> None:
    """A key that is set is used; without one, only a server on this machine can be called."""
    provider = PROVIDERS[name]
    variable = provider.key_variable
    assert variable is not None
    assert provider.key({variable: f" {KEY}\n", **dict.fromkeys(provider.key_synonyms, "other")}) == KEY
    for synonym in provider.key_synonyms:
        assert provider.key({synonym: KEY}) == KEY
    if provider.local:
        assert provider.key({}) is None
    else:
        with pytest.raises(KeyMissing, match=variable):
            provider.key({variable: "", "AZURE_OPENAI_ENDPOINT": "https://own.example"})


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=PROVIDERS.keys())
async def test_every_row_names_its_source(row: Provider) -> None:
    """The page and the source of a row are URLs, with the date on which somebody read them."""
    assert all(url.startswith("https://") for url in (row.page, row.source or row.page))
    assert date.fromisoformat(row.checked) >= date(2026, 11, 1)


async def test_credentials_from_elsewhere_need_no_key() -> None:
    """Bedrock takes AWS credentials of any kind, and needs its API key only where none are set."""
    assert PROVIDERS["bedrock"].key({"AWS_PROFILE": "work"}) is None


async def test_a_retired_service_says_what_replaces_it() -> None:
    """GitHub Models no longer exists: its name says so, in place of a failed connection."""
    with pytest.raises(ConfigError, match=r"GitHub Models was retired on 2026-07-30: use"):
        PROVIDERS["github"].url({})


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "https://x.openai.azure.com/openai/v1"),
        (
            {"OPENAI_API_VERSION": "2024-10-21"},
            "https://x.openai.azure.com/openai/deployments/{model}?api-version=2024-10-21",
        ),
    ],
)
@pytest.mark.parametrize(
    "endpoint", ["https://x.openai.azure.com", "https://x.openai.azure.com/", "https://x.openai.azure.com/openai"]
)
async def test_azure_has_two_apis(endpoint: str, environ: dict[str, str], url: str) -> None:
    """With a version it is the deployments API, without one the v1 API; an address up to ``/v1`` is taken as it is."""
    azure = PROVIDERS["azure"]
    assert azure.url({"AZURE_OPENAI_ENDPOINT": endpoint, **environ}) == url
    v1 = "https://x.openai.azure.com/openai/v1"
    assert azure.url({"AZURE_OPENAI_ENDPOINT": f"{v1}/", **environ}) == v1


async def test_vertex_is_in_a_region() -> None:
    """The region names the host; without one it is the global endpoint."""
    vertex = PROVIDERS["vertex"]
    regional = vertex.url({"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "europe-west4"})
    path = "/v1/projects/p/locations/{}/endpoints/openapi"
    assert regional == f"https://europe-west4-aiplatform.googleapis.com{path.format('europe-west4')}"
    assert vertex.url({"GOOGLE_CLOUD_PROJECT": "p"}) == f"https://aiplatform.googleapis.com{path.format('global')}"


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


ADDRESSES = [
    ("http://127.0.0.1:11434/v1", False),
    ("http://[::1]:8000/v1", False),
    ("http://192.168.1.20:8000/v1", False),
    ("http://100.101.102.103:8000/v1", False),  # a private network over the Internet (RFC 6598)
    ("http://ollama:11434/v1", False),  # a container's name
    ("http://gpu.local:8000/v1", False),
    ("http://host.docker.internal:11434/v1", False),
    ("https://abc123-8000.proxy.runpod.net/v1", True),
    ("https://ollama.com/v1", True),
    ("http://8.8.8.8:8000/v1", True),
]


@pytest.mark.parametrize(("address", "remote"), ADDRESSES)
def test_a_local_name_at_an_address_elsewhere_is_not_free(address: str, remote: bool) -> None:
    """Its cost is unknown; on the user's own network it is $0. For moa.toml and for models made in Python."""
    catalog = Catalog({"vllm": Access(base_url=address)}, environ={"OLLAMA_HOST": address})
    assert {"vllm", "ollama"} & catalog.remote == ({"vllm", "ollama"} if remote else set())
    mixture = Mixture([], Endpoint("vllm", address).model("llama"))
    assert mixture.prices.price("vllm/llama", Usage(10, 5)) == Cost(None if remote else 0.0)


async def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a vendor is known all the same, and the error names the command."""
    monkeypatch.setattr("moa.models.vendors.endpoint.is_installed", lambda api: False)
    async with Catalog(environ={"ANTHROPIC_API_KEY": KEY}) as catalog:
        with pytest.raises(ConfigError, match=r"pip install 'mixture-of-agents\[vendors\]'$"):
            catalog.model("anthropic/claude-sonnet-5-5")
