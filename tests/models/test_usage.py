"""Tokens and dollars are read wherever a server counts them; figures that cannot be are not believed."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moa.answers import Cost, Usage
from moa.messages import collected
from moa.mixture.mixture import Mixture
from moa.models.endpoint import Endpoint
from moa.models.scripted import Scripted
from moa.models.usage import MOST_TOKENS, bill_of, finite
from tests.fakes.upstream import Upstream, chunk, data, done, finish, pause, sequence, words
from tests.models.endpoints import answer

pytestmark = pytest.mark.anyio


COUNTS: list[Any] = [
    # sonami-tech/omni-llm-provider#49: xAI and Vertex count reasoning beside the output
    pytest.param(
        {
            "prompt_tokens": 20,
            "completion_tokens": 7,
            "total_tokens": 77,
            "completion_tokens_details": {"reasoning_tokens": 50},
        },
        Usage(20, 57, 0, 50),
        id="reasoning beside the output",
    ),
    pytest.param(
        {"prompt_tokens": 20, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 50}},
        Usage(20, 57, 0, 50),
        id="more reasoning than output, without a total",
    ),
    pytest.param(
        {
            "prompt_tokens": 20,
            "completion_tokens": 57,
            "total_tokens": 77,
            "completion_tokens_details": {"reasoning_tokens": 50},
        },
        Usage(20, 57, 0, 50),
        id="reasoning within the output",
    ),
    # vercel/ai#12425: the total alone shows the thinking tokens
    pytest.param({"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 77}, Usage(20, 57), id="a larger total"),
    # aallan/vera-bench#97: Moonshot, Together
    pytest.param(
        {"prompt_tokens": 20, "completion_tokens": 7, "cached_tokens": 16}, Usage(20, 7, 16), id="cached at the top"
    ),
    pytest.param(
        {"input_tokens": 20, "output_tokens": 7, "input_token_details": {"cache_read": 16}},
        Usage(20, 7, 16),
        id="cached in LangChain's words",
    ),
    # https://platform.openai.com/docs/api-reference/responses/object
    pytest.param(
        {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27, "input_tokens_details": {"cached_tokens": 16}},
        Usage(20, 7, 16),
        id="Responses",
    ),
    # https://docs.claude.com/en/docs/build-with-claude/prompt-caching
    pytest.param(
        {
            "input_tokens": 20,
            "output_tokens": 7,
            "cache_read_input_tokens": 16,
            "cache_creation_input_tokens": 4,
        },
        Usage(40, 7, 16),
        id="Anthropic",
    ),
    # BerriAI/litellm: Anthropic's names beside OpenAI's, which include them
    pytest.param(
        {
            "prompt_tokens": 40,
            "completion_tokens": 7,
            "total_tokens": 47,
            "cache_read_input_tokens": 16,
            "cache_creation_input_tokens": 4,
        },
        Usage(40, 7, 16),
        id="a proxy in front of Anthropic",
    ),
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
    pytest.param(
        {"inputTokens": 20, "outputTokens": 7, "totalTokens": 43, "cacheReadInputTokens": 16},
        Usage(36, 7, 16),
        id="Bedrock",
    ),
    # https://ai.google.dev/api/generate-content#UsageMetadata
    pytest.param(
        {
            "promptTokenCount": 20,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 5,
            "toolUsePromptTokenCount": 3,
            "totalTokenCount": 35,
            "cachedContentTokenCount": 16,
        },
        Usage(23, 12, 16, 5),
        id="Gemini",
    ),
    pytest.param(
        {"promptTokenCount": 20, "candidatesTokenCount": 7, "thoughtsTokenCount": 5},
        Usage(20, 12, 0, 5),
        id="Gemini without a total",
    ),
    # https://docs.ollama.com/api/usage
    pytest.param({"prompt_eval_count": 20, "eval_count": 7}, Usage(20, 7), id="Ollama"),
    # https://github.com/ggml-org/llama.cpp/tree/master/tools/server
    pytest.param(
        {"cache_n": 16, "prompt_n": 4, "predicted_n": 7, "predicted_ms": 5.5}, Usage(20, 7, 16), id="llama.cpp"
    ),
    # https://docs.cohere.com/reference/chat
    pytest.param({"input_tokens": 20.0, "output_tokens": 7.0}, Usage(20, 7), id="Cohere's floats"),
    pytest.param({"prompt_tokens": "20", "completion_tokens": 7.0}, Usage(20, 7), id="a string and a float"),
    # router-for-me/CLIProxyAPI#3077
    pytest.param({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None, id="zeros"),
    pytest.param({"prompt_tokens": None}, None, id="null"),
]


@pytest.mark.parametrize(("reported", "usage"), COUNTS)
def test_tokens_are_read(reported: dict[str, Any], usage: Usage | None) -> None:
    """From every name and place; zeros are no count."""
    assert bill_of(reported).usage == usage


@pytest.mark.parametrize(
    "place",
    [
        # earendil-works/pi#2017: Moonshot
        lambda counts: chunk({}, "stop", usage=counts),
        # https://console.groq.com/docs/api-reference
        lambda counts: finish() + data(json.dumps({"choices": [], "x_groq": {"usage": counts}})),
        lambda counts: finish() + data(json.dumps({"usage": counts})),
        lambda counts: finish() + data(json.dumps({"choices": None, "usage": counts})),
        lambda counts: finish() + data(json.dumps({"choices": [], "usage": {"tokens": counts}})),  # Cohere
        lambda counts: finish() + data(json.dumps({"choices": [], "meta": {"billed_units": counts}})),
        lambda counts: finish() + data(json.dumps({"choices": [], "usageMetadata": counts})),  # Gemini
        lambda counts: finish() + data(json.dumps({"choices": [], "usage": None, "timings": counts})),  # llama.cpp
        lambda counts: data(json.dumps({"usage": counts})) + finish() + data(json.dumps({"usage": None})),
        lambda counts: finish() + done() + data(json.dumps({"choices": [], "usage": counts})),
        lambda counts: finish() + done() + pause(0.02) + data(json.dumps({"choices": [], "usage": counts})),
    ],
    ids=[
        *("in the choice", "in x_groq", "without choices", "choices null", "in tokens", "in billed units"),
        *("in Gemini's metadata", "in timings", "null afterwards", "after the end", "a packet after the end"),
    ],
)
async def test_counts_are_found(upstream: Upstream, endpoint: Endpoint, place: Any) -> None:
    """Wherever the counts are; zeros after them change nothing."""
    zeros = data(json.dumps({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}))
    upstream.script("m", words("Four.") + place({"prompt_tokens": 9, "completion_tokens": 3}) + zeros + done())
    deltas = await answer(endpoint)
    assert collected(deltas).usage == Usage(9, 3)
    assert not any(delta.extra for delta in deltas)


REPORTS: list[Any] = [
    pytest.param([(9, 1), (9, 2), (9, 3)], Usage(9, 3), id="growing"),  # vLLM's continuous_usage_stats
    pytest.param([(9, 4), (9, 3)], Usage(9, 3), id="corrected"),
    # Anthropic's message_start and message_delta, as proxies pass them on
    pytest.param([(9, 0), (0, 3)], Usage(9, 3), id="the input, then the output"),
    pytest.param([(9, 3), (0, 0)], Usage(9, 3), id="zeros at the end"),
    pytest.param([(-1, -1), (9, 3)], Usage(9, 3), id="unknown at first"),
]


@pytest.mark.parametrize(("reports", "usage"), REPORTS)
async def test_the_last_report_counts(
    upstream: Upstream, endpoint: Endpoint, reports: list[tuple[int, int]], usage: Usage
) -> None:
    """A count that the last one lacks stays, and what could not be is forgotten once it can be."""
    chunks = [
        {"choices": [], "usage": {"prompt_tokens": taken, "completion_tokens": given}} for taken, given in reports
    ]
    upstream.script("m", words("Four.") + finish() + sequence(data(json.dumps(each)) for each in chunks) + done())
    assert collected(await answer(endpoint)).usage == usage


PARTS: list[Any] = [
    pytest.param({"total_tokens": 777}, lambda usage: usage.total_tokens == 777, id="the total alone"),  # MiniMax
    pytest.param({"prompt_tokens": 99}, lambda usage: usage.input_tokens == 99 and usage.output_tokens, id="no output"),
    pytest.param(
        {"completion_tokens": 99}, lambda usage: usage.output_tokens == 99 and usage.input_tokens, id="no input"
    ),
]


@pytest.mark.parametrize(("counts", "right"), PARTS)
async def test_a_missing_count_is_estimated(upstream: Upstream, endpoint: Endpoint, counts: Any, right: Any) -> None:
    """What is reported stands, and the rest is not nothing."""
    upstream.script("m", words("It is four.") + finish() + data(json.dumps({"usage": counts})) + done())
    usage = collected(await answer(endpoint)).usage
    assert usage.estimated and right(usage)


async def test_zeros_are_estimated(upstream: Upstream, endpoint: Endpoint) -> None:
    """A call that was counted as nothing has an estimate, and so a cost. router-for-me/CLIProxyAPI#3077"""
    zeros = data(json.dumps({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}))
    upstream.script("m", words("It is four.") + finish() + zeros + done())
    usage = collected(await answer(endpoint)).usage
    assert usage.estimated and usage.input_tokens and usage.output_tokens


IMPOSSIBLE = ['{"prompt_tokens": -5, "completion_tokens": 1}', '{"prompt_tokens": 1e19}', '{"completion_tokens": NaN}']
IMPOSSIBLE += [
    '{"total_tokens": 10000000000000000000}',
    '{"prompt_tokens": 9, "cost": -50}',
    '{"cost": NaN}',
    '{"cost": 1e999}',
]


@pytest.mark.parametrize("counts", IMPOSSIBLE)
async def test_an_impossible_figure_is_not_believed(upstream: Upstream, endpoint: Endpoint, counts: str) -> None:
    """The answer stands with an estimated usage and an unknown cost, and a notice says so. (Our own reading: Python servers
    send NaN, and counters overflow.)
    """
    upstream.script("m", words("Four.") + finish() + data('{"choices": [], "usage": ' + counts + "}") + done())
    model = endpoint.model("m")
    events = [event async for event in Mixture([[Scripted("p")]], model).run("Why?")]
    notices = [str(getattr(event, "message", "")) for event in events]
    assert any("here/m reports an impossible" in notice and "cost is unknown" in notice for notice in notices)
    result = collected(await answer(endpoint))
    assert (result.text, result.usage.estimated, result.cost) == ("Four.", True, Cost(None))


def test_a_fee_is_not_the_whole_cost() -> None:
    """With the caller's own key OpenRouter's cost is its fee: https://openrouter.ai/docs/use-cases/usage-accounting"""
    counts: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": 3, "cost": 0.25, "is_byok": True}
    counts["cost_details"] = {"upstream_inference_cost": 0.5}
    assert bill_of(counts).cost == Cost(0.75)
    assert bill_of({**counts, "is_byok": False}).cost == Cost(0.25)
    assert bill_of({**counts, "cost_details": None}).cost is None  # the price list knows more than the fee


def test_a_cost_is_read_in_its_own_unit() -> None:
    """A number, a number in a string, and xAI's ticks: https://docs.x.ai/developers/cost-tracking"""
    assert bill_of({"prompt_tokens": 9, "cost": "0.25"}).cost == Cost(0.25)
    assert bill_of({"prompt_tokens": 9, "estimated_cost": 0.25}).cost == Cost(0.25)
    ticks = bill_of({"prompt_tokens": 9, "cost_in_usd_ticks": 37_756_000}).cost
    assert ticks and ticks.dollars == pytest.approx(0.0037756)


NUMBERS = st.integers() | st.floats() | st.booleans() | st.none() | st.text(max_size=5)
FIELDS = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cost", "output_tokens"]
)


@given(st.dictionaries(FIELDS, NUMBERS))
def test_any_counts_give_figures_that_can_be(reported: dict[str, Any]) -> None:
    """Whatever a server sends: no exception, and nothing negative, infinite or larger than anything real."""
    bill = bill_of(reported)
    if bill.usage:
        figures = (bill.usage.input_tokens, bill.usage.output_tokens, bill.usage.cached_tokens)
        assert all(0 <= figure <= 3 * MOST_TOKENS for figure in figures)
    assert bill.cost is None or bill.cost.dollars is None or 0 <= bill.cost.dollars < math.inf


async def test_what_passes_through_is_json(upstream: Upstream, endpoint: Endpoint) -> None:
    """A log probability of minus infinity (Python servers send it) is -9999, as OpenAI's is; NaN is null."""
    logprobs = '{"content": [{"token": "Four", "logprob": -Infinity, "score": NaN}]}'
    upstream.script(
        "m", data('{"choices": [{"delta": {"content": "Four"}, "logprobs": ' + logprobs + "}]}") + finish() + done()
    )
    first = (await answer(endpoint))[0]
    assert first.extra == {"logprobs": {"content": [{"token": "Four", "logprob": -9999.0, "score": None}]}}
    assert finite({"a": [math.inf, 1.5]}) == {"a": [None, 1.5]}
