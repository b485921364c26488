"""Prices: from tokens to US dollars.

Notable decisions:
- An unknown price stays unknown (``Cost(None)``). It is never 0, and never another seller's price for the same model.
- The price list is the one inside ``genai-prices``: read offline, never updated over the network.
  https://github.com/pydantic/genai-prices
- Sellers are matched by their exact ID. The library's own matching is looser: "my-openai-proxy" would be billed as
  OpenAI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from moa.messages import Cost, Delta, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

FREE_PROVIDERS = frozenset({"local", "ollama", "vllm", "lmstudio", "llamacpp", "sglang", "scripted", "recorded"})
"""Providers that send no bill: the model runs on the user's machine, or is a fake. At an address outside the user's own
network they are not free."""

_BILLED_VARIANTS = {"ollama": re.compile("[:-]cloud$")}
"""Models of a free provider that run elsewhere, by the end of their names: https://docs.ollama.com/cloud"""

LISTED_AS = {
    "bedrock": "aws",
    "fireworks-ai": "fireworks",
    "gemini": "google",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "together-ai": "together",
    "togetherai": "together",
    "vertex": "google",
    "xai": "x-ai",
    "z-ai": "zai",
    "zhipu": "zhipuai",
}
"""Providers whose ID in the price list differs from the name used here."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. ``cached`` is for input read from the provider's cache; None: as other input."""

    input: float
    output: float
    cached: float | None = None

    def of(self, usage: Usage) -> float:
        """The cost of these tokens in US dollars."""
        cached_tokens = min(usage.cached_tokens, usage.input_tokens)
        cached = self.input if self.cached is None else self.cached
        fresh_dollars = (usage.input_tokens - cached_tokens) * self.input
        return (fresh_dollars + cached_tokens * cached + usage.output_tokens * self.output) / 1_000_000


class Prices:
    """The prices of models: the user's overrides, then the list."""

    def __init__(self, overrides: Mapping[str, Price] | None = None, *, free: frozenset[str] = FREE_PROVIDERS) -> None:
        """
        Args:
            overrides: prices that override the list, by ``provider/name``, or by a prefix of it that ends in ``*``
                (``"openrouter/qwen/*"``, ``"work/*"``, ``"*"``). The exact name wins, then the longest prefix.
            free: providers whose calls cost $0.
        """
        self._exact = {name: price for name, price in (overrides or {}).items() if not name.endswith("*")}
        self._prefixes = sorted(
            ((name[:-1], price) for name, price in (overrides or {}).items() if name.endswith("*")),
            key=lambda pair: len(pair[0]),
            reverse=True,
        )
        self._free = free

    def is_listed(self, model_name: str) -> bool:
        """Whether the price of a model comes from the list, so that :meth:`load` saves time later."""
        return self._own(*_seller_and_name(model_name, None)) is None

    def load(self) -> None:
        """Read the price list now, which takes about half a second; otherwise the first lookup does.

        In an event loop, call it as ``await asyncio.to_thread(prices.load)``.
        """
        _list_entry("openai", "gpt-4o")

    def price(
        self,
        model_name: str,
        usage: Usage,
        *,
        provider: str | None = None,
        at: datetime | None = None,
        cache_write_tokens: int = 0,
    ) -> Cost:
        """The cost of one call.

        Args:
            model_name: ``provider/name``, as in :attr:`moa.models.Model.name`.
            usage: the tokens of this one call; the sum of several calls could reach a price tier that none of them reached.
            provider: the seller, where it is not the part before the first ``/``; the whole name is then the seller's
                name of the model.
            at: the time of the call, now by default; some prices depend on the date or the hour.
            cache_write_tokens: input that the seller wrote to its cache, which has a price of its own in the list.

        Returns:
            US dollars; ``Cost(None)`` where no price is known.
        """
        seller, name = _seller_and_name(model_name, provider)
        if own := self._own(seller, name):
            return Cost(own.of(usage))
        listed = _list_entry(seller, name)
        if listed is None:
            return Cost(None)
        info, sold_by = listed
        at = at or datetime.now(UTC)
        if _token_price(info.get_prices(at)) is None:
            return Cost(None)
        from genai_prices import Usage as ListUsage

        tokens = ListUsage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=min(usage.cached_tokens, usage.input_tokens),
            cache_write_tokens=cache_write_tokens,
            output_tokens=usage.output_tokens,
        )
        return Cost(float(info.calc_price(tokens, sold_by, genai_request_timestamp=at).total_price))

    def price_of(self, model_name: str, deltas: Iterable[Delta]) -> Cost:
        """The cost of a call from its deltas, with its attempts: as the model gives it, else by the price of its tokens."""
        usage, own, cost = None, None, Cost()
        for delta in deltas:
            usage, own = delta.usage or usage, delta.cost or own
            if delta.attempt:
                cost += delta.attempt.cost or self.price(model_name, delta.attempt.usage)
        if usage and not own:
            own = self.price(model_name, usage)
        return cost + own if own else cost

    def per_million(self, model_name: str, *, provider: str | None = None, at: datetime | None = None) -> Price | None:
        """The price for an estimate before a call; that of the lowest tier where there are tiers.

        Args:
            model_name, provider, at: as in :meth:`price`.

        Returns:
            None where no price is known.
        """
        seller, name = _seller_and_name(model_name, provider)
        if own := self._own(seller, name):
            return own
        listed = _list_entry(seller, name)
        return _token_price(listed[0].get_prices(at or datetime.now(UTC))) if listed else None

    def _own(self, seller: str, name: str) -> Price | None:
        """The price that needs no list: an override, or 0 for a free provider."""
        whole = f"{seller}/{name}"
        if whole in self._exact:
            return self._exact[whole]
        for prefix, price in self._prefixes:
            if whole.startswith(prefix):
                return price
        # OpenRouter documents these as free: https://openrouter.ai/docs/guides/routing/model-variants/free
        billed = _BILLED_VARIANTS.get(seller)
        if billed and billed.search(name):
            return None
        if seller in self._free or (seller == "openrouter" and name.endswith(":free")):
            return Price(0.0, 0.0)
        return None


def context_window(model_name: str) -> int | None:
    """The tokens of a model's context by the price list; None where it is not there, or the model runs on a server of one's
    own. The first lookup reads the list, which takes about half a second."""
    seller, name = _seller_and_name(model_name, None)
    listed = None if seller in FREE_PROVIDERS else _list_entry(seller, name)
    window: int | None = listed[0].context_window if listed else None
    return window


def _seller_and_name(model_name: str, provider: str | None) -> tuple[str, str]:
    if provider is not None:
        return provider, model_name.removeprefix(f"{provider}/")
    seller, _, name = model_name.partition("/")
    return seller, name


@lru_cache(maxsize=1024)  # a lookup goes through all models of the seller: 0.3 to 0.7 ms
def _list_entry(seller: str, name: str) -> tuple[ModelInfo, Provider] | None:
    """The model and its seller in the price list."""
    from genai_prices.data_snapshot import get_snapshot

    if seller == "vertex":
        name = name.removeprefix("google/")  # its OpenAI-compatible endpoint wants the publisher before the name
    seller = LISTED_AS.get(seller, seller)
    if seller == "huggingface":
        # The router charges the price of the provider in the suffix: https://huggingface.co/docs/inference-providers
        name, _, routed_to = name.partition(":")
        seller = f"huggingface_{routed_to}"
    providers = get_snapshot().providers
    provider = next((provider for provider in providers if provider.id == seller), None)
    info = provider.find_model(name, all_providers=providers) if provider else None
    return (info, provider) if info and provider else None


def _token_price(prices: ModelPrice) -> Price | None:
    """The price of tokens, or None: the list also holds models without a price, and those billed by page or by hour."""

    def dollars(key: str) -> float | None:
        value = getattr(prices, key)
        return None if value is None else float(getattr(value, "base", value))

    fresh, output = dollars("input_mtok"), dollars("output_mtok")
    return None if fresh is None or output is None else Price(fresh, output, dollars("cache_read_mtok"))
