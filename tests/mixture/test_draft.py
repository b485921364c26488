from __future__ import annotations

import asyncio

import pytest

from moa.messages import Delta
from moa.mixture.draft import Draft

pytestmark = pytest.mark.anyio


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_wait_for_a_length_ends_when_the_text_has_it() -> None:
    """Each wait ends at its own length, and not before."""
    draft = Draft("a", 1)
    four, six = asyncio.create_task(draft.until_length(4)), asyncio.create_task(draft.until_length(6))
    await settle()
    draft.append(Delta(text="abc"))
    await settle()
    assert (four.done(), six.done()) == (False, False)
    draft.append(Delta(text="d"))
    await settle()
    assert (four.done(), six.done()) == (True, False)
    draft.finish()
    await six
    assert (draft.text, len(draft)) == ("abcd", 4)


@pytest.mark.parametrize("delta", [Delta(text="a"), Delta(reasoning="hm")])
async def test_a_wait_for_the_start_ends_with_the_first_text_or_reasoning(delta: Delta) -> None:
    """Usage and finish reasons do not end it."""
    draft = Draft("a", 1)
    started = asyncio.create_task(draft.until_started())
    draft.append(Delta(finish_reason="stop"))
    await settle()
    assert not started.done()
    draft.append(delta)
    await started


@pytest.mark.parametrize("end", ["finish", "drop"])
async def test_the_end_of_a_draft_ends_every_wait(end: str) -> None:
    """Finishing and dropping wake every waiting task, and later waits return at once."""
    draft = Draft("a", 1)
    waits = [asyncio.create_task(draft.until_ended()), asyncio.create_task(draft.until_length(101))]
    await settle()
    draft.finish() if end == "finish" else draft.drop("gone")
    await asyncio.gather(*waits)
    await draft.until_ended()
    assert draft.usable is (end == "finish")


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    """The draft forgets it, and other waits still end."""
    draft = Draft("a", 1)
    cancelled, other = asyncio.create_task(draft.until_length(1)), asyncio.create_task(draft.until_length(1))
    await settle()
    cancelled.cancel()
    await settle()
    draft.append(Delta(text="x"))
    await other
    assert draft._waits == []


def test_a_draft_ends_once_and_then_grows_no_more() -> None:
    """Appending after the end, and ending twice, raise."""
    draft = Draft("a", 1)
    draft.finish()
    with pytest.raises(RuntimeError, match="has ended"):
        draft.append(Delta(text="x"))
    with pytest.raises(RuntimeError, match="has ended already"):
        draft.drop("late")


def test_reasoning_is_no_part_of_the_text() -> None:
    """Reasoning and text are kept apart; both count as tokens."""
    draft = Draft("a", 1)
    draft.append(Delta(reasoning="hmmm"))
    assert draft.thinking
    draft.append(Delta(text="yes!"))
    assert (draft.text, draft.reasoning, draft.tokens, draft.thinking) == ("yes!", "hmmm", 2, False)
