"""``moa show`` draws every setting that changes what happens, with its unit."""

from __future__ import annotations

import pytest

from moa.cli.drawing import drawing
from moa.config.listing import Listed
from moa.config.tables import MixtureTable


def settings(**fields: object) -> dict[str, str]:
    """The settings below the drawing of a mixture with these fields, by name."""
    table = MixtureTable.model_validate({"layers": [["x/a", "x/b"]], "aggregator": "x/c", **fields})
    lines = [line for _, line in drawing(Listed.of("m", table, "preset"), 200)]
    rows = lines[lines.index("answer") + 2 :]
    return {row.split()[0]: row[14:].strip() for row in rows}


def test_defaults_are_drawn() -> None:
    """Fields that are not set are drawn with their default and what it means."""
    assert settings() == {
        "aggregate": "synthesize (the aggregator writes the answer from the proposals)",
        "when": "always",
        "references": "after the last user message",
        "schedule": "barrier",
        "exact": "no",
        "min_proposals": "1 per layer",
        "fanout": "turn (proposers answer each user message once; tool calls reuse their proposals)",
        "progress": "no",
        "deadline": "none",
        "max_cost": "none",
    }


def test_the_places_of_the_text_are_drawn() -> None:
    """The last line says where the text goes, and whether the mixture keeps it on this machine."""
    table = MixtureTable.model_validate({"layers": [["ollama/a"]], "aggregator": "vllm/b", "local_only": True})
    lines = [line for _, line in drawing(Listed.of("m", table, "preset"), 200, ["this machine"])]
    assert lines[-1] == "text goes to     this machine (local_only)"


@pytest.mark.parametrize(
    ("schedule", "drawn"),
    [
        ({"kind": "barrier", "warm": True}, "barrier: warm yes"),
        (
            {"kind": "quorum", "usable": 2, "grace": 1.5, "require": ["a"], "hedge": 3.0},
            "quorum: usable 2, grace 1.5 s, require a, hedge 3 s",
        ),
        (
            {"kind": "staircase", "early_exit": 0.8},
            "staircase: chunks 32/128/384 tokens, quorum 0.5, early_exit 0.8, exit_with central",
        ),
    ],
)
def test_a_schedule_is_drawn_with_its_fields(schedule: dict[str, object], drawn: str) -> None:
    """Fields without an effect are left out; durations are in seconds, chunks in tokens."""
    assert settings(schedule=schedule)["schedule"] == drawn


def test_two_mixtures_that_differ_look_different() -> None:
    """Each of these fields changes its row, and no other row."""
    before = settings()
    for name, value in (
        ("exact", True),
        ("progress", True),
        ("fanout", "every"),
        ("deadline", 30.0),
        ("max_cost", 0.1),
    ):
        after = settings(**{name: value})
        assert [row for row in after if after[row] != before[row]] == [name]
