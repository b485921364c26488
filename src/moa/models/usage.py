"""What a server counts: tokens and money, from the names and places that servers use.

Notable decisions:
- Counts that are all zero are none. Counts that cannot be (negative, not a number, beyond 10^12) are not believed: the
  answer stands, and its usage is estimated, its cost unknown.
- Reasoning may be counted inside the output (OpenAI) or beside it (xAI, Vertex); the total shows which.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moa.answers import Cost, Usage

MOST_TOKENS = 10**12
MOST_DOLLARS = 1e6

_INPUT = ("prompt_tokens", "input_tokens", "promptTokens", "promptTokenCount", "prompt_n")
_OUTPUT = ("completion_tokens", "output_tokens", "completionTokens", "candidatesTokenCount", "predicted_n")
_TOTAL = ("total_tokens", "totalTokens", "totalTokenCount")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
_CACHED = (
    # https://api-docs.deepseek.com/guides/kv_cache; https://platform.moonshot.ai/docs: beside prompt_tokens
    *("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cachedContentTokenCount"),
)
_REASONING = ("reasoning_tokens", "thoughtsTokenCount")


class Impossible(ValueError):
    """A figure that cannot be."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What a server reported. ``doubt`` is a figure that cannot be, as the server gave it; None where all can."""

    usage: Usage | None = None
    cost: Cost | None = None
    doubt: str | None = None


def usage_in(chunk: Mapping[str, Any], choice: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The object that holds a chunk's counts, wherever it is: in the chunk, in the choice (Moonshot), in ``x_groq``, as
    Gemini's ``usageMetadata``, or llama.cpp's ``timings``.
    """
    vendor = chunk.get("x_groq")
    places = (
        *(chunk.get("usage"), choice.get("usage"), vendor.get("usage") if isinstance(vendor, Mapping) else None),
        *(chunk.get("usageMetadata"), chunk.get("usage_metadata"), chunk.get("timings")),
    )
    return next((place for place in places if isinstance(place, Mapping) and place), None)


def bill_of(reported: Mapping[str, Any]) -> Bill:
    """A server's counts and its cost, https://platform.openai.com/docs/api-reference/chat/object (``usage``)."""
    try:
        return Bill(_usage(reported), _cost(reported))
    except Impossible as error:
        return Bill(cost=Cost(None), doubt=str(error))


def _usage(reported: Mapping[str, Any]) -> Usage | None:
    of_input, of_output = _details(reported, _INPUT_DETAILS), _details(reported, _OUTPUT_DETAILS)
    taken, given = _count(_INPUT, reported), _count(_OUTPUT, reported)
    cached, reasoning = _count(_CACHED, of_input, reported), _count(_REASONING, of_output, reported)
    beside = _count(_TOTAL, reported) - taken - given
    if not (taken or given or reasoning):
        return None
    if cached > taken:  # counted beside the rest of the input
        taken += cached
    elif beside > 0:
        given += beside
    if reasoning > given:
        given += reasoning
    return Usage(taken, given, cached, reasoning)


def _cost(reported: Mapping[str, Any]) -> Cost | None:
    """The cost in US dollars that OpenRouter reports; with the caller's own key, its fee and the provider's price.

    https://openrouter.ai/docs/use-cases/usage-accounting
    """
    dollars = _dollars(reported, "cost")
    details = reported.get("cost_details")
    if dollars is not None and reported.get("is_byok") is True and isinstance(details, Mapping):
        dollars += _dollars(details, "upstream_inference_cost") or 0.0
    return None if dollars is None else Cost(dollars)


def _dollars(reported: Mapping[str, Any], name: str) -> float | None:
    dollars = reported.get(name)
    if isinstance(dollars, bool) or not isinstance(dollars, int | float):
        return None
    if not 0 <= dollars <= MOST_DOLLARS:
        raise Impossible(f"{name} {_shown(dollars)}")
    return float(dollars)


def _details(reported: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    return next((reported[name] for name in names if isinstance(reported.get(name), Mapping)), {})


def _count(names: tuple[str, ...], *places: Mapping[str, Any]) -> int:
    """The first count above zero that one of these names has."""
    return next((count for place in places for count in _counts(names, place) if count), 0)


def _counts(names: tuple[str, ...], place: Mapping[str, Any]) -> Iterator[int]:
    for name in names:
        count = place.get(name)
        if isinstance(count, str):
            count = float(count) if count.strip().replace(".", "", 1).isdecimal() else None
        if isinstance(count, bool) or not isinstance(count, int | float):
            continue
        if not 0 <= count <= MOST_TOKENS or (isinstance(count, float) and not math.isfinite(count)):
            raise Impossible(f"{name} {_shown(count)}")
        yield int(count)


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
    if isinstance(value, list):
        return [finite(each) for each in value]
    return value
