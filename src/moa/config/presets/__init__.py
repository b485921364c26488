"""The mixtures that ship, as TOML files in this folder."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

PRESETS = (
    *("auto", "local", "local-mix", "open", "makers", "self", "self-deep", "rsa"),
    *("paper", "paper-lite", "paper-gpt4o"),
)
"""The names of the presets, in the order in which they are listed."""

MERGES_FROM = 900_000_000
"""Bytes of weights from which a model can merge proposals: about 1.5 billion parameters at four bits each."""


def preset(name: str) -> dict[str, Any]:
    """The table of a preset; of ``auto``, one table per provider; of ``local``, the one that suits the available weights."""
    if name == "local":
        from moa.models.gguf import can_chat
        from moa.models.weights import available

        large = (weights for weights in reversed(available()) if weights.bytes >= MERGES_FROM)
        if largest := next((weights for weights in large if can_chat(weights.path)), None):
            return tomllib.loads(_text("local-large").replace("local/BEST", f"local/{largest.name}"))
    return tomllib.loads(_text(name))


@cache
def _text(name: str) -> str:
    return (files(__package__) / f"{name}.toml").read_text(encoding="utf-8")
