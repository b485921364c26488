from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from moa.messages import Cost, Usage
from moa.prices import LISTED_AS, Price, Prices

MILLION = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
AT = datetime(2025, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["gpt-4o-mini", "gpt-4o-mini-2024-07-18"])
def test_a_known_model_has_its_list_price(name: str) -> None:
    """A model is found in its seller's list, also by a dated name."""
    assert Prices().price(f"openai/{name}", MILLION, at=AT) == Cost(0.75)
    assert Prices().per_million(f"openai/{name}", at=AT) == Price(0.15, 0.6, cached=0.075)


def test_cached_tokens_have_their_own_price() -> None:
    """Input that the provider read from its cache has the cached price, and is never more than the input."""
    cached = Usage(input_tokens=1_000_000, cached_tokens=400_000)
    impossible = Usage(input_tokens=1_000_000, cached_tokens=2_000_000)
    for prices in (Prices(), Prices({"openai/gpt-4o-mini": Price(0.15, 0.6, cached=0.075)})):
        assert prices.price("openai/gpt-4o-mini", cached, at=AT).dollars == pytest.approx(0.6 * 0.15 + 0.4 * 0.075)
        assert prices.price("openai/gpt-4o-mini", impossible, at=AT).dollars == pytest.approx(0.075)
    assert Price(1.0, 2.0).of(cached) == 1.0


@pytest.mark.parametrize(
    "model",
    [
        "anthropic/claude-sonnet-4-5",
        "deepseek/deepseek-chat",
        "fireworks/accounts/fireworks/models/qwen3-235b-a22b",
        "gemini/gemini-2.5-flash",
        "groq/llama-3.3-70b-versatile",
        "mistral/mistral-large-latest",
        "openrouter/qwen/qwen3-max",
        "together/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "xai/grok-4",
    ],
)
def test_sellers_are_found_by_their_own_and_other_ids(model: str) -> None:
    """A model is found also where the list has another ID for its seller."""
    price = Prices().per_million(model)
    assert price is not None
    assert 0 < price.input <= price.output


def test_every_renamed_seller_is_in_the_list() -> None:
    """Every replaced ID maps to an ID that the list has, and is not in the list itself."""
    from genai_prices.data import providers

    listed = {provider.id for provider in providers}
    assert set(LISTED_AS.values()) <= listed
    assert not set(LISTED_AS) & listed


@pytest.mark.parametrize(
    "model",
    [
        "deepinfra/meta-llama/Llama-3.3-70B-Instruct",  # a seller that the list does not have
        "my-openai-proxy/gpt-4o-mini",  # nor is this OpenAI
        "openai/no-such-model",
        "google/gemma-3",  # in the list, without a price
        "huggingface/Qwen/Qwen3-32B",  # the router's choice is not known
        "qwen/qwen3.8-max",
        "nebius/openai/gpt-oss-120b",
        "sambanova/gpt-oss-120b",
        "vercel/openai/gpt-oss-120b",  # nor is it another seller's model of this name
        "nvidia/openai/gpt-oss-120b",
        "gpt-4o-mini",
    ],
)
def test_an_unknown_price_is_unknown(model: str) -> None:
    """Without a known price the cost is unknown: not 0, and not another seller's price."""
    assert Prices().price(model, MILLION) == Cost(None)
    assert Prices().per_million(model) is None
    assert Prices({f"{model.partition('/')[0]}/*": Price(1, 2)}).price(model, MILLION) == Cost(3.0)


@pytest.mark.parametrize("model", ["local/smollm2", "ollama/qwen3", "openrouter/some/new-model:free"])
def test_models_without_a_bill_are_free(model: str) -> None:
    """Models on the user's machine and OpenRouter's free variants have a known cost of $0."""
    assert Prices().price(model, MILLION) == Cost(0.0)


@pytest.mark.parametrize("model", ["ollama/gpt-oss:120b-cloud", "ollama/glm-4.6:cloud"])
def test_a_model_that_a_free_provider_runs_elsewhere_is_not_free(model: str) -> None:
    """Ollama's cloud models are billed by Ollama; an override gives their price."""
    assert Prices().price(model, MILLION) == Cost(None)
    assert Prices({model: Price(1.0, 1.0)}).price(model, MILLION) == Cost(2.0)


def test_free_providers_can_be_chosen() -> None:
    """The caller can choose the set of free providers."""
    prices = Prices(free=frozenset({"campus"}))
    assert prices.price("campus/llama", MILLION) == Cost(0.0)
    assert prices.price("local/llama", MILLION) == Cost(None)


def test_overrides_come_before_the_list() -> None:
    """An exact override wins over a wildcard, a longer wildcard over a shorter one, and any override over the list."""
    prices = Prices(
        {
            "work/*": Price(1, 1),
            "work/qwen/*": Price(2, 2),
            "work/qwen/max": Price(3, 3),
            "openai/gpt-4o-mini": Price(4, 4),
            "local/*": Price(5, 5),
        }
    )
    for model, expected in {
        "work/llama": 1,
        "work/qwen/plus": 2,
        "work/qwen/max": 3,
        "openai/gpt-4o-mini": 4,
        "local/smollm2": 5,
    }.items():
        assert prices.per_million(model) == Price(expected, expected)
        assert prices.price(model, MILLION) == Cost(2.0 * expected)


def test_the_seller_can_be_given_separately() -> None:
    """With ``provider``, the whole name is the seller's name of the model, with or without the provider in front."""
    prices = Prices()
    expected = prices.price("openrouter/qwen/qwen3-max", MILLION, at=AT)
    assert expected.dollars
    assert prices.price("qwen/qwen3-max", MILLION, provider="openrouter", at=AT) == expected
    assert prices.price("openrouter/qwen/qwen3-max", MILLION, provider="openrouter", at=AT) == expected


def test_estimates_use_the_lowest_tier() -> None:
    """Where long prompts cost more, a long call is billed at that tier, and the estimate before it uses the lowest."""
    prices = Prices()
    base = prices.per_million("anthropic/claude-sonnet-4-5", at=AT)
    assert base is not None
    long_call = Usage(input_tokens=500_000)
    billed = prices.price("anthropic/claude-sonnet-4-5", long_call, at=AT).dollars
    assert billed is not None
    assert billed > base.of(long_call)


def test_the_list_is_read_only_when_needed() -> None:
    """Importing the module, and prices that need no list, do not read the list."""
    code = (
        "import sys; from moa.prices import Prices; from moa.messages import Usage; "
        "Prices().price('local/x', Usage()); sys.exit('genai_prices' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
