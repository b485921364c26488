"""Events -> metrics, spans and one log line a run. No message text goes into any of them.

Metrics are Prometheus'; spans follow OpenTelemetry's conventions for generative AI and cost nothing unless its SDK is
installed and configured. https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence

from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from moa.messages import Answer, Call

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

log = logging.getLogger("moa.runs")


class Metrics:
    """The metrics of one server.

    Args:
        running, waiting: tell how many runs are under way and in the queue.
        label: what a model's name becomes as a label; it must not let callers make up labels without end.
    """

    def __init__(
        self, running: Callable[[], float], waiting: Callable[[], float], label: Callable[[str], str] = str
    ) -> None:
        self._label = label
        self.registry = registry = CollectorRegistry()
        labels = ["model", "outcome"]
        self.runs = Counter("moa_runs", "Runs that ended.", labels, registry=registry)
        self.calls = Counter("moa_calls", "Calls that ended.", [*labels, "role"], registry=registry)
        self.tokens = Counter("moa_tokens", "Tokens of calls.", ["model", "direction"], registry=registry)
        self.dollars = Counter("moa_dollars", "US dollars, where prices are known.", ["model"], registry=registry)
        self.refusals = Counter("moa_refusals", "Requests refused before a run.", ["status"], registry=registry)
        self.spent = Counter("moa_key_dollars", "US dollars by key.", ["key"], registry=registry)
        for name, told, attribute in (
            ("moa_time_to_first_token_seconds", "From a run's start to its answer's first token.", "first"),
            ("moa_run_duration_seconds", "From a run's start to its end.", "duration"),
            ("moa_call_time_to_first_token_seconds", "From a call's start to its first token.", "call_first"),
            ("moa_call_duration_seconds", "From a call's start to its end.", "call_duration"),
        ):
            setattr(self, attribute, Histogram(name, told, ["model"], registry=registry, buckets=SECONDS))
        Gauge("moa_runs_in_flight", "Runs under way.", registry=registry).set_function(running)
        Gauge("moa_runs_queued", "Runs waiting for a place.", registry=registry).set_function(waiting)

    first: Histogram
    duration: Histogram
    call_first: Histogram
    call_duration: Histogram

    def page(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)

    def count(self, model: str, answer: Answer, outcome: str, key: str) -> None:
        """Take in a run that ended: ``outcome`` is ``answered``, ``degraded``, ``failed`` or ``cancelled``."""
        model = self._label(model)
        self.runs.labels(model, outcome).inc()
        if answer.time_to_first_token is not None:
            self.first.labels(model).observe(answer.time_to_first_token)
        if answer.duration is not None:
            self.duration.labels(model).observe(answer.duration)
        if answer.cost.dollars:
            self.spent.labels(key).inc(answer.cost.dollars)
        for call in answer.calls:
            self._count_call(call)

    def _count_call(self, call: Call) -> None:
        model = self._label(call.model)
        outcome = "cancelled" if call.duration is None else "dropped" if call.dropped else "used"
        self.calls.labels(model, outcome, call.role).inc()
        if call.usage:
            self.tokens.labels(model, "input").inc(call.usage.input_tokens)
            self.tokens.labels(model, "cached_input").inc(call.usage.cached_tokens)
            self.tokens.labels(model, "output").inc(call.usage.output_tokens)
        if call.cost and call.cost.dollars:
            self.dollars.labels(model).inc(call.cost.dollars)
        if call.time_to_first_token is not None:
            self.call_first.labels(model).observe(call.time_to_first_token)
        if call.duration is not None:
            self.call_duration.labels(model).observe(call.duration)


def log_run(model: str, answer: Answer, outcome: str, key: str) -> None:
    """One line of JSON, without a word of any message."""
    line = {
        "run": answer.run_id,
        "model": model,
        "key": key,
        "outcome": outcome,
        "calls": len(answer.calls),
        "input_tokens": answer.usage.input_tokens,
        "output_tokens": answer.usage.output_tokens,
        "cost": answer.cost.dollars,
        "cost_is_at_least": answer.cost.at_least,
        "time_to_first_token": _rounded(answer.time_to_first_token),
        "duration": _rounded(answer.duration),
        "degraded": len(answer.degraded),
        "error": type(answer.error).__name__ if answer.error else None,
    }
    log.info(json.dumps(line))


def trace_run(model: str, answer: Answer, began: float) -> None:
    """A span for the run, which has just ended, and one for each call. ``began``: seconds since 1970."""
    tracer = trace.get_tracer("moa")
    start = int(began * 1e9)
    run = tracer.start_span(f"chat {model}", kind=trace.SpanKind.SERVER, start_time=start)
    if run.is_recording():
        run.set_attributes(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "moa",
                "gen_ai.request.model": model,
                "gen_ai.response.id": f"chatcmpl-{answer.run_id}",
                "gen_ai.usage.input_tokens": answer.usage.input_tokens,
                "gen_ai.usage.output_tokens": answer.usage.output_tokens,
                "moa.degraded": len(answer.degraded),
            }
        )
        if answer.error:
            run.set_status(trace.StatusCode.ERROR, type(answer.error).__name__)
        if answer.finish_reason:
            run.set_attribute("gen_ai.response.finish_reasons", [answer.finish_reason])
        if answer.cost.dollars is not None:
            run.set_attribute("moa.cost", answer.cost.dollars)
        for call in answer.calls:
            _trace_call(tracer, run, call, began)
    run.end(_end(start, answer.duration))


def _trace_call(tracer: trace.Tracer, run: trace.Span, call: Call, began: float) -> None:
    start = int((began + (call.started or 0.0)) * 1e9)
    provider, _, model = call.model.partition("/")
    attributes: dict[str, str | int | Sequence[str]] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "moa.agent": call.agent,
        "moa.layer": call.layer,
        "moa.role": call.role,
    }
    if call.usage:
        attributes["gen_ai.usage.input_tokens"] = call.usage.input_tokens
        attributes["gen_ai.usage.output_tokens"] = call.usage.output_tokens
    if call.finish_reason:
        attributes["gen_ai.response.finish_reasons"] = [call.finish_reason]
    span = tracer.start_span(
        f"chat {model}",
        context=trace.set_span_in_context(run),
        kind=trace.SpanKind.CLIENT,
        start_time=start,
        attributes=attributes,
    )
    if call.dropped:
        span.set_status(trace.StatusCode.ERROR, "dropped")
    span.end(_end(start, call.duration))


def _end(start: int, duration: float | None) -> int:
    """Nanoseconds since 1970; now, where it did not come to its end."""
    return time.time_ns() if duration is None else start + int(duration * 1e9)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
