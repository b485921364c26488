"""Published model outputs, for tests that replay real answers. ``MOA_DATA`` names their folder."""

from __future__ import annotations

import gzip
import json
import os
from functools import cache
from pathlib import Path

import pytest

from moa.models.recorded import Recorded

DATA = Path(os.environ.get("MOA_DATA") or Path(__file__).parents[3] / "shared" / "data")

ALPACA_EVAL_OUTPUTS = DATA / "alpaca_eval" / "outputs"

needs_recordings = pytest.mark.skipif(
    not ALPACA_EVAL_OUTPUTS.is_dir(), reason=f"no recorded outputs in {DATA}; set MOA_DATA to their folder"
)


@cache
def alpaca_eval_instructions() -> dict[int, str]:
    """The 805 instructions of AlpacaEval, by index."""
    with (DATA / "alpaca_eval" / "instructions.jsonl").open(encoding="utf-8") as lines:
        return {row["index"]: row["instruction"] for row in map(json.loads, lines)}


def alpaca_eval_outputs(system: str) -> dict[str, str]:
    """The answers of a system on AlpacaEval, by instruction. ``system`` is the name of a file: ``Qwen1.5-110B-Chat``, …"""
    instructions = alpaca_eval_instructions()
    with gzip.open(ALPACA_EVAL_OUTPUTS / f"{system}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {instructions[row["index"]]: row["output"] for row in map(json.loads, lines)}


def recorded_on_alpaca_eval(system: str, *, tokens_per_second: float | None = None) -> Recorded:
    """A model with the recorded answers of this system, named ``recorded/<system>``."""
    return Recorded(alpaca_eval_outputs(system), name=f"recorded/{system}", tokens_per_second=tokens_per_second)
