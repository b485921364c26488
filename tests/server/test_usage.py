"""``usage`` of a response: the answering call's tokens, whichever call that is; the sums beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moa import Mixture, Reference, Scripted
from moa.answers import Answer, Attempt, Call, Usage
from moa.messages import Request
from moa.schedules import Barrier, EarlyExit
from moa.server.usage import answering_usage, usage_by_choice
from tests.fakes.local_server import in_this_process
from tests.fakes.serving import CONFIG, Served, all_events, asking, post
from tests.fakes.upstream import Script, Upstream, done, finish, refuse, usage, words

pytestmark = pytest.mark.anyio

REQUEST = Request.of("Why is the sky blue?")
PROMPTS = {"a": (100, 11), "b": (200, 12), "c": (300, 13), "last": (7000, 17), "spare": (6000, 19)}
"""Tokens of the prompt and the answer that each model of the upstream reports."""

MORE = """
[mixtures.inner]
layers = [["up/a", "up/b"]]
aggregator = "up/c"

[mixtures.outer]
layers = [["up/a"]]
aggregator = "moa/inner"
"""


@pytest.fixture(autouse=True)
def counted(upstream: Upstream, well: None) -> None:
    """Each model reports the tokens of :data:`PROMPTS`."""
    for name, (prompt, output) in PROMPTS.items():
        upstream.script(name, answer(name, prompt, output))


def answer(name: str, prompt: int, output: int) -> Script:
    return words(f"The text of {name}.") + finish() + usage(prompt, output) + done()


@pytest.fixture(scope="module")
async def server(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    config = CONFIG.format(base_url=upstream.base_url) + MORE
    async with in_this_process(upstream, tmp_path_factory.mktemp("usage"), config) as served:
        yield served


def counts(reported: Any) -> tuple[int, int]:
    assert reported["total_tokens"] == reported["prompt_tokens"] + reported["completion_tokens"]
    return reported["prompt_tokens"], reported["completion_tokens"]


@pytest.mark.parametrize(
    ("model", "answering", "calls"),
    [
        ("moa/trio", "last", ["a", "b", "c", "last"]),
        ("up/a", "a", ["a"]),
        ("moa/outer", "c", ["a", "a", "b", "c"]),
    ],
)
async def test_usage_is_the_answering_calls(
    http: aiohttp.ClientSession, server: Served, model: str, answering: str, calls: list[str]
) -> None:
    """It has that call's tokens, whole and streamed; moa has the sum, and both have the dollars of all calls."""
    _, whole, _ = await post(http, server, asking(model))
    *_, last, _ = await all_events(http, server, asking(model, stream_options={"include_usage": True}))
    for response in (whole, last):
        assert counts(response["usage"]) == PROMPTS[answering]
        assert counts(response["moa"]["usage"]) == tuple(sum(PROMPTS[name][side] for name in calls) for side in (0, 1))
        assert response["usage"]["cost"] == response["moa"]["cost"]


async def test_a_fallback_answers_with_its_own_tokens(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The failed aggregator's tokens are in the sum alone."""
    upstream.script("last", usage(7000, 1) + finish("error"))
    _, whole, _ = await post(http, server, asking("moa/safe"))
    assert counts(whole["usage"]) == PROMPTS["spare"]
    assert counts(whole["moa"]["usage"])[0] == 100 + 7000 + 6000


async def test_a_proposal_answers_with_its_calls_tokens(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Where no aggregator writes, usage is that of the call that wrote the chosen proposal."""
    for name in ("a", "b"):
        upstream.script(name, words("The same text.") + finish() + usage(*PROMPTS[name]) + done())
    _, whole, _ = await post(http, server, asking("moa/central"))
    chosen = [call for call in whole["moa"]["calls"] if call.get("answers")]
    assert len(chosen) == 1 and chosen[0]["agent"] in ("a", "b")
    assert counts(whole["usage"]) == PROMPTS[chosen[0]["agent"]]


async def test_a_request_chooses_the_sum(http: aiohttp.ClientSession, server: Served) -> None:
    """With usage "all" in its moa object, usage is the sum; another word is an error that names the field."""
    _, whole, _ = await post(http, server, asking(moa={"usage": "all"}))
    assert counts(whole["usage"]) == counts(whole["moa"]["usage"]) == (7600, 53)
    _, whole, _ = await post(http, server, asking(n=2, moa={"usage": "all"}))
    assert counts(whole["usage"]) == counts(whole["moa"]["usage"]) == (7600 + 7000, 53 + 17)
    status, refused, _ = await post(http, server, asking(moa={"usage": "some"}))
    assert (status, refused["error"]["param"]) == (400, "moa.usage")


async def test_the_file_chooses_the_sum_and_an_upstream_of_this_kind_is_booked_by_it(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, tmp_path: Path
) -> None:
    """A server before another one books all calls behind its answer, with their dollars, and lists them; its own usage is
    that of the call that answers there, or the sum by its file."""
    config = f'[endpoints.far]\nbase_url = "{server.url}"\n[mixtures.near]\nlayers = []\naggregator = "far/moa/trio"\n'
    _, alone, _ = await post(http, server, asking())
    async with in_this_process(upstream, tmp_path / "answer", config) as near:
        for name in ("moa/near", "far/moa/trio"):
            _, whole, _ = await post(http, near, asking(name))
            assert counts(whole["usage"]) == PROMPTS["last"]
            assert counts(whole["moa"]["usage"]) == (7600, 53)
            assert whole["moa"]["cost"] == pytest.approx(alone["moa"]["cost"]) and not whole["moa"]["cost_is_at_least"]
            (call,) = whole["moa"]["calls"]
            assert [inner["agent"] for inner in call["calls"]] == ["a", "b", "c", "last"]
    async with in_this_process(upstream, tmp_path / "all", 'usage = "all"\n' + config) as near:
        _, whole, _ = await post(http, near, asking("moa/near"))
        assert counts(whole["usage"]) == (7600, 53)
        _, whole, _ = await post(http, near, asking("moa/near", moa={"usage": "answer"}))
        assert counts(whole["usage"]) == PROMPTS["last"]


async def test_an_upstream_with_an_unknown_cost_has_no_free_calls(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, tmp_path: Path
) -> None:
    """The cost that the other server does not know is unknown here, though that server is on this machine."""
    config = f'[endpoints.far]\nbase_url = "{server.url}"\n'
    async with in_this_process(upstream, tmp_path, config) as near:
        _, whole, _ = await post(http, near, asking("far/moa/unpriced"))
        assert whole["moa"]["cost"] is None
        upstream.script("last", refuse(500))
        _, whole, _ = await post(http, near, asking("far/moa/safe"))
        assert whole["moa"]["cost"] and whole["moa"]["cost_is_at_least"]


# -- which tokens, as a function of the answer ---------------------------------------------------------------------------


async def asked(mixture: Mixture, **fields: Any) -> Answer:
    return await mixture.answer("Why is the sky blue?", **fields)


def test_attempts_do_not_count() -> None:
    """A retry, a hedge or a warming call leaves the answering call's own tokens."""
    attempts = (Attempt("503", Usage(100, 5)), Attempt("it warmed the prompt cache", Usage(90, 1)))
    call = Call("last", 2, "up/last", "aggregator", usage=Usage(290, 26, 40, 3), attempts=attempts, answers=True)
    assert answering_usage(Answer(calls=(call,)), REQUEST) == Usage(100, 20, 40, 3)


def test_pieces_of_one_text_are_one_answer() -> None:
    """Its tokens are those of all pieces; the prompt is the last one without the earlier pieces that it repeats."""
    pieces = (Attempt("paused", Usage(100, 10), part=True), Attempt("paused", Usage(160, 20), part=True))
    call = Call("last", 2, "up/last", "aggregator", usage=Usage(260 + 230, 30 + 40), attempts=pieces, answers=True)
    counted = answering_usage(Answer(calls=(call,)), REQUEST)
    assert counted == Usage(200, 70) and counted.total_tokens == 230 + 40


def test_the_longest_prompt_counts_once_for_several_choices() -> None:
    """Every choice adds the tokens of its text."""
    texts = [
        Answer(calls=(Call("last", 2, "m", "aggregator", usage=each, answers=True),))
        for each in (Usage(10, 1), Usage(30, 2, 5), Usage(20, 3))
    ]
    assert sum(usage_by_choice(texts, REQUEST, "answer"), Usage()) == Usage(30, 6, 5)
    assert usage_by_choice(texts, REQUEST, "all") == [answer.usage for answer in texts]


async def test_what_no_call_wrote_is_estimated() -> None:
    """The text of a function and a proposal of an earlier run have the size that they have for the client."""
    joined = Mixture([[Scripted("one", name="s/a")]], aggregate=lambda request, proposals: "x" * 40)
    assert answering_usage(await asked(joined), REQUEST) == Usage(5, 10, estimated=True)
    central = Mixture([[Scripted("one", name="s/a"), Scripted("two", name="s/b")]], aggregate="central")
    kept = await asked(central, kept=[Reference("a", "the words of a"), Reference("b", "the words of a")])
    assert answering_usage(kept, REQUEST) == Usage(5, 4, estimated=True)


async def test_an_early_exits_proposal_answers() -> None:
    """The call that answers is the proposal's, also where the aggregator was never called."""
    same = [Scripted("It is 42, exactly.", name=f"s/{name}") for name in "ab"]
    mixture = Mixture([same], Scripted("written", name="s/last"), schedule=EarlyExit(Barrier()))
    reply = await asked(mixture)
    assert [call.agent for call in reply.calls if call.answers] in (["a"], ["b"])
