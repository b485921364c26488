"""Vendors' errors keep their meaning: OpenAI's code, the status, the words, whether a retry helps, and the wait."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.errors import CallRejected, KeyRejected, ModelError, RateLimited, UpstreamFailed
from moa.models.refusals import broken_by, message_of, refused
from moa.models.waits import wait_in


class Case(NamedTuple):
    status: int
    body: Any
    kind: type[ModelError]
    code: str | None
    words: str
    retryable: bool = False
    wait: float | None = None


def _error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


_PER_DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
_RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38s"}

CASES = {
    # https://platform.openai.com/docs/guides/error-codes; promptfoo/promptfoo#10855
    "openai quota": Case(
        429,
        _error("You have no credits remaining.", type="insufficient_quota", code="credit_balance_exhausted"),
        RateLimited,
        "insufficient_quota",
        "no credits remaining",
    ),
    "openai rate": Case(
        429,
        _error("Rate limit reached. Please try again in 4.5s.", type="tokens", code="rate_limit_exceeded"),
        RateLimited,
        "rate_limit_exceeded",
        "Rate limit reached",
        True,
        4.5,
    ),
    "one request larger than a minute's tokens": Case(
        429,
        _error(
            "Request too large for gpt-4o in organization o on tokens per min (TPM): Limit 30000, Requested 40000.",
            code="rate_limit_exceeded",
        ),
        RateLimited,
        "rate_limit_exceeded",
        "Request too large",
    ),
    "openai region": Case(
        403,
        _error("Country, region, or territory not supported", code="unsupported_country_region_territory"),
        CallRejected,
        "unsupported_country_region_territory",
        "not supported",
    ),
    "openai flagged": Case(
        400,
        _error(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy", code="invalid_prompt"
        ),
        CallRejected,
        "invalid_prompt",
        "was flagged",
    ),
    # anthropics/anthropic-sdk-typescript#618
    "anthropic credit": Case(
        400,
        {
            "type": "error",
            **_error("Your credit balance is too low to access the Anthropic API.", type="invalid_request_error"),
        },
        CallRejected,
        "insufficient_quota",
        "credit balance",
    ),
    "anthropic too long": Case(
        400,
        {"type": "error", **_error("prompt is too long: 208310 tokens > 200000 maximum", type="invalid_request_error")},
        CallRejected,
        "context_length_exceeded",
        "208310 tokens",
    ),
    "anthropic overloaded": Case(
        529,
        {"type": "error", **_error("Overloaded", type="overloaded_error")},
        UpstreamFailed,
        "overloaded",
        "Overloaded",
        True,
    ),
    # https://ai.google.dev/gemini-api/docs/troubleshooting; vercel/ai#18627
    "gemini rate": Case(
        429,
        [_error("You exceeded your current quota", code=429, status="RESOURCE_EXHAUSTED", details=[_RETRY_INFO])],
        RateLimited,
        "rate_limit_exceeded",
        "exceeded your current quota",
        True,
        38,
    ),
    "gemini per day": Case(
        429,
        [_error("Quota exceeded", code=429, status="RESOURCE_EXHAUSTED", details=[_PER_DAY, _RETRY_INFO])],
        RateLimited,
        "rate_limit_exceeded",
        "Quota exceeded",
        False,
        38,
    ),
    "gemini region": Case(
        400,
        [_error("User location is not supported for the API use.", code=400, status="FAILED_PRECONDITION")],
        CallRejected,
        "unsupported_country_region_territory",
        "User location",
    ),
    # https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter
    "azure filter": Case(
        400,
        _error("The response was filtered", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
        CallRejected,
        "content_filter",
        "filtered",
    ),
    "azure rate": Case(
        429,
        _error("Requests have exceeded call rate limit. Please retry after 24 seconds.", code="429"),
        RateLimited,
        None,
        "call rate limit",
        True,
        24,
    ),
    "azure deployment": Case(
        404,
        _error("The API deployment for this resource does not exist.", code="DeploymentNotFound"),
        CallRejected,
        "model_not_found",
        "deployment",
    ),
    "azure gateway": Case(401, {"statusCode": 401, "message": "Access denied"}, KeyRejected, None, "Access denied"),
    # https://github.com/ollama/ollama/blob/main/docs/api/openai-compatibility.mdx
    "ollama": Case(
        404, {"error": 'model "x" not found, try pulling it first'}, CallRejected, "model_not_found", "pulling"
    ),
    # https://github.com/vllm-project/vllm: ErrorResponse, before and after 0.10
    "vllm flat": Case(
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens.",
            "type": "BadRequestError",
            "code": 400,
        },
        CallRejected,
        "context_length_exceeded",
        "4096",
    ),
    "vllm": Case(
        404,
        _error("The model `q-1.5` does not exist.", type="NotFoundError", code=404),
        CallRejected,
        "model_not_found",
        "q-1.5",
    ),
    # https://github.com/ggml-org/llama.cpp/tree/master/tools/server
    "llama.cpp": Case(
        400,
        _error("the request exceeds the available context size", type="exceed_context_size_error", code=400),
        CallRejected,
        "context_length_exceeded",
        "available context size",
    ),
    "llama.cpp loads": Case(
        503, _error("Loading model", type="unavailable_error", code=503), UpstreamFailed, "overloaded", "Loading", True
    ),
    # open-webui/computer#293, diegosouzapw/OmniRoute#3044, reVrost/go-openrouter#21
    "openrouter raw text": Case(
        429,
        _error(
            "Provider returned error",
            code=429,
            metadata={"raw": "glm is temporarily rate-limited upstream.", "provider_name": "BaseTen"},
        ),
        RateLimited,
        None,
        "Provider returned error (BaseTen): glm is temporarily",
        True,
    ),
    "openrouter raw json": Case(
        400,
        _error(
            "Provider returned error",
            code=400,
            metadata={"raw": json.dumps(_error("prompt is too long: 9 tokens > 8 maximum")), "provider_name": "X"},
        ),
        CallRejected,
        "context_length_exceeded",
        "prompt is too long",
    ),
    "openrouter moderation": Case(
        403,
        _error(
            "openai/o3 requires moderation on OpenAI. Your input was flagged.",
            code=403,
            metadata={"reasons": ["violence"]},
        ),
        CallRejected,
        "content_filter",
        "requires moderation",
    ),
    "openrouter credits": Case(
        402, _error("This request requires more credits", code=402), CallRejected, "insufficient_quota", "more credits"
    ),
    # vercel/ai#2698: JSON as a message
    "json in json": Case(
        429,
        _error(json.dumps(_error("Resource has been exhausted", code=429, status="RESOURCE_EXHAUSTED")), code=429),
        RateLimited,
        "rate_limit_exceeded",
        "Resource has been exhausted",
        True,
    ),
    # https://api-docs.deepseek.com/quick_start/error_codes
    "deepseek": Case(
        402,
        _error("Insufficient Balance", type="unknown_error", code="invalid_request_error"),
        CallRejected,
        "insufficient_quota",
        "Balance",
    ),
    # can1357/oh-my-pi#3102
    "opencode": Case(
        401, _error("Insufficient balance. Manage your billing here"), CallRejected, "insufficient_quota", "billing"
    ),
    # https://platform.moonshot.ai/docs/api/chat: error table
    "moonshot": Case(
        429,
        _error("Your account is suspended, please check your plan", type="exceeded_current_quota_error"),
        RateLimited,
        "insufficient_quota",
        "suspended",
    ),
    # https://www.alibabacloud.com/help/en/model-studio/error-code
    "qwen": Case(
        400,
        _error("Input data may contain", code="data_inspection_failed"),
        CallRejected,
        "content_filter",
        "Input data",
    ),
    # https://docs.x.ai: the code is a sentence, the error a string
    "xai": Case(
        403,
        {"code": "The caller does not have permission", "error": "Your team has used all available credits"},
        CallRejected,
        "insufficient_quota",
        "all available credits",
    ),
    "mistral": Case(
        422,
        {"object": "error", "message": {"detail": [{"msg": "Field required"}]}},
        CallRejected,
        None,
        "Field required",
    ),
    "cloudflare": Case(
        400, {"success": False, "errors": [{"code": 5006, "message": "oneOf"}]}, CallRejected, None, "oneOf"
    ),
    "a page": Case(502, "<html><h1>502</h1></html>", UpstreamFailed, None, "502 Bad Gateway", True),
    "text": Case(503, "upstream connect error", UpstreamFailed, None, "upstream connect error", True),
    "nothing": Case(500, "", UpstreamFailed, None, "500", True),
}


def _read(case: Case) -> ModelError:
    return refused("x/m", case.status, message_of(case.body), case.body)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_error_keeps_its_meaning(case: Case) -> None:
    """Code, status, words, wait, and whether a retry can help, whatever form the error has."""
    error = _read(case)
    assert (type(error), error.status, error.code) == (case.kind, case.status, case.code)
    assert (error.retryable, error.retry_after) == (case.retryable, case.wait)
    assert case.words in str(error)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.code])
def test_an_error_in_a_stream_keeps_its_code(name: str) -> None:
    """In a stream with the status 200 it has the same code, before and after the answer began."""
    case = CASES[name]
    for began in (False, True):
        error = broken_by("x/m", message_of(case.body), case.body, began=began)
        assert error.code == case.code
        assert case.retryable or not error.retryable


# -- how long to wait ---------------------------------------------------------------------------------------------------


NOW = 1_795_000_000.0


def _in(seconds: float) -> str:
    return datetime.fromtimestamp(NOW + seconds, UTC).isoformat().replace("+00:00", "Z")


HEADERS = [
    ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
    ({"retry-after": "2.5"}, 2.5),
    ({"retry-after": "7s"}, 7),
    ({"retry-after": formatdate(NOW + 50, usegmt=True)}, 50),
    ({"retry-after": "-3"}, 0),
    # OpenAI: https://platform.openai.com/docs/guides/rate-limits; Groq: https://console.groq.com/docs/rate-limits
    ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 1),
    (
        {"x-ratelimit-reset-requests": "20ms", "x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0"},
        360,
    ),
    ({"x-ratelimit-reset-tokens": "2m59.56s"}, 179.56),
    # Anthropic: https://docs.anthropic.com/en/api/rate-limits
    ({"anthropic-ratelimit-requests-reset": _in(30), "anthropic-ratelimit-requests-remaining": "0"}, 30),
    # OpenRouter: https://openrouter.ai/docs/api-reference/limits, in milliseconds since 1970
    ({"x-ratelimit-reset": str(int((NOW + 40) * 1000))}, 40),
    # Cerebras: https://inference-docs.cerebras.ai/support/rate-limits
    ({"x-ratelimit-reset-tokens-minute": "11.38", "x-ratelimit-reset-requests-day": "33011.3"}, 11.38),
    # A server whose clock is an hour ahead
    (
        {
            "date": formatdate(NOW + 3600, usegmt=True),
            "retry-after": formatdate(NOW + 3605, usegmt=True),
        },
        5,
    ),
    ({"retry-after": "soon", "x-ratelimit-reset": "never"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), HEADERS, ids=lambda value: str(value)[:60])
def test_a_wait_in_headers(monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds, durations and moments are all seconds to wait."""
    monkeypatch.setattr("time.time", lambda: NOW)
    assert wait_in(headers, limited=True) == (None if seconds is None else pytest.approx(seconds))


def test_limits_count_for_limited_calls_alone() -> None:
    """A server error tells its limits too, which have nothing to do with it."""
    assert wait_in({"x-ratelimit-reset": "30"}, limited=False) is None


BODIES: list[tuple[Any, float | None]] = [
    ([{"error": {"details": [{"retryDelay": "4.5s"}]}}], 4.5),
    ({"error": {"details": [{"retryDelay": {"seconds": "3", "nanos": 500_000_000}}]}}, 3.5),
    ({"error": {"retry_after": 12}}, 12),
    ({"retryAfterMs": 250}, 0.25),
    ({"error": {"metadata": {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "8"}}}}, 8),
    ({"error": {"retry_after": None}}, None),
]


@pytest.mark.parametrize(("body", "seconds"), BODIES)
def test_a_wait_in_the_body(body: Any, seconds: float | None) -> None:
    """Google's RetryInfo, fields like ``retry_after``, and OpenRouter's headers inside the error."""
    assert wait_in({}, body, limited=True) == seconds


WORDS = [
    ("Please try again in 4.5s.", 4.5),
    ("Please try again in 7m12s. Visit the page", 432),
    ("Please try again in 20ms.", 0.02),
    ("Please retry after 24 seconds.", 24),
    ("Please retry in 55.107s.", 55.107),
    ("Wait for 2 minutes and 5 seconds", 125),
    ("Your limit resets in 3h", 10800),
    ("Please try again later.", None),
    ("We retry 3 times.", None),
]


@pytest.mark.parametrize(("words", "seconds"), WORDS)
def test_a_wait_in_words(words: str, seconds: float | None) -> None:
    """As OpenAI, Groq, Azure and Gemini word it."""
    assert wait_in({}, None, words) == (None if seconds is None else pytest.approx(seconds))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "code", "type", "status", "detail", "metadata", "raw", "retryDelay", "headers"]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(body=_JSON, status=st.integers(400, 599), value=st.text(max_size=12))
def test_any_body_is_an_error(body: Any, status: int, value: str) -> None:
    """Whatever a server sends becomes an error of one line, and a wait that is a number of seconds or None."""
    headers = {"retry-after": value, "x-ratelimit-reset": value, "date": value}
    error = refused("x/m", status, message_of(body), body, headers)
    assert "\n" not in str(error)
    assert error.retry_after is None or 0 <= error.retry_after < float("inf")
    broken_by("x/m", message_of(body), body, began=False)
