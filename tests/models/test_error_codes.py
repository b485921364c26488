"""An error keeps its server's code and its wait, and is not retried where a retry cannot help."""

from __future__ import annotations

import json

import pytest

from moa.errors import AggregatorFailed, CallRejected, ModelError, RateLimited, Unreachable
from moa.messages import collected
from moa.models.endpoint import Endpoint
from moa.models.refusals import refused
from moa.models.retries import Retried
from moa.server.failures import error_response, refusal_of
from tests.fakes.upstream import Received, Upstream, finish, raw, say, step, whole, words
from tests.models.endpoints import QUESTION, answer, failure

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "insufficient_quota"),  # langchain-ai/langchainjs#1929
        (400, "context_length_exceeded"),  # kortix-ai/suna#6368
        (400, "content_policy_violation"),  # https://platform.openai.com/docs/guides/error-codes
    ],
)
async def test_a_permanent_error_is_called_once(upstream: Upstream, endpoint: Endpoint, status: int, code: str) -> None:
    """Its code is kept, and no retry follows, whatever the status."""
    upstream.script("m", whole({"error": {"message": "No.", "type": "x", "code": code}}, status=status), say("Late."))
    with pytest.raises((RateLimited, CallRejected)) as caught:
        _ = [delta async for delta in Retried(endpoint.model("m"), wait_initial=0, wait_jitter=0).stream(QUESTION)]
    assert (caught.value.code, caught.value.status, caught.value.retryable) == (code, status, False)
    assert len(upstream.calls("m")) == 1


async def test_geminis_wait_is_read(upstream: Upstream, endpoint: Endpoint) -> None:
    """From the body, which is a list. dcdpr/jp#1061"""
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"}
    upstream.script("m", whole([{"error": {"code": 429, "message": "Slow.", "details": [info]}}], status=429))
    _, error = await failure(endpoint)
    assert (error.retry_after, error.retryable) == (2.5, True)


async def test_a_bare_error_keeps_its_words(upstream: Upstream, endpoint: Endpoint) -> None:
    """JSON as the body of an event stream is read as what it is. ggml-org/llama.cpp#16486"""
    body = {"error": {"code": 400, "message": "the prompt is too long", "type": "exceed_context_size_error"}}
    upstream.script("m", raw(json.dumps(body, indent=1).encode()))
    _, error = await failure(endpoint)
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert "the prompt is too long" in str(error)


@pytest.mark.parametrize("body", ["", "404 page not found", {"detail": "Not Found"}])
async def test_a_404_of_no_api_names_the_base_url(upstream: Upstream, endpoint: Endpoint, body: object) -> None:
    """A server without this API has no error object; its address is likely wrong. (Our own reading: Go, FastAPI.)"""
    upstream.script("m", whole(body, status=404))
    assert "is the base URL right" in str((await failure(endpoint))[1])


def tried(error: ModelError) -> ModelError:
    """The error of the last of several attempts."""
    error.tried = True
    return error


@pytest.mark.parametrize(
    ("error", "status", "code", "permanent"),
    [
        # 8monkey-ai/hebo-gateway#27: an SDK retries a 502, and all proposals are paid for again
        (refused("x/m", 402, "no credits"), 402, "insufficient_quota", True),
        (refused("x/m", 404, "no", {"error": {"code": "model_not_found"}}), 424, "model_not_found", True),
        (refused("x/m", 429, "no quota", {"error": {"code": "insufficient_quota"}}), 402, "insufficient_quota", True),
        (
            refused("x/m", 400, "too long", {"error": {"code": "context_length_exceeded"}}),
            400,
            "context_length_exceeded",
            True,
        ),
        (refused("x/m", 401, "bad key"), 424, "upstream_failed", True),
        (refused("x/m", 500, "oops"), 502, "upstream_failed", False),
        (refused("x/m", 529, "oops"), 503, "upstream_failed", False),
        (tried(refused("x/m", 500, "oops")), 502, "upstream_failed", True),
        (tried(refused("x/m", 503, "busy", headers={"Retry-After": "2"})), 503, "upstream_failed", False),
        (tried(refused("x/m", 429, "slow down")), 429, "upstream_rate_limited", False),
        # openai-python obeys no longer wait
        (refused("x/m", 429, "slow down", headers={"Retry-After": "121"}), 429, "upstream_rate_limited", True),
        (Unreachable("x/m", "is the server running?"), 502, "upstream_failed", False),
        (tried(Unreachable("x/m", "is the server running?")), 424, "upstream_failed", True),
    ],
)
def test_a_client_learns_whether_to_retry(error: ModelError, status: int, code: str, permanent: bool) -> None:
    """The code reaches the client, and ``x-should-retry: false`` where a retry cannot help or was made here already."""
    refusal = refusal_of(AggregatorFailed("the aggregator failed", [], [error]))
    assert (refusal.status, refusal.code) == (status, code)
    assert (error_response(refusal).headers.get("x-should-retry") == "false") == permanent


async def test_events_may_be_labelled_json(upstream: Upstream, endpoint: Endpoint) -> None:
    """The body decides, not its label. openclaw/openclaw#97454"""

    async def labelled(call: Received) -> None:
        await call.begin(200, {"Content-Type": "application/json"})

    upstream.script("m", step(labelled) + words("It is four.") + finish())
    assert collected(await answer(endpoint)).text == "It is four."
