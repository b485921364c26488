"""Embedded models whose llama.cpp is a scripted upstream: all of their code runs, but for the process with the weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from moa.models.weights import Weights
from tests.fakes.upstream import Body, Script, Upstream, done, finish, hang, usage, words

ENDLESS = 1000
"""From this ``max_tokens`` on, an answer does not end."""


def write(body: Body) -> Script:
    """As many words as ``max_tokens``, none twice, the last of which is a number."""
    most = int(body.get("max_tokens", 12))
    text = words(" ".join([f"pear{number:x}" for number in range(min(most, ENDLESS) // 2)] + [str(most)]))
    return text + (hang() if most >= ENDLESS else finish("length") + usage(10, most) + done())


def scripted(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    """Let the upstream be the embedded model ``smollm2``."""

    class Process:
        pid, alive = 0, True

        def __init__(self, settings: dict[str, object]) -> None:
            assert settings["name"] == "smollm2"

        def address(self) -> str:
            return upstream.base_url.removesuffix("/v1")

        def end(self) -> None:
            self.alive = False

    small = Weights("smollm2", Path("smollm2.gguf"), 98_000_000)
    monkeypatch.setattr("moa.models.embedded.LlamaProcess", Process)
    monkeypatch.setattr("moa.models.embedded.find_spec", lambda name: True)
    monkeypatch.setattr("moa.models.weights.find_local", lambda name: small)
    upstream.script("smollm2", write)
