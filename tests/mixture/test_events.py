from __future__ import annotations

import pytest

from moa import Delta, Mixture, Scripted
from moa.mixture.events import AgentSaid

pytestmark = pytest.mark.anyio


async def test_words_name_the_role_of_their_agent() -> None:
    """Text with the role aggregator is the answer's: no reader has to find where the answer starts."""
    mixture = Mixture([[Scripted("one", name="s/p")]], Scripted("two", name="s/l"))
    events = [event async for event in mixture.run("Why?")]
    roles = {event.delta.text: event.role for event in events if isinstance(event, AgentSaid)}
    assert roles == {"one": "proposer", "two": "aggregator"}


async def test_a_ranker_is_no_proposer_and_no_aggregator() -> None:
    """The words of a ranker are neither a proposal nor the answer."""
    mixture = Mixture([[Scripted("one", name="s/p")]], Scripted("1", name="s/l"), aggregate="select")
    events = [event async for event in mixture.run("Why?")]
    assert [event.role for event in events if isinstance(event, AgentSaid)] == ["proposer", "ranker"]


def test_a_delta_that_only_counts_does_not_speak() -> None:
    """Bookkeeping is not a word of the answer."""
    assert not Delta(finish_reason="stop").speaks
    assert not Delta(extra={"logprobs": {}}).speaks
