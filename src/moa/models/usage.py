"""What a server counts: tokens and money, from the names and places that servers use.

Notable decisions:
- Counts that are all zero are none. Counts that cannot be (negative, not a number, beyond 10^12) are not believed: the
  answer stands, and its usage is estimated, its cost unknown.
- Reasoning may be counted inside the output (OpenAI) or beside it (xAI, Vertex); the total shows which.
- Names and places of counts are data; no vendor is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from moa.answers import Cost, Usage

MOST_TOKENS = 10**12
MOST_DOLLARS = 1e6

# Each name with its source; one without is OpenAI's: https://platform.openai.com/docs/api-reference/chat/object
_INPUT = (
    *("prompt_tokens", "input_tokens", "promptTokens"),
    "inputTokens",  # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
    "inputTokenCount",  # the last chunk of Bedrock's streams: amazon-bedrock-invocationMetrics
    "promptTokenCount",  # https://ai.google.dev/api/generate-content#UsageMetadata
    "prompt_eval_count",  # https://docs.ollama.com/api/usage
    "prompt_n",  # https://github.com/ggml-org/llama.cpp/tree/master/tools/server (timings)
)
_OUTPUT = (
    *("completion_tokens", "output_tokens", "completionTokens", "outputTokens", "outputTokenCount"),
    *("candidatesTokenCount", "eval_count", "predicted_n"),
)
_TOTAL = ("total_tokens", "totalTokens", "totalTokenCount")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_CACHED = (
    # https://api-docs.deepseek.com/guides/kv_cache; https://platform.moonshot.ai/docs: beside prompt_tokens
    *("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cacheReadInputTokens"),
    *("cachedContentTokenCount", "cache_n", "cached_input_tokens", "cached_prompt_tokens", "num_cached_tokens"),
    # https://reference.langchain.com/python/langchain-core/messages/ai/InputTokenDetails
    *("cache_read_tokens", "cache_read"),
)
_REASONING = ("reasoning_tokens", "thoughtsTokenCount")
_BESIDE = {
    # https://docs.claude.com/en/docs/build-with-claude/prompt-caching: the whole input is the sum of the three
    "input_tokens": ("cache_read_input_tokens", "cache_creation_input_tokens"),
    "inputTokens": ("cacheReadInputTokens", "cacheWriteInputTokens"),
    "promptTokenCount": ("toolUsePromptTokenCount",),
    "prompt_n": ("cache_n",),
    "candidatesTokenCount": ("thoughtsTokenCount",),
}
"""Counts that a server gives beside the one of this name, not as a part of it. The total, where there is one, decides."""

_DOLLARS = {
    "cost": 1.0,  # https://openrouter.ai/docs/use-cases/usage-accounting
    "estimated_cost": 1.0,  # https://deepinfra.com/docs/openai_api
    "cost_in_usd_ticks": 1e-10,  # https://docs.x.ai/developers/cost-tracking
}
"""The names of a call's cost, and the unit in US dollars."""


class Impossible(ValueError):
    """A figure that cannot be."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What a server reported.

    Attributes:
        total: input and output tokens together, where the server reports nothing else.
        doubt: a figure that cannot be, as the server gave it; None where all can.
    """

    usage: Usage | None = None
    cost: Cost | None = None
    total: int = 0
    doubt: str | None = None

    def updated(self, later: Bill) -> Bill:
        """The sum of two reports of one call. The later one counts: servers report a count as it grows, and some correct it.
        A count that it lacks or has at zero stays, as when one report has the input and the other the output (Anthropic).
        """
        if later == Bill():
            return self
        if later.doubt:
            return replace(self, doubt=later.doubt)
        usage = _updated(self.usage, later.usage) if self.usage and later.usage else later.usage or self.usage
        return Bill(usage, later.cost or self.cost, later.total or self.total)


_PLACES = (
    # A server of this project: all calls of a mixture, where usage may count one of them.
    *(("moa", "usage"), ("moa",)),
    # OpenAI; Cohere, https://docs.cohere.com/reference/chat; Groq
    *(("usage",), ("usage", "tokens"), ("x_groq", "usage")),
    *(("meta", "tokens"), ("meta", "billed_units")),  # Cohere's older API
    *(("usageMetadata",), ("usage_metadata",)),  # Gemini
    ("amazon-bedrock-invocationMetrics",),
    ("timings",),  # llama.cpp
)
_PLACES_IN_CHOICE = (("usage",), ("message", "usage"), ("delta", "usage"))  # Moonshot
_COUNTS_OF_CHUNK = ("prompt_eval_count", "eval_count")  # Ollama

_FIRST = frozenset(names[0] for names in _PLACES) | frozenset(_COUNTS_OF_CHUNK)
_FIRST_IN_CHOICE = frozenset(names[0] for names in _PLACES_IN_CHOICE)


def bill_in(chunk: Mapping[str, Any], choice: Mapping[str, Any]) -> Bill:
    """What a chunk reports: the counts and the cost of the first place that has them."""
    if _FIRST.isdisjoint(chunk) and _FIRST_IN_CHOICE.isdisjoint(choice):
        return Bill()
    places = [_at(chunk, names) for names in _PLACES] + [_at(choice, names) for names in _PLACES_IN_CHOICE]
    if any(name in chunk for name in _COUNTS_OF_CHUNK):
        places.append(chunk)
    bills = [bill_of(place) for place in places if place]
    counted = next((bill for bill in bills if bill.usage or bill.doubt), Bill())
    total = next((bill.total for bill in bills if bill.total), 0)
    cost = next((bill.cost for bill in bills if bill.cost), None)
    return counted if counted.doubt else Bill(counted.usage, cost, total)


def bill_of(reported: Mapping[str, Any]) -> Bill:
    """A server's counts and its cost."""
    try:
        usage = _usage(reported)
        return Bill(usage, _cost(reported), 0 if usage else _count(_TOTAL, reported)[1])
    except Impossible as error:
        return Bill(cost=Cost(None), doubt=str(error))


def _usage(reported: Mapping[str, Any]) -> Usage | None:
    of_input, of_output = _details(reported, _INPUT_DETAILS), _details(reported, _OUTPUT_DETAILS)
    input_name, taken = _count(_INPUT, reported)
    output_name, given = _count(_OUTPUT, reported)
    total, cached = _count(_TOTAL, reported)[1], _count(_CACHED, of_input, reported)[1]
    reasoning = _count(_REASONING, of_output, reported)[1]
    if not (taken or given or reasoning):
        return None
    if total != taken + given:
        taken += sum(_count((name,), reported)[1] for name in _BESIDE.get(input_name, ()))
        given += sum(_count((name,), reported)[1] for name in _BESIDE.get(output_name, ()))
    if cached > taken:  # counted beside the rest of the input
        taken += cached
    elif total > taken + given and (taken or given):
        given = total - taken
    if reasoning > given:
        given += reasoning
    return Usage(taken, given, cached, reasoning)


def _updated(usage: Usage, later: Usage) -> Usage:
    return Usage(
        later.input_tokens or usage.input_tokens,
        later.output_tokens or usage.output_tokens,
        later.cached_tokens or usage.cached_tokens,
        later.reasoning_tokens or usage.reasoning_tokens,
    )


def _cost(reported: Mapping[str, Any]) -> Cost | None:
    """The cost in US dollars that the server reports. With the caller's own key OpenRouter's is its fee, to which the
    provider's price is added; None where that is missing, since a fee alone is not the cost.
    """
    dollars = next((found for name in _DOLLARS if (found := _dollars(reported, name)) is not None), None)
    if (at_least := reported.get("cost_is_at_least")) is not None:  # a server of this project
        return Cost(dollars, at_least is True)
    if dollars is not None and reported.get("is_byok") is True:
        details = reported.get("cost_details")
        upstream = _dollars(details, "upstream_inference_cost") if isinstance(details, Mapping) else None
        return None if upstream is None else Cost(dollars + upstream)
    return None if dollars is None else Cost(dollars)


def _dollars(reported: Mapping[str, Any], name: str) -> float | None:
    dollars = _number(reported.get(name))
    if dollars is None:
        return None
    dollars *= _DOLLARS.get(name, 1.0)
    if not 0 <= dollars <= MOST_DOLLARS:
        raise Impossible(f"{name} {_shown(dollars)}")
    return float(dollars)


def _at(place: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any] | None:
    for name in names:
        found = place.get(name)
        if not isinstance(found, Mapping):
            return None
        place = found
    return place


def _details(reported: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    return next((reported[name] for name in names if isinstance(reported.get(name), Mapping)), {})


def _count(names: tuple[str, ...], *places: Mapping[str, Any]) -> tuple[str, int]:
    """The first of these names with a count above zero, and the count."""
    return next((count for place in places for count in _counts(names, place) if count[1]), ("", 0))


def _counts(names: tuple[str, ...], place: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name in names:
        count = _number(place.get(name))
        if count is None:
            continue
        if not 0 <= count <= MOST_TOKENS or (isinstance(count, float) and not math.isfinite(count)):
            raise Impossible(f"{name} {_shown(count)}")
        yield name, int(count)


def _number(value: object) -> float | int | None:
    """A number, or one written as a string."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value


def _shown(figure: float) -> str:
    return f"{figure:.6g}" if isinstance(figure, float) or abs(figure) < 10**300 else "beyond 10^300"


def finite(value: Any) -> Any:
    """A JSON value without NaN and Infinity, which JSON does not know. A log probability of minus infinity is -9999, as in
    OpenAI's API; the others are null.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return -9999.0 if value == -math.inf else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value
