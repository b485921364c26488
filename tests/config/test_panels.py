"""When a mixture's proposers are called, and its levels of effort, in a moa.toml."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moa.cli.drawing import drawing
from moa.config.config import Config
from moa.config.export import table_object, toml_of
from moa.config.tables import MixtureTable
from moa.errors import ConfigError

TABLE = """
[mixtures.graded]
layers = [["ollama/a", "ollama/b", "ollama/c"]]
aggregator = "ollama/last"
when = "disagree"
first = 2

[mixtures.graded.effort]
minimal = { model = "ollama/tiny" }
low = { model = { model = "ollama/small", temperature = 0.1 }, reasoning_effort = "none" }
high = { only = ["a", "ollama/b"], samples = 2, rounds = 2, when = "always" }
"""


def config_of(folder: Path, text: str) -> Config:
    path = folder / "moa.toml"
    path.write_text(text)
    return Config(path, environ={})


def test_the_settings_reach_the_mixture(tmp_path: Path) -> None:
    """And the drawing, the list of the models that are called, and where its text goes."""
    config = config_of(tmp_path, TABLE)
    plan = config.mixture("graded").plan
    assert (plan.when, plan.first, [*plan.effort]) == ("disagree", 2, ["minimal", "low", "high"])
    assert plan.effort["low"].model and plan.effort["low"].model.sampling == {"temperature": 0.1}
    assert {"ollama/tiny", "ollama/small"} <= {*config.single_models("graded")}
    drawn = [" ".join(line.split()) for _, line in drawing(config.described("graded"), 200)]
    assert "when disagree (the first 2 proposers, and the others only where those differ)" in drawn
    assert "effort minimal ollama/tiny alone" in drawn
    assert "effort high only a, ollama/b; when always; samples 2; rounds 2" in drawn


def test_a_table_is_written_as_it_was_read(tmp_path: Path) -> None:
    """As a moa.toml, and as JSON."""
    table = config_of(tmp_path, TABLE).table("graded")
    again = config_of(tmp_path, toml_of("graded", table))
    assert again.table("graded") == table
    assert MixtureTable.model_validate(table_object(table)).effort == table.effort
    assert again.mixture("graded").plan.seats == config_of(tmp_path, TABLE).mixture("graded").plan.seats


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('when = "disagree"', 'when = "sometimes"', "mixtures.graded.when"),
        ("first = 2", "first = 1", "mixtures.graded.first"),
        ("first = 2", "first = 3", "first is 3, but the first layer has 3"),
        ('when = "disagree"', "", 'first is 2, which applies to when = "disagree" only'),
        ("high =", "lots =", "mixtures.graded.effort.lots"),
        ("samples = 2", "samples = 0", "mixtures.graded.effort.high.samples"),
        ("samples = 2", "sample = 2", "mixtures.graded.effort.high.sample"),
        ('only = ["a"', 'only = ["x"', "effort.high: no proposer of moa/graded is called 'x'"),
        ('minimal = { model = "ollama/tiny"', 'minimal = { layers = 1, model = "ollama/tiny"', "model answers alone"),
        ('"ollama/tiny"', '"ollamo/tiny"', "did you mean 'ollama'"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    """With its key, when the file is read or the mixture is made."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        config_of(tmp_path, TABLE.replace(old, new)).mixture("graded")


def test_a_model_that_answers_alone_keeps_the_promise_of_local_only(tmp_path: Path) -> None:
    """Its text goes nowhere else either."""
    text = TABLE.replace("first = 2", "first = 2\nlocal_only = true").replace("ollama/tiny", "groq/x")
    with pytest.raises(ConfigError, match="local_only, but the text of groq/x goes to"):
        config_of(tmp_path, text).mixture("graded")
