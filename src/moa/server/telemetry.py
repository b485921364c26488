"""The answer of a run that has ended -> metrics, spans and one log line. None of them holds message text.

Everything is derived from the finished :class:`Answer`, which is a fold of the run's events, so nothing happens here while
the run is in progress. Metrics are in Prometheus' format. Spans follow OpenTelemetry's conventions for generative AI; they
cost nothing unless its SDK is installed and configured. https://opentelemetry.io/docs/specs/semconv/gen-ai/
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
        running, waiting: return the number of runs in progress and in the queue.
        label: returns the label of a model's name; it must bound the number of labels, since callers can invent names.
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
        self.dollars = Counter("moa_dollars", "US dollars, for models with known prices.", ["model"], registry=registry)
        self.refusals = Counter("moa_refusals", "Requests refused before a run started.", ["status"], registry=registry)
        self.spent = Counter("moa_key_dollars", "US dollars of each key.", ["key"], registry=registry)
        self.first_token = self._seconds("moa_time_to_first_token", "From a run's start to its answer's first token.")
        self.duration = self._seconds("moa_run_duration", "From a run's start to its end.")
        self.call_first_token = self._seconds("moa_call_time_to_first_token", "From a call's start to its first token.")
        self.call_duration = self._seconds("moa_call_duration", "From a call's start to its end.")
        Gauge("moa_runs_in_flight", "Runs in progress.", registry=registry).set_function(running)
        Gauge("moa_runs_queued", "Runs waiting for a slot.", registry=registry).set_function(waiting)

    def _seconds(self, name: str, description: str) -> Histogram:
        return Histogram(f"{name}_seconds", description, ["model"], registry=self.registry, buckets=SECONDS)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def count(self, model: str, answer: Answer, outcome: str, key: str) -> None:
        """Count a run that has ended: ``outcome`` is ``answered``, ``degraded``, ``failed`` or ``cancelled``."""
        model = self._label(model)
        self.runs.labels(model, outcome).inc()
        if answer.time_to_first_token is not None:
            self.first_token.labels(model).observe(answer.time_to_first_token)
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
            self.call_first_token.labels(model).observe(call.time_to_first_token)
        if call.duration is not None:
            self.call_duration.labels(model).observe(call.duration)


def log_run(model: str, answer: Answer, outcome: str, key: str) -> None:
    """Log one line of JSON about a run that has ended."""
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


def trace_run(model: str, answer: Answer, started: float) -> None:
    """Emit a span for a run that has just ended, and one for each of its calls. ``started``: seconds since 1970."""
    tracer = trace.get_tracer("moa")
    start = int(started * 1e9)
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
            _trace_call(tracer, run, call, started)
    run.end(_end(start, answer.duration))


def _trace_call(tracer: trace.Tracer, run: trace.Span, call: Call, run_started: float) -> None:
    start = int((run_started + (call.started or 0.0)) * 1e9)
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
    """Nanoseconds since 1970; the present time for a call or run that was cut off."""
    return time.time_ns() if duration is None else start + int(duration * 1e9)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
