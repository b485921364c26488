"""The W3C trace context of the running call: headers that every call to a server carries, so that traces join.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

TRACE_HEADERS: ContextVar[Mapping[str, str]] = ContextVar("TRACE_HEADERS", default=MappingProxyType({}))
"""``traceparent`` and, where there is one, ``tracestate``; empty outside a trace. A task inherits them from its creator."""
