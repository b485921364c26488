"""Errors: what a client gets instead of an answer, whichever error stopped the request or the run.

The body is ``{"error": {"message", "type", "param", "code"}}``, as in OpenAI's API, unless the client's dialect has a form
of its own. https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from moa.errors import (
    CallRejected,
    ConfigError,
    DeadlinePassed,
    MoaError,
    ModelError,
    RateLimited,
    RequestRejected,
    RunError,
    ScheduleError,
    TimedOut,
    UnknownName,
)

PATIENCE = 5.0
"""Seconds for ``Retry-After`` where an upstream hit its rate limit and gave no time."""


@dataclass(eq=False)
class Refusal(Exception):
    """What a client gets instead of an answer.

    Attributes:
        status: the HTTP status.
        message: one line, fit to be shown.
        kind: ``type`` of OpenAI's error object.
        code, param: as in the error object.
        retry_after: seconds, for the header of that name.
        more: further fields of the error object.
        permanent: a retry cannot help; the header ``x-should-retry`` keeps OpenAI's SDKs from it.
    """

    status: int
    message: str
    kind: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    permanent: bool = False


ErrorBody = Callable[[Refusal], bytes]
"""Writes a refusal as the body of a response, in JSON."""


def openai_error(refusal: Refusal) -> bytes:
    """The refusal in the form of OpenAI's API."""
    fields = {"message": refusal.message, "type": refusal.kind, "param": refusal.param, "code": refusal.code}
    # In ASCII: a value quoted from the request may hold a lone surrogate, which UTF-8 cannot encode.
    return json.dumps({"error": {**fields, **refusal.more}}).encode()


def error_response(
    refusal: Refusal, headers: Mapping[str, str] | None = None, body: ErrorBody = openai_error
) -> Response:
    """The refusal as a whole response, with ``Retry-After`` where the caller should wait."""
    wait = {} if refusal.retry_after is None else {"retry-after": str(max(1, math.ceil(refusal.retry_after)))}
    if refusal.permanent:
        wait = {"x-should-retry": "false"}
    return Response(body(refusal), refusal.status, {**(headers or {}), **wait}, "application/json")


def refusal_of(error: Exception) -> Refusal:
    """The refusal that reports an error to the client."""
    match error:
        case Refusal():
            return error
        case RequestRejected():
            return Refusal(400, str(error), param=error.param)
        case UnknownName():
            return Refusal(404, str(error), code="model_not_found", param="model")
        case ConfigError():
            return Refusal(503, str(error), "server_error", "not_configured", "model")
        case ScheduleError():
            # A defect of the operator's own schedule: no upstream failed, and a retry will not help.
            return Refusal(500, str(error), "server_error", "schedule_failed", "model")
        case RunError():
            return _refusal_of_run(error)
        case MoaError():
            return Refusal(502, str(error), "upstream_error", "upstream_failed")
        case _:
            # A defect of ours. Its message belongs in the log: it may quote other people's text.
            return Refusal(500, "internal error; see the server's log", "server_error", "internal_error")


def _refusal_of_run(error: RunError) -> Refusal:
    more: dict[str, Any] = {"causes": list(error.causes)}
    if error.answer:
        more["moa"] = {"run": error.answer.run_id}
    if isinstance(error, DeadlinePassed):
        return Refusal(504, str(error), "upstream_error", "deadline_passed", more=more)
    codes = {each.code for each in error.errors}
    code = codes.pop() if len(codes) == 1 else None
    permanent = bool(error.errors) and not any(each.retryable for each in error.errors)
    if code == "insufficient_quota":
        return Refusal(429, str(error), code, code, more=more, permanent=True)
    if code == "context_length_exceeded":  # agents compact their conversation when they read it
        return Refusal(400, str(error), code=code, param="messages", more=more, permanent=True)
    if _all_are(RateLimited, error):
        wait = max((each.retry_after or PATIENCE for each in error.errors), default=PATIENCE)
        return Refusal(429, str(error), "rate_limit_error", "upstream_rate_limited", retry_after=wait, more=more)
    if _all_are(TimedOut, error):
        return Refusal(504, str(error), "upstream_error", "upstream_timed_out", more=more)
    if _all_are(CallRejected, error) and all(each.status == 400 for each in error.errors):
        # Every upstream rejected the request itself, so the caller must fix it.
        return Refusal(400, str(error), code=code or "upstream_rejected", more=more)
    return Refusal(502, str(error), "upstream_error", code or "upstream_failed", more=more, permanent=permanent)


def _all_are(kind: type[ModelError], error: RunError) -> bool:
    return bool(error.errors) and all(isinstance(each, kind) for each in error.errors)
