"""The part of a mixture that answers a request: the moa object, and effort."""

from __future__ import annotations

from collections import Counter
from typing import Any

import aiohttp
import pytest

from moa import Mixture, Price, Prices, Request, Scripted
from moa.server.forecast import Forecast
from tests.fakes.run_client import begin, call, ended, record
from tests.fakes.serving import Served, asking, post
from tests.fakes.upstream import Upstream, call_tool, refuse, say
from tests.server.conftest import Serve

pytestmark = pytest.mark.anyio

MORE = """
[mixtures.graded]
layers = [["up/a", "up/b", "up/c"]]
aggregator = { model = "up/last", fallbacks = ["up/spare"] }

[mixtures.graded.effort]
low = { model = "up/x" }
high = { only = ["up/a"], samples = 2 }
"""


@pytest.fixture(scope="module")
async def server(serve: Serve) -> Served:
    """A server with a mixture that has levels of effort."""
    return await serve(more=MORE)


def called(upstream: Upstream) -> dict[str, int]:
    """How many times each model was called."""
    return dict(Counter(each.model for each in upstream.requests))


@pytest.mark.parametrize(
    ("moa", "models"),
    [
        ({"only": ["a"]}, {"a": 1, "last": 1}),
        ({"without": ["up/a", "b"]}, {"c": 1, "last": 1}),
        ({"layers": 0}, {"last": 1}),
        ({"aggregator": "up/spare", "only": ["b"]}, {"b": 1, "spare": 1}),
        ({"aggregator": "c", "layers": 0}, {"c": 1}),
        ({"when": "always"}, {"a": 1, "b": 1, "c": 1, "last": 1}),
    ],
)
async def test_a_request_chooses_its_panel(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, moa: dict[str, Any], models: dict[str, int]
) -> None:
    """Only the members that it names are called, and only they are paid for."""
    status, answer, _ = await post(http, server, asking("moa/graded", moa=moa))
    assert status == 200, answer
    assert called(upstream) == models
    assert sum(1 + len(each.get("attempts", ())) for each in answer["moa"]["calls"]) == sum(models.values())


@pytest.mark.parametrize(
    ("moa", "param", "words"),
    [
        ({"only": ["up/aa"]}, "moa.only", "did you mean 'up/a'"),
        ({"without": ["d"]}, "moa.without", "no proposer"),
        ({"without": ["a", "b", "c"]}, "moa.without", "leave no proposer"),
        ({"only": []}, "moa.only", "at least 1"),
        ({"aggregator": "gpt-9"}, "moa.aggregator", "no agent"),
        ({"layers": 2}, "moa.layers", "layers is 2"),
        ({"layers": -1}, "moa.layers", "greater than or equal to 0"),
        ({"when": "never"}, "moa.when", "always"),
        ({"when": "tool", "layers": 0}, "moa.when", "no layer"),
        ({"samples": 9}, "moa.samples", "not permitted"),
    ],
)
async def test_a_panel_that_cannot_be_is_400(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, moa: dict[str, Any], param: str, words: str
) -> None:
    """The error names the field, and the nearest name; no model is called."""
    for path in ("/runs", "/v1/chat/completions"):
        status, answer = await call(http, "POST", server, path, asking("moa/graded", moa=moa))
        assert (status, answer["error"]["param"]) == (400, param), answer
        assert words in answer["error"]["message"] or "not accepted" in answer["error"]["message"]
    assert not upstream.requests


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "Why?"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 99}),
        ("/v1/completions", {"prompt": "Why?"}),
        ("/runs", {"messages": [{"role": "user", "content": "Why?"}]}),
    ],
)
async def test_every_api_takes_a_panel(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, path: str, body: dict[str, Any]
) -> None:
    """They share the moa object."""
    status, answer = await call(http, "POST", server, path, {"model": "moa/graded", "moa": {"only": ["b"]}, **body})
    assert status in (200, 201), answer
    if path == "/runs":
        await ended(http, server, answer["run"])
    assert called(upstream) == {"b": 1, "last": 1}


@pytest.mark.parametrize(
    ("path", "body", "models"),
    [
        ("/v1/chat/completions", {**asking("moa/graded", "a"), "reasoning_effort": "low"}, {"x": 1}),
        ("/v1/chat/completions", {**asking("moa/graded", "b"), "reasoning_effort": "minimal"}, {"x": 1}),
        ("/v1/chat/completions", {**asking("moa/graded", "c"), "reasoning_effort": "xhigh"}, {"a": 2, "last": 1}),
        (
            "/v1/chat/completions",
            {**asking("moa/graded", "d"), "reasoning_effort": "low", "moa": {"only": ["c"]}},
            {"c": 1, "last": 1},
        ),
        ("/v1/responses", {"model": "moa/graded", "input": "e", "reasoning": {"effort": "low"}}, {"x": 1}),
        (
            "/v1/messages",
            {
                "model": "moa/graded",
                "max_tokens": 99,
                "messages": [{"role": "user", "content": "f"}],
                "output_config": {"effort": "high"},
            },
            {"a": 2, "last": 1},
        ),
    ],
)
async def test_effort_chooses_the_panel_in_every_api(
    http: aiohttp.ClientSession,
    server: Served,
    upstream: Upstream,
    path: str,
    body: dict[str, Any],
    models: dict[str, int],
) -> None:
    """A panel of the request goes before its effort."""
    status, answer = await call(http, "POST", server, path, body)
    assert status == 200, answer
    assert called(upstream) == models


def test_a_panel_is_expected_to_cost_what_its_members_cost() -> None:
    """Before its first run by prices, afterwards by its own runs, not by those of the whole mixture."""
    prices = Prices({name: Price(1.0, 1.0) for name in ("x/a", "x/b", "x/last")})
    members = [Scripted("one", name="x/a"), Scripted("two", name="x/b")]
    whole = Mixture([members], Scripted("merged", name="x/last"), prices=prices)
    part, request, forecast = whole.with_panel(layers=0), Request.of("Why?"), Forecast(prices)
    assert forecast.dollars(part, request) < forecast.dollars(whole, request) / 2
    forecast.learn(whole, 5.0)
    assert forecast.dollars(part, request) < 1.0 and forecast.dollars(whole, request) == 5.0
    forecast.learn(whole.with_panel(layers=0), 2.0)
    assert forecast.dollars(part, request) == 2.0


async def test_a_run_with_a_panel_is_continued_with_it(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """The saved run keeps the panel; models get nothing of it."""
    upstream.script("last", refuse(500, "broken"), say("at last"))
    upstream.script("spare", refuse(500, "broken"))
    first = await begin(http, server, asking("moa/graded", moa={"only": ["b"]}))
    assert (await ended(http, server, first))["outcome"] == "failed"
    second = await begin(http, server, {"continue": first})
    assert (await ended(http, server, second))["answer"]["text"] == "at last"
    assert called(upstream) == {"b": 1, "last": 2, "spare": 1}
    assert (await record(http, server, second))["parameters"]["moa"] == {"only": ["b"]}
    assert not any("moa" in each.body for each in upstream.requests)


async def test_a_level_of_a_callers_mixture_reaches_nothing_that_is_not_configured(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Its models are checked as members are."""
    table = {"layers": [["up/a"]], "aggregator": "up/last", "effort": {"low": {"model": "nowhere/x"}}}
    body = {"mixture": table, "messages": [{"role": "user", "content": "Why?"}]}
    status, answer = await call(http, "POST", server, "/runs", body)
    assert (status, answer["error"]["param"]) == (404, "mixture.effort.low.model")
    table["effort"] = {"low": {"model": "up/x"}}
    status, answer = await call(http, "POST", server, "/runs", {**body, "reasoning_effort": "low"})
    await ended(http, server, answer["run"])
    assert called(upstream) == {"x": 1}


async def test_proposals_of_one_panel_are_not_those_of_another(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """In a tool loop the turn's proposals are reused by requests with the same panel alone."""
    upstream.script("last", call_tool("look", {"at": "sky"}), say("blue"))
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    body = asking("moa/graded", tools=tools, moa={"only": ["a"]})
    _, first, _ = await post(http, server, body)
    result = {"role": "tool", "tool_call_id": first["choices"][0]["message"]["tool_calls"][0]["id"], "content": "blue"}
    body["messages"] += [first["choices"][0]["message"], result]
    await post(http, server, body)
    assert called(upstream) == {"a": 1, "last": 2}
    await post(http, server, {**body, "moa": {"only": ["b"]}})
    assert called(upstream) == {"a": 1, "b": 1, "last": 3}
