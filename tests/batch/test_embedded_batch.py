"""The embedded models answer a batch for real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moa.batch.job import Job, Options
from moa.batch.pace import Paces
from moa.config.config import Config

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TOML = """
[mixtures.here]
layers = [[{ model = "local/smollm2", name = "careful", max_tokens = 6 }, { model = "local/smollm2", max_tokens = 6 }]]
aggregator = { model = "local/smollm2", max_tokens = 8 }
"""


async def test_embedded_models_answer_twenty_rows(tmp_path: Path) -> None:
    """Each row has a text that a model on this machine has written, in the order of the input."""
    pytest.importorskip("xllamacpp")
    (tmp_path / "moa.toml").write_text(TOML)
    rows = [{"id": number, "prompt": f"What is {number} and {number}?"} for number in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paces, out = Paces(), tmp_path / "answers.jsonl"
    async with Config(tmp_path / "moa.toml", around=paces.around) as config:
        with Job(str(tmp_path / "rows.jsonl"), out, config.mixture("here"), paces, Options()) as job:
            result = await job.run()
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [each["id"] for each in answers] == list(range(20))
    assert all(each["answer"] and each["usage"]["output_tokens"] for each in answers)
    assert (result["answered"], result["failed"]) == (20, 0)
