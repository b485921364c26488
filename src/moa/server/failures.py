"""Errors: what a client gets instead of an answer, whichever error stopped the request or the run.

The body is ``{"error": {"message", "type", "param", "code"}}``, as in OpenAI's API, unless the client's dialect has a form
of its own. https://platform.openai.com/docs/guides/error-codes

Notable decisions:
- A retry that cannot help is forbidden twice, for two kinds of clients. OpenAI's SDKs obey ``x-should-retry: false``. The AI
  SDK (``APICallError.isRetryable``, vercel/ai) and the agents that have a loop of their own (opencode, qwen-code's
  ``retryWithBackoff``) go by the status alone: they retry 408, 409, 429 and 5xx in silence, up to a minute and more. So what
  cannot help has another status: the user reads the message at once.
- The header alone forbids a retry where the upstream was called several times already.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.responses import Response

from moa.errors import (
    CallRejected,
    ConfigError,
    DeadlinePassed,
    KeyRejected,
    MoaError,
    ModelError,
    RateLimited,
    RequestRejected,
    RunError,
    ScheduleError,
    TimedOut,
    UnknownName,
    Unreachable,
)
from moa.models.error_codes import CONTEXT, QUOTA

LISTED = "GET /v1/models?all=true lists the models of this server"

NOT_CONFIGURED = "not_configured"

OPERATORS = frozenset({NOT_CONFIGURED, "schedule_failed"})
"""Codes of refusals that only the operator can do something about."""

LONGEST_PATIENCE = 120.0
"""The longest ``Retry-After`` in seconds that OpenAI's SDKs obey (openai-python, ``_should_retry``); Anthropic's sleep for
as many hours as they read (anthropic-python, ``_calculate_retry_timeout``). A client that should wait longer must not retry.
"""

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
        permanent: a retry cannot help, or was made already; the header ``x-should-retry`` keeps OpenAI's SDKs from it.
        private: the message may name paths and addresses; :mod:`moa.server.discretion` decides who reads them.
        subject: the model it is about, where it is private.
    """

    status: int
    message: str
    kind: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    permanent: bool = False
    private: bool = False
    subject: str = ""

    def about(self, names: Mapping[str, str]) -> Refusal:
        """The same with its field under the name that another API has for it. ``param`` loses its indices there: that API's
        list of messages has others."""
        name = re.split(r"[.\[]", self.param or "")[0]
        return replace(self, param=names[name]) if name in names else self


UNUSABLE = 424
"""The status where an upstream cannot be used until somebody changes something: its key or the model's name is refused,
nothing answers at its address, or it is not configured. Bedrock and Groq have it for models that fail, too:
https://www.developersdigest.tech/errors/api/bedrock/424-modelerrorexception
"""

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
    if refusal.status == 408:
        wait = {"connection": "close"}  # https://www.rfc-editor.org/rfc/rfc9110#name-408-request-timeout
    if refusal.permanent or (refusal.retry_after or 0) > LONGEST_PATIENCE:
        wait["x-should-retry"] = "false"
    return Response(body(refusal), refusal.status, {**(headers or {}), **wait}, "application/json")


def refusal_of(error: Exception) -> Refusal:
    """The refusal that reports an error to the client."""
    match error:
        case Refusal():
            return error
        case RequestRejected():
            return Refusal(400, str(error), param=error.param)
        case UnknownName():
            return Refusal(404, f"{error.statement} ({LISTED})", code="model_not_found", param="model", private=True)
        case ConfigError():
            kind = "configuration_error"
            return Refusal(UNUSABLE, str(error), kind, NOT_CONFIGURED, "model", permanent=True, private=True)
        case ScheduleError():
            # A defect of the operator's own schedule: no upstream failed, and a retry will not help.
            return Refusal(500, str(error), "server_error", "schedule_failed", "model", permanent=True, private=True)
        case RunError():
            return _refusal_of_run(error)
        case MoaError():
            return Refusal(502, str(error), "upstream_error", "upstream_failed", private=True)
        case _:
            # A defect of ours. Its message belongs in the log: it may quote other people's text.
            return Refusal(500, "internal error; see the server's log", "server_error", "internal_error")


def _refusal_of_run(error: RunError) -> Refusal:
    more: dict[str, Any] = {"causes": list(error.causes)}
    if error.answer:
        more["moa"] = {"run": error.answer.run_id}
    if isinstance(error, DeadlinePassed):
        return Refusal(504, str(error), "upstream_error", "deadline_passed", more=more, private=True)
    deciding = _deciding(error.errors)
    first = next((each for each in deciding if each.code), deciding[0] if deciding else None)
    code, param = (first.code, first.param) if first else (None, None)
    permanent = first is not None and not first.retryable
    tried = bool(deciding) and all(each.tried for each in deciding)
    wait = max((each.retry_after for each in deciding if each.retry_after is not None), default=None)
    if code == CONTEXT.code:
        param = param or "messages"
    status, kind, default = _status_of_run(deciding, first)
    if status == 429 and not permanent:
        wait = PATIENCE if wait is None else wait
    wait = None if permanent else wait
    permanent = permanent or (tried and wait is None)
    message = str(error)
    return Refusal(status, message, kind, code or default, param, wait, more, permanent=permanent, private=True)


def _deciding(errors: Sequence[ModelError]) -> Sequence[ModelError]:
    """The errors that the client has to know of: those that a retry may fix, else those that another request may fix."""
    return [each for each in errors if each.retryable] or [each for each in errors if each.of_request] or errors


_KEPT = frozenset({400, 402, 403, 409, 413, 415, 422, 429, 451})
"""Statuses of upstreams that our response keeps. Others (401, 404) would blame the client's key or address."""

_OUT_OF_QUOTA = frozenset({QUOTA.code, *QUOTA.kept})


def _status_of_run(errors: Sequence[ModelError], first: ModelError | None) -> tuple[int, str, str]:
    """Status, type and default code for a run that ended with these errors; ``first`` is the one that gives the code."""
    if first and first.code in _OUT_OF_QUOTA and not first.retryable:
        return 402, "insufficient_quota", "insufficient_quota"
    if _all_are(RateLimited, errors):
        return 429, "rate_limit_error", "upstream_rate_limited"
    if _all_are(TimedOut, errors):
        return 504, "upstream_error", "upstream_timed_out"
    if first and not first.retryable:
        if first.code == CONTEXT.code:  # agents compact their conversation when they read it
            return 400, "invalid_request_error", CONTEXT.code
        if first.of_request and first.status not in _KEPT:
            return 400, "invalid_request_error", "upstream_rejected"
        if isinstance(first, CallRejected) and first.status in _KEPT:
            return first.status, "invalid_request_error", "upstream_rejected"
        if isinstance(first, CallRejected | KeyRejected):
            return UNUSABLE, "upstream_error", "upstream_failed"
    if _all_are(Unreachable, errors) and all(each.tried for each in errors):
        return UNUSABLE, "upstream_error", "upstream_failed"
    if errors and all(each.status in (503, 529) for each in errors):
        return 503, "upstream_error", "upstream_failed"
    return 502, "upstream_error", "upstream_failed"


def _all_are(kind: type[ModelError], errors: Sequence[ModelError]) -> bool:
    return bool(errors) and all(isinstance(each, kind) for each in errors)
