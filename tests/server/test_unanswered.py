"""A retry of a request that got no answer: it starts from the finished proposals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moa.messages import Reference
from moa.server.keys import Keys
from moa.server.unanswered import Asked, Unanswered
from tests.fakes.local_server import in_this_process
from tests.fakes.serving import Served, all_events, asking, post, said
from tests.fakes.upstream import Upstream, drop, hang, refuse, say, words
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio

PROPOSERS = ("a", "b", "c")


@pytest.fixture(scope="module")
async def server(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with in_this_process(upstream, tmp_path_factory.mktemp("unanswered")) as served:
        yield served


def called(upstream: Upstream, *names: str) -> list[int]:
    return [len(upstream.calls(name)) for name in names]


async def test_a_retry_pays_for_no_proposal_twice(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """After a failed run, the same body calls only agents without an answer, and moa names the proposals that it reused;
    after an answer it calls all of them again."""
    upstream.script("b", refuse(500), say("proposal b"))
    upstream.script("last", refuse(500), say("the whole answer"))
    body = asking(text="retried")
    status, _, _ = await post(http, server, body)
    assert status == 502
    status, whole, _ = await post(http, server, body)
    assert (status, whole["choices"][0]["message"]["content"]) == (200, "the whole answer")
    assert called(upstream, *PROPOSERS, "last") == [1, 2, 1, 2]
    assert whole["moa"]["recalled"] == [
        {"agent": "a", "layer": 1, "model": "up/a"},
        {"agent": "c", "layer": 1, "model": "up/c"},
    ]
    assert [call["agent"] for call in whole["moa"]["calls"]] == ["b", "last"]
    assert all(text in upstream.calls("last")[-1].prompt for text in ("proposal a", "proposal b", "proposal c"))
    _, whole, _ = await post(http, server, body)
    assert (called(upstream, *PROPOSERS), whole["moa"]["recalled"]) == ([2, 3, 2], [])


@pytest.mark.parametrize("other", [asking(text="other"), {"temperature": 0.5}, {"model": "moa/shown"}])
async def test_another_request_makes_its_own_proposals(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, other: dict[str, Any]
) -> None:
    """Only the same body reuses them."""
    upstream.script("last", refuse(500), say("the whole answer"))
    body = asking(text=f"first of {[*other]}")
    await post(http, server, body)
    _, whole, _ = await post(http, server, {**body, **other})
    assert whole["moa"]["recalled"] == [] and called(upstream, "a") == [2]


async def test_a_failure_in_the_middle_of_a_stream_counts(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The stream that ended with an error is retried from its proposals, and fails again without losing them."""
    upstream.script("last", words("half") + drop(), refuse(500), say("the whole answer"))
    body = asking(text="streamed", stream=True)
    assert "error" in (await all_events(http, server, body))[-1]
    assert (await post(http, server, body))[0] == 502
    events = await all_events(http, server, body)
    assert said(events[:-1]) == "the whole answer"
    assert called(upstream, *PROPOSERS) == [1, 1, 1]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_response_retries_from_the_proposals(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, stream: bool
) -> None:
    """A client's own timeout loses nothing that was paid for; a call that was cut off is made again."""
    upstream.script("c", words("half of c") + hang(), say("proposal c"))
    body = asking(text=f"left {stream}", stream=stream)
    leaving = asyncio.create_task(post(http, server, body))
    await holds(
        lambda: all(call.finished.is_set() for name in "ab" for call in upstream.calls(name)) and upstream.calls("b")
    )
    await holds(lambda: bool(upstream.calls("c")) and upstream.calls("c")[0].started.is_set())
    leaving.cancel()
    await asyncio.wait([leaving])
    await holds(lambda: upstream.calls("c")[0].disconnected.is_set())
    if stream:
        await all_events(http, server, body)
    else:
        await post(http, server, body)
    assert called(upstream, *PROPOSERS) == [1, 1, 2]


async def test_a_client_that_leaves_in_the_middle_of_the_answer_asks_anew(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """It has read a part of the answer, and nobody's SDK retries then."""
    upstream.script("last", words("half") + hang(), say("the whole answer"))
    body = asking(text="stopped", stream=True)
    async with http.post(f"{server.url}/chat/completions", json=body) as response:
        await response.content.readline()
    await holds(lambda: upstream.calls("last")[0].disconnected.is_set())
    await all_events(http, server, body)
    assert called(upstream, *PROPOSERS) == [2, 2, 2]


async def test_several_choices_share_the_proposals_of_a_retry(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """With n above 1 the first choice reuses them for all."""
    upstream.script("last", refuse(500), refuse(500), say("one"))
    assert (await post(http, server, asking(n=2)))[0] == 502
    _, whole, _ = await post(http, server, asking(n=2))
    assert len(whole["choices"]) == 2 and called(upstream, *PROPOSERS) == [1, 1, 1]
    assert len(whole["moa"]["recalled"]) == 3


async def test_an_sdk_pays_once(server: Served, upstream: Upstream) -> None:
    """OpenAI's SDK retries by itself: the proposers are called once."""
    from openai import AsyncOpenAI

    upstream.script("last", refuse(500), say("the whole answer"))
    async with AsyncOpenAI(base_url=server.url, api_key="none", max_retries=1) as client:
        question: Any = [{"role": "user", "content": "What does a retry cost?"}]
        answer = await client.chat.completions.create(model="moa/trio", messages=question)
    assert answer.choices[0].message.content == "the whole answer"
    assert called(upstream, *PROPOSERS, "last") == [1, 1, 1, 2]


# -- the memory ----------------------------------------------------------------------------------------------------------

PROPOSALS = (Reference("a", "x" * 1000),)


def asked(caller: str = "ann", body: bytes = b"{}", path: str = "/v1") -> Asked:
    return Asked.of(caller, path, body)


def test_a_minute_later_nothing_is_left() -> None:
    """The time counts from the latest failure of the request."""
    clock = [0.0]
    memory = Unanswered(60, now=lambda: clock[0])
    memory.keep(asked(), PROPOSALS)
    clock[0] = 59
    assert memory.proposals(asked()) == PROPOSALS
    memory.keep(asked(), PROPOSALS)
    clock[0] = 118
    assert memory.proposals(asked()) == PROPOSALS
    clock[0] = 119
    assert memory.proposals(asked()) == () and len(memory) == 0


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3000), st.booleans()), max_size=25))
def test_the_memory_is_bounded(steps: list[tuple[int, int, bool]]) -> None:
    """In requests and in bytes of text, whatever fails and whatever is answered."""
    memory = Unanswered(60, most=3, megabytes=0.004)
    kept: dict[int, int] = {}
    for number, length, answered in steps:
        request = asked(body=str(number).encode())
        if answered:
            memory.forget(request)
            kept.pop(number, None)
            assert memory.proposals(request) == ()
        else:
            memory.keep(request, (Reference("a", "x" * length),))
            kept[number] = length
            assert memory.proposals(request)
        left = [length for number, length in kept.items() if memory.proposals(asked(body=str(number).encode()))]
        assert len(left) == len(memory) <= 3 and sum(left) <= 4000


def test_callers_and_paths_are_apart() -> None:
    """No caller's retry starts from another one's proposals, however names and bodies join."""
    memory = Unanswered()
    memory.keep(asked("ann", b"{}"), PROPOSALS)
    for other in (asked("bob"), asked(body=b"{} "), asked(path="/v2"), Asked.of("ann /v", "1", b"{}")):
        assert memory.proposals(other) == ()


async def test_each_key_has_its_own(http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path) -> None:
    """The same body from another key calls every proposer."""
    from moa.config.config import Config
    from moa.server.app import create_app
    from tests.fakes.local_server import serving
    from tests.fakes.serving import CONFIG

    (tmp_path / "moa.toml").write_text(CONFIG.format(base_url=upstream.base_url))
    keys = Keys(tmp_path / "keys.json")
    ann, bob = keys.add("ann"), keys.add("bob")
    upstream.script("last", refuse(500), say("the whole answer"))
    async with serving(create_app(Config(tmp_path / "moa.toml"), keys=keys)) as address:
        for secret, count in ((ann, 1), (bob, 2), (ann, 2)):
            headers = {"Authorization": f"Bearer {secret}"}
            async with http.post(f"{address}/v1/chat/completions", json=asking(), headers=headers) as response:
                json.loads(await response.text())
            assert called(upstream, "a") == [count]
