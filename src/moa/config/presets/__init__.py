"""Mixtures that ship, as TOML files beside this one, and how ``auto`` and ``local`` choose among them."""

from __future__ import annotations

import http.client
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from moa.models.providers import PROVIDERS

SHOWN = ("auto", "local", "local-mix", "open", "self", "paper", "paper-lite", "paper-gpt4o")

OURSELVES = "mixture-of-agents"
"""What our own server says in ``owned_by`` of each model."""

WRITES_WELL = 900_000_000
"""Bytes of weights from which a model can merge proposals: about 1.5 billion parameters in four bits each."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What ``auto`` stands for: the ``mixture`` of that name, or, if it is ``auto``, this ``table``; and ``why``."""

    mixture: str
    why: str
    table: Mapping[str, Any] = field(default_factory=dict)


def preset_names() -> list[str]:
    """The presets, in the order they are shown."""
    return [*SHOWN]


def preset(name: str) -> dict[str, Any]:
    """The table of a preset; of ``local``, the one that serves best with the weights at hand."""
    if name == "local":
        from moa.models.weights import at_hand

        largest = max(at_hand(), key=lambda weights: weights.bytes, default=None)
        if largest and largest.bytes >= WRITES_WELL:
            return tomllib.loads(_text("local-large").replace("local/BEST", f"local/{largest.name}"))
    return tomllib.loads(_text(name))


@cache
def _text(name: str) -> str:
    return (files(__package__) / f"{name}.toml").read_text(encoding="utf-8")


def choose(
    *, mixtures: Sequence[str] = (), path: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Choice:
    """What ``auto`` stands for: a mixture of ``moa.toml``, else of a provider whose key is set, else of a model server
    that runs on this machine, else of embedded models."""
    if mixtures:
        return Choice(mixtures[0], f"the first mixture of {path}")
    for provider, table in tomllib.loads(_text("auto")).items():
        known = PROVIDERS[provider]
        if known.key_variable and environ.get(known.key_variable, "").strip():
            return Choice("auto", f"{known.key_variable} is set: models of {known.label}", table)
    for server in PROVIDERS.values():
        if server.local and (models := _served(server.url(environ))):
            table = of_models([f"{server.name}/{model}" for model in models])
            return Choice("auto", f"{server.label} runs on this machine: {', '.join(models[:3])}", table)
    why = "no moa.toml, no provider's key and no model server found: embedded models on this machine"
    return Choice("local", why)


def of_models(names: Sequence[str]) -> dict[str, Any]:
    """A mixture of whatever a server has: three different models, or three samples of the only one."""
    proposers = list(names[:3]) if len(names) > 1 else [names[0]] * 3
    return {"description": "what the server has", "layers": [proposers], "aggregator": names[0]}


def _served(base_url: str) -> list[str]:
    """The chat models a server on this machine offers; none if nothing answers there within a third of a second."""
    parts = urlsplit(base_url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=0.3)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/models")
        answer = json.loads(connection.getresponse().read(1 << 20))
        if any(model.get("owned_by") == OURSELVES for model in answer["data"]):
            return []  # a mixture asked to be a member of another by chance would ask itself
        return [str(model["id"]) for model in answer["data"] if "embed" not in str(model["id"]).lower()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, http.client.HTTPException):
        return []
    finally:
        connection.close()
