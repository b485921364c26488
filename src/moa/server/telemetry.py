"""The answer of a run that has ended -> metrics and one log line. None of them holds message text.

A failed call has a line of its own, in our words: those of an upstream may quote the request. Everything else comes from the
finished :class:`Answer`, which is a fold of the run's events, so nothing happens here while the run is in progress. Metrics
are in Prometheus' format.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from moa.errors import ConfigError, MoaError, ModelError, RunError, TimedOut, Unreachable
from moa.messages import Answer, Call
from moa.mixture.events import AgentFailed
from moa.server.correlation import REQUEST_ID
from moa.server.encoding import log_line

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

log = logging.getLogger("moa.runs")

server_log = logging.getLogger("moa.server")


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


def log_failed_call(run: str, event: AgentFailed) -> None:
    """Log why an agent's call failed, for the operator: a caller may not read an address."""
    line = f"run {run}: {event.agent} (layer {event.layer}) failed: {_in_our_words(event.error)}"
    server_log.warning("%s", log_line(line))


def _in_our_words(error: MoaError) -> str:
    """The error without what an upstream or a custom model said."""
    if isinstance(error, RunError):
        return "; ".join([type(error).__name__, *map(_in_our_words, error.errors)])
    if isinstance(error, ConfigError):
        return str(error)
    if not isinstance(error, ModelError):
        return type(error).__name__
    said = error.reason if error.status is None and isinstance(error, Unreachable | TimedOut) else ""
    facts = [said, f"status {error.status}" if error.status else "", f"code {error.code!r}" if error.code else ""]
    return f"{error.model}: {': '.join(filter(None, [type(error).__name__, *facts]))}"


def log_run(model: str, answer: Answer, outcome: str, key: str) -> None:
    """Log one line of JSON about a run that has ended."""
    line = {
        "run": answer.run_id,
        "request_id": REQUEST_ID.get(),
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


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
