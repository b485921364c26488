"""Mixture-of-Agents: several language models answer together, layer by layer, as one model (arXiv 2406.04692).

The names here are the whole public face; everything is imported on first use, so ``import moa`` does no work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moa.attribution.shares import attribution_of as attribution_of
    from moa.config.config import Config as Config
    from moa.errors import MoaError as MoaError
    from moa.messages import Answer as Answer
    from moa.messages import Call as Call
    from moa.messages import Cost as Cost
    from moa.messages import Delta as Delta
    from moa.messages import Reference as Reference
    from moa.messages import Request as Request
    from moa.messages import Usage as Usage
    from moa.messages import text_of as text_of
    from moa.messages import with_text as with_text
    from moa.mixture.agent import Agent as Agent
    from moa.mixture.codec import as_json as as_json
    from moa.mixture.fold import fold as fold
    from moa.mixture.mixture import Mixture as Mixture
    from moa.mixture.run import Run as Run
    from moa.mixture.schedules.barrier import Barrier as Barrier
    from moa.mixture.schedules.early_exit import EarlyExit as EarlyExit
    from moa.mixture.schedules.quorum import Quorum as Quorum
    from moa.mixture.schedules.staircase import Staircase as Staircase
    from moa.models import Model as Model
    from moa.models.embedded import EmbeddedModel as EmbeddedModel
    from moa.models.endpoint import Endpoint as Endpoint
    from moa.models.function import Function as Function
    from moa.models.real_calls import allow_real_calls as allow_real_calls
    from moa.models.real_calls import forbid_real_calls as forbid_real_calls
    from moa.models.recorded import Recorded as Recorded
    from moa.models.scripted import Scripted as Scripted
    from moa.prices import Price as Price
    from moa.prices import Prices as Prices

_HOME = {
    "Agent": "moa.mixture.agent",
    "Answer": "moa.messages",
    "Barrier": "moa.mixture.schedules.barrier",
    "Call": "moa.messages",
    "Config": "moa.config.config",
    "Cost": "moa.messages",
    "Delta": "moa.messages",
    "EarlyExit": "moa.mixture.schedules.early_exit",
    "EmbeddedModel": "moa.models.embedded",
    "Endpoint": "moa.models.endpoint",
    "Function": "moa.models.function",
    "Mixture": "moa.mixture.mixture",
    "MoaError": "moa.errors",
    "Model": "moa.models",
    "Price": "moa.prices",
    "Prices": "moa.prices",
    "Quorum": "moa.mixture.schedules.quorum",
    "Recorded": "moa.models.recorded",
    "Reference": "moa.messages",
    "Request": "moa.messages",
    "Run": "moa.mixture.run",
    "Scripted": "moa.models.scripted",
    "Staircase": "moa.mixture.schedules.staircase",
    "Usage": "moa.messages",
    "allow_real_calls": "moa.models.real_calls",
    "as_json": "moa.mixture.codec",
    "attribution_of": "moa.attribution.shares",
    "fold": "moa.mixture.fold",
    "forbid_real_calls": "moa.models.real_calls",
    "text_of": "moa.messages",
    "with_text": "moa.messages",
}

_MODULES = ("errors", "events", "schedules")
"""Public modules, so that ``moa.errors.RunError`` needs no import of its own."""

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("mixture-of-agents")
    if name in _MODULES:
        return import_module(f"moa.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'moa' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
