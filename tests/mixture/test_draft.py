from __future__ import annotations

import asyncio

import pytest

from moa.messages import Delta
from moa.mixture.draft import Draft
from moa.schedules import Barrier

pytestmark = pytest.mark.anyio


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_readers_wait_for_more_than_they_have_read() -> None:
    """Each reader wakes when its own mark is passed, and not before."""
    draft = Draft("a", 1)
    three, five = asyncio.create_task(draft.grown(3)), asyncio.create_task(draft.grown(5))
    await settle()
    draft.append(Delta(text="abc"))
    await settle()
    assert (three.done(), five.done()) == (False, False)
    draft.append(Delta(text="d"))
    await settle()
    assert (three.done(), five.done()) == (True, False)
    draft.finish()
    await five
    assert (draft.text, len(draft)) == ("abcd", 4)


@pytest.mark.parametrize("end", ["finish", "drop"])
async def test_every_reader_hears_of_the_end(end: str) -> None:
    """Finishing and dropping wake whoever waits, and whoever comes later does not wait at all."""
    draft = Draft("a", 1)
    readers = [asyncio.create_task(draft.end()), asyncio.create_task(draft.grown(100))]
    await settle()
    draft.finish() if end == "finish" else draft.drop("gone")
    await asyncio.gather(*readers)
    await draft.end()
    assert draft.usable is (end == "finish")


async def test_a_reader_that_is_cancelled_is_forgotten() -> None:
    """A cancelled wait leaves nothing behind, and other readers still wake."""
    draft = Draft("a", 1)
    gone, stays = asyncio.create_task(draft.grown(0)), asyncio.create_task(draft.grown(0))
    await settle()
    gone.cancel()
    await settle()
    draft.append(Delta(text="x"))
    await stays
    assert draft._waiting == []


def test_a_draft_ends_once_and_then_grows_no_more() -> None:
    """Appending to what has ended, and ending it twice, are mistakes."""
    draft = Draft("a", 1)
    draft.finish()
    with pytest.raises(RuntimeError, match="has ended"):
        draft.append(Delta(text="x"))
    with pytest.raises(RuntimeError, match="has ended already"):
        draft.drop("late")


def test_thinking_is_counted_and_kept_apart() -> None:
    """Reasoning is no part of the text; both count as tokens."""
    draft = Draft("a", 1)
    draft.append(Delta(reasoning="hmmm"))
    draft.append(Delta(text="yes!"))
    assert (draft.text, draft.reasoning, draft.tokens) == ("yes!", "hmmm", 2)


async def test_the_barrier_waits_for_all_and_gives_the_usable_ones_in_order() -> None:
    """One that failed is left out; the order is the layer's, not that of arrival."""
    drafts = [Draft(name, 1) for name in "abc"]
    ready = asyncio.create_task(anext(Barrier().readings([drafts], lambda draft, reason: None)))
    drafts[2].finish()
    drafts[1].drop("failed")
    await settle()
    assert not ready.done()
    drafts[0].finish()
    reading = await ready
    assert [reference.agent for reference in reading.references] == ["a", "c"]
    assert reading.room is None
