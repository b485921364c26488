"""Questions, models that know a part of the answers, and a configuration: what tests of a search need.

Each model answers on a real socket. Whether it is right about a question is a function of its number, so each test knows the
scores: ``steady`` is right where the number is not divisible by 3, ``odd`` on odd numbers, ``weak`` on multiples of 5. The
aggregator ``writer`` is right wherever one of the answers that it reads is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.fakes.upstream import Script, Upstream, refuse, say

KNOWS: Mapping[str, Callable[[int], bool]] = {
    "steady": lambda number: number % 3 != 0,
    "odd": lambda number: number % 2 == 1,
    "weak": lambda number: number % 5 == 0,
}

CONFIG = """
[endpoints.up]
base_url = "{base_url}"
attempts = 1

[prices]
"up/steady" = {{ input = 10.0, output = 100.0 }}
"up/odd" = {{ input = 10.0, output = 100.0 }}
"up/weak" = {{ input = 1.0, output = 10.0 }}
"up/writer" = {{ input = 10.0, output = 100.0 }}
"up/broken" = {{ input = 1.0, output = 1.0 }}
"""


def questions(path: Path, count: int, first: int = 1) -> Path:
    """A file of so many questions, each answered by a number."""
    rows = (
        {"id": f"q/{n}", "question": f"What is {n} + 1000?", "answer": str(n + 1000)}
        for n in range(first, first + count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(folder: Path, upstream: Upstream, more: str = "") -> str:
    """The path of a moa.toml with the upstream's models."""
    path = folder / "moa.toml"
    path.write_text(CONFIG.format(base_url=upstream.base_url) + more)
    return str(path)


def answering(upstream: Upstream) -> None:
    """Give every model its script."""
    for name, knows in KNOWS.items():
        upstream.script(name, _member(knows))
    upstream.script("writer", _writer)
    upstream.script("broken", refuse(401, "no such key"))


def _member(knows: Callable[[int], bool]) -> Callable[[Mapping[str, Any]], Script]:
    def answer(body: Mapping[str, Any]) -> Script:
        number = asked(body)
        return say(f"Answer: {number + 1000 if knows(number) else number}", tokens=(10, 10))

    return answer


def _writer(body: Mapping[str, Any]) -> Script:
    number = asked(body)
    read = json.dumps(body["messages"])
    right = f"Answer: {number + 1000}" in read
    return say(f"Answer: {number + 1000 if right else number}", tokens=(50, 10))


def asked(body: Mapping[str, Any]) -> int:
    """The number in the question of a request."""
    found = re.search(r"What is (\d+) \+ 1000", json.dumps(body["messages"]))
    assert found
    return int(found[1])
