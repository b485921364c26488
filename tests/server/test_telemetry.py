"""Answers of ended runs -> spans and metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from prometheus_client.parser import text_string_to_metric_families

from moa.errors import AggregatorFailed
from moa.messages import Answer, Call, Cost, Usage
from moa.server.spans import RunSpan
from moa.server.telemetry import Metrics
from tests.fakes.packages import needs

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

BEGAN = 1_700_000_000.0

ANSWER = Answer(
    text="secret answer",
    finish_reason="stop",
    usage=Usage(30, 15),
    cost=Cost(0.25),
    calls=(
        Call("ann", 1, "up/a", text="secret", usage=Usage(10, 5), started=0.1, duration=1.0, finish_reason="stop"),
        Call("bob", 1, "up/b", usage=Usage(10, 0), started=0.1, duration=0.5, dropped="secret words"),
        Call("last", 2, "up/org/c", role="aggregator", usage=Usage(10, 10), started=1.1, duration=2.0),
    ),
    time_to_first_token=1.5,
    duration=3.1,
    degraded=("bob was dropped: secret words",),
    run_id="f" * 32,
)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def seconds(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time and span.end_time
    return (span.start_time / 1e9 - BEGAN, span.end_time / 1e9 - BEGAN)


@needs("opentelemetry.sdk")
def test_a_run_and_each_of_its_calls_are_spans(exporter: InMemorySpanExporter) -> None:
    """Names, times and attributes follow OpenTelemetry's conventions for generative AI."""
    RunSpan(BEGAN).end("moa/trio", ANSWER)
    run, ann, last = (spans(exporter)[name] for name in ("chat moa/trio", "chat a", "chat org/c"))
    assert run.attributes and ann.attributes and last.attributes and run.context
    assert (run.kind, ann.kind) == (trace.SpanKind.SERVER, trace.SpanKind.CLIENT)
    assert ann.parent and ann.parent.span_id == run.context.span_id
    assert dict(run.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "moa",
        "gen_ai.request.model": "moa/trio",
        "gen_ai.response.id": f"chatcmpl-{'f' * 32}",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 15,
        "moa.degraded": 1,
        "moa.cost": 0.25,
    }
    assert last.attributes["gen_ai.provider.name"] == "up"
    assert last.attributes["gen_ai.request.model"] == "org/c"
    assert last.attributes["gen_ai.usage.output_tokens"] == 10
    assert (last.attributes["moa.layer"], last.attributes["moa.role"]) == (2, "aggregator")
    assert seconds(run) == pytest.approx((0, 3.1), abs=1e-3)
    assert seconds(last) == pytest.approx((1.1, 3.1), abs=1e-3)


@needs("opentelemetry.sdk")
def test_no_message_text_is_in_a_span(exporter: InMemorySpanExporter) -> None:
    """Neither of answers nor of errors."""
    failed = Answer(calls=ANSWER.calls, error=AggregatorFailed("secret", ["secret"]), duration=1.0, run_id="e" * 32)
    RunSpan(BEGAN).end("moa/trio", ANSWER)
    RunSpan(BEGAN).end("moa/trio", failed)
    finished = exporter.get_finished_spans()
    assert len(finished) == 8
    assert not any("secret" in span.to_json() for span in finished)
    assert [span.status.is_ok for span in finished if span.name == "chat moa/trio"] == [True, False]
    assert not spans(exporter)["chat b"].status.is_ok


@needs("opentelemetry.sdk")
def test_a_call_that_was_cut_off_ends_when_its_run_does(exporter: InMemorySpanExporter) -> None:
    """Its span does not end at its start."""
    before = time.time()
    began = before - 2.0
    RunSpan(began).end("moa/trio", Answer(calls=(Call("ann", 1, "up/a", started=0.5),), run_id="d" * 32))
    span = spans(exporter)["chat a"]
    assert span.start_time and span.end_time
    assert span.start_time / 1e9 == pytest.approx(began + 0.5)
    assert before - 0.001 <= span.end_time / 1e9 <= time.time() + 0.001


def test_without_a_configured_sdk_nothing_is_recorded() -> None:
    """The API alone makes spans that cost nothing."""
    RunSpan(BEGAN).end("moa/trio", ANSWER)


def test_metrics_count_calls_by_model_and_outcome() -> None:
    """Used, dropped and cancelled calls are counted apart, by the server's labels; unknown prices add nothing."""
    metrics = Metrics(lambda: 3, lambda: 2, lambda name: name.replace("up/b", "up/*"))
    metrics.count("moa/trio", ANSWER, "degraded", "ann")
    cut = Answer(calls=(Call("ann", 1, "up/a", usage=Usage(1, 1, estimated=True)),), cost=Cost(None))
    metrics.count("moa/trio", cut, "cancelled", "ann")
    page = metrics.page().decode()
    values = {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert values["moa_calls_total", "up/a", "used", "proposer"] == 1
    assert values["moa_calls_total", "up/a", "cancelled", "proposer"] == 1
    assert values["moa_calls_total", "up/*", "dropped", "proposer"] == 1
    assert values["moa_runs_total", "moa/trio", "cancelled"] == 1
    assert values["moa_key_dollars_total", "ann"] == 0.25
    assert (values[("moa_runs_in_flight",)], values[("moa_runs_queued",)]) == (3, 2)
    assert "secret" not in page
