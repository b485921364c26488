"""Clients with a wrong address: another API's, a base URL without /v1 or with too much, slashes, HEAD and OPTIONS."""

from __future__ import annotations

import aiohttp
import pytest

from moa.server.directions import no_such_path
from moa.server.paths import written
from tests.fakes.serving import Served, asking
from tests.fakes.upstream import Upstream

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("method", "path", "remedy"),
    [
        ("POST", "/v1/embeddings", "embeddings"),
        ("POST", "/v1/moderations", "moderations"),
        ("POST", "/v1/audio/transcriptions", "speech"),
        ("POST", "/v1/images/generations", "images"),
        ("POST", "/v1/assistants", "/v1/chat/completions"),
        ("GET", "/api/tags", "OpenAI compatible"),
        ("POST", "/api/chat", "ends in /v1"),
        ("POST", "/v1beta/models/gemini-2.5-pro:generateContent", "Gemini"),
        ("POST", "/openai/deployments/gpt/chat/completions", "ends in /v1"),
        ("POST", "/chat/completions", "ends in /v1"),
        ("GET", "/models", "ends in /v1"),
        ("POST", "/responses", "ends in /v1"),
        ("POST", "/v1/v1/chat/completions", "once more"),
        ("GET", "/v1/v1/models", "once more"),
        ("POST", "/v1/chat/completions/chat/completions", "ends in /v1"),
        ("GET", "/nowhere", "under /v1"),
    ],
)
async def test_a_wrong_address_is_answered_with_what_to_set(
    http: aiohttp.ClientSession, server: Served, method: str, path: str, remedy: str
) -> None:
    """The error is OpenAI's, so every client shows its message, and none sends the request again."""
    async with http.request(method, server.origin + path) as response:
        error = (await response.json())["error"]
    assert response.status == 404
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "unknown_url")
    assert f"{method} {path}" in error["message"] and remedy in error["message"]


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/complete"])
async def test_a_client_of_the_messages_api_gets_its_own_form(
    http: aiohttp.ClientSession, server: Served, path: str
) -> None:
    """Anthropic's SDKs read the message from there."""
    async with http.post(server.origin + path, json={}) as response:
        body = await response.json()
    assert (response.status, body["type"], body["error"]["type"]) == (404, "error", "not_found_error")
    assert "/v1/messages" in body["error"]["message"]


def test_a_long_path_is_not_repeated_whole() -> None:
    """A scanner's path does not fill the log of the client."""
    refusal, _ = no_such_path("GET", "/v1/" + "a" * 50_000)
    assert len(refusal.message) < 500


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions/", "/v1//chat/completions", "//v1/chat/completions", "/v1/chat//completions//"]
)
async def test_slashes_too_many_do_no_harm(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, path: str
) -> None:
    """A base URL may end in a slash, and a path too; nothing is redirected."""
    async with http.post(server.origin + path, json=asking(), allow_redirects=False) as response:
        assert (response.status, (await response.json())["object"]) == (200, "chat.completion")


def test_names_of_models_keep_their_slashes() -> None:
    """A local model's name may be a whole path."""
    assert written("/v1/models/local//srv/model.gguf") == "/v1/models/local//srv/model.gguf"
    assert [written(path) for path in ("/", "/v1/", "/v1", "/runs/")] == ["/", "/v1/", "/v1", "/runs"]


@pytest.mark.parametrize("path", ["/", "/v1/models", "/healthz", "/v1/models/moa/trio"])
async def test_head_is_get_without_the_body(http: aiohttp.ClientSession, server: Served, path: str) -> None:
    """Probes of clients and balancers get the status and the headers."""
    async with http.get(server.origin + path) as got, http.head(server.origin + path) as head:
        assert (head.status, await head.read()) == (got.status, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


async def test_head_and_options_at_the_api_say_what_is_taken(http: aiohttp.ClientSession, server: Served) -> None:
    """HEAD at a path for POST alone is a 405, and OPTIONS lists the methods."""
    async with http.head(f"{server.url}/chat/completions") as response:
        assert (response.status, response.headers["allow"]) == (405, "POST, OPTIONS")
    for path, allowed in (("/v1/chat/completions", "POST, OPTIONS"), ("/runs", "GET, POST, HEAD, OPTIONS")):
        async with http.options(server.origin + path) as response:
            assert (response.status, response.headers["allow"]) == (204, allowed)
    async with http.options(server.origin + "/v1/embeddings") as response:
        assert response.status == 404


async def test_redirects_keep_a_proxys_prefix(http: aiohttp.ClientSession, server: Served) -> None:
    """The browser resolves them, so that it stays below /llm/; so it does with the address of a new run."""
    from yarl import URL

    for path in ("/v1", "/v1/"):
        async with http.get(server.origin + path, allow_redirects=False) as response:
            target = URL(f"http://proxy/llm{path}").join(URL(response.headers["location"]))
            assert (response.status, target.path) == (307, "/llm/")
    async with http.post(f"{server.origin}/runs", json=asking()) as response:
        target = URL("http://proxy/llm/runs").join(URL(response.headers["location"]))
        assert target.path == f"/llm/runs/{response.headers['x-moa-run']}"
