"""Finished proposals outlive a measurement that is killed before its answer is complete."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from moa.errors import RateLimited
from moa.evals.asking.data import read_rows
from moa.evals.asking.harness import Measurement
from moa.messages import Cost, Request
from moa.mixture.mixture import Mixture
from moa.models.scripted import Scripted
from moa.prices import Price, Prices
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio

PRICES = Prices({"paid/*": Price(1_000_000, 1_000_000)}, free=frozenset())
"""A dollar a token."""


def panel(boss: Scripted) -> tuple[Scripted, Scripted, Mixture]:
    one, two = Scripted("One.", name="paid/one"), Scripted("Two.", name="paid/two")
    return one, two, Mixture([[one, two]], boss, name="duo", prices=PRICES)


async def ask(folder: Path, mixture: Mixture) -> None:
    with Measurement(folder, {}, PRICES) as measurement:
        await measurement.call("answer/1", mixture, "a question")


async def test_a_killed_answer_asks_no_proposal_again(tmp_path: Path) -> None:
    """Its row then holds both proposals, with their whole cost; the file of proposals is gone."""
    *_, slow = panel(Scripted("never", name="paid/boss", first_token=3600))
    killed = asyncio.create_task(ask(tmp_path, slow))
    kept = tmp_path / "proposals.jsonl"
    await holds(lambda: kept.exists() and kept.read_bytes().count(b"\n") == 2)
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    one, two, whole = panel(Scripted("The answer.", name="paid/boss"))
    with Measurement(tmp_path, {}, PRICES) as measurement:
        before = measurement.cost
        assert before.dollars
        reply = await measurement.call("answer/1", whole, "a question")
        assert measurement.cost == Cost((before.dollars or 0) + (reply.cost.dollars or 0) - before.dollars)
    assert (one.requests, two.requests, reply.text) == ([], [], "The answer.")
    (row,) = read_rows(tmp_path / "journal.jsonl")
    assert sorted(call["text"] for call in row["calls"]) == ["One.", "The answer.", "Two."]
    fresh = tmp_path / "fresh"
    await ask(fresh, panel(Scripted("The answer.", name="paid/boss"))[-1])
    assert row["cost"] == read_rows(fresh / "journal.jsonl")[0]["cost"]
    assert not kept.exists()


async def test_what_failures_count_is_not_counted_again(tmp_path: Path) -> None:
    """An aggregator that fails leaves its proposals; the total stays what was paid."""
    one, _, broken = panel(Scripted(RateLimited("paid/boss", "no"), name="paid/boss"))
    with Measurement(tmp_path, {}, PRICES) as measurement:
        with pytest.raises(Exception, match="no"):
            await measurement.call("answer/1", broken, Request.of("a question"))
        paid = measurement.cost
    with Measurement(tmp_path, {}, PRICES) as measurement:
        assert measurement.cost == paid
        again_one, _, whole = panel(Scripted("The answer.", name="paid/boss"))
        await measurement.call("answer/1", whole, "a question")
    assert (len(one.requests), again_one.requests) == (1, [])
