"""Keys in another header, and keys that expire."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moa.errors import KeyRejected, ModelError
from moa.models.catalog import Access, Catalog
from moa.models.credential import KeySource, command_key
from moa.models.endpoint import Endpoint
from tests.fakes.upstream import Upstream, refuse, say
from tests.models.calling import text_of
from tests.models.endpoints import KEY, failure

pytestmark = pytest.mark.anyio


def python(source: str) -> list[str]:
    """The command that runs a line of Python."""
    return [sys.executable, "-c", source]


async def test_a_key_in_another_header_stands_alone(upstream: Upstream) -> None:
    """``auth_header`` holds the key without ``Bearer``, and no ``Authorization`` is sent."""
    upstream.script("m", say("hi"))
    async with Endpoint("here", upstream.base_url, api_key=KEY, auth_header="api-key") as endpoint:
        assert await text_of(endpoint.model("m")) == "hi"
    headers = upstream.requests[0].headers
    assert headers["api-key"] == KEY
    assert "Authorization" not in headers


async def test_the_model_may_stand_in_the_address(upstream: Upstream) -> None:
    """``{model}`` in the base URL becomes the model's ID, and the query stays behind the path."""
    url = f"{upstream.base_url}/deployments/{{model}}?api-version=2024-10-21"
    upstream.script("my gpt/4", say("hi"))
    async with Endpoint("az", url, api_key=KEY, auth_header="api-key") as endpoint:
        assert await text_of(endpoint.model("my gpt/4")) == "hi"
        with pytest.raises(ModelError, match="an address for each model"):
            await endpoint.models()
        assert endpoint.base_url.endswith("/deployments/{model}")
    assert upstream.requests[0].path == "/v1/deployments/my%20gpt%2F4/chat/completions?api-version=2024-10-21"


async def test_azure_is_called_by_its_own_rules(upstream: Upstream) -> None:
    """The resource's address and the version come from the environment, the key stands in ``api-key``."""
    environ = {
        "AZURE_OPENAI_ENDPOINT": upstream.base_url.removesuffix("/v1"),
        "AZURE_OPENAI_API_KEY": KEY,
        "OPENAI_API_VERSION": "2024-10-21",
    }
    upstream.script("gpt", say("hi"))
    async with Catalog(environ=environ) as catalog:
        assert await text_of(catalog.model("azure/gpt")) == "hi"
    assert upstream.requests[0].path == "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    assert upstream.requests[0].headers["api-key"] == KEY


@pytest.mark.parametrize("kind", ["command", "function", "async function"])
async def test_a_key_that_expires_is_fetched_again(upstream: Upstream, tmp_path: Path, kind: str) -> None:
    """The key is fetched once and kept; a 401 fetches another one and sends the call again."""
    count = tmp_path / "count"

    def function() -> str:
        count.write_text((count.read_text() if count.exists() else "") + "x")
        return f"token-{len(count.read_text())}"

    async def coroutine() -> str:
        return function()

    script = f"from pathlib import Path; p = Path({str(count)!r}); n = p.read_text() if p.exists() else ''"
    command = command_key(python(f"{script}; p.write_text(n + 'x'); print('token-%d' % (len(n) + 1))"))
    sources: dict[str, KeySource] = {"command": command, "function": function, "async function": coroutine}
    upstream.script("m", say("one"), say("two"), refuse(401), say("three"))
    async with Endpoint("here", upstream.base_url, api_key=sources[kind]) as endpoint:
        assert [await text_of(endpoint.model("m")) for _ in range(3)] == ["one", "two", "three"]
    sent = [call.headers["Authorization"] for call in upstream.requests]
    assert sent == ["Bearer token-1", "Bearer token-1", "Bearer token-1", "Bearer token-2"]


async def test_a_key_that_is_refused_twice_is_an_error(upstream: Upstream) -> None:
    """A new key is tried once; the error then says so and holds neither key."""
    keys = iter(["first-secret", "second-secret"])
    upstream.script("m", refuse(401, "no such key: first-secret"), refuse(401, "no such key: second-secret"))
    async with Endpoint("here", upstream.base_url, api_key=lambda: next(keys)) as endpoint:
        _, error = await failure(endpoint)
    assert isinstance(error, KeyRejected)
    assert "secret" not in str(error)
    assert "[key]" in str(error)


def raises() -> str:
    raise ValueError("secret")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (command_key(["moa-no-such-program", "--secret"]), "needs 'moa-no-such-program', which is not installed"),
        (command_key(python("import sys; print('secret', file=sys.stderr); sys.exit(3)")), "exit code 3: run it in a"),
        (command_key(python("print('secret'); print('more')")), "must print the key and nothing else"),
        (command_key(python("")), "must print the key and nothing else"),
        (
            command_key(python("input() or print('waits'); import time; time.sleep(9)"), timeout=0.2),
            "exit code 1|within 0.2 s",
        ),
        (raises, "the function for its key raised ValueError"),
        (lambda: "", "returned no key"),
    ],
)
async def test_a_key_that_cannot_be_fetched_is_a_rejected_key(
    upstream: Upstream, source: Callable[[], str], reason: str
) -> None:
    """The error says why in one line and holds nothing that the command printed; nothing is sent."""
    async with Endpoint("here", upstream.base_url, api_key=source) as endpoint:
        with pytest.raises(KeyRejected, match=reason) as caught:
            await text_of(endpoint.model("m"))
    assert "secret" not in str(caught.value).replace("--secret", "")
    assert upstream.requests == []


async def test_a_command_of_the_file_gives_the_key(upstream: Upstream) -> None:
    """``api_key_command`` runs without a shell, and its key goes to the endpoint's own address."""
    access = Access(base_url=upstream.base_url, api_key_command=[*python("import sys; print(sys.argv[1])"), "$HOME"])
    upstream.script("m", say("hi"))
    async with Catalog({"mine": access}) as catalog:
        assert await text_of(catalog.model("mine/m")) == "hi"
    assert upstream.requests[0].headers["Authorization"] == "Bearer $HOME"
