"""Request IDs and traces: what ties a client's log, the server's log, a saved run and an upstream's trace together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry import trace

from moa.server.correlation import _TOKEN
from tests.fakes.local_server import in_this_process
from tests.fakes.packages import needs
from tests.fakes.serving import Served, asking, post
from tests.fakes.upstream import Upstream, refuse

pytestmark = pytest.mark.anyio

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/chat/completions", asking()),
        ("POST", "/v1/chat/completions", asking(stream=True)),
        ("POST", "/v1/chat/completions", asking("moa/nothing")),
        ("POST", "/v1/chat/completions", {}),
        ("GET", "/v1/models", None),
        ("GET", "/nowhere", None),
        ("GET", "/", None),
        ("GET", "/healthz", None),
        ("PUT", "/v1/models", None),
    ],
)
async def test_every_response_has_a_request_id(
    http: aiohttp.ClientSession, server: Served, method: str, path: str, body: Any
) -> None:
    """It is the caller's own, or a new one for each request."""
    own: dict[str, str] = {"X-Request-Id": "job-7/step_2"}
    seen = []
    for headers in (own, {}, {}):
        async with http.request(method, server.origin + path, json=body, headers=headers) as response:
            seen.append(response.headers.getall("x-request-id"))
            await response.read()
    assert seen[0] == ["job-7/step_2"]
    assert len({name for (name,) in seen}) == 3
    assert all(re.fullmatch(r"[0-9a-f]{32}", name) for (name,) in seen[1:])


@pytest.mark.parametrize("given", [b"", b"a b", b'a"b', b"x" * 129, "ü".encode(), b"a,b", b"a\tb", b"<b>"], ids=repr)
def test_an_id_that_would_have_to_be_quoted_is_replaced(given: bytes) -> None:
    """A log, a header and a search box can take every ID as it is."""
    assert not _TOKEN.fullmatch(given)


async def test_the_log_and_the_saved_run_name_the_request(http: aiohttp.ClientSession, serve: Any) -> None:
    """A run is found by the ID that the client has, for an answer and for a run of the server's own."""
    server = await serve("--keep")
    _, _, headers = await post(http, server, asking(), headers={"X-Request-Id": "mine"})
    assert (await server.logged(headers["x-moa-run"]))["request_id"] == "mine"
    async with http.post(f"{server.origin}/runs", json=asking(), headers={"X-Request-Id": "other"}) as response:
        own = response.headers["x-moa-run"]
    assert (await server.logged(own))["request_id"] == "other"
    for run, expected in ((headers["x-moa-run"], "mine"), (own, "other")):
        async with http.get(f"{server.origin}/runs/{run}") as response:
            assert (await response.json())["request_id"] == expected


async def test_a_callers_trace_goes_on_to_every_upstream(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """All calls of a run carry it as it came, also those of further choices; the next request carries none."""
    given = {"traceparent": PARENT, "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"}
    await post(http, server, asking(n=2), headers=given)
    assert len(upstream.requests) == 5
    for received in upstream.requests:
        assert {name: received.headers.get(name) for name in given} == given
    upstream.requests.clear()
    await post(http, server, asking())
    assert all("traceparent" not in received.headers for received in upstream.requests)


@pytest.mark.parametrize(
    "invalid",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        "x" * 5000,
    ],
)
async def test_an_invalid_trace_is_dropped(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, invalid: str
) -> None:
    """The request is answered, and no upstream sees the header."""
    status, _, _ = await post(http, server, asking("up/a"), headers={"traceparent": invalid, "tracestate": "a=b"})
    assert status == 200
    assert not {"traceparent", "tracestate"} & {name.lower() for name in upstream.requests[0].headers}


async def test_several_headers_of_a_trace(http: aiohttp.ClientSession, server: Served, upstream: Upstream) -> None:
    """Two states are one list, as headers are; two parents are none."""
    from multidict import CIMultiDict

    states = CIMultiDict([("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")])
    await post(http, server, asking("up/a"), headers=states)
    assert upstream.requests[-1].headers["tracestate"] == "a=1,b=2"
    await post(http, server, asking("up/a"), headers=CIMultiDict([("traceparent", PARENT), ("traceparent", PARENT)]))
    assert "traceparent" not in upstream.requests[-1].headers


@needs("opentelemetry.sdk")
async def test_upstreams_are_below_our_span_where_spans_are_recorded(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's span is the caller's child, and upstreams get it as their parent."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    async with in_this_process(upstream, tmp_path) as server:
        await post(http, server, asking(), headers={"traceparent": PARENT})
    (run,) = [span for span in exporter.get_finished_spans() if span.name == "chat moa/trio"]
    assert run.context and run.parent
    assert (f"{run.context.trace_id:032x}", f"{run.parent.span_id:016x}") == (TRACE, SPAN)
    expected = f"00-{TRACE}-{run.context.span_id:016x}-01"
    assert [received.headers["traceparent"] for received in upstream.requests] == [expected] * 4


async def test_a_defects_response_has_the_request_id(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator finds the traceback by the ID that the caller reports."""
    from moa.server.model_list import ModelList

    def fail(self: ModelList, name: str) -> None:
        raise RuntimeError("a defect")

    upstream.script("a", refuse(500))
    monkeypatch.setattr(ModelList, "row", fail)
    async with (
        in_this_process(upstream, tmp_path) as server,
        http.get(f"{server.url}/models/up/a", headers={"X-Request-Id": "mine"}) as response,
    ):
        assert (response.status, response.headers["x-request-id"]) == (500, "mine")
