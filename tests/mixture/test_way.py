"""A staircase on a server of which nobody knows how it continues a text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moa import Mixture
from moa.answers import Answer
from moa.models.catalog import Access, Catalog
from moa.models.profile import Profile
from moa.models.saved_ways import SavedWays
from moa.schedules import Staircase
from tests.fakes.upstream import Body, Script, Upstream, pause, refuse, say, words

pytestmark = pytest.mark.anyio

PROPOSAL = "A proposal grows word by word until it is whole, and the answer begins long before that. " * 3
NO_PREFILL = "This model does not support assistant message prefill. The conversation must end with a user message."
ANSWER = "The answer begins with one sentence, and then it goes on with everything that the proposals say. "


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as up:
        yield up


def kind_of_test(body: Body) -> str | None:
    """The form in which a request tests how the model continues; None for any other request."""
    last = body["messages"][-1]
    if "thirty" not in str(body["messages"][0]):
        return None
    if last["role"] == "user":
        return "turns"
    marks = {"continue_final_message": body, "prefix": last, "partial": last}
    return next((name for name, place in marks.items() if place.get(name)), "plain")


def server(up: Upstream, answer_to_test: dict[str, Script], otherwise: Script) -> None:
    """Models ``p``, which propose slowly, and ``z``, which answers each kind of test as given."""
    up.script("p", words(PROPOSAL, pace=0.002) + say(""))

    def aggregator(body: Body) -> Script:
        if kind := kind_of_test(body):
            return answer_to_test.get(kind, otherwise)
        begun = next((message["content"] for message in body["messages"] if message["role"] == "assistant"), "")
        return say(ANSWER.removeprefix(begun))

    up.script("z", aggregator)


async def answered(up: Upstream, ways: SavedWays) -> Answer:
    catalog = Catalog({"mine": Access(base_url=up.base_url, attempts=1)}, ways=ways)
    schedule = Staircase(chunks=(8,), writes=(8,))
    async with catalog, Mixture([["mine/p"]], "mine/z", schedule=schedule, catalog=catalog) as mixture:
        return await mixture.answer("Why?")


def forms_tested(up: Upstream) -> list[str]:
    return [kind for call in up.calls("z") if (kind := kind_of_test(call.body))]


async def test_it_is_tested_once(upstream: Upstream, tmp_path: Path) -> None:
    """The first run makes small calls until one is continued, and pays for them; a later process knows what was found."""
    server(upstream, {"plain": say(" nine, ten", tokens=(7, 3))}, refuse(400))
    first = await answered(upstream, SavedWays(tmp_path / "cache" / "ways.json"))
    assert forms_tested(upstream) == ["plain"]
    assert first.text == ANSWER and len(upstream.calls("z")) == 3
    attempts = [attempt for call in first.calls for attempt in call.attempts]
    assert [attempt.usage.input_tokens for attempt in attempts if attempt.usage and "tested" in attempt.reason] == [7]
    await answered(upstream, SavedWays(tmp_path / "cache" / "ways.json"))
    assert forms_tested(upstream) == ["plain"]


async def test_the_first_way_that_works_is_used(upstream: Upstream, tmp_path: Path) -> None:
    """A server that refuses a last message of the assistant, or begins anew, is asked to go on by a user message."""
    server(upstream, {"plain": refuse(400, NO_PREFILL), "turns": say("nine, ten")}, say("one, two, three"))
    answer = await answered(upstream, SavedWays(tmp_path / "ways.json"))
    assert forms_tested(upstream) == ["plain", "turns", "turns"], "the refusal was answered by a user message"
    assert answer.text.split() == ANSWER.split()


async def test_what_cannot_continue_waits(upstream: Upstream, tmp_path: Path) -> None:
    """A model that continues in no way answers once, from the complete proposals, and a notice says so."""
    server(upstream, {}, say("Certainly! Here they are."))
    notices: list[str] = []
    catalog = Catalog({"mine": Access(base_url=upstream.base_url)}, ways=SavedWays(tmp_path / "ways.json"))
    schedule = Staircase(chunks=(8,), writes=(8,))
    async with catalog, Mixture([["mine/p"]], "mine/z", schedule=schedule, catalog=catalog) as mixture:
        async with mixture.run("Why?") as run:
            notices = [event.message async for event in run if hasattr(event, "message")]
        assert run.answer.text == ANSWER and not run.answer.degraded
    assert notices == ["a test found that mine/z cannot continue a text: it waits for complete proposals"]
    assert SavedWays(tmp_path / "ways.json")[f"{upstream.base_url} z"] == "none"


async def test_a_failure_teaches_nothing(upstream: Upstream, tmp_path: Path) -> None:
    """A test that fails for want of the server is made again by the next run; this one waits for complete proposals."""
    server(upstream, {}, pause(0) + refuse(503))
    await answered(upstream, SavedWays(tmp_path / "ways.json"))
    assert forms_tested(upstream) == ["plain"] and not (tmp_path / "ways.json").exists()


async def test_what_is_known_is_not_tested(upstream: Upstream, tmp_path: Path) -> None:
    """A way that the configuration names is used as it is."""
    server(upstream, {}, refuse(400))
    access = Access(base_url=upstream.base_url, profile=Profile(continuation="prefix"))
    catalog = Catalog({"mine": access}, ways=SavedWays(tmp_path / "ways.json"))
    schedule = Staircase(chunks=(8,), writes=(8,))
    async with catalog, Mixture([["mine/p"]], "mine/z", schedule=schedule, catalog=catalog) as mixture:
        await mixture.answer("Why?")
    assert forms_tested(upstream) == []


def test_a_file_that_is_damaged_costs_a_test_only(tmp_path: Path) -> None:
    """A file of saved ways that is no JSON, or holds other values, counts as empty for these; others stay."""
    path = tmp_path / "ways.json"
    path.write_text("{broken")
    assert SavedWays(path).get("a") is None
    path.write_text('{"a": "prefix", "b": "somehow", "c": 3}')
    ways = SavedWays(path)
    assert (ways.get("a"), ways.get("b"), ways.get("c")) == ("prefix", None, None)
    ways["d"] = "none"
    assert SavedWays(path)["a"] == "prefix" and SavedWays(path)["d"] == "none"
    SavedWays(tmp_path / "ways.json" / "below")["e"] = "none"
