"""An analysis in a server's stream: reasoning under a heading, which a client may send back."""

from __future__ import annotations

import json

import pytest

from moa import Mixture, Request, Scripted
from moa.mixture.aggregation import Synthesize
from moa.server.choices import Choice
from moa.server.progress import Progress, without_progress

pytestmark = pytest.mark.anyio

NOTED = json.dumps({"blind_spots": ["nobody says when"]})


async def test_an_analysis_is_reasoning_and_what_the_aggregator_thinks_is_found_again() -> None:
    """It comes before the answer's words; sent back, the conversation keeps what the aggregator thought itself."""
    last = Scripted([NOTED, Scripted("merged", reasoning="Hm.")], name="x/last")
    mixture = Mixture([[Scripted("one", name="x/a")]], last, aggregate=Synthesize(analysis=True))
    request = Request({"messages": [{"role": "user", "content": "Why?"}]})
    choice = Choice(mixture, request, lambda answer, outcome, span: None)
    deltas = [delta async for step in choice.steps() for delta in step.deltas]
    reasoning = "".join(delta.reasoning for delta in deltas)
    assert "".join(delta.text for delta in deltas) == choice.answer.text == "merged"
    assert reasoning == choice.answer.reasoning
    assert "nobody says when" in reasoning
    assert without_progress(reasoning) == "Hm."


async def test_progress_ends_where_the_analysis_begins() -> None:
    """With progress, proposals come first, the analysis's JSON is never shown, and its points are."""
    last = Scripted([NOTED, "merged"], name="x/last")
    mixture = Mixture([[Scripted("one", name="x/a")]], last, aggregate=Synthesize(analysis=True), progress=True)
    progress, shown = Progress(), ""
    async for event in mixture.run("Why?"):
        shown += progress.add(event)
    assert "one" in shown
    assert "blind_spots" not in shown
