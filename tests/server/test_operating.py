"""For operators: health, metrics, the log line, the API's description, several processes, real models."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.local_server import in_this_process
from tests.fakes.scripted_llama import scripted
from tests.fakes.serving import CONFIG, Served, all_events, answer_well, asking, post, said
from tests.fakes.upstream import Upstream, call_tool, refuse, say
from tests.fakes.waiting import PATIENCE
from tests.models.embedding import needs_weights

pytestmark = pytest.mark.anyio

SECRET = "xylophone"
"""A word in every question and answer here, that must not be seen where no message text may be."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run store of two servers."""
    return tmp_path_factory.mktemp("shared") / "deep" / "runs.sqlite"


@pytest.fixture(scope="module")
async def server(upstream: Upstream, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path_factory.mktemp("one"), "--store", str(shared), config=config) as server:
        yield server
    assert "Traceback" not in server.text


@pytest.fixture(autouse=True)
def well(upstream: Upstream) -> None:
    answer_well(upstream)
    for name in ("a", "b", "c", "last"):
        upstream.script(name, say(f"{SECRET} {name}"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def holding(folder: Path, text: str) -> list[str]:
    """Names of databases, and of files with this text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if path.suffix == ".sqlite" or text.encode() in path.read_bytes()]


async def get(http: aiohttp.ClientSession, url: str) -> tuple[int, str, str]:
    async with http.get(url) as response:
        return response.status, response.headers["content-type"], await response.text()


async def samples(http: aiohttp.ClientSession, server: Served) -> dict[tuple[str, ...], float]:
    """The metrics as Prometheus' own parser reads them: name and label values -> value."""
    status, kind, page = await get(http, f"{server.origin}/metrics")
    assert status == 200 and kind.startswith("text/plain; version=0.0.4")
    assert SECRET not in page
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def test_a_running_server_is_healthy_and_ready(http: aiohttp.ClientSession, server: Served) -> None:
    """Both routes answer 200."""
    for path in ("/healthz", "/readyz"):
        status, _, text = await get(http, server.origin + path)
        assert (status, text) == (200, "ok\n")


async def test_metrics_count_runs_calls_tokens_and_dollars(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """By model and outcome, with histograms of times, the runs in flight and the queue, and without message text."""
    upstream.script("b", refuse(500, f"{SECRET} on fire"))
    before = await samples(http, server)
    await post(http, server, asking(text=SECRET))
    upstream.script("last", refuse(500, SECRET))
    await post(http, server, asking(text=SECRET))
    await post(http, server, asking("moa/nothing"))
    after = await samples(http, server)

    def grown(*key: str) -> float:
        return after[key] - before.get(key, 0.0)

    assert grown("moa_runs_total", "moa/trio", "degraded") == 1
    assert grown("moa_runs_total", "moa/trio", "failed") == 1
    assert grown("moa_calls_total", "up/a", "used", "proposer") == 2
    assert grown("moa_calls_total", "up/b", "dropped", "proposer") == 2
    assert grown("moa_calls_total", "up/last", "used", "aggregator") == 1
    assert grown("moa_tokens_total", "input", "up/a") == 20
    assert grown("moa_tokens_total", "output", "up/a") == 10
    assert grown("moa_dollars_total", "up/a") == pytest.approx(30e-6)
    assert grown("moa_run_duration_seconds_count", "moa/trio") == 2
    assert grown("moa_time_to_first_token_seconds_count", "moa/trio") == 1
    assert grown("moa_call_duration_seconds_count", "up/a") == 2
    assert grown("moa_call_time_to_first_token_seconds_count", "up/a") == 2
    assert grown("moa_refusals_total", "404") == 1
    assert (after[("moa_runs_in_flight",)], after[("moa_runs_queued",)]) == (0, 0)


async def test_callers_cannot_create_unlimited_labels(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """Models that are not listed share one label, however many names a caller tries."""
    for number in range(20):
        upstream.script(f"made-up-{number}", say("x"))
        status, _, _ = await post(http, server, asking(f"up/made-up-{number}"))
        assert status == 200
    after = await samples(http, server)
    assert after["moa_runs_total", "up/*", "answered"] == 20
    assert not any("made-up" in part for key in after for part in key)


async def test_each_run_has_one_log_line_without_message_text(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream
) -> None:
    """JSON with IDs, outcome, tokens, cost and times; no text of a question, a proposal, an answer or an error."""
    _, whole, headers = await post(http, server, asking(text=f"{SECRET} in a log"))
    upstream.script("b", refuse(500, SECRET))
    _, degraded, _ = await post(http, server, asking(text=f"{SECRET} in a log"))
    upstream.script("last", refuse(500, SECRET))
    _, failed, _ = await post(http, server, asking(text=f"{SECRET} in a log"))
    line = await server.logged(whole["moa"]["run"])
    assert line == {
        "run": whole["moa"]["run"],
        "request_id": headers["x-request-id"],
        "model": "moa/trio",
        "key": "anyone",
        "outcome": "answered",
        "calls": 4,
        "input_tokens": 40,
        "output_tokens": 20,
        "cost": pytest.approx(240e-6),
        "cost_is_at_least": False,
        "time_to_first_token": line["time_to_first_token"],
        "duration": line["duration"],
        "degraded": 0,
        "error": None,
    }
    assert (await server.logged(degraded["moa"]["run"]))["degraded"] == 1
    assert (await server.logged(failed["error"]["moa"]["run"]))["error"] == "AggregatorFailed"
    runs = [each["run"] for each in server.runs()]
    assert len(runs) == len(set(runs))
    assert SECRET not in server.text


async def test_the_api_describes_itself(http: aiohttp.ClientSession, server: Served) -> None:
    """/openapi.json names every route and the fields of a request."""
    _, _, text = await get(http, f"{server.origin}/openapi.json")
    described = json.loads(text)
    assert {"/v1/models", "/v1/models/{name}", "/v1/chat/completions", "/healthz", "/readyz", "/metrics"} <= set(
        described["paths"]
    )
    body = described["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"model", "messages", "stream", "tools", "moa", "n"} <= set(body["properties"])
    references = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert references <= set(described["components"]["schemas"])


@pytest.mark.parametrize("examples", [4, pytest.param(30, marks=pytest.mark.slow)])
async def test_generated_requests_cause_only_documented_errors(
    server: Served, upstream: Upstream, examples: int
) -> None:
    """Schemathesis generates valid and invalid requests; no answer is a 5xx other than the documented ones."""
    pytest.importorskip("schemathesis", reason="needs schemathesis: uv sync --group ci")
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error

    schema = await asyncio.to_thread(schemathesis.openapi.from_url, f"{server.origin}/openapi.json")

    def fuzz() -> list[int]:
        statuses: list[int] = []

        def send(case: Any) -> None:
            response = case.call(timeout=PATIENCE)
            statuses.append(response.status_code)
            if response.status_code not in (502, 503, 504):
                case.validate_response(response, checks=[not_a_server_error])

        for result in schema.get_all_operations():
            operation: Any = result.ok()  # type: ignore[union-attr]
            bounds = settings(
                max_examples=examples if operation.method == "post" else max(examples // 4, 2),
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            modes = [GenerationMode.POSITIVE]
            if operation.body or operation.query or operation.headers:  # any text is valid in a path
                modes.append(GenerationMode.NEGATIVE)
            for mode in modes:
                with suppress(Unsatisfiable):  # some parameters take any text, too
                    bounds(given(case=operation.as_strategy(generation_mode=mode))(send))()
        return statuses

    statuses = await asyncio.to_thread(fuzz)
    assert len(statuses) > 2 * examples and 400 in statuses


# -- several processes --------------------------------------------------------------------------------------------------

LOOP: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "-5"},
]


TOOLS = [{"type": "function", "function": {"name": "f"}}]


async def test_servers_that_share_a_store_share_a_tool_loop(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, shared: Path, tmp_path: Path
) -> None:
    """One calls the proposers, the other reads their proposals; the upstream's prompt is the same byte for byte."""
    upstream.script("last", call_tool("f", {}), say("cold"))
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--store", str(shared), config=config) as other:
        await post(http, server, {**asking(), "messages": LOOP[:1], "tools": TOOLS})
        _, payload, _ = await post(http, other, {**asking(), "messages": LOOP, "tools": TOOLS})
    assert payload["choices"][0]["message"]["content"] == "cold"
    assert len(upstream.calls("a")) == 1
    first, second = (call.body["messages"][0] for call in upstream.calls("last"))
    assert first == second
    assert mode(shared) == 0o600


async def test_with_the_store_off_nothing_is_written(
    http: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path
) -> None:
    """A tool loop still works within the process, and no file holds any of its text."""
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--store", "off", config=config) as server:
        await post(http, server, {**asking(), "messages": [{"role": "user", "content": SECRET}], "tools": TOOLS})
        await post(http, server, {**asking(), "messages": [{"role": "user", "content": SECRET}, *LOOP[1:]]})
    assert len(upstream.calls("a")) == 1
    assert holding(tmp_path, SECRET) == []


async def test_an_unusable_store_is_an_error_at_the_start(upstream: Upstream, tmp_path: Path) -> None:
    """Exit code 2 and the path, before any tool loop could fail."""
    (tmp_path / "no.sqlite").write_text("this is no database, and long enough to be taken for one" * 20)
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--store", str(tmp_path / "no.sqlite"), config=config) as server:
        assert server.url == ""
        assert server.process.returncode == 2
        assert "no.sqlite" in server.text and "Traceback" not in server.text


async def test_a_port_in_use_is_an_error(server: Served, upstream: Upstream, tmp_path: Path) -> None:
    """Exit code 2 and the remedy."""
    port = server.origin.rpartition(":")[2]
    async with Served(tmp_path, "--port", port, config=CONFIG.format(base_url=upstream.base_url)) as second:
        assert second.process.returncode == 2
        assert f"port {port}" in second.text and "--port" in second.text


# -- real models --------------------------------------------------------------------------------------------------------


async def test_a_caller_cannot_start_a_download_of_weights(http: aiohttp.ClientSession, server: Served) -> None:
    """The list and the error report mixtures without weights; their models are not listed."""
    _, _, listed = await get(http, f"{server.url}/models?all=true")
    rows = {row["id"]: row for row in json.loads(listed)["data"]}
    assert rows["moa/local-mix"]["moa"]["available"] is False
    assert not any(name.startswith("local/") and name.count("/") > 1 for name in rows)
    status, payload, _ = await post(http, server, asking("moa/local-mix"))
    assert status == 424 and "weights" in payload["error"]["message"]


SHORT = """
[mixtures.small]
layers = [[{ model = "local/smollm2", name = "careful", max_tokens = 8 }, { model = "local/smollm2", max_tokens = 8 }]]
aggregator = "local/smollm2"
aggregate = "central"
"""
"""The preset `local` with two agents of few words: this is about the server, not about the models."""


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=[pytest.mark.slow, needs_weights])])
async def test_the_embedded_models_answer_over_the_server(
    real: bool, monkeypatch: pytest.MonkeyPatch, upstream: Upstream, tmp_path: Path
) -> None:
    """With a scripted llama.cpp or real weights: a stream with progress, and a request with tools for the aggregator."""
    from openai import AsyncOpenAI

    tool: Any = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
    }
    if not real:
        scripted(monkeypatch, upstream)
    async with (
        Served(tmp_path, config=SHORT) if real else in_this_process(upstream, tmp_path, SHORT) as server,
        AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
        aiohttp.ClientSession() as http,
    ):
        assert "moa/local" in [model.id async for model in client.models.list()]
        body = asking("moa/small", "Name one colour.", max_tokens=12, moa={"progress": True})
        received = await all_events(http, server, body)
        assert said(received)
        assert "**careful** · layer 1" in said(received, "reasoning_content")
        assert received[-1] == "[DONE]"
        payload = received[-2]["moa"]
        assert payload["cost"] == 0
        assert {call["model"] for call in payload["calls"]} == {"local/smollm2"}
        acted = await client.chat.completions.create(
            model="moa/small",
            messages=[{"role": "user", "content": "Weather in Oslo?"}],
            tools=[tool],
            max_completion_tokens=24,
        )
        message = acted.choices[0].message
        assert message.content or message.tool_calls
        assert acted.usage and acted.usage.completion_tokens > 0
