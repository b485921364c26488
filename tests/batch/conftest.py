"""Jobs on scripted models, in a folder of the test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from moa.batch.job import Job, Options
from moa.batch.pace import Paces
from moa.messages import Request, text_of
from moa.mixture.mixture import Mixture
from moa.models import Model
from moa.models.scripted import Scripted
from moa.prices import Price, Prices

DEAR = Prices({"*": Price(1_000_000, 1_000_000)}, free=frozenset())
"""A dollar a token."""


def echo(request: Request) -> str:
    return f"echo of {text_of(request.messages[0]).partition(chr(10))[0]}"


def mixture(*proposers: Model, boss: Model | None = None, **settings: Any) -> Mixture:
    layers = [[*proposers]] if proposers else []
    return Mixture(layers, boss or Scripted(echo, name="scripted/boss"), name="test", **settings)


@dataclass
class Bench:
    """A folder with an input file, and jobs on it.

    Attributes:
        out: the output file.
    """

    folder: Path
    out: Path = field(init=False)

    def __post_init__(self) -> None:
        self.out = self.folder / "answers.jsonl"

    def write(self, rows: Sequence[Any], name: str = "rows.jsonl") -> Path:
        path = self.folder / name
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
        return path

    def job(self, model: Mixture, place: Path | str | None = None, out: Path | None = None, **options: Any) -> Job:
        given = str(place or self.folder / "rows.jsonl")
        return Job(given, out or self.out, model, Paces(), Options(**options))

    async def run(self, model: Mixture, place: Path | str | None = None, **options: Any) -> dict[str, Any]:
        with self.job(model, place, **options) as job:
            return await job.run()

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
