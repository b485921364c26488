"""A moa.toml on a scripted server, for all tests of commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.upstream import Upstream, say

TOML = """
default = "duo"

[endpoints.up]
base_url = "{base_url}"
attempts = 1

[endpoints.dead]
base_url = "http://127.0.0.1:9/v1"
attempts = 1

[mixtures.duo]
description = "two and one"
layers = [["up/ann", "up/bob"]]
aggregator = "up/boss"

[mixtures.pick]
layers = [["up/ann", "up/bob"]]
aggregator = "up/boss"
aggregate = "central"

[mixtures.tower]
layers = [["up/ann", {{ model = "up/bob", persona = "You are brief.", temperature = 0.2 }}], ["up/ann"]]
aggregator = {{ model = "up/boss", fallbacks = ["up/bob"] }}
deadline = 30

[mixtures.ill]
layers = [["groq/llama", "up/anne", "up/bob", "dead/x"]]
aggregator = "up/boss"

[mixtures.keyless]
layers = [["up/ann", "groq/llama"]]
aggregator = "up/boss"

[mixtures.lonely]
layers = [["dead/ann"]]
aggregator = "dead/boss"

[prices."up/*"]
input = 100
output = 100
"""


@pytest.fixture
def config(upstream: Upstream, tmp_path: Path) -> str:
    """A moa.toml with a few mixtures on the scripted server, whose models answer well."""
    upstream.script("ann", say("Ann thinks four."))
    upstream.script("bob", say("Bob thinks five."))
    upstream.script("boss", say("It is **four**."))
    path = tmp_path / "moa.toml"
    path.write_text(TOML.format(base_url=upstream.base_url))
    return str(path)
