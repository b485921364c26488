"""How a vote is drawn."""

from __future__ import annotations

import pytest

from tests.fakes.browser import Window, needs_browser
from tests.fakes.upstream import Upstream, say

pytestmark = [pytest.mark.anyio, needs_browser]


async def test_a_vote_is_drawn_as_a_bar_for_each_answer(page: Window, upstream: Upstream) -> None:
    """The answer that won comes first; each card says what its proposal votes for."""
    for name, text in (("a", "The answer is 41."), ("b", "So 42"), ("c", "**42**")):
        upstream.script(name, say(text))
    await page.ask("What is 6 times 7?", "moa/counted")
    await page.finished()
    assert await page.texts(".votes .voted") == ["42", "41"]
    assert await page.texts(".votes .count") == ["2 votes", "1 vote"]
    assert await page.text(".card:first-of-type .vote") == "Votes for 41"
    assert await page.overflow() == 0
