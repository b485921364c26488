"""How ``auto`` chooses a mixture: from moa.toml, from the API keys that are set, from model servers on this machine."""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from moa.config.presets import preset
from moa.models.providers import PROVIDERS

OWNER = "mixture-of-agents"
"""The ``owned_by`` of every model that our own server lists."""

_OTHER_KINDS = re.compile(
    r"embed|rerank|minilm|paraphrase|(?:^|[/_-])(?:bge|e5|gte|sfr|labse|clip|whisper|tts|stt|bert)(?:[-_:.\d]|$)"
    r"|mpnet|nomic-bert|modernbert|roberta|colbert|sentence-t|uae-large",
    re.IGNORECASE,
)
"""Names of models that embed, rank or transcribe: lists of models do not give their kind."""

SERVER_TIMEOUT = 0.3
"""Seconds that a model server on this machine has to list its models."""


@dataclass(frozen=True, slots=True)
class AutoChoice:
    """What ``auto`` stands for: the ``mixture`` of that name, or, if the name is ``auto``, this ``table``; and ``why``."""

    mixture: str
    why: str
    table: Mapping[str, Any] = field(default_factory=dict)


def choose(
    *, mixtures: Sequence[str] = (), path: Path | None = None, environ: Mapping[str, str] = os.environ
) -> AutoChoice:
    """What ``auto`` stands for. The first of these that exists:

    1. the first mixture of moa.toml,
    2. a mixture of the first provider in ``presets/auto.toml`` whose API key is set,
    3. a mixture of the models that a model server on this machine offers,
    4. the preset ``local``: embedded models.

    Args:
        mixtures: the names of the file's mixtures.
        path: the file.
        environ: where API keys and the addresses of model servers are looked up.
    """
    if mixtures:
        return AutoChoice(mixtures[0], f"the first mixture of {path}")
    for provider, table in preset("auto").items():
        known = PROVIDERS[provider]
        if variable := known.auto_is_set(environ):
            return AutoChoice("auto", f"{variable} is set: models of {known.label}", table)
    for server in PROVIDERS.values():
        if server.local and (models := _models_of(server.url(environ))):
            table = mixture_of([f"{server.name}/{model}" for model in models])
            return AutoChoice("auto", f"{server.label} runs on this machine: {', '.join(models[:3])}", table)
    return AutoChoice("local", "no moa.toml, API key or model server found: embedded models on this machine")


def mixture_of(models: Sequence[str]) -> dict[str, Any]:
    """A mixture of the models that a server offers: three different ones, or three samples of the only one."""
    proposers = list(models[:3]) if len(models) > 1 else [models[0]] * 3
    aggregator = {"model": models[0], "fallbacks": list(models[1:3])} if len(models) > 1 else models[0]
    return {"description": "what the server has", "layers": [proposers], "aggregator": aggregator}


def _models_of(base_url: str) -> list[str]:
    """The chat models that a server on this machine offers; none if it does not respond in time."""
    parts = urlsplit(base_url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=SERVER_TIMEOUT)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/models")
        answer = json.loads(connection.getresponse().read(1 << 20))
        if any(model.get("owned_by") == OWNER for model in answer["data"]):
            return []  # our own server: a mixture that picked it as a member could end up calling itself
        return [name for model in answer["data"] if not _OTHER_KINDS.search(name := str(model["id"]))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, http.client.HTTPException):
        return []
    finally:
        connection.close()
