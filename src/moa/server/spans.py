"""A run as a span of OpenTelemetry, and each of its calls as one below it. None holds message text.

A run's span opens before its calls, so that upstreams get it as the parent of their own; where no SDK is configured, they
get the caller's. The calls' spans are made when the run has ended, from its :class:`Answer`. The attributes follow
https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from opentelemetry import trace

from moa.messages import Answer, Call
from moa.models.trace_context import TRACE_HEADERS
from moa.server.correlation import CALLER_TRACE, W3C


class RunSpan:
    """The span of one run, from its start; :meth:`end` it.

    Attributes:
        started: seconds since 1970.
    """

    def __init__(self, started: float | None = None) -> None:
        self.started = time.time() if started is None else started
        self._tracer = trace.get_tracer("moa")
        self._start = int(self.started * 1e9)
        caller = CALLER_TRACE.get()
        # Without an SDK this is the caller's span, or none.
        self._span = self._tracer.start_span("chat", caller, trace.SpanKind.SERVER, start_time=self._start)
        headers: dict[str, str] = {}
        W3C.inject(headers, trace.set_span_in_context(self._span, caller))
        if headers:
            TRACE_HEADERS.set(headers)

    def end(self, model: str, answer: Answer) -> None:
        """End it with the run's result; ``model`` as the caller requested it."""
        run = self._span
        if not run.is_recording():
            return
        run.update_name(f"chat {model}")
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
            self._add(call)
        run.end(_end(self._start, answer.duration))

    def _add(self, call: Call) -> None:
        start = int((self.started + (call.started or 0.0)) * 1e9)
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
        span = self._tracer.start_span(
            f"chat {model}",
            context=trace.set_span_in_context(self._span),
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
