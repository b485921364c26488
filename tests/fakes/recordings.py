"""Published model outputs, for tests that replay real answers. They lie in ``MOA_DATA``, or in ``../shared/data``."""

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
    not ALPACA_EVAL_OUTPUTS.is_dir(), reason=f"no recorded outputs in {DATA}; set MOA_DATA to where they are"
)


@cache
def alpaca_eval_instructions() -> dict[int, str]:
    """The 805 instructions of AlpacaEval, by index."""
    with (DATA / "alpaca_eval" / "instructions.jsonl").open(encoding="utf-8") as lines:
        return {row["index"]: row["instruction"] for row in map(json.loads, lines)}


def alpaca_eval_outputs(system: str) -> dict[str, str]:
    """What a system answered on AlpacaEval, by instruction. ``system`` is a file's name: ``Qwen1.5-110B-Chat``, …"""
    instructions = alpaca_eval_instructions()
    with gzip.open(ALPACA_EVAL_OUTPUTS / f"{system}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {instructions[row["index"]]: row["output"] for row in map(json.loads, lines)}


def recorded_on_alpaca_eval(system: str, *, tokens_per_second: float | None = None) -> Recorded:
    """A model that answers AlpacaEval's instructions as this system did, named ``recorded/<system>``."""
    return Recorded(alpaca_eval_outputs(system), name=f"recorded/{system}", tokens_per_second=tokens_per_second)
