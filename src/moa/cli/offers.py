"""Which models each server offers, or why it offers none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from moa.cli.terminal import notify, one_line, screen, write
from moa.config.config import Config
from moa.errors import KeyMissing, MoaError, UnknownName
from moa.models.plugins import plugin_names
from moa.models.providers import PROVIDERS
from moa.models.weights import available

TIMEOUT = 6.0
"""Seconds that a server has to list its models."""

SHOWN = 8
"""Models shown per server if all servers are listed."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The models of a server, or in ``missing`` why there are none."""

    provider: str
    models: tuple[str, ...] = ()
    missing: str = ""
    error: MoaError | None = None


async def list_models(provider: str | None, path: str | None) -> int:
    """Print the models of one provider, or of all that respond. Exit code 1 if the one provider has none."""
    async with Config(path) as config:
        if provider is not None and provider not in config.catalog.providers:
            raise UnknownName("provider", provider, config.catalog.providers, "(`moa models` lists them)")
        every = dict.fromkeys([*config.endpoints, *PROVIDERS, *plugin_names()])
        names = [*every] if provider is None else [provider] if provider != "local" else []
        offers = list(await asyncio.gather(*(offer_of(config, name) for name in names)))
    if provider in (None, "local"):
        offers.insert(0, _embedded())
    if sys.stdout.isatty():
        _draw(offers, all_models=provider is not None)
    else:
        _print_lines(offers, one_provider=provider is not None)
    if provider is not None and offers[0].error is not None:
        raise offers[0].error
    return int(provider is not None and bool(offers[0].missing))


async def offer_of(config: Config, provider: str) -> Offer:
    """Ask a server for its models, with a timeout."""
    known = PROVIDERS.get(provider)
    local = bool(known and known.local)
    if config.catalog.is_made(provider):
        return Offer(provider, missing="Python code makes its models: it has no list")
    try:
        endpoint = config.catalog.endpoint(provider)
        async with asyncio.timeout(TIMEOUT):
            return Offer(provider, tuple(await endpoint.models()))
    except TimeoutError:
        return Offer(provider, missing=f"no response within {TIMEOUT:g} s")
    except KeyMissing as error:
        return Offer(provider, missing=f"set {error.variable}", error=error)
    except MoaError as error:
        where = f" at {known.url()}" if known and local else ""
        return Offer(provider, missing=f"not running{where}" if local else str(error), error=error)


def _embedded() -> Offer:
    """The weights on this machine, with their sizes on a terminal."""
    weights = available()
    if not weights:
        return Offer("local", missing="no weights found; set MOA_MODELS to a folder of .gguf files")
    with_size = sys.stdout.isatty()
    return Offer("local", tuple(f"{w.name} ({w.bytes / 1e9:.1f} GB)" if with_size else w.name for w in weights))


def _print_lines(offers: Sequence[Offer], *, one_provider: bool) -> None:
    for offer in offers:
        for model in offer.models:
            write(f"{offer.provider}/{one_line(model)}")
    missing = [offer.provider for offer in offers if offer.missing]
    if missing and not one_provider:
        notify(f"not available: {', '.join(missing)}; `moa models PROVIDER` shows why")


def _draw(offers: Sequence[Offer], *, all_models: bool) -> None:
    from rich.columns import Columns
    from rich.padding import Padding
    from rich.text import Text

    console = screen()
    for offer in offers:
        if not offer.models:
            continue
        some = offer.models if all_models else offer.models[:SHOWN]
        count = "" if len(offer.models) == 1 else f"  {len(offer.models)} models"
        console.print(Text(offer.provider, "bold").append(count, "not bold dim"))
        cells = [Text(f"{offer.provider}/{one_line(model)}") for model in some]
        if len(some) < len(offer.models):
            cells.append(Text(f"… +{len(offer.models) - len(some)}: moa models {offer.provider}", "dim"))
        console.print(Padding(Columns(cells, padding=(0, 3), column_first=True), (0, 0, 1, 2)))
    missing = [offer for offer in offers if not offer.models]
    if missing and not all_models:
        console.print(Text("not available", "bold"))
        width = max(len(offer.provider) for offer in missing)
        for offer in missing:
            reason = one_line(offer.missing or "offers no models")
            console.print(Text(f"  {offer.provider:<{width}}   ").append(reason, "dim"))
